"""Layers whose sizes are those of the tensors of a file, which they take over."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def adopt(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors, as float32, into a module and freeze it. Raises ValueError unless they fit exactly.

    Integers are refused, because they are weights that somebody quantised.
    """
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    missing, unexpected = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    reshaped = [name for name, shape in shapes.items() if name in tensors and tensors[name].shape != shape]
    integers = [name for name, tensor in tensors.items() if not tensor.is_floating_point()]
    for what, names in (
        ("missing", missing),
        ("not of this network", unexpected),
        ("of another shape", reshaped),
        ("of integers, and not of floating-point numbers", integers),
    ):
        if names:
            raise ValueError(f"{len(names)} tensors are {what}; the first is {names[0]}")
    module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    module.eval().requires_grad_(False)


def rehearse(network: nn.Module, *inputs: Tensor | None) -> torch.Size:
    """The shape of what a network returns for inputs on the meta device, where nothing is computed.

    Each layer fits the tensors of its file; this tells whether one fits the other. Raises ValueError otherwise.
    """
    state = {name: tensor.to("meta") for name, tensor in network.state_dict().items()}
    try:
        returned: Tensor = torch.func.functional_call(network, state, inputs)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"the layers of the {type(network).__name__} do not fit each other ({error})") from None
    return returned.shape


def convolution(tensors: Mapping[str, Tensor], name: str) -> nn.Conv2d:
    out, channels, size = shape_of(tensors, f"{name}.weight", 4)[:3]
    return nn.Conv2d(channels, out, size, padding=size // 2)


def linear(tensors: Mapping[str, Tensor], name: str, bias: bool = True) -> nn.Linear:
    out, channels = shape_of(tensors, f"{name}.weight", 2)
    return nn.Linear(channels, out, bias)


def children(tensors: Mapping[str, Tensor], name: str) -> list[str]:
    """The names name.0, name.1, … that occur in the tensors, in order."""
    depth = name.count(".") + 1
    numbers = {key.split(".")[depth] for key in tensors if key.startswith(f"{name}.")}
    return [f"{name}.{number}" for number in sorted(map(int, filter(str.isdigit, numbers)))]


def shape_of(tensors: Mapping[str, Tensor], name: str, axes: int) -> torch.Size:
    """The shape of a tensor. Raises ValueError with its name when it is missing or has another number of axes."""
    if name not in tensors:
        raise ValueError(f"tensor {name} is missing")
    if tensors[name].ndim != axes:
        raise ValueError(f"tensor {name} has shape {list(tensors[name].shape)}, expected {axes} axes")
    return tensors[name].shape
