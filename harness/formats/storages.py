"""The memory of tensors in files: what a file says of size, place and type is checked before any of it is taken."""

import io
import math
import re
from collections.abc import Callable
from typing import IO, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from .inert import text

Spend = Callable[[int], None]
"""Takes the number of bytes that something is about to take. Raises ValueError when a file may not have so many."""
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "UntypedStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
CHUNK = 2**24
"""Number of bytes of a storage that are read at a time."""


class Storage(NamedTuple):
    """The memory of tensors: its bytes (uint8 [n]) and the type of its elements."""

    memory: Tensor
    dtype: torch.dtype


class NumpyType:
    """A numpy type. A later instruction sets its byte order."""

    def __init__(self, code: Any, *_: Any):
        self.code, self.order = text(code), "|"

    def get(self) -> np.dtype[Any]:
        if not re.fullmatch(r"[biufc]\d\d?", self.code):
            raise ValueError(f"it has an array of numpy type {self.code[:20]!r}; only booleans and numbers are read")
        return np.dtype(self.order + self.code)


def allocate(spend: Spend, count: Any, dtype: Any, size: int) -> Storage:
    """Memory for `count` elements. Raises ValueError when they need more than the `size` bytes in the file."""
    if not isinstance(dtype, torch.dtype) or type(count) is not int or not 0 <= count * dtype.itemsize <= size:
        raise ValueError(f"a storage that should be larger than the {size:,} bytes that the file has for it")
    spend(count * dtype.itemsize)
    return Storage(torch.empty(count * dtype.itemsize, dtype=torch.uint8), dtype)


def view(spend: Spend, storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    """A tensor in the memory of a storage. Raises ValueError unless all of it lies in there."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without storage")
    if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 64):
        raise ValueError("a tensor whose size and stride are not tuples of equal length")
    if not all(type(n) is int and 0 <= n < 2**60 for n in (offset, *size, *stride)):
        raise ValueError("a tensor whose offset, size or stride is out of range")
    elements = storage.memory.view(storage.dtype)
    count = math.prod(size)
    reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1 if count else offset
    if reach > len(elements):
        raise ValueError(f"a tensor of size {list(size)} reaches beyond the {len(elements):,} elements of its storage")
    spend(count * elements.element_size())
    return elements.as_strided(size, stride, offset)


def encoded(spend: Spend, content: str) -> bytes:
    """Bytes, which a pickle of protocol 2 stores as text."""
    spend(len(content))
    return content.encode("latin1")


def array(spend: Spend, content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, NumpyType):
        raise ValueError("an array without type")
    found, raw = dtype.get(), encoded(spend, content) if isinstance(content, str) else content
    if not isinstance(raw, bytes | bytearray):
        raise ValueError("an array whose content is not bytes")
    spend(len(raw))
    values = np.frombuffer(raw, found) if raw else np.empty(0, found)
    native = values.astype(found.newbyteorder("="), copy=False)
    return native.reshape(shape, order="F" if order == "F" else "C")


def fill(memory: Tensor, file: IO[bytes]) -> None:
    """Read the bytes of a storage into `memory`. Raises ValueError when the file ends too early."""
    for start in range(0, len(memory), CHUNK):
        part = memory[start : start + CHUNK].numpy().data
        if cast(io.BufferedIOBase, file).readinto(part) != len(part):
            raise ValueError("it ends in the middle of a storage")
