"""Pixel diffusion models from OpenAI's files: IDDPM (arXiv:2102.09672), ADM (arXiv:2105.05233); sampled with DDIM."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks import ddim
from .networks.noise_space import NoiseSpace
from .networks.openai_unet import UNet, flag, heads_of, is_unet, read_flags
from .networks.published import open_published

SCHEDULES = {"linear": ddim.linear, "cosine": ddim.cosine}


class ADM(NoiseSpace):
    """A diffusion model of images as a Generator. Spaces: "x_T" [N, C, R, R], and "x_0" where seeds draw the class.

    time_scale: the network takes timesteps times this factor.
    """

    network: UNet

    def __init__(
        self,
        network: UNet,
        size: int,
        levels: ddim.Levels,
        time_scale: float,
        clip: bool,
        label: int | None,
        fingerprint: str,
        card: Mapping[str, Any],
    ):
        super().__init__("adm", network, (network.in_channels, size, size), network.classes, label, fingerprint, card)
        self.levels, self.time_scale, self.clip = levels, time_scale, clip

    def sample(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        return ddim.sample(self._denoiser(labels, self.clip), noise, self.levels)

    def invert(self, images: Tensor, repeats: int = 1) -> Tensor:
        """x_T [N, C, R, R] of images in [0, 1], approximately, by DDIM inversion without clipping.

        Costs repeats × steps evaluations of the network.
        """
        return self.by_batch(
            lambda x, labels: ddim.invert(self._denoiser(labels, False), x, self.levels, repeats), 2 * images - 1
        )

    def _denoiser(self, label: Tensor | None, clip: bool) -> ddim.Denoiser:
        def denoise(x: Tensor, t: int, signal: float) -> tuple[Tensor, Tensor]:
            time = torch.full((len(x),), t * self.time_scale, device=x.device)
            noise = self.network(x, time, label)[:, : x.shape[1]]
            return ddim.from_noise(x, noise, signal, clip)

        return denoise


def recognise(content: Any) -> bool:
    """Whether a checkpoint is the state dict of a UNet in OpenAI's layout."""
    return is_unet(content, 3)


@generator(recognise=recognise)
def adm(
    dataset: str, path: str = "", steps: int = 50, clip: bool = True, label: int | None = None, args: str = ""
) -> Generator:
    """IDDPM or ADM: a `.pt` of OpenAI's improved-diffusion or guided-diffusion, sampled with `steps` DDIM steps.

    clip: clamp every estimate of x_0 to [-1, 1], as for the published samples; where it clamps, gradients vanish.
    label: the class of all samples of a conditional file; null draws one for each seed.
    args: a JSON or YAML file of training flags; empty for FILE.args.json or NAME.args.json beside the checkpoint. It
    gives what the weights do not contain: image_size, num_heads or num_head_channels, diffusion_steps, noise_schedule,
    rescale_timesteps.

    Raises ValueError with the flag that is missing, or the tensor that does not fit.
    """
    found = open_published("adm", path, recognise)
    flags = read_flags(Path(path).expanduser(), args, "adm")
    try:
        size, trained = flag(flags, "image_size", int), flag(flags, "diffusion_steps", int)
        schedule, rescaled = flag(flags, "noise_schedule", str), flag(flags, "rescale_timesteps", bool)
        if schedule not in SCHEDULES:
            raise ValueError(f"noise_schedule={schedule!r} must be one of {', '.join(SCHEDULES)}")
        if flags.get("predict_xstart"):
            raise ValueError("predict_xstart=true: networks that predict x_0 instead of the noise are not supported")
        heads = heads_of(flags)
        network = UNet(found.content, heads)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if network.out_channels not in (network.in_channels, 2 * network.in_channels):
        raise ValueError(f"{path} predicts {network.out_channels} channels of images of {network.in_channels}")
    if size % 2 ** (network.levels - 1):
        raise ValueError(f"image_size={size} must be divisible by {2 ** (network.levels - 1)}")
    levels = ddim.respaced(SCHEDULES[schedule](trained), steps)
    known = {"image_size": size, "diffusion_steps": trained, "noise_schedule": schedule, "rescale_timesteps": rescaled}
    known |= {"heads": asdict(heads)}
    fingerprint = digest("adm", 1, found.sha256, known, steps, clip, label)
    card = {**found.card, "sha256": found.sha256, "flags": known, "classes": network.classes}
    return ADM(network, size, levels, 1000 / trained if rescaled else 1.0, clip, label, fingerprint, card)
