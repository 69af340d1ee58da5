"""Consistency models of images in OpenAI's files (arXiv:2303.01469), with one or several steps."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.options import Range
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks import karras
from .networks.noise_space import NoiseSpace
from .networks.openai_unet import UNet, is_unet
from .networks.published import open_published
from .networks.stored_options import shown
from .networks.training_flags import flag, heads_of, read_flags

DATA, RHO = 0.5, 7.0
"""Standard deviation of images, and the exponent of the noise levels; both are fixed in the public code."""
UNDERSTOOD = (
    "image_size", "num_heads", "num_heads_upsample", "num_head_channels", "sigma_min", "sigma_max", "class_cond",
    "training_mode",
)  # fmt: skip
IMMATERIAL = (
    "attention_resolutions", "channel_mult", "dropout", "learn_sigma", "num_channels", "num_res_blocks",
    "resblock_updown", "use_checkpoint", "use_fp16", "use_new_attention_order", "use_scale_shift_norm",
    "weight_schedule", "teacher_model_path", "teacher_dropout", "target_ema_mode", "scale_mode",
    "total_training_steps", "start_ema", "start_scales", "end_scales", "distill_steps_per_iter", "loss_norm",
    "data_dir", "schedule_sampler", "lr", "weight_decay", "lr_anneal_steps", "global_batch_size", "batch_size",
    "microbatch", "ema_rate", "log_interval", "save_interval", "resume_checkpoint", "fp16_scale_growth", "generator",
    "clip_denoised", "num_samples", "sampler", "s_churn", "s_tmin", "s_tmax", "s_noise", "steps", "ts", "model_path",
    "seed",
)  # fmt: skip
"""Flags that the tensors show, that the public code ignores, or that matter only in training or in its sampling."""


class Consistency(NoiseSpace):
    """A consistency model as a Generator. Spaces: "x_T", and "x_0" where seeds draw the class.

    x_T is [N, C, R, R] with one step, and [N, K, C, R, R] with K: the noise that each step adds.
    """

    network: UNet

    def __init__(
        self,
        network: UNet,
        size: int,
        levels: Tensor,
        diffusion: karras.Solver | None,
        clip: bool,
        label: int | None,
        fingerprint: str,
        card: Mapping[str, Any],
    ):
        shape = (network.in_channels, size, size)
        steps = 1 if diffusion else len(levels) - 1
        noise = shape if steps == 1 else (steps, *shape)
        super().__init__("consistency", network, noise, network.classes, label, fingerprint, card)
        self.levels, self.diffusion, self.clip = levels, diffusion, clip

    def sample(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        least = 0.0 if self.diffusion else float(self.levels[-1])

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            x, sigma = x.float(), sigma.float()
            total = sigma.square() + DATA**2
            time = (250 * (sigma + 1e-44).log()).expand(len(x))
            change = sigma - least
            skip = DATA**2 / (change.square() + DATA**2)
            clean: Tensor = change * DATA * total.rsqrt() * self.network(total.rsqrt() * x, time, labels) + skip * x
            return clean.clamp(-1, 1) if self.clip else clean

        if self.diffusion:
            return karras.sample(denoise, noise, self.levels, self.diffusion)
        draws = noise if noise.ndim == 5 else noise[:, None]
        levels = self.levels.to(noise.device)
        x = draws[:, 0] * levels[0]
        for i, (here, there) in enumerate(pairwise(levels)):
            x = denoise(x, here)
            if i < draws.shape[1] - 1:
                x = x + draws[:, i + 1] * (there**2 - least**2).sqrt()
        return x.float()


def recognise(content: Any) -> bool:
    """Whether a checkpoint is a state dict in the layout of OpenAI's consistency models.

    It is that of ADM, but the weights of its attention have four axes.
    """
    return is_unet(content, 4)


@generator(recognise=recognise)
def consistency(
    dataset: str,
    path: str = "",
    sampler: Literal["consistency", "heun", "euler"] = "consistency",
    steps: Annotated[int, Range(least=2, most=10_000)] = 40,
    ts: Sequence[int] = (),
    clip: bool = True,
    label: int | None = None,
    args: str = "",
) -> Generator:
    """Consistency models: a `.pt` of OpenAI's code, distilled or trained; or one of its EDM teachers.

    sampler: "consistency" for consistency models; "heun" or "euler" for the teachers `edm_*.pt`, which look the same.
    steps: noise levels from sigma_max to sigma_min, evenly spaced in σ^(1/7). A consistency model uses those in ts, for
    example ts=[0,22,39]: it denoises at all of them but the last, and adds noise up to the next one in between. Without
    ts it takes one step.
    clip: clamp every estimate of the image to [-1, 1], as for the published samples; where it clamps, gradients vanish.
    label: the class of all samples of a conditional file; null draws one for each seed.
    args: a JSON or YAML file of training flags; empty for FILE.args.json or NAME.args.json beside the checkpoint. It
    gives what the weights do not contain: image_size, num_heads or num_head_channels, and, where they are not 0.002 and
    80, sigma_min and sigma_max.

    Raises ValueError with the flag that is missing, or the tensor that does not fit.
    """
    ends = (0, steps - 1)
    chosen = list(ts) or list(ends)
    if len(chosen) < 2 or (chosen[0], chosen[-1]) != ends or any(i >= j for i, j in pairwise(chosen)):
        raise ValueError(f"ts={chosen} must rise from 0 to steps - 1 = {steps - 1}")
    if sampler != "consistency" and ts:
        raise ValueError(f"ts={chosen} is for sampler=consistency; sampler={sampler} uses all of its steps")
    found = open_published("consistency", path, recognise)
    flags = {"sigma_min": 0.002, "sigma_max": 80.0, **read_flags(Path(path).expanduser(), args, "consistency")}
    try:
        size, heads = flag(flags, "image_size", int), replace(heads_of(flags), new_order=True)
        known = [float(flags[name]) for name in ("sigma_min", "sigma_max")]
        flat = {
            name: x.flatten(2) if name.endswith((".qkv.weight", ".proj_out.weight")) and isinstance(x, Tensor) else x
            for name, x in found.content.items()
        }
        network = UNet(flat, heads)
        levels = karras.noise_levels(steps, known[0], known[1], RHO)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    if unknown := sorted(flags.keys() - {*UNDERSTOOD, *IMMATERIAL}):
        raise ValueError(f"{path}: training flag {unknown[0]} is not understood; leave it out if it changes no image")
    mode = str(flags.get("training_mode", sampler))
    if ("consistency" in mode) != (sampler == "consistency") or mode == "progdist":
        raise ValueError(f"{path}: sampler={sampler} does not fit training_mode={shown(mode)}")
    if flags.get("class_cond", bool(network.classes)) != bool(network.classes):
        raise ValueError(f"{path}: class_cond={shown(flags['class_cond'])}, but it has {network.classes} classes")
    if network.out_channels != network.in_channels:
        raise ValueError(f"{path} predicts {network.out_channels} channels of images of {network.in_channels}")
    if size % 2 ** (network.levels - 1):
        raise ValueError(f"image_size={size} must be divisible by {2 ** (network.levels - 1)}")
    levels = levels[chosen] if sampler == "consistency" else levels
    settings = {"image_size": size, "heads": asdict(heads), "sigma_min": known[0], "sigma_max": known[1]}
    fingerprint = digest("consistency", 1, found.sha256, settings, sampler, steps, chosen, clip, label)
    card = {**found.card, "sha256": found.sha256, "flags": settings, "classes": network.classes}
    diffusion = None if sampler == "consistency" else sampler
    return Consistency(network, size, levels, diffusion, clip, label, fingerprint, card)
