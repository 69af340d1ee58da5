"""Networks that a file describes, built on the meta device and compared with its tensors before memory is taken."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

Network = TypeVar("Network", bound=nn.Module)

SPARE, MODULES = 10_000, 8
"""How many tensors a network may have beyond those of its file while it is built, and how many modules per tensor."""
EXTRA = 2**26
"""Most bytes of what a network computes for itself, in addition to as many as its file has."""
REFUSED = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What the construction of a network raises when a file describes none; NotImplementedError is a RuntimeError."""


def built(make: Callable[[], Network], tensors: Mapping[str, Tensor], path: str | Path) -> Network:
    """The network that `make` returns, with the tensors of a file as its weights: frozen, and set for evaluation.

    `make` is called on the meta device, where a network takes no memory, so that sizes that a file only declares cost
    nothing. Names and shapes must be those of `tensors`; their numbers are converted to the types of the network. A
    network with tensors that are not in files, such as buffers that are not persistent, is built a second time, after
    all others fitted. `make` must not need the values of tensors that it makes, and bounds the loops in which it
    registers nothing.

    Raises ValueError, in one line with the path, when `make` fails, when it makes far more tensors or modules than the
    file can fill, and for the first tensor that is missing, unexpected or of another shape.
    """
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{path} holds a {type(tensor).__name__} where a tensor must be: {str(name)[:200]}")
    with torch.device("meta"):
        network = _made(make, len(tensors), path)
    require_same(network, tensors, path)
    if extra := [tensor for tensor in _all_tensors(network, tensors) if tensor.is_meta]:
        most = EXTRA + sum(tensor.nbytes for tensor in tensors.values())
        if sum(tensor.numel() * tensor.element_size() for tensor in extra) > most:
            raise ValueError(f"{path} describes a network that takes far more memory than the file has bytes")
        network = _made(make, len(tensors), path)
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: tensor.to(types[name]) for name, tensor in tensors.items()}, assign=True)
    return network.eval().requires_grad_(False)


def whole(value: Any, name: str, least: int = 1, most: int = 2**20) -> int:
    """A number of a file as an integer from `least` to `most`; 8.0 is 8. Raises ValueError with the name otherwise."""
    usual = isinstance(value, int | float) and not isinstance(value, bool)
    if not usual or not least <= value <= most or value != int(value):
        shown = "(a large number)" if isinstance(value, int) and value.bit_length() > 99 else str(value)[:40]
        raise ValueError(f"{name}={shown} must be a whole number from {least:,} to {most:,}")
    return int(value)


def require_same(network: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Raises ValueError unless the tensors from `path` have exactly the names and shapes of the network's tensors."""
    expected, found = ({name: list(t.shape) for name, t in each.items()} for each in (network.state_dict(), tensors))
    shaped = {name: f" ({found[name]}, expected {shape})" for name, shape in expected.items() if name in found}
    differences = {
        "lacks {} tensors": expected.keys() - found.keys(),
        "has {} unexpected tensors": found.keys() - expected.keys(),
        "has {} tensors of other shapes": {name for name in shaped if expected[name] != found[name]},
    }
    notes = [
        f"{what.format(len(names))} such as {min(names)[:200]}{shaped.get(min(names), '')}"
        for what, names in differences.items()
        if names
    ]
    if notes:
        raise ValueError(f"{path} holds another network: it {', '.join(notes)}")


def _made(make: Callable[[], Network], count: int, path: str | Path) -> Network:
    try:
        with bounded(count):
            return make()
    except REFUSED as error:
        why = " ".join(str(error).split())[:300] or type(error).__name__
        why = f"it has no {why}" if isinstance(error, KeyError) else why
        raise ValueError(f"{path} describes no network that assay can build: {why}") from None


@contextmanager
def bounded(count: int) -> Iterator[None]:
    """Stops a construction that registers more than `count` tensors can fill: a number in a file may say 10^8 layers.

    The hooks of torch see every thread, so those that run beside this one are told apart.
    """
    left = {"tensors": 2 * count + SPARE, "modules": MODULES * count + SPARE}
    here = threading.get_ident()

    def spend(what: str) -> Callable[[nn.Module, str, Any], None]:
        def registered(owner: nn.Module, name: str, value: Any) -> None:
            if threading.get_ident() == here:
                left[what] -= 1
                if left[what] < 0:
                    raise ValueError(f"it has far more {what} than the {count:,} tensors of the file can fill")

        return registered

    hooks = (
        registration.register_module_parameter_registration_hook(spend("tensors")),
        registration.register_module_buffer_registration_hook(spend("tensors")),
        registration.register_module_module_registration_hook(spend("modules")),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _all_tensors(network: nn.Module, known: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """Tensors of a network that are not in its files: other buffers, and attributes, in lists and dictionaries too."""
    for prefix, module in network.named_modules():
        yield from (x for name, x in module.named_buffers(prefix, recurse=False) if name not in known)
        waiting = [value for name, value in vars(module).items() if name not in ("_parameters", "_buffers", "_modules")]
        while waiting:
            value = waiting.pop()
            if isinstance(value, Tensor):
                yield value
            elif isinstance(value, list | tuple):
                waiting += value
            elif isinstance(value, dict):
                waiting += value.values()
