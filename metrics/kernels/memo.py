"""A cache of results by the identity of their tensors, so that metrics which share a statistic compute it once."""

import functools
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def remember(function: Callable[P, R], size: int = 8) -> Callable[P, R]:
    """Cache the last `size` results of `function` for calls with the same tensors and equal other arguments.

    A tensor is the same when it is the same object, torch has counted no change to it (`_version`), and a checksum of
    its values agrees. The checksum detects writes that torch does not count, by `.data` or a shared numpy array.
    Tensors are held by weak references, and an entry is removed when one of its tensors is deleted. Results are shared:
    do not modify them.
    """
    entries: OrderedDict[Hashable, tuple[list[weakref.ref[Tensor]], R]] = OrderedDict()

    @functools.wraps(function)
    def remembered(*args: P.args, **kwargs: P.kwargs) -> R:
        arguments: list[Any] = [*args, *(value for _, value in sorted(kwargs.items()))]
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        if any(tensor.is_inference() for tensor in tensors):  # torch counts no changes to inference tensors
            return function(*args, **kwargs)
        key = (
            tuple(sorted(kwargs)),
            tuple(_fingerprint(v) if isinstance(v, Tensor) else (type(v), v) for v in arguments),
        )
        if key in entries:
            references, result = entries[key]
            if all(reference() is tensor for reference, tensor in zip(references, tensors, strict=True)):
                entries.move_to_end(key)
                return result
        result = function(*args, **kwargs)

        def forget(_: weakref.ref[Tensor]) -> None:
            entries.pop(key, None)

        entries[key] = ([weakref.ref(tensor, forget) for tensor in tensors], result)
        while len(entries) > size:
            entries.popitem(last=False)
        return result

    return remembered


def _fingerprint(x: Tensor) -> Hashable:
    return id(x), x._version, tuple(x.shape), _checksum(x)


def _checksum(x: Tensor) -> float:
    """u' x v with fixed random u and v; it takes one pass and changes when rows or columns are swapped."""
    flat = x.reshape(len(x), -1) if x.ndim > 1 else x.reshape(1, -1)
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(flat.shape[0], generator=generator).to(x)
    v = torch.rand(flat.shape[1], generator=generator).to(x)
    return float((flat @ v).double() @ u.double())
