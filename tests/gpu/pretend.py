"""A CUDA device that is none: tensors on it are on the CPU, and whatever CUDA would refuse is refused.

Inside `Pretending`, a tensor moved to "cuda" says that it is there, and so do all that are computed from it. An
operation on tensors of both devices, a generator of the other device, or a view in NumPy of a tensor on the device
raises RuntimeError, as on a GPU. Numbers are those of the CPU, so results must be equal. `waits` counts how often the
host reads a value from the device, and so has to wait for it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda", 0)
MARK = "_pretends"
MOVES = {
    Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.type_as, Tensor.copy_, Tensor.set_,
    torch._has_compatible_shallow_copy_type,
}  # fmt: skip
"""Operations that may see tensors of both devices."""
READS = {
    Tensor.item, Tensor.tolist, Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.__index__, Tensor.nonzero,
    Tensor.masked_select, torch.nonzero, torch.masked_select, torch.bincount, Tensor.bincount, torch.unique,
    Tensor.unique, torch.equal, Tensor.equal, Tensor.__contains__,
}  # fmt: skip
"""Operations whose result, or its size, the host must know."""
HOST = {Tensor.numpy, Tensor.__array__}


class Pretending(TorchFunctionMode):
    """Within it, "cuda" is a device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = Counter[str]()

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        getter = _getter(function, args)
        if getter is not None:
            return getter
        if function is torch._C._nn._parse_to:  # what `Module.to` was told
            return function(*args, **kwargs)
        name = getattr(function, "__name__", str(function))
        tensors = list(_tensors((args, kwargs)))
        there = [tensor for tensor in tensors if _is_there(tensor)]
        target = _target(function, args, kwargs)
        if there and function in HOST:
            raise RuntimeError(f"{name}: can't convert a tensor on {GPU} to NumPy")
        if function not in MOVES and function != Tensor.data.__set__:  # type: ignore[attr-defined]
            self._require_one_device(function, name, args, tensors, there)
        if target == GPU and isinstance(kwargs.get("generator"), torch.Generator):
            raise RuntimeError(f"{name}: expected a generator of {GPU}")
        if there and (function in READS or (function is Tensor.__getitem__ and _by_mask(args[1]))):
            self.waits[name] += 1
        args, kwargs = _on_cpu(args), _on_cpu(kwargs)
        found = function(*args, **kwargs)
        if function == Tensor.grad.__get__:  # type: ignore[attr-defined]
            return _marked(found, bool(there), tensors)
        if function == Tensor.data.__set__:  # type: ignore[attr-defined]
            setattr(args[0], MARK, _is_there(args[1]))
            return found
        moved = function in (Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.type_as) or target is not None
        on_gpu = _destination(function, args, tensors, target) if moved else bool(there)
        if function in (Tensor.copy_, Tensor.__setitem__):
            on_gpu = _is_there(args[0])
        return _marked(found, on_gpu, tensors)

    @staticmethod
    def _require_one_device(
        function: Any, name: str, args: tuple[Any, ...], tensors: list[Tensor], there: list[Tensor]
    ) -> None:
        here = [tensor for tensor in tensors if not _is_there(tensor) and tensor.ndim]
        if not there or not here:
            return
        if function is Tensor.__getitem__ and _is_there(args[0]):
            return  # an index may be on the CPU
        if function is Tensor.__setitem__ and _is_there(args[0]):
            indexed = any(isinstance(part, Tensor) for part in _flat(args[1]))
            if not indexed or not (isinstance(args[2], Tensor) and args[2].ndim and not _is_there(args[2])):
                return
        one, other = (list(tensor.shape) for tensor in (there[0], here[0]))
        raise RuntimeError(f"{name}: expected all tensors on one device, {one} is on {GPU}, {other} on the CPU")


def _getter(function: Any, args: tuple[Any, ...]) -> Any:
    """What the device of a tensor is said to be; None for any other function."""
    if function == Tensor.device.__get__:  # type: ignore[attr-defined]
        return GPU if _is_there(args[0]) else torch.device("cpu")
    if function == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
        return _is_there(args[0])
    if function == Tensor.is_cpu.__get__:  # type: ignore[attr-defined]
        return not _is_there(args[0])
    return None


def _is_there(tensor: Tensor) -> bool:
    return bool(tensor.__dict__.get(MARK, False))


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _flat(part)
    elif isinstance(value, Mapping):
        yield from _flat(list(value.values()))
    else:
        yield value


def _tensors(value: Any) -> Iterator[Tensor]:
    return (part for part in _flat(value) if isinstance(part, Tensor))


def _by_mask(index: Any) -> bool:
    return any(part.dtype == torch.bool and part.ndim for part in _tensors(index))


def _target(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.device | None:
    """The device that a call names."""
    if function is Tensor.cuda:
        return GPU
    if function is Tensor.cpu:
        return torch.device("cpu")
    named = kwargs.get("device")
    if named is None and function is Tensor.to:
        named = next((a for a in args[1:] if isinstance(a, (torch.device, str))), None)
    if named is None:
        return None
    return GPU if torch.device(named).type == "cuda" else torch.device("cpu")


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu") if value.type == "cuda" else value
    if isinstance(value, str) and value.startswith("cuda"):
        return "cpu"
    if isinstance(value, dict):
        return {key: _on_cpu(part) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_on_cpu(part) for part in value)
    return value


def _destination(function: Any, args: tuple[Any, ...], tensors: list[Tensor], target: torch.device | None) -> bool:
    if target is not None:
        return target == GPU
    return _is_there(tensors[-1] if len(tensors) > 1 else tensors[0])


def _marked(found: Any, on_gpu: bool, given: list[Tensor]) -> Any:
    """The result with its tensors marked; one that is an argument, and would change its mark, is another object."""
    if isinstance(found, Tensor):
        if any(found is tensor for tensor in given):
            if _is_there(found) == on_gpu:
                return found
            with torch._C.DisableTorchFunction():
                found = found.view_as(found)
        found.__dict__[MARK] = on_gpu
        return found
    if isinstance(found, (tuple, list)):
        parts = [_marked(part, on_gpu, given) for part in found]
        return type(found)(parts) if type(found) in (tuple, list) else found
    return found
