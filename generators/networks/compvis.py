"""Latent diffusion from the files of CompVis (arXiv:2112.10752): DDIM maps x_T to z_0, a first stage decodes z_0."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from ...harness.core.protocols import Encoding
from . import ddim
from .diffusers_parts import check_images
from .first_stage import FirstStage
from .from_tensors import rehearse
from .openai_unet import Heads, UNet
from .seeds import normal
from .training_flags import flag

PIXELS = 2**16
"""Maximum number of image pixels that a network processes together."""
ROUNDED = 0.01
"""Relative differences of ᾱ below which a schedule is another one in half precision: bfloat16 changes it by 0.004."""
SIDE = 2**12
"""Largest height and width of codes."""
UNET, FIRST_STAGE, AVERAGED = "model.diffusion_model.", "first_stage_model.", "model_ema."


class Guided(nn.Module):
    """A UNet with cross-attention, and classifier-free guidance (arXiv:2207.12598 eq. 6).

    contexts [K, Q, D]: what it may be asked for, such as classes; without `choice` the first. null [Q, D]: what stands
    for nothing. The noise is ε(x, null) + guidance (ε(x, context) - ε(x, null)); without null it is ε(x, context).
    """

    contexts: Tensor

    def __init__(self, unet: UNet, contexts: Tensor, null: Tensor | None = None, guidance: float = 1.0):
        super().__init__()
        if not unet.context == contexts.shape[-1]:
            raise ValueError(f"conditions have {contexts.shape[-1]} channels, cross-attention takes {unet.context}")
        self.unet, self.guidance = unet, guidance
        self.register_buffer("contexts", contexts)
        self.null: Tensor | None
        self.register_buffer("null", null)

    def forward(self, x: Tensor, t: Tensor, choice: Tensor | None = None) -> Tensor:
        context = self.contexts[torch.zeros(len(x), dtype=torch.long) if choice is None else choice]
        if self.null is None:
            noise: Tensor = self.unet(x, t, context=context)
            return noise
        both = torch.cat([self.null.expand_as(context), context])
        without, noise = self.unet(torch.cat([x, x]), torch.cat([t, t]), context=both).chunk(2)
        guided: Tensor = without + self.guidance * (noise - without)
        return guided


class LDM:
    """A CompVis latent diffusion model as a Generator that can also encode.

    Spaces: "x_T", the normal noise at which DDIM starts; "z_0" [N, c, h, w], codes of the first stage times `scale`,
    sampled from the x_T of the same seeds. Encoding does not quantise z_0; decoding does.
    classes: those of which each seed draws one, seed mod their number, unless `label` is the class of all samples. If
    they are drawn, x_T alone does not determine an image and cannot be decoded.
    """

    spaces: Sequence[str] = ("z_0", "x_T")
    noise_space, clean_space = "x_T", "z_0"

    def __init__(
        self,
        network: UNet | Guided,
        first_stage: FirstStage,
        size: int,
        levels: ddim.Levels,
        scale: float,
        fingerprint: str,
        card: Mapping[str, Any],
        classes: Sequence[int] = (),
        label: int | None = None,
    ):
        self.network, self.first_stage, self.levels, self.scale = network, first_stage, levels, scale
        self.shape = (first_stage.channels, size, size)
        self.fingerprint, self.card, self.classes, self.label = fingerprint, card, classes, label

    def to(self, device: torch.device | str) -> Self:
        """Move the network to the device on which `latents` samples z_0."""
        self.network.to(device)
        return self

    def latents(self, seeds: Sequence[int], space: str = "z_0") -> Tensor:
        x_T = normal(seeds, *self.shape)
        if space == "x_T":
            return x_T
        x_T = x_T.to(next(self.network.parameters()).device)
        if not self.classes or self.label is not None:
            return self._sample(x_T, self._labels(x_T))
        drawn = torch.tensor([self.classes[seed % len(self.classes)] for seed in seeds])
        return self._sample(x_T, drawn.to(x_T.device))

    def decode(self, latents: Tensor, space: str = "z_0") -> Tensor:
        first_stage = self.first_stage.to(latents.device)
        codes = self._sample(latents, self._labels(latents)) if space == "x_T" else latents
        return decode(first_stage, codes / self.scale)

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        """z_0 of images, or the log variance of its posterior.

        A VQ first stage has no posterior: "sample" equals "mean", and "logvar" raises ValueError.
        """
        return encode(self.first_stage.to(images.device), images, how, seeds, self.scale)

    def invert(self, codes: Tensor, repeats: int = 1) -> Tensor:
        """x_T [N, c, h, w] from z_0, approximately, by DDIM inversion; costs repeats × steps network evaluations."""
        return self._by_batch(partial(ddim.invert, repeats=repeats), codes, self._labels(codes))

    def trajectory(self, noise: Tensor) -> Tensor:
        return self._by_batch(ddim.trajectory, noise, self._labels(noise))

    def denoising_errors(self, clean: Tensor) -> Tensor:
        return self._by_batch(ddim.denoising_errors, clean, self._labels(clean))

    def _sample(self, x_T: Tensor, labels: Tensor | None) -> Tensor:
        return self._by_batch(ddim.sample, x_T, labels)

    def _by_batch(
        self, walk: Callable[[ddim.Denoiser, Tensor, ddim.Levels], Tensor], x: Tensor, labels: Tensor | None
    ) -> Tensor:
        """What a walk through the levels makes of noise or codes x [N, c, h, w]."""
        self.network.to(x.device)
        pieces = [walk(self._denoiser(some), piece, self.levels) for piece, some in self._batches(x, labels)]
        return torch.cat(pieces)[: len(x)]

    def _denoiser(self, labels: Tensor | None) -> ddim.Denoiser:
        def denoise(x: Tensor, t: int, signal: float) -> tuple[Tensor, Tensor]:
            time = torch.full((len(x),), t, device=x.device)
            noise = self.network(x, time) if labels is None else self.network(x, time, labels)
            return ddim.from_noise(x, noise, signal)

        return denoise

    def _labels(self, x: Tensor) -> Tensor | None:
        if not self.classes:
            return None
        if self.label is None:
            raise ValueError(
                "this model is conditional: choose generator.ldm.label=CLASS, or work in space z_0, where each code is "
                "of its class"
            )
        return torch.full((len(x),), self.label, device=x.device)

    def _batches(self, x: Tensor, labels: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        """Noise or codes with their labels, in batches of equal size."""
        if labels is None:
            return [(piece, None) for piece in ddim.batches(x)]
        return list(zip(ddim.batches(x), ddim.batches(labels), strict=True))


def decode(first_stage: FirstStage, codes: Tensor) -> Tensor:
    """Images [N, C, H, W] in [0, 1] from codes, at most PIXELS pixels at a time."""
    pixels = first_stage.factor**2 * codes.shape[-1] * codes.shape[-2]
    return torch.cat([first_stage.decode(z) / 2 + 0.5 for z in torch.split(codes, max(1, PIXELS // pixels))])


def encode(first_stage: FirstStage, images: Tensor, how: Encoding, seeds: Sequence[int], scale: float) -> Tensor:
    """Codes times `scale` of images in [0, 1], or the log variance of their posterior, as `how` says.

    A VQ first stage has no posterior: "sample" equals "mean", and "logvar" raises ValueError.
    """
    if how == "logvar" and first_stage.quantised:
        raise ValueError("a VQ first stage encodes to points, so there is no log variance; choose encode=mean")
    check_images(images, first_stage.image_channels, first_stage.factor)
    parts = [
        first_stage.posterior(2 * x - 1)
        for x in torch.split(images, max(1, PIXELS // (images.shape[-1] * images.shape[-2])))
    ]
    mean, logvar = torch.cat([m for m, _ in parts]), [v for _, v in parts if v is not None]
    if how == "mean" or not logvar:
        return scale * mean
    if how == "logvar":
        return torch.cat(logvar) + 2 * math.log(scale)
    return scale * (mean + torch.exp(torch.cat(logvar) / 2) * normal(seeds, *mean.shape[1:]).to(mean))


class Parts(NamedTuple):
    """What every latent diffusion file of CompVis has. signal: ᾱ [T] of the training; averaged: which UNet it is."""

    unet: UNet
    first_stage: FirstStage
    signal: Tensor
    scale: float
    size: int
    averaged: bool


def state_dict(content: Any) -> Mapping[str, Any]:
    """The tensors by name of a checkpoint of Lightning, or of a file that has nothing else."""
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    return state if isinstance(state, Mapping) else {}


def require_tensors(tensors: Mapping[Any, Any]) -> None:
    """Raises ValueError unless these are tensors by name."""
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{str(name)[:100]} is a {type(value).__name__}, not a tensor with a name")


def below(tensors: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def read_parts(
    tensors: Mapping[str, Any], flags: Mapping[str, Any], heads: Heads, scale: float | None, ema: bool
) -> Parts:
    """The networks of a file with the flags that belong to it.

    ema: take the moving average of the UNet if the file has one. scale: None takes the factor of the file.
    Raises ValueError with the tensor or the flag that is missing, does not fit or is not understood.
    """
    require_known(flags)
    require_tensors(tensors)
    if flags.get("legacy", True) is not True and heads.count_up not in (None, heads.count):
        raise ValueError("num_heads_upsample with legacy=false is not supported; the public code then ignores it")
    size, signal = flag(flags, "image_size", int), _signal(tensors, flags)
    averaged = ema and any(name.startswith(AVERAGED) for name in tensors)
    unet = UNet(_averaged(tensors) if averaged else below(tensors, UNET), heads)
    first_stage = FirstStage(below(tensors, FIRST_STAGE))
    if not unet.in_channels == unet.out_channels == first_stage.channels:
        raise ValueError(
            f"the UNet takes {unet.in_channels} and gives {unet.out_channels} channels, codes of the first stage have "
            f"{first_stage.channels}: such models (inpainting, conditioning_key=concat) are not supported"
        )
    if unet.classes:
        raise ValueError("label_emb (conditioning_key=adm) is not supported, only cross-attention")
    for name, found in (("model_channels", unet.width), ("context_dim", unet.context)):
        if name in flags and found and flags[name] not in (found, [found]):
            raise ValueError(
                f"{name}={flags[name]} of the config is {found} in the weights; give the config of this file"
            )
    if not 1 <= size <= SIDE or size % 2 ** (unet.levels - 1):
        raise ValueError(f"image_size={size} must be divisible by {2 ** (unet.levels - 1)} and at most {SIDE:,}")
    first_stage.require_runs(size * first_stage.factor)
    codes = torch.empty(1, unet.in_channels, size, size, device="meta")
    context = torch.empty(1, 1, unet.context, device="meta") if unet.context else None
    if (made := rehearse(unet, codes, torch.empty(1, device="meta"), None, context)) != codes.shape:
        raise ValueError(f"the UNet makes {list(made)} of codes of shape {list(codes.shape)}")
    scale = float(tensors.get("scale_factor", flags.get("scale_factor", 1.0))) if scale is None else scale
    if not 0 < scale < math.inf:
        raise ValueError(f"scale_factor={scale} must be positive")
    return Parts(unet, first_stage, signal, scale, size, averaged)


MEANT: Mapping[str, Sequence[Any]] = {
    "parameterization": ("eps",),
    "beta_schedule": ("linear",),
    "given_betas": (None,),
    "conditioning_key": (None, "crossattn"),
    "cond_stage_forward": (None,),
    "split_input_params": (None,),
    "use_positional_encodings": (False,),
    "dims": (2,),
    "conv_resample": (True,),
    "num_classes": (None,),
    "tanh_out": (False,),
    "give_pre_end": (False,),
    "resamp_with_conv": (True,),
    "use_linear_attn": (False,),
    "attn_type": ("vanilla", "none"),
    "remap": (None,),
    "colorize_nlabels": (None,),
    "use_tokenizer": (True,),
    "layer": ("last",),
    "layer_idx": (None,),
}
"""Options of the public configs that change what a model computes, and the values with which it is computed here."""
TARGETS: Mapping[str, tuple[Sequence[str], str]] = {
    "model": (
        ("LatentDiffusion", "VQModel", "AutoencoderKL"),
        "",
    ),
    "unet_config": (
        ("UNetModel",),
        "image_size in_channels out_channels model_channels attention_resolutions num_res_blocks channel_mult "
        "num_heads num_head_channels num_heads_upsample use_scale_shift_norm resblock_updown use_new_attention_order "
        "dropout use_spatial_transformer transformer_depth context_dim use_checkpoint use_fp16 legacy n_embed",
    ),
    "first_stage_config": (
        ("VQModelInterface", "AutoencoderKL"),
        "embed_dim n_embed ddconfig lossconfig monitor ckpt_path ignore_keys image_key batch_resize_range "
        "sane_index_shape scheduler_config lr_g_factor use_ema",
    ),
    "cond_stage_config": (
        ("ClassEmbedder", "BERTEmbedder", "FrozenCLIPEmbedder"),
        "embed_dim n_classes key n_embed n_layer vocab_size max_seq_len device embedding_dropout version "
        "max_length freeze",
    ),
    "ddconfig": (
        (),
        "double_z z_channels resolution in_channels out_ch ch ch_mult num_res_blocks attn_resolutions dropout",
    ),
}
"""The classes that a part of a config may name, and the options that it may have in addition to `MEANT`.

Many more options of the whole model, which are not listed, are of training alone."""


def require_known(flags: Mapping[str, Any]) -> None:
    """Raises ValueError for an option or a class in a config that asks for something that is not computed here."""

    def check(part: str, given: Mapping[str, Any]) -> None:
        options = TARGETS[part][1].split() if part in TARGETS else []
        for name, value in given.items():
            if name in MEANT and value not in MEANT[name]:
                usual = " or ".join(map(repr, MEANT[name]))
                raise ValueError(f"{name}={repr(value)[:40]} is not supported, only {usual}")
            if options and name not in MEANT and name not in options:
                raise ValueError(f"option {str(name)[:40]} of {part} is not known, so what it changes is not either")
            if name in TARGETS and isinstance(value, Mapping):
                inner = value
                if name != "ddconfig":
                    target, inner = str(value.get("target", "")).rsplit(".", 1)[-1], value.get("params", {})
                    if target and target not in TARGETS[name][0]:
                        raise ValueError(f"{name} {target!r} is not supported, only {', '.join(TARGETS[name][0])}")
                if isinstance(inner, Mapping):
                    check(name, inner)

    check("", flags)


def _averaged(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """The moving average of the UNet, whose names are stored without dots."""
    names = [name for name in tensors if name.startswith(UNET)]
    average = {name: AVERAGED + name.removeprefix("model.").replace(".", "") for name in names}
    if lost := [name for name in names if average[name] not in tensors]:
        raise ValueError(f"the moving average of {len(lost)} tensors is missing; the first is {lost[0]}")
    return {name.removeprefix(UNET): tensors[average[name]] for name in names}


def _signal(tensors: Mapping[str, Any], flags: Mapping[str, Any]) -> Tensor:
    """ᾱ [T] at the timesteps of the training: that of the config, which must be the file's, or else the file's.

    The config's is preferred because files that were halved hold it rounded, which is too coarse to sample with.
    """
    stored = [(name, tensors[name]) for name in ("alphas_cumprod", "betas") if name in tensors]
    found: Tensor | None = None
    if stored:
        name, values = stored[0]
        found = values.double().flatten() if name == "alphas_cumprod" else (1 - values.double().flatten()).cumprod(0)
        if not len(found) or not bool((found > 0).all()) or not bool((found.diff() <= 0).all()):
            raise ValueError(f"{name} must fall from 1 and stay above 0 (no zero terminal SNR)")
    if {"linear_start", "linear_end"} <= flags.keys():
        start, end = (float(flags[name]) ** 0.5 for name in ("linear_start", "linear_end"))
        signal = (1 - torch.linspace(start, end, _timesteps(flags), dtype=torch.float64).square()).cumprod(0)
        if found is None or (found.shape == signal.shape and bool(((found / signal - 1).abs() < ROUNDED).all())):
            return signal
        raise ValueError(
            "the noise schedule in the file (alphas_cumprod or betas) is not that of linear_start, linear_end and "
            "timesteps; give the config of this file in args"
        )
    if found is None or stored[0][1].dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the file has {'its noise schedule in half precision' if stored else 'neither betas nor alphas_cumprod'}, "
            "so its noise schedule is not known; give linear_start and linear_end in args"
        )
    return found


def _timesteps(flags: Mapping[str, Any]) -> int:
    steps = flag({"timesteps": 1000, **flags}, "timesteps", int)
    if not 1 <= steps <= 100_000:
        raise ValueError(f"timesteps={steps} must be from 1 to 100,000")
    return steps
