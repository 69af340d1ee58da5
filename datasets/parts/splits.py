"""Data sets whose two splits are arrays, and checks that all data sets share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...harness.core.protocols import Samples, Split
from ...harness.formats.images import eight_bits


class Part(NamedTuple):
    """One split: images [N, C, H, W], uint8 or float in [0, 1]; integer labels [N] or None. Both may be memory maps."""

    images: NDArray[Any]
    labels: NDArray[Any] | None


class Arrays:
    """A Dataset of arrays. `take` calls `load` with a split to get its arrays, and copies a range of rows."""

    def __init__(
        self,
        name: str,
        fingerprint: str,
        classes: Sequence[str],
        counts: Mapping[Split, int],
        load: Callable[[Split], Part],
    ):
        self.name, self.fingerprint, self.classes = name, fingerprint, classes
        self._counts, self._load = counts, load

    def count(self, split: Split) -> int:
        return self._counts[split]

    def take(self, split: Split, start: int, stop: int) -> Samples:
        check_range(self.name, split, self.count(split), start, stop)
        part = self._load(split)
        labels = None if part.labels is None else torch.from_numpy(np.array(part.labels[start:stop], np.int64))
        return Samples(torch.from_numpy(eight_bits(part.images[start:stop])), labels)


def check_range(name: str, split: Split, count: int, start: int, stop: int) -> None:
    """Raises ValueError unless start..stop is a non-empty range of the split."""
    if not 0 <= start < stop <= count:
        raise ValueError(f"{name}: the {split} split has {count:,} samples, asked for {start}..{stop}")


def check_holdout(name: str, holdout: float) -> None:
    """Raises ValueError unless `holdout`, the share of the test split, leaves samples to train on."""
    if not 0 <= holdout < 1:
        raise ValueError(f"dataset.{name}.holdout={holdout} must be at least 0 and below 1")
