"""StyleGAN2 files of the TensorFlow code: conversion of their variables to the names of the PyTorch files."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .stylegan2_layers import fir


def is_tensorflow(content: Any) -> bool:
    """Whether content is a tuple (G, D, Gs) of TensorFlow networks that contain a mapping and a synthesis network."""
    if not isinstance(content, tuple) or len(content) != 3:
        return False
    state = getattr(content[2], "state", None)
    parts = state.get("components") if isinstance(state, Mapping) else None
    return isinstance(parts, Mapping) and "mapping" in parts and "synthesis" in parts


def tensorflow_network(record: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments of StyleGAN2Network and its state dict, from the record of a TensorFlow network."""
    parts = {name: record.state["components"][name].state for name in ("mapping", "synthesis")}
    options: dict[str, Any] = dict(record.state.get("static_kwargs") or {})
    for part in parts.values():
        options |= part.get("static_kwargs") or {}
    mapping = {name: torch.as_tensor(value) for name, value in parts["mapping"]["variables"]}
    synthesis = {name: torch.as_tensor(value) for name, value in parts["synthesis"]["variables"]}
    top = {name: torch.as_tensor(value) for name, value in record.state.get("variables") or ()}
    resolution, w_dim = int(options.get("resolution", 1024)), int(options.get("dlatent_size", 512))
    shape: dict[str, Any] = {
        "z_dim": int(options.get("latent_size", 512)),
        "c_dim": int(options.get("label_size", 0)),
        "w_dim": w_dim,
        "resolution": resolution,
        "image_channels": int(options.get("num_channels", 3)),
        "base": 2 * int(options.get("fmap_base", 16 << 10)),
        "max_channels": int(options.get("fmap_max", 512)),
        "mapping_layers": int(options.get("mapping_layers", 8)),
        "mapping_width": int(options.get("mapping_fmaps", w_dim)),
        "mapping_lr": float(options.get("mapping_lrmul", 0.01)),
        "architecture": str(options.get("architecture", "skip")),
        "clamp": None,
    }
    if shape["c_dim"]:
        raise ValueError(
            "conditional StyleGAN2 files of the TensorFlow code are not supported; give an unconditional one"
        )
    tensors = {"mapping.w_avg": {**top, **mapping, **synthesis}["dlatent_avg"]}
    for i in range(shape["mapping_layers"]):
        tensors[f"mapping.fc{i}.weight"] = mapping[f"Dense{i}/weight"].T
        tensors[f"mapping.fc{i}.bias"] = mapping[f"Dense{i}/bias"]
    tensors["synthesis.b4.const"] = synthesis["4x4/Const/const"][0]
    for level in range(2, int(math.log2(resolution)) + 1):
        size = 2**level
        block, layers = f"synthesis.b{size}", f"{size}x{size}"
        tensors[f"{block}.resample_filter"] = fir()
        if size == 4:
            tensors |= _modulated(synthesis, f"{layers}/Conv", f"{block}.conv1", noise=0)
        else:
            tensors |= _modulated(synthesis, f"{layers}/Conv0_up", f"{block}.conv0", noise=2 * level - 5, flip=True)
            tensors |= _modulated(synthesis, f"{layers}/Conv1", f"{block}.conv1", noise=2 * level - 4)
        if f"{layers}/ToRGB/weight" in synthesis:
            tensors |= _modulated(synthesis, f"{layers}/ToRGB", f"{block}.torgb")
        if f"{layers}/Skip/weight" in synthesis:
            tensors[f"{block}.skip.weight"] = synthesis[f"{layers}/Skip/weight"].permute(3, 2, 0, 1).flip(2, 3)
            tensors[f"{block}.skip.resample_filter"] = fir()
    return shape, {name: tensor.float().contiguous() for name, tensor in tensors.items()}


def _modulated(
    variables: Mapping[str, Tensor], theirs: str, ours: str, noise: int | None = None, flip: bool = False
) -> dict[str, Tensor]:
    weight = variables[f"{theirs}/weight"].permute(3, 2, 0, 1)
    tensors = {
        f"{ours}.weight": weight.flip(2, 3) if flip else weight,
        f"{ours}.bias": variables[f"{theirs}/bias"],
        f"{ours}.affine.weight": variables[f"{theirs}/mod_weight"].T,
        f"{ours}.affine.bias": variables[f"{theirs}/mod_bias"] + 1,
    }
    if noise is not None:
        tensors[f"{ours}.noise_const"] = variables[f"noise{noise}"][0, 0]
        tensors[f"{ours}.noise_strength"] = variables[f"{theirs}/noise_strength"]
        tensors[f"{ours}.resample_filter"] = fir()
    return tensors
