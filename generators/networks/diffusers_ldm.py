"""Latent diffusion from diffusers folders (arXiv:2112.10752): DDIM maps x_T to z_0, a first stage decodes z_0."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from ...harness.core.files import digest
from ...harness.core.progress import say
from ...harness.core.protocols import Encoding, Generator
from ...harness.formats.built import whole
from .diffusers_kl import KLAutoencoder
from .diffusers_parts import (
    check_images,
    ddim,
    ddim_scheduler,
    hashes,
    in_pieces,
    open_network,
    read_json,
    require_pipeline,
)
from .seeds import normal

PIPELINES = ("LDMPipeline", "LatentDiffusionUncondPipeline")
SIDE = 2**13
"""Largest side of a latent code that a configuration may state."""
DEFAULT_SCALE = 0.18215
"""The scaling_factor that diffusers writes into the configuration of a first stage by default."""


class FirstStage(Protocol):
    """The autoencoder between images in [0, 1] and scaled codes."""

    def decode(self, latents: Tensor) -> Tensor: ...

    def encode(self, images: Tensor, how: Encoding, seeds: Sequence[int]) -> Tensor: ...


class VQAutoencoder:
    """A VQModel in the scaled latent space. Codes [N, C, h, w] are not quantised; decoding quantises them."""

    def __init__(self, folder: Path, scale: float):
        self.vq, self.scale = open_network(folder, "VQModel"), scale
        self.channels = int(self.vq.config.in_channels)
        self.factor = 2 ** (len(self.vq.config.block_out_channels) - 1)

    def decode(self, latents: Tensor) -> Tensor:
        vq = self.vq.to(latents.device)
        return in_pieces(lambda z: vq.decode(z / self.scale).sample / 2 + 0.5, latents)

    def encode(self, images: Tensor, how: Encoding, seeds: Sequence[int]) -> Tensor:
        if how == "logvar":
            raise ValueError("a VQModel encodes to points, so there is no log variance; choose encode=mean")
        check_images(images, self.channels, self.factor)
        vq = self.vq.to(images.device)
        return self.scale * in_pieces(lambda x: vq.encode(2 * x - 1).latents, images)


class LatentDiffusion:
    """A diffusion model of latent codes as a Generator that can also encode.

    Spaces: "x_T", the normal noise [N, C, h, w] at which sampling starts, and "z_0", the scaled code that DDIM, without
    noise, computes from it. Images are encoded to z_0.
    """

    spaces: Sequence[str] = ("z_0", "x_T")

    def __init__(
        self,
        network: nn.Module,
        scheduler: Any,
        first_stage: FirstStage,
        shape: Sequence[int],
        fingerprint: str,
        card: Mapping[str, Any],
    ):
        self.network, self.scheduler, self.first_stage, self.shape = network, scheduler, first_stage, shape
        self.fingerprint, self.card = fingerprint, card

    def to(self, device: torch.device | str) -> Self:
        """Move the network to the device on which `latents` samples z_0."""
        self.network.to(device)
        return self

    def latents(self, seeds: Sequence[int], space: str = "z_0") -> Tensor:
        x = normal(seeds, *self.shape)
        return x if space == "x_T" else self._sample(x.to(next(self.network.parameters()).device))

    def decode(self, latents: Tensor, space: str = "z_0") -> Tensor:
        return self.first_stage.decode(self._sample(latents) if space == "x_T" else latents)

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        return self.first_stage.encode(images, how, seeds)

    def _sample(self, x: Tensor) -> Tensor:
        return ddim(self.network.to(x.device), self.scheduler, x)


class Unconditional(nn.Module):
    """A UNet2DModel as the noise prediction that DDIM needs; the channels of a learned variance are dropped."""

    def __init__(self, folder: Path):
        super().__init__()
        self.unet = open_network(folder, "UNet2DModel")
        config = self.unet.config
        if config.num_class_embeds is not None or config.class_embed_type is not None:
            raise ValueError(f"{folder} is a network of several classes; give an unconditional one")
        self.shape = latent_shape(config)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        prediction: Tensor = self.unet(x, t).sample[:, : x.shape[1]]
        return prediction


def latent_shape(config: Any) -> tuple[int, int, int]:
    """The shape [C, h, w] of the input of a UNet with this configuration."""
    size = config.sample_size
    if size is None:
        raise ValueError("the configuration of the UNet has no sample_size; add the size of its inputs to config.json")
    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    return config.in_channels, *(whole(side, "sample_size", most=SIDE) for side in (height, width))


def unconditional(path: Path, steps: int, scale_factor: float | None) -> Generator:
    """An unconditional latent diffusion model: a UNet2DModel over a VQModel or AutoencoderKL.

    scale_factor: the factor by which the codes of the first stage were multiplied when the network was trained. None
    takes it from the folder, with one exception: if a VQModel's configuration has 0.18215, which diffusers writes by
    default, the factor is 1, with which the published VQ models (CelebA-HQ, FFHQ) were trained; a message says so.

    Raises ValueError with the name of the part that is missing or does not fit.
    """
    require_pipeline(path, *PIPELINES)
    part = next((part for part in ("vqvae", "vae") if (path / part).is_dir()), "vqvae")
    config = read_json(path / part / "config.json")
    quantised = config.get("_class_name") == "VQModel"
    stored = float(config.get("scaling_factor", DEFAULT_SCALE))
    if scale_factor is not None:
        scale, source = float(scale_factor), "option scale_factor"
    elif quantised and stored == DEFAULT_SCALE:
        scale = 1.0
        source = f"assumed: {DEFAULT_SCALE} is the default of diffusers, published VQ models were trained with 1"
        say(f"{path}: scale_factor=1 is {source}; generator.ldm.scale_factor={DEFAULT_SCALE} takes the default")
    else:
        scale, source = stored, "folder"
    if not scale > 0:
        raise ValueError(f"scale_factor={scale} must be positive")
    first_stage: FirstStage = (VQAutoencoder if quantised else KLAutoencoder)(path / part, scale)
    network = Unconditional(path / "unet")
    scheduler = ddim_scheduler({"clip_sample": False} | read_json(path / "scheduler" / "scheduler_config.json"), steps)
    files = hashes(path, "unet", part, "scheduler")
    card = {"format": "diffusers LDMPipeline", "files": files, "scale_factor": scale, "scale_factor_from": source}
    return LatentDiffusion(network, scheduler, first_stage, network.shape, digest("ldm", 1, files, steps, scale), card)
