"""What a user gives as numbers becomes a tensor of the same values: lists, NumPy arrays, integers, half precision.

Values are never rounded: what float32 cannot hold exactly becomes float64, and what float64 cannot hold exactly is
refused.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .protocols import Statistics

Array = Tensor | npt.NDArray[Any]
"""What metrics accept: a torch tensor or a numpy array; anything after the first axis is flattened."""

EXACT = 1 << 53
"""Whole numbers below this are exact in float64."""

_NARROW = (torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.bool)
"""Types all of whose values are exact in float32."""


def numbers(name: str, array: Any) -> Tensor:
    """An array of real numbers, or a list of such, as a float32 or float64 tensor that has the same values."""
    x = tensor(name, array)
    if x.dtype in (torch.float32, torch.float64):
        return x
    if x.dtype in _NARROW or x.is_floating_point():
        return x.to(torch.float32)
    wide = x.to(torch.float64)
    if not bool((wide.abs() < EXACT).all()):
        raise ValueError(
            f"{name} has whole numbers of 2^53 or more, not all of which float64 can hold: subtract a common offset"
        )
    return wide


def tensor(name: str, array: Any) -> Tensor:
    """An array of real numbers, or a list of such, as a tensor without gradient; its type is left as it is."""
    if isinstance(array, Statistics):
        raise ValueError(f"{name} is known by its mean and covariance alone; this metric needs the samples themselves")
    if isinstance(array, (list, tuple)) and any(isinstance(item, (Tensor, np.ndarray)) for item in array):
        return _stacked(name, [numbers(f"{name}[{i}]", item) for i, item in enumerate(array)])
    x = array if isinstance(array, Tensor) else _from_numpy(name, array)
    for wrong, advice in (
        (x.is_complex(), f"complex ({x.dtype}); give real values"),
        (x.is_meta, "on the meta device, where tensors have no values"),
        (x.is_nested, f"a nested tensor; give one of equal rows, such as {name}.to_padded_tensor(0)"),
        (x.layout != torch.strided, f"sparse ({x.layout}); give {name}.to_dense()"),
        (x.is_quantized, f"quantised ({x.dtype}); give {name}.dequantize()"),
    ):
        if wrong:
            raise ValueError(f"{name} is {advice}")
    return x.detach().resolve_neg() if x.requires_grad or x.is_neg() else x


def _stacked(name: str, parts: Sequence[Tensor]) -> Tensor:
    first, wide = parts[0], any(part.dtype == torch.float64 for part in parts)
    for i, part in enumerate(parts):
        if part.shape != first.shape or part.device != first.device:
            raise ValueError(
                f"{name} is a list whose entry 0 has shape {list(first.shape)} on {first.device} and entry {i} "
                f"{list(part.shape)} on {part.device}: give entries of one shape"
            )
    return torch.stack([part.to(torch.float64 if wide else torch.float32) for part in parts])


def _from_numpy(name: str, array: Any) -> Tensor:
    if hasattr(array, "todense"):
        raise ValueError(f"{name} is sparse ({type(array).__name__}); give {name}.toarray()")
    if np.ma.isMaskedArray(array):
        masked = np.ma.getmaskarray(array)
        if masked.any():
            raise ValueError(
                f"{name} has {int(masked.sum())} masked values: remove these samples, or fill them: {name}.filled(0)"
            )
        array = array.data
    try:
        found = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be read as an array ({error}): give one NumPy array or tensor") from None
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{name} has the type {found.dtype} ({type(array).__name__}); give one array of real numbers")
    if found.dtype.kind == "f" and found.dtype.itemsize > 8:
        wide = found.astype(np.float64)
        if not np.array_equal(wide, found, equal_nan=True):
            raise ValueError(
                f"{name} has {found.dtype} values that float64 cannot hold: round them to float64 yourself"
            )
        found = wide
    found = np.ascontiguousarray(found.astype(found.dtype.newbyteorder("="), copy=False)).reshape(found.shape)
    with warnings.catch_warnings():  # a read-only memory map is welcome: nothing here writes to its input
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(found)


def is_8_bit(array: Any) -> bool:
    return _type_name(array).removeprefix("torch.") == "uint8"


def is_floating(array: Any) -> bool:
    return "float" in _type_name(array)


def _type_name(array: Any) -> str:
    while isinstance(array, (list, tuple)) and array:
        array = array[0]
    return str(getattr(array, "dtype", ""))
