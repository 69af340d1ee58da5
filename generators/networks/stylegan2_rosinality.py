"""StyleGAN2 files of rosinality/stylegan2-pytorch (MIT): conversion of their tensors to the names of NVIDIA's files."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .stylegan2_layers import widened
from .stylegan2_nvidia import TAPS


def is_rosinality(content: Any) -> bool:
    """Whether content has the averaged generator `g_ema` of that code."""
    averaged = content.get("g_ema") if isinstance(content, Mapping) else None
    names = ("style.1.weight", "input.input", "conv1.conv.modulation.weight")
    return isinstance(averaged, Mapping) and all(isinstance(averaged.get(name), Tensor) for name in names)


def rosinality_network(content: Mapping[str, Any], noise: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments of StyleGAN2Network and its state dict; sizes, widths and smoothing kernels are those of the tensors.

    noise: whether the noise maps are wanted, which older files do not have. Without `latent_avg` in the file, the mean
    w is zero. Raises KeyError for a tensor that is missing, ValueError for one that is unexpected.
    """
    left = {str(name): x.float() for name, x in content["g_ema"].items()}
    noisy = any(name.startswith("noises.") for name in left)
    if noise and not noisy:
        raise ValueError("it has no noise maps (noises.*): choose generator.stylegan2.noise=none")
    levels, depth = (
        sum(bool(re.fullmatch(form, name)) for name in left) for form in (r"to_rgbs\.\d+\.bias", r"style\.\d+\.bias")
    )
    kernels = [x for name, x in left.items() if name.endswith(".kernel")]
    size = max((x.shape[-1] for x in kernels if x.ndim), default=4)
    if size > TAPS:
        raise ValueError(f"it has a smoothing kernel of size {size}, more than {TAPS}")
    taps = max(4, size + size % 2)
    w_dim = len(left["style.1.weight"])
    tensors = {"mapping.w_avg": torch.as_tensor(content.get("latent_avg", torch.zeros(w_dim))).float().flatten()}
    for i in range(depth):
        for part in ("weight", "bias"):
            tensors[f"mapping.fc{i}.{part}"] = left.pop(f"style.{i + 1}.{part}")

    def smoothing(theirs: str) -> Tensor:
        # Their kernels include the factor 4 of an upsampling by 2.
        return widened(left.pop(f"{theirs}.kernel") / 4, taps)

    def convolution(theirs: str, ours: str, number: int, up: bool) -> None:
        weight = left.pop(f"{theirs}.conv.weight")[0]
        tensors[f"{ours}.weight"] = weight / math.sqrt(weight[0].numel())
        tensors[f"{ours}.bias"] = left.pop(f"{theirs}.activate.bias")
        modulated(theirs, ours)
        strength = left.pop(f"{theirs}.noise.weight")
        if noisy:
            tensors[f"{ours}.noise_strength"] = strength[0]
            tensors[f"{ours}.noise_const"] = left.pop(f"noises.noise_{number}")[0, 0]
        tensors[f"{ours}.resample_filter"] = smoothing(f"{theirs}.conv.blur") if up else torch.zeros(taps, taps)

    def modulated(theirs: str, ours: str) -> None:
        for part in ("weight", "bias"):
            tensors[f"{ours}.affine.{part}"] = left.pop(f"{theirs}.conv.modulation.{part}")

    for i in range(levels + 1):
        block, rgb = f"synthesis.b{4 << i}", f"to_rgbs.{i - 1}" if i else "to_rgb1"
        if i:
            convolution(f"convs.{2 * i - 2}", f"{block}.conv0", 2 * i - 1, up=True)
        else:
            tensors[f"{block}.const"] = left.pop("input.input")[0]
        convolution(f"convs.{2 * i - 1}" if i else "conv1", f"{block}.conv1", 2 * i, up=False)
        tensors[f"{block}.torgb.weight"] = left.pop(f"{rgb}.conv.weight")[0]
        tensors[f"{block}.torgb.bias"] = left.pop(f"{rgb}.bias").flatten()
        modulated(rgb, f"{block}.torgb")
        tensors[f"{block}.resample_filter"] = smoothing(f"{rgb}.upsample") if i else torch.zeros(taps, taps)
    if left:
        raise ValueError(f"g_ema has {len(left)} unexpected tensors such as {min(left)[:200]}")
    shape: dict[str, Any] = {
        "z_dim": w_dim, "c_dim": 0, "w_dim": w_dim, "resolution": 4 << levels,
        "image_channels": len(tensors["synthesis.b4.torgb.bias"]), "mapping_layers": depth, "noisy": noisy,
        "taps": taps, "widths": [len(tensors[f"synthesis.b{4 << i}.conv1.bias"]) for i in range(levels + 1)],
    }  # fmt: skip
    return shape, tensors
