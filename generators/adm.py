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
from ..harness.formats.built import REFUSED, whole
from .networks import ddim
from .networks.noise_space import NoiseSpace
from .networks.openai_unet import UNet, is_unet
from .networks.published import open_published
from .networks.stored_options import require_understood, yes
from .networks.training_flags import flag, heads_of, read_flags

SIZE, STEPS = 2**13, 2**17
"""Largest image size, and most steps of the training."""
UNDERSTOOD = (
    "image_size", "num_heads", "num_heads_upsample", "num_head_channels", "use_new_attention_order", "diffusion_steps",
    "noise_schedule", "rescale_timesteps", "learn_sigma", "class_cond",
)  # fmt: skip
IMMATERIAL = (
    "num_channels", "num_res_blocks", "attention_resolutions", "channel_mult", "use_scale_shift_norm",
    "resblock_updown", "dropout", "use_checkpoint", "use_fp16", "sigma_small", "timestep_respacing", "use_kl",
    "rescale_learned_sigmas", "data_dir", "schedule_sampler", "lr", "weight_decay", "lr_anneal_steps", "batch_size",
    "microbatch", "ema_rate", "log_interval", "save_interval", "resume_checkpoint", "fp16_scale_growth",
    "clip_denoised", "num_samples", "use_ddim", "model_path",
)  # fmt: skip
"""Flags that the tensors show, or that matter only in training or in ways of sampling that assay does not use."""
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
    dataset: str,
    path: str = "",
    steps: int = 50,
    spacing: str = "ddim",
    clip: bool = True,
    label: int | None = None,
    args: str = "",
) -> Generator:
    """IDDPM or ADM: a `.pt` of OpenAI's improved-diffusion or guided-diffusion, sampled with `steps` DDIM steps.

    spacing: which timesteps are sampled: "ddim", as OpenAI's timestep_respacing=ddimN with N steps, 0 and every k-th
    after it, or "even", as their timestep_respacing=N, spread evenly from the first to the last. The images differ.
    clip: clamp every estimate of x_0 to [-1, 1], as for the published samples; where it clamps, gradients vanish.
    label: the class of all samples of a conditional file; null draws one for each seed.
    args: a JSON or YAML file of training flags; empty for FILE.args.json or NAME.args.json beside the checkpoint. It
    gives what the weights do not contain: image_size, num_heads or num_head_channels, diffusion_steps, noise_schedule,
    rescale_timesteps.

    Raises ValueError with the flag that is missing or not understood, or the tensor that does not fit.
    """
    if spacing not in ("ddim", "even"):
        raise ValueError(f"generator.adm.spacing={spacing!r} must be 'ddim' or 'even'")
    found = open_published("adm", path, recognise)
    flags = read_flags(Path(path).expanduser(), args, "adm")
    try:
        size = whole(flag(flags, "image_size", int), "image_size", most=SIZE)
        trained = whole(flag(flags, "diffusion_steps", int), "diffusion_steps", most=STEPS)
        schedule, rescaled = flag(flags, "noise_schedule", str), flag(flags, "rescale_timesteps", bool)
        if schedule not in SCHEDULES:
            raise ValueError(f"noise_schedule={schedule!r} must be one of {', '.join(SCHEDULES)}")
        _require_understood(flags)
        heads = heads_of(flags)
        network = UNet(found.content, heads)
        _require_images(network, flags)
        if size % 2 ** (network.levels - 1):
            raise ValueError(f"image_size={size} must be divisible by {2 ** (network.levels - 1)}")
        times = ddim_times(trained, steps) if spacing == "ddim" else ddim.even_times(trained, steps)
    except REFUSED as error:
        raise ValueError(f"{path}: {' '.join(str(error).split()) or type(error).__name__}") from None
    signal = SCHEDULES[schedule](trained)[times]
    levels = ddim.Levels(times, [*signal.tolist(), 1.0])
    known = {"image_size": size, "diffusion_steps": trained, "noise_schedule": schedule, "rescale_timesteps": rescaled}
    known |= {"heads": asdict(heads)}
    fingerprint = digest("adm", 2, found.sha256, known, times, clip, label)
    spaced = f"ddim{steps}" if spacing == "ddim" else str(steps)
    card = {**found.card, "sha256": found.sha256, "flags": known, "classes": network.classes, "respacing": spaced}
    return ADM(network, size, levels, 1000 / trained if rescaled else 1.0, clip, label, fingerprint, card)


def _require_understood(flags: Mapping[str, Any]) -> None:
    """Raises ValueError with the first flag that is not understood."""
    if any(name in flags for name in ("large_size", "small_size")):
        raise ValueError("large_size, small_size: upsamplers, which need a small image, are not supported")
    if flags.get("predict_xstart"):
        raise ValueError("predict_xstart=true: networks that predict x_0 instead of the noise are not supported")
    try:
        require_understood(flags, (*UNDERSTOOD, *IMMATERIAL), {"predict_xstart": False})
    except ValueError as error:
        raise ValueError(f"training flag: {error}; leave it out if it does not change the network") from None


def _require_images(network: UNet, flags: Mapping[str, Any]) -> None:
    """Raises ValueError unless the network maps noisy images alone to their noise, as the flags say."""
    into, out = network.in_channels, network.out_channels
    if out not in (into, 2 * into):
        raise ValueError(f"it predicts {out} channels of images of {into}")
    if into % 2 == 0 and out == into and "learn_sigma" not in flags:
        raise ValueError(
            f"it takes and predicts {into} channels, as an upsampler of OpenAI does, which is not supported; if it is "
            "none, add learn_sigma=false to its flags"
        )
    if "learn_sigma" in flags and out != into * (2 if yes(flags["learn_sigma"], "learn_sigma") else 1):
        stated = str(flags["learn_sigma"]).lower()
        raise ValueError(
            f"learn_sigma={stated}, but it takes {into} channels and predicts {out}: OpenAI's upsamplers, which need a "
            "small image, are not supported"
        )
    if "class_cond" in flags and yes(flags["class_cond"], "class_cond") != bool(network.classes):
        raise ValueError(f"class_cond={str(flags['class_cond']).lower()}, but it has {network.classes} classes")


def ddim_times(trained: int, steps: int) -> list[int]:
    """Timesteps of OpenAI's respacing "ddimN", noisiest first: 0, k, 2k, ... with the least k that gives N of them.

    Raises ValueError when no k does.
    """
    if not 1 <= steps <= trained:
        raise ValueError(f"steps={steps} must be between 1 and {trained}, the steps this model was trained with")
    for stride in range(1, trained):
        if len(range(0, trained, stride)) == steps:
            return list(range(0, trained, stride))[::-1]
    raise ValueError(
        f"steps={steps}: no stride gives so many of {trained} timesteps; choose a divisor of {trained}, or spacing=even"
    )
