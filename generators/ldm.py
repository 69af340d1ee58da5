"""Unconditional latent diffusion (arXiv:2112.10752) from CompVis checkpoints and from diffusers folders."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.protocols import Encoding, Generator
from ..harness.core.registry import generator
from .networks import ddim
from .networks.diffusers_ldm import PIPELINES, unconditional
from .networks.diffusers_parts import check_images, is_pipeline
from .networks.first_stage import FirstStage
from .networks.openai_unet import UNet, flag, heads_of, read_flags
from .networks.published import open_published
from .networks.seeds import normal

PIXELS = 2**16
"""Maximum number of image pixels that a network processes together."""
UNET = "model.diffusion_model."
AVERAGED = "model_ema."


class LDM:
    """A CompVis latent diffusion model as a Generator that can also encode.

    Spaces: "x_T", the normal noise at which DDIM starts; "z_0" [N, c, h, w], codes of the first stage times `scale`,
    sampled from the x_T of the same seeds. Encoding does not quantise z_0; decoding does.
    """

    spaces: Sequence[str] = ("z_0", "x_T")

    def __init__(
        self,
        network: UNet,
        first_stage: FirstStage,
        size: int,
        levels: ddim.Levels,
        scale: float,
        fingerprint: str,
        card: Mapping[str, Any],
    ):
        self.network, self.first_stage, self.levels, self.scale = network, first_stage, levels, scale
        self.shape = (network.in_channels, size, size)
        self.fingerprint, self.card = fingerprint, card

    def to(self, device: torch.device | str) -> Self:
        """Move the network to the device on which `latents` samples z_0."""
        self.network.to(device)
        return self

    def latents(self, seeds: Sequence[int], space: str = "z_0") -> Tensor:
        x_T = normal(seeds, *self.shape)
        return x_T if space == "x_T" else self._sample(x_T.to(next(self.network.parameters()).device))

    def decode(self, latents: Tensor, space: str = "z_0") -> Tensor:
        first_stage = self.first_stage.to(latents.device)
        codes = self._sample(latents) if space == "x_T" else latents
        return torch.cat([first_stage.decode(z / self.scale) / 2 + 0.5 for z in self._pieces(codes)])

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        """z_0 of images, or the log variance of its posterior.

        A VQ first stage has no posterior: "sample" equals "mean", and "logvar" raises ValueError.
        """
        first_stage = self.first_stage.to(images.device)
        if how == "logvar" and first_stage.quantised:
            raise ValueError("a VQ first stage encodes to points, so there is no log variance; choose encode=mean")
        check_images(images, first_stage.image_channels, first_stage.factor)
        parts = [
            first_stage.posterior(2 * x - 1)
            for x in torch.split(images, max(1, PIXELS // (images.shape[-1] * images.shape[-2])))
        ]
        mean, logvar = torch.cat([m for m, _ in parts]), [v for _, v in parts if v is not None]
        if how == "mean" or not logvar:
            return self.scale * mean
        if how == "logvar":
            return torch.cat(logvar) + 2 * math.log(self.scale)
        return self.scale * (mean + torch.exp(torch.cat(logvar) / 2) * normal(seeds, *mean.shape[1:]).to(mean))

    def invert(self, codes: Tensor, repeats: int = 1) -> Tensor:
        """x_T [N, c, h, w] from z_0, approximately, by DDIM inversion; costs repeats × steps network evaluations."""
        self.network.to(codes.device)
        found = [ddim.invert(self._denoise, z, self.levels, repeats) for z in ddim.batches(codes)]
        return torch.cat(found)[: len(codes)]

    def _sample(self, x_T: Tensor) -> Tensor:
        self.network.to(x_T.device)
        return torch.cat([ddim.sample(self._denoise, x, self.levels) for x in ddim.batches(x_T)])[: len(x_T)]

    def _denoise(self, x: Tensor, t: int, signal: float) -> tuple[Tensor, Tensor]:
        noise = self.network(x, torch.full((len(x),), t, device=x.device))
        return ddim.from_noise(x, noise, signal)

    def _pieces(self, codes: Tensor) -> Sequence[Tensor]:
        """The codes in batches of at most PIXELS image pixels."""
        side = self.first_stage.factor
        return torch.split(codes, max(1, PIXELS // (side**2 * codes.shape[-1] * codes.shape[-2])))


def recognise(content: Any) -> bool:
    """Whether a checkpoint is a latent diffusion file of CompVis or an unconditional diffusers folder."""
    if is_pipeline(content, *PIPELINES):
        return True
    names = (f"{UNET}time_embed.0.weight", "first_stage_model.quant_conv.weight")
    return all(isinstance(_state_dict(content).get(name), Tensor) for name in names)


@generator(recognise=recognise)
def ldm(dataset: str, path: str = "", steps: int = 50, scale_factor: float | None = None, args: str = "") -> Generator:
    """Unconditional latent diffusion: a CompVis .ckpt or a diffusers folder, sampled with `steps` DDIM steps.

    scale_factor: the factor by which codes of the first stage were multiplied in training. Null takes the one in the
    file, else the one in `args`, else 1, which is right for the published VQ models. A wrong factor gives useless
    images: diffusers writes 0.18215 into folders of VQ models that were trained with 1 (huggingface/diffusers#6725).
    args: for a .ckpt, a JSON or YAML file with its training config or flags; empty for FILE.args.yaml or NAME.args.yaml
    (or .json) beside it. It gives what the weights do not contain: image_size (that of codes), and num_heads or
    num_head_channels.

    Raises ValueError with what is missing or does not fit, and for conditional models.
    """
    if scale_factor is not None and not scale_factor > 0:
        raise ValueError(f"scale_factor={scale_factor} must be positive")
    file = Path(path).expanduser()
    if path and file.is_dir():
        return unconditional(file, steps, scale_factor)
    found = open_published("ldm", path, recognise)
    tensors = _state_dict(found.content)
    if _is_conditional(tensors):
        raise ValueError(
            f"{path} is a conditional model (cond_stage_model, cross-attention or classes); generator ldm opens "
            "unconditional ones. Convert Stable Diffusion to a diffusers folder for generator=stable_diffusion"
        )
    flags = read_flags(file, args, "ldm")
    try:
        if flags.get("parameterization", "eps") != "eps":
            raise ValueError(
                f"parameterization={flags['parameterization']!r} is not supported, only 'eps' (prediction of the noise)"
            )
        size, heads, signal = flag(flags, "image_size", int), heads_of(flags), _signal(tensors)
        network = UNet(_averaged(tensors), heads)
        parts = _below(tensors, "first_stage_model.")
        first_stage = FirstStage(
            {name: x for name, x in parts.items() if name.split(".")[0] not in ("loss", "model_ema")}
        )
        if not network.in_channels == network.out_channels == first_stage.channels:
            raise ValueError(
                f"the UNet takes {network.in_channels} and gives {network.out_channels} channels, codes of the first "
                f"stage have {first_stage.channels}"
            )
        if size % 2 ** (network.levels - 1):
            raise ValueError(f"image_size={size} must be divisible by {2 ** (network.levels - 1)}")
        scale = _scale(tensors, flags) if scale_factor is None else scale_factor
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    levels = ddim.respaced(signal, steps, offset=1, last=float(signal[0]))
    known = {"image_size": size, "heads": asdict(heads), "scale_factor": scale}
    fingerprint = digest("ldm", 1, found.sha256, known, steps)
    card = {**found.card, "sha256": found.sha256, **known, "first_stage": "VQ" if first_stage.quantised else "KL"}
    return LDM(network, first_stage, size, levels, scale, fingerprint, card)


def _state_dict(content: Any) -> Mapping[str, Any]:
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    return state if isinstance(state, Mapping) else {}


def _below(tensors: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def _averaged(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """The moving average of the UNet, whose names are stored without dots; the UNet itself if there is no average."""
    names = [name for name in tensors if name.startswith(UNET)]
    average = {name: AVERAGED + name.removeprefix("model.").replace(".", "") for name in names}
    if not any(name.startswith(AVERAGED) for name in tensors):
        average = {name: name for name in names}
    elif lost := [name for name in names if average[name] not in tensors]:
        raise ValueError(f"the moving average of {len(lost)} tensors is missing; the first is {lost[0]}")
    return {name.removeprefix(UNET): tensors[average[name]] for name in names}


def _is_conditional(tensors: Mapping[str, Any]) -> bool:
    """Whether the UNet has inputs other than noise and time."""
    return f"{UNET}label_emb.weight" in tensors or any(
        name.startswith("cond_stage_model.") or ".attn2." in name for name in tensors
    )


def _signal(tensors: Mapping[str, Any]) -> Tensor:
    """ᾱ [T] at the timesteps of the training."""
    signal, beta = tensors.get("alphas_cumprod"), tensors.get("betas")
    if isinstance(signal, Tensor):
        return signal.double()
    if isinstance(beta, Tensor):
        return (1 - beta.double()).cumprod(0)
    raise ValueError("the file has neither betas nor alphas_cumprod, so its noise schedule is not known")


def _scale(tensors: Mapping[str, Any], flags: Mapping[str, Any]) -> float:
    return float(tensors.get("scale_factor", flags.get("scale_factor", 1.0)))
