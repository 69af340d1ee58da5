"""Arguments of metrics become checked tensors here: shapes, types, devices, counts and finite values."""

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = Tensor | npt.NDArray[Any]
"""What metrics accept: a torch tensor or a numpy array; anything after the first axis is flattened."""

BLOCK_ELEMENTS = 1 << 21
"""Size of the pieces that row-wise products are cut into: 16 MiB in float64."""

CACHED = 1 << 17
"""Size of the pieces that sums over rows are cut into: what fits the cache."""


def samples(least: int = 1, /, **named: Array) -> tuple[Tensor, ...]:
    """The named sets as finite tensors [N, D] of one floating type (float32 or float64) on one device.

    Half precision and integers become float32; float64 anywhere makes all sets float64. Values are not copied where
    nothing has to change.

    Raises ValueError, naming the set, when it has fewer than `least` rows, no columns, complex or non-finite values
    (with their number of rows and the first of them), or when sets differ in dimension or device.
    """
    tensors = {name: _matrix(name, array) for name, array in named.items()}
    wide = any(x.dtype == torch.float64 for x in tensors.values())
    first_name, first = next(iter(tensors.items()))
    for name, x in tensors.items():
        if len(x) < least:
            raise ValueError(f"{name} has {len(x)} rows; at least {least} are needed: give more samples")
        if x.shape[1] != first.shape[1]:
            raise ValueError(
                f"{first_name} has {first.shape[1]} dimensions, {name} has {x.shape[1]}: use one feature space"
            )
        if x.device != first.device:
            raise ValueError(f"{first_name} is on {first.device}, {name} on {x.device}: move them to one device")
        _require_finite(name, x)
    return tuple(x.to(torch.float64 if wide else torch.float32) for x in tensors.values())


def images(name: str, array: Array) -> Tensor:
    """Images [N, C, H, W] as float32 in [0, 1]; ValueError names the first image that is not."""
    x = _tensor(name, array)
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"{name} has shape {list(x.shape)}; images are [N, 1 or 3, H, W]")
    x = x.to(torch.float32)
    _require_finite(name, x.flatten(1))
    outside = ((x < 0) | (x > 1)).flatten(1).any(1)
    if outside.any():
        raise ValueError(
            f"{name}: {int(outside.sum())} of {len(x)} images leave [0, 1], the first is image "
            f"{int(outside.nonzero()[0])}: clamp them, or divide 8-bit values by 255"
        )
    return x


def latents(codes: Array) -> Tensor:
    """Latent codes as a tensor [N, ...] in the shape and type given; ValueError unless they are finite and floating."""
    z = torch.as_tensor(codes).detach()
    if z.ndim < 2 or not len(z) or not z.is_floating_point() or not bool(z.isfinite().all()):
        raise ValueError(f"latents are {z.dtype} of shape {list(z.shape)}; give finite floating [N, ...]")
    return z


def row_blocks(x: Tensor, elements: int = BLOCK_ELEMENTS) -> tuple[Tensor, ...]:
    """x [N, ...] cut along its rows into pieces of bounded size, so that working memory does not grow with N."""
    return torch.split(x, max(1, elements * len(x) // max(1, x.numel())))


def require_neighbours(name: str, rows: int, k: int, *, others: bool) -> None:
    """ValueError unless each of `rows` samples has k neighbours: `others` of its own set, or any row of another set."""
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    needed = k + others
    if rows < needed:
        what = "k other neighbours each" if others else "k neighbours"
        raise ValueError(
            f"{name} has {rows} rows; k={k} needs at least {needed} ({what}): give more samples or a smaller k"
        )


def _matrix(name: str, array: Array) -> Tensor:
    x = _tensor(name, array)
    if x.ndim < 2:
        raise ValueError(f"{name} has shape {list(x.shape)}; samples are [N, D]: one row a sample")
    x = x if x.ndim == 2 else x.flatten(1)
    if x.shape[1] == 0:
        raise ValueError(f"{name} has shape {list(x.shape)}: no columns")
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def _tensor(name: str, array: Array) -> Tensor:
    if isinstance(array, Tensor):
        x = array.detach() if array.requires_grad else array
    else:
        with warnings.catch_warnings():  # a read-only memory map is welcome: nothing here writes to its input
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            x = torch.from_numpy(np.ascontiguousarray(array))
    if x.is_complex():
        raise ValueError(f"{name} is complex ({x.dtype}); give real values")
    return x


def _require_finite(name: str, x: Tensor) -> None:
    # A sum is finite only if every term is; one pass without a mask. An overflowing sum of finite terms is looked at.
    if math.isfinite(float(x.sum())):
        return
    bad = torch.cat([~torch.isfinite(block).all(1) for block in row_blocks(x)])
    if bad.any():
        rows = int(bad.sum())
        raise ValueError(
            f"{name}: {rows} of {len(x)} rows {'is' if rows == 1 else 'are'} not finite (NaN or inf), "
            f"the first is row {int(bad.nonzero()[0])}: remove or repair them"
        )
