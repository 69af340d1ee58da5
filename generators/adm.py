"""Pixel diffusion models from OpenAI's files: IDDPM (arXiv:2102.09672), ADM (arXiv:2105.05233); sampled with DDIM."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks import ddim
from .networks.openai_unet import UNet, flag, heads_of, is_unet, read_flags
from .networks.published import open_published
from .networks.seeds import normal

SCHEDULES = {"linear": ddim.linear, "cosine": ddim.cosine}


class ADM:
    """A diffusion model of images as a Generator. Space "x_T": the normal noise [N, C, R, R] at which DDIM starts.

    A conditional file without `label` draws the class of each seed. Then x_T alone does not determine an image, so the
    first space is "x_0", the samples themselves in [-1, 1], and "x_T" cannot be decoded.
    time_scale: the network takes timesteps times this factor.
    """

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
        self.network, self.shape, self.levels = network, (network.in_channels, size, size), levels
        self.time_scale, self.clip, self.label = time_scale, clip, label
        self.spaces: Sequence[str] = ("x_0", "x_T") if network.classes and label is None else ("x_T",)
        self.fingerprint, self.card = fingerprint, card

    def to(self, device: torch.device | str) -> Self:
        """Move the network to the device on which `latents` samples x_0."""
        self.network.to(device)
        return self

    def latents(self, seeds: Sequence[int], space: str = "x_T") -> Tensor:
        x_T = normal(seeds, *self.shape)
        if space == "x_T":
            return x_T
        x_T = x_T.to(next(self.network.parameters()).device)
        return self._sample(x_T, torch.tensor([seed % self.network.classes for seed in seeds]).to(x_T.device))

    def decode(self, latents: Tensor, space: str = "x_T") -> Tensor:
        return (latents if space == "x_0" else self._sample(latents, self._labels(latents))) / 2 + 0.5

    def invert(self, images: Tensor, repeats: int = 1) -> Tensor:
        """x_T [N, C, R, R] of images in [0, 1], approximately, by DDIM inversion without clipping.

        Costs repeats × steps evaluations of the network.
        """
        labels = self._labels(images)
        self.network.to(images.device)
        pieces = [
            ddim.invert(self._denoiser(label, False), x, self.levels, repeats)
            for x, label in self._pieces(2 * images - 1, labels)
        ]
        return torch.cat(pieces)[: len(images)]

    def _sample(self, x_T: Tensor, labels: Tensor | None) -> Tensor:
        self.network.to(x_T.device)
        pieces = [
            ddim.sample(self._denoiser(label, self.clip), x, self.levels) for x, label in self._pieces(x_T, labels)
        ]
        return torch.cat(pieces)[: len(x_T)]

    def _denoiser(self, label: Tensor | None, clip: bool) -> ddim.Denoiser:
        def denoise(x: Tensor, t: int, signal: float) -> tuple[Tensor, Tensor]:
            time = torch.full((len(x),), t * self.time_scale, device=x.device)
            noise = self.network(x, time, label)[:, : x.shape[1]]
            return ddim.from_noise(x, noise, signal, clip)

        return denoise

    def _labels(self, x: Tensor) -> Tensor | None:
        if not self.network.classes:
            return None
        if self.label is None:
            raise ValueError(
                "this model is conditional: choose generator.adm.label=CLASS, or work in space x_0, where each code is "
                "an image of its class"
            )
        return torch.full((len(x),), self.label, device=x.device)

    def _pieces(self, x: Tensor, labels: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        """Images with their labels, in batches of equal size."""
        if labels is None:
            return [(piece, None) for piece in ddim.batches(x)]
        return list(zip(ddim.batches(x), ddim.batches(labels), strict=True))


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
    if label is not None and not 0 <= label < network.classes:
        raise ValueError(
            f"label={label} must be a class 0..{network.classes - 1}" if network.classes else "this file has no classes"
        )
    levels = ddim.respaced(SCHEDULES[schedule](trained), steps)
    known = {"image_size": size, "diffusion_steps": trained, "noise_schedule": schedule, "rescale_timesteps": rescaled}
    known |= {"heads": asdict(heads)}
    fingerprint = digest("adm", 1, found.sha256, known, steps, clip, label)
    card = {**found.card, "sha256": found.sha256, "flags": known, "classes": network.classes}
    return ADM(network, size, levels, 1000 / trained if rescaled else 1.0, clip, label, fingerprint, card)
