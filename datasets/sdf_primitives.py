"""Volumes of procedural shapes in four categories; a share of the shapes can have known faults."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.protocols import Dataset, Samples, Split, Truth
from ..harness.core.registry import dataset
from ..harness.shapes.surfaces import TRUNCATION, to_volume, voxel
from .parts.sdf_shapes import STATES, Shape, make_shape
from .parts.sdf_styles import CATEGORIES, Draws
from .parts.splits import check_range

FIRST: dict[Split, int] = {"train": 0, "test": 10**9}
"""The number of the first shape of each split. They are so far apart that splits never share a shape."""
KEPT = 2**29
"""Maximum size, in bytes, of the volumes cached in memory."""


class SDFPrimitives:
    """A Dataset that generates its shapes on demand; shape i depends on i alone.

    Labels are category + 4 · state: a label below 4 is a whole shape, and the label modulo 4 is the category.
    """

    name = "sdf_primitives"
    states: Sequence[str] = STATES
    kinds: Sequence[str] = tuple(CATEGORIES)

    def __init__(self, counts: dict[Split, int], resolution: int, broken: float):
        faults = [f"{name}, {state}" for state in STATES[1:] for name in CATEGORIES]
        self.classes: Sequence[str] = (*CATEGORIES, *(faults if broken else ()))
        self._counts, self.resolution, self.broken = counts, resolution, broken
        self.fingerprint = digest("sdf_primitives", 1, resolution, broken)
        self._volume = lru_cache(KEPT // resolution**3)(self._generated)

    def count(self, split: Split) -> int:
        return self._counts[split]

    def take(self, split: Split, start: int, stop: int) -> Samples:
        check_range(self.name, split, self.count(split), start, stop)
        shapes = range(FIRST[split] + start, FIRST[split] + stop)
        volumes = torch.stack([self._volume(index) for index in shapes])
        labels = [index % len(CATEGORIES) + len(CATEGORIES) * STATES.index(self._state(index)) for index in shapes]
        return Samples(volumes, torch.tensor(labels))

    def truth(self, numbers: Sequence[int]) -> Truth:
        """State, category and typicality of samples of the test split; typicality is the frequency of the style."""
        indices = [FIRST["test"] + number for number in numbers]
        typicality = [make_shape(index).typicality for index in indices]  # a fault does not change the style
        return Truth(
            torch.tensor([STATES.index(self._state(index)) for index in indices]),
            torch.tensor([index % len(CATEGORIES) for index in indices]),
            torch.tensor(typicality, dtype=torch.float64),
        )

    def broken_as(self, state: str, start: int, stop: int) -> Tensor:
        """The shapes of the test split, uint8 [N, 1, R, R, R], each with the fault of this name."""
        check_range(self.name, "test", self.count("test"), start, stop)
        first = FIRST["test"]
        return torch.stack([self._as_volume(make_shape(first + index, state)) for index in range(start, stop)])

    def shape(self, split: Split, index: int) -> Shape:
        """The shape of sample `index` of a split: its category, style, state, parts and signed distance function."""
        return make_shape(FIRST[split] + index, self._state(FIRST[split] + index))

    def _state(self, index: int) -> str:
        draws = Draws(index, len(STATES))
        return draws.choose(**dict.fromkeys(STATES[1:], 0.25)) if draws.chance(self.broken) else STATES[0]

    def _generated(self, index: int) -> Tensor:
        return self._as_volume(make_shape(index, self._state(index)))

    def _as_volume(self, shape: Shape) -> Tensor:
        limit = TRUNCATION * voxel(self.resolution)
        volume = to_volume(shape.on_grid(self.resolution, limit)[None])[0]
        return (volume.clamp(0, 1) * 255).round().byte()


@dataset
def sdf_primitives(train: int = 4000, test: int = 1000, resolution: int = 32, broken: float = 0.0) -> Dataset:
    """Procedural airplanes, chairs, tables and rifles, in turn, as volumes [1, R, R, R].

    train, test: numbers of samples. resolution: number R of grid points per axis.
    broken: the share of shapes with a fault, which is a missing part, a floating part, a hole, or a melted surface,
    with equal probability.
    Raises ValueError for counts outside 1..10^9, a resolution outside 8..256, or a share outside [0, 1].
    """
    if min(train, test) < 1 or max(train, test) > 10**9:
        raise ValueError(f"dataset.sdf_primitives: train={train} and test={test} must be 1..10^9")
    if not 8 <= resolution <= 256:
        raise ValueError(f"dataset.sdf_primitives.resolution={resolution} must be 8..256 points per axis")
    if not 0 <= broken <= 1:
        raise ValueError(f"dataset.sdf_primitives.broken={broken} must be a share in [0, 1]")
    return SDFPrimitives({"train": train, "test": test}, resolution, float(broken))
