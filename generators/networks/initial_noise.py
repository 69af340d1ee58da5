"""The first noise that a pipeline draws from the generator of each item: found out, or replaced."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

LARGEST = 2**26
"""Most numbers in the initial noise of one item."""


class Drawn(Exception):  # noqa: N818 - nothing is wrong
    """Stops a pipeline that draws its initial noise."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype):
        super().__init__()
        self.shape, self.dtype = shape, dtype


class Noise(NamedTuple):
    """The initial noise of one item: its shape, and the type in which the pipeline draws it."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def draw(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Noise [N, *shape], float32, as the pipeline draws it."""
        draws = [torch.randn((1, *self.shape), generator=one, dtype=self.dtype) for one in generators]
        return torch.cat(draws).float()


class Watched(TorchFunctionMode):
    """Within it, the first draw of each generator stops the pipeline."""

    def __init__(self, generators: Sequence[torch.Generator]):
        super().__init__()
        self.places = {id(one): place for place, one in enumerate(generators)}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        place = self.places.get(id(kwargs.get("generator"))) if function is torch.randn else None
        return function(*args, **kwargs) if place is None else self.first(place, tuple(args[0]), kwargs)

    def first(self, place: int, shape: tuple[int, ...], options: dict[str, Any]) -> Tensor:
        raise Drawn(shape[1:], options.get("dtype") or torch.get_default_dtype())


class Replaced(Watched):
    """Within it, generator i first gives noise[i]. Raises ValueError if it is asked a second time."""

    def __init__(self, generators: Sequence[torch.Generator], noise: Tensor, message: str):
        super().__init__(generators)
        self.noise, self.message = noise, message
        self.asked: set[int] = set()

    def first(self, place: int, shape: tuple[int, ...], options: dict[str, Any]) -> Tensor:
        if place in self.asked:
            raise ValueError(self.message)
        self.asked.add(place)
        return self.noise[place : place + 1].to(device=options.get("device"), dtype=options.get("dtype"))
