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
NAMES = 8
"""How many names the tensors of a file may have on average, by their bytes; EXTRA bytes may have any number."""
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
    try:
        require_few_names(tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    with torch.device("meta"):
        network = _made(make, len(tensors), path)
    require_same(network, tensors, path)
    if extra := [tensor for tensor in _all_tensors(network, tensors) if tensor.is_meta]:
        most = EXTRA + sum(tensor.nbytes for tensor in tensors.values())
        if sum(tensor.numel() * tensor.element_size() for tensor in extra) > most:
            raise ValueError(f"{path} describes a network that takes far more memory than the file has bytes")
        network = _made(make, len(tensors), path)
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    # Copies: a file may change while it is mapped, and the speed of a network depends on where its numbers begin.
    own = {name: tensor.to(types[name], copy=True) for name, tensor in tensors.items()}
    network.load_state_dict(own, assign=True)
    return network.eval().requires_grad_(False)


def require_sized(make: Callable[[], nn.Module], size: int, path: str | Path) -> None:
    """Raises ValueError when `make` describes a network of more numbers than its files have bytes, or of 10,000 layers.

    It is for libraries that build and load by themselves; afterwards they may do so. `make` is as for `built`.
    """
    with torch.device("meta"):
        network = _made(make, 0, path)
    if (numbers := sum(tensor.numel() for tensor in network.state_dict().values())) > size:
        raise ValueError(f"{path} describes a network of {numbers:,} numbers, but its files have {size:,} bytes")


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


def require_few_names(tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError when the tensors would take far more memory with one for each name than they take now."""
    different = {id(tensor): tensor.nbytes for tensor in tensors.values()}
    if sum(tensor.nbytes for tensor in tensors.values()) > NAMES * sum(different.values()) + EXTRA:
        raise ValueError(f"it has {len(tensors):,} names for {len(different):,} tensors, which is far too many")


def _made(make: Callable[[], Network], count: int, path: str | Path) -> Network:
    try:
        with _bounded(count):
            return make()
    except REFUSED as error:
        why = " ".join(str(error).split())[:300] or type(error).__name__
        why = f"it has no {why}" if isinstance(error, KeyError) else why
        raise ValueError(f"{path} describes no network that assay can build: {why}") from None


@contextmanager
def _bounded(count: int) -> Iterator[None]:
    """Stops a construction that registers more than `count` tensors can fill: a number in a file may say 10^8 layers.

    The hooks of torch see every thread, so they count only what this one registers.
    """
    left = {"tensors": 2 * count + SPARE, "modules": MODULES * count + SPARE}
    here = threading.get_ident()

    def spend(what: str) -> Callable[[nn.Module, str, Any], None]:
        def registered(owner: nn.Module, name: str, value: Any) -> None:
            if threading.get_ident() == here:
                left[what] -= 1
                if left[what] < 0:
                    raise ValueError(
                        f"it has far more {what} than files can fill" + (f" with {count:,} tensors" if count else "")
                    )

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
