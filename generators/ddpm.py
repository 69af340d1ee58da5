"""Denoising diffusion in pixels (Ho et al. 2020, arXiv:2006.11239) from a diffusers folder, sampled by DDIM."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks.diffusers_ldm import Unconditional
from .networks.diffusers_parts import (
    ddim,
    ddim_scheduler,
    find_folder,
    hashes,
    is_pipeline,
    read_json,
    require_pipeline,
)
from .networks.seeds import normal

PIPELINES = ("DDPMPipeline", "DDIMPipeline")


class PixelDiffusion:
    """A diffusion model of images as a Generator. Space "x_T": the normal noise [N, C, H, W] at which DDIM starts."""

    spaces: Sequence[str] = ("x_T",)

    def __init__(self, folder: Path, steps: int):
        self.network = Unconditional(folder / "unet")
        self.scheduler = ddim_scheduler(read_json(folder / "scheduler" / "scheduler_config.json"), steps)
        files = hashes(folder, "unet", "scheduler")
        self.fingerprint = digest("ddpm", 1, files, steps)
        self.card = {"format": "diffusers DDPMPipeline", "files": files}

    def latents(self, seeds: Sequence[int], space: str = "x_T") -> Tensor:
        return normal(seeds, *self.network.shape)

    def decode(self, latents: Tensor, space: str = "x_T") -> Tensor:
        return ddim(self.network.to(latents.device), self.scheduler, latents) / 2 + 0.5


def recognise(content: Any) -> bool:
    """Whether a checkpoint is a diffusers folder of DDPM."""
    return is_pipeline(content, *PIPELINES)


@generator(recognise=recognise)
def ddpm(dataset: str, path: str = "", steps: int = 50) -> Generator:
    """Unconditional DDPM in pixel space from a diffusers folder, sampled by DDIM without noise (arXiv:2010.02502).

    path: the folder. steps: number of DDIM steps. Images depend only on x_T and the number of steps.
    """
    folder = find_folder("ddpm", path)
    require_pipeline(folder, *PIPELINES)
    return PixelDiffusion(folder, steps)
