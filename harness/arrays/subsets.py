"""Which samples of a stored set are used: all of them, or a subset that a seed draws; never the first ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..core.protocols import Dataset, Samples, Split

Source = Literal["fake", "real", "holdout"]
SOURCES: Mapping[Source, str] = {"fake": "generated", "real": "real", "holdout": "held out"}
"""Sources of samples in words."""
DIMENSIONS = "dimensions"
"""What is counted of a set that is known by its mean and covariance."""
STREAMS = {"fake": 0, "real": 1, "holdout": 2}
"""Each source of samples is permuted on its own, so that two sets of one size are not paired."""


@dataclass(frozen=True)
class Subset:
    """Samples of a stored set of `total`: places first..first+count of the permutation that `seed` makes of them.

    Subsets of one seed whose places do not overlap share no sample, and a smaller one lies within a larger one.
    """

    source: Source
    total: int
    count: int
    seed: int
    first: int = 0

    @property
    def whole(self) -> bool:
        return self.count == self.total

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The samples' numbers in the set, int64 [count], in the order of the set."""
        return _drawn(self)

    @property
    def counts(self) -> dict[str, int]:
        """What records say of it: how many samples were found and used, and the seed where it drew them."""
        return {"found": self.total, "used": self.count} | ({} if self.whole else {"seed": self.seed})


def in_words(counts: Mapping[str, int]) -> str:
    """The counts of a view in a record: "found 60,000, used 5,000, drawn with seed 0", or "made 5,000"."""
    if DIMENSIONS in counts:
        return (
            f"mean and covariance of {counts[DIMENSIONS]:,} features, whose space is taken on trust; intervals are for "
            "other generated samples alone"
        )
    text = ", ".join(f"{what} {count:,}" for what, count in counts.items() if what != "seed")
    return f"{text}, drawn with seed {counts['seed']}" if "seed" in counts else text


def taken(data: Dataset, split: Split, numbers: NDArray[np.int64]) -> list[Samples]:
    """Real samples of these numbers, which ascend, in stretches of neighbours."""
    stretches = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return [data.take(split, int(stretch[0]), int(stretch[-1]) + 1) for stretch in stretches]


@lru_cache(maxsize=64)
def _drawn(subset: Subset) -> NDArray[np.int64]:
    if subset.whole:
        return np.arange(subset.total)
    rng = np.random.default_rng([subset.seed, STREAMS[subset.source]])
    return np.sort(rng.permutation(subset.total)[subset.first : subset.first + subset.count])
