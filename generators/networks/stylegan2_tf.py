"""StyleGAN2 files of the TensorFlow code: conversion of their variables to the names of the PyTorch files."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...harness.formats.built import whole
from .stored_options import number, require_understood, section
from .stylegan2_layers import widened
from .stylegan2_nvidia import FIR, taps_of

UNDERSTOOD = (
    "latent_size", "label_size", "dlatent_size", "resolution", "num_channels", "fmap_base", "fmap_max",
    "mapping_layers", "mapping_fmaps", "mapping_lrmul", "architecture", "resample_kernel",
)  # fmt: skip
IMMATERIAL = (
    "truncation_psi", "truncation_cutoff", "truncation_psi_val", "truncation_cutoff_val", "dlatent_avg_beta",
    "style_mixing_prob", "is_training", "is_validation", "is_template_graph", "return_dlatents", "randomize_noise",
    "force_clean_graph", "dlatent_broadcast", "fused_modconv", "func_name", "components",
)  # fmt: skip
"""Options of the training or of a call: noise and truncation are options of assay."""
DEFAULTS = {
    "mapping_func": "G_mapping",
    "synthesis_func": "G_synthesis_stylegan2",
    "mapping_nonlinearity": "lrelu",
    "nonlinearity": "lrelu",
    "normalize_latents": True,
    "fmap_decay": 1.0,
    "fmap_min": 1,
    "dtype": "float32",
}


def is_tensorflow(content: Any) -> bool:
    """Whether content is a tuple (G, D, Gs) of TensorFlow networks that contain a mapping and a synthesis network."""
    if not isinstance(content, tuple) or len(content) != 3:
        return False
    state = getattr(content[2], "state", None)
    parts = state.get("components") if isinstance(state, Mapping) else None
    return isinstance(parts, Mapping) and "mapping" in parts and "synthesis" in parts


def tensorflow_network(record: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments of StyleGAN2Network and its state dict, from the record of a TensorFlow network.

    Raises ValueError with the option that is not understood.
    """
    parts = {name: record.state["components"][name].state for name in ("mapping", "synthesis")}
    options: dict[str, Any] = {}
    for state in (record.state, *parts.values()):
        for name, value in section(state, "static_kwargs").items():
            if options.setdefault(name, value) != value:
                raise ValueError(f"its networks have different options {name}: {options[name]} and {value}")
    require_understood(options, (*UNDERSTOOD, *IMMATERIAL), DEFAULTS)
    if options.get("label_size"):
        raise ValueError(
            "conditional StyleGAN2 files of the TensorFlow code are not supported; give an unconditional one"
        )
    if options.get("architecture", "skip") not in ("skip", "resnet"):
        raise ValueError(f"option architecture={options['architecture']!r} must be 'skip' or 'resnet'")
    mapping = {name: torch.as_tensor(value) for name, value in parts["mapping"]["variables"]}
    synthesis = {name: torch.as_tensor(value) for name, value in parts["synthesis"]["variables"]}
    top = {name: torch.as_tensor(value) for name, value in record.state.get("variables") or ()}
    taps, kernel = taps_of(options.get("resample_kernel", FIR)), _kernel(options.get("resample_kernel", FIR))
    shape: dict[str, Any] = {
        "z_dim": whole(options.get("latent_size", 512), "latent_size"),
        "c_dim": 0,
        "w_dim": whole(options.get("dlatent_size", 512), "dlatent_size"),
        "resolution": whole(options.get("resolution", 1024), "resolution"),
        "image_channels": whole(options.get("num_channels", 3), "num_channels"),
        "base": 2 * whole(options.get("fmap_base", 16 << 10), "fmap_base"),
        "max_channels": whole(options.get("fmap_max", 512), "fmap_max"),
        "mapping_layers": whole(options.get("mapping_layers", 8), "mapping_layers"),
        "mapping_width": whole(options.get("mapping_fmaps", 512), "mapping_fmaps"),
        "mapping_lr": number(options.get("mapping_lrmul", 0.01), "mapping_lrmul"),
        "architecture": str(options.get("architecture", "skip")),
        "clamp": None,
        "taps": taps,
    }
    filtering = widened(kernel, taps)
    left = {**top, **mapping, **synthesis}
    tensors = {"mapping.w_avg": left.pop("dlatent_avg")}
    for i in range(shape["mapping_layers"]):
        tensors[f"mapping.fc{i}.weight"] = left.pop(f"Dense{i}/weight").T
        tensors[f"mapping.fc{i}.bias"] = left.pop(f"Dense{i}/bias")
    tensors["synthesis.b4.const"] = left.pop("4x4/Const/const")[0]
    for level in range(2, int(math.log2(shape["resolution"])) + 1):
        size = 2**level
        block, layers = f"synthesis.b{size}", f"{size}x{size}"
        tensors[f"{block}.resample_filter"] = filtering
        if size == 4:
            tensors |= _modulated(left, f"{layers}/Conv", f"{block}.conv1", filtering, noise=0)
        else:
            tensors |= _modulated(
                left, f"{layers}/Conv0_up", f"{block}.conv0", filtering, noise=2 * level - 5, flip=True
            )
            tensors |= _modulated(left, f"{layers}/Conv1", f"{block}.conv1", filtering, noise=2 * level - 4)
        if f"{layers}/ToRGB/weight" in left:
            tensors |= _modulated(left, f"{layers}/ToRGB", f"{block}.torgb", filtering)
        if f"{layers}/Skip/weight" in left:
            tensors[f"{block}.skip.weight"] = left.pop(f"{layers}/Skip/weight").permute(3, 2, 0, 1).flip(2, 3)
            tensors[f"{block}.skip.resample_filter"] = filtering
    if left:
        raise ValueError(f"it has {len(left)} unexpected variables such as {min(left)[:200]}")
    return shape, {name: tensor.float().contiguous() for name, tensor in tensors.items()}


def _kernel(option: Any) -> Tensor:
    """The smoothing kernel [K, K] that the taps [K] of an option stand for; its sum is 1. None is no smoothing."""
    taps = torch.tensor([1.0] if option is None else [number(tap, "resample_kernel") for tap in option])
    plane = torch.outer(taps, taps)
    if not plane.sum() > 0:
        raise ValueError("option resample_kernel must have a positive sum")
    return plane / plane.sum()


def _modulated(
    variables: dict[str, Tensor],
    theirs: str,
    ours: str,
    filtering: Tensor,
    noise: int | None = None,
    flip: bool = False,
) -> dict[str, Tensor]:
    weight = variables.pop(f"{theirs}/weight").permute(3, 2, 0, 1)
    tensors = {
        f"{ours}.weight": weight.flip(2, 3) if flip else weight,
        f"{ours}.bias": variables.pop(f"{theirs}/bias"),
        f"{ours}.affine.weight": variables.pop(f"{theirs}/mod_weight").T,
        f"{ours}.affine.bias": variables.pop(f"{theirs}/mod_bias") + 1,
    }
    if noise is not None:
        tensors[f"{ours}.noise_const"] = variables.pop(f"noise{noise}")[0, 0]
        tensors[f"{ours}.noise_strength"] = variables.pop(f"{theirs}/noise_strength")
        tensors[f"{ours}.resample_filter"] = filtering
    return tensors
