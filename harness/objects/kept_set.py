"""What a metric that is updated keeps of one set of samples: some rows, moments of all, or given statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..arrays.subsets import DIMENSIONS, in_words
from ..core.protocols import Statistics
from ..stats.moments import Moments
from ..stats.reservoir import Reservoir

WIDEST = 2**15
"""Most features whose covariance is kept, which takes 8 GiB."""


class KeptSet:
    """What is kept of one set: rows, and where a metric needs no more, the moments of all once some rows are lost.

    shape: of a sample as it was given. fixed: statistics that were given in place of samples.
    """

    def __init__(self, reservoir: Reservoir, keeps_moments: bool):
        self.reservoir, self.keeps_moments = reservoir, keeps_moments
        self.shape: list[int] | None = None
        self.columns: list[int] | None = None
        self.fixed: Statistics | None = None
        self._moments: Moments | None = None

    @property
    def seen(self) -> int:
        return self.reservoir.seen + (self.fixed is not None)

    @property
    def device(self) -> torch.device | None:
        return self.reservoir.device if self._moments is None else self._moments.mean.device

    @property
    def words(self) -> str:
        if self.fixed is not None:
            return "statistics"
        return in_words({"found": self.reservoir.seen, "kept": len(self.reservoir.keys)})

    def add(self, shape: list[int], rows: Tensor, place: int = 0, places: int = 1) -> None:
        if self.keeps_moments and self.reservoir.seen + len(rows) > self.reservoir.size:
            batch = Moments.of(rows.flatten(1))
            self._moments = self.moments().merge(batch) if self.reservoir.seen else batch
        self.reservoir.add(rows, place, places)
        self.shape, self.columns = shape, list(rows.shape[1:])

    def moments(self) -> Moments:
        """Of all rows seen, of which there is at least one."""
        if self._moments is not None:
            return self._moments
        rows = self.reservoir.rows
        assert rows is not None
        return Moments.of(rows.flatten(1))

    def given(self, name: str, moments: bool) -> Tensor | Statistics:
        """What a metric gets; moments: whether it takes those."""
        if self.fixed is not None:
            return self.fixed
        rows = self.reservoir.rows
        if self.reservoir.complete or not moments:
            assert rows is not None
            return rows
        if self.reservoir.seen < 2:
            raise ValueError(f"{name} has 1 rows; at least 2 are needed: give more samples")
        return self.moments().statistics(None if rows is None else rows.flatten(1))

    def counts(self, moments: bool, seed: int) -> dict[str, int]:
        if self.fixed is not None:
            return {DIMENSIONS: len(self.fixed.mean)}
        found, kept = self.reservoir.seen, len(self.reservoir.keys)
        if found == kept:
            return {"found": found, "used": found}
        return {"found": found, "used": found, "used for the interval": kept, "seed": seed} if moments else {
            "found": found, "used": kept, "seed": seed,
        }  # fmt: skip

    def require_some(self, name: str) -> None:
        if not self.seen:
            raise ValueError(f"{name}: no samples were seen; call update({name}=...) before compute")

    def require_empty(self, name: str) -> None:
        if self.seen:
            raise ValueError(f"{name}: samples or statistics were given before; call reset({name!r}) first")

    def require_same_form(self, name: str, shape: list[int], rows: Tensor) -> None:
        """ValueError unless a batch continues what was seen."""
        if self.fixed is not None:
            raise ValueError(f"{name}: statistics were given before; call reset({name!r}) first")
        for before, now, what in ((self.shape, shape, "samples"), (self.columns, list(rows.shape[1:]), "features")):
            if before is not None and before != now:
                raise ValueError(
                    f"{name}: {what} of shape {now}, those of batches before are {before}: give all one shape"
                )
        wide = math.prod(rows.shape[1:])
        if self.keeps_moments and wide > WIDEST and self.reservoir.seen + len(rows) > self.reservoir.size:
            raise ValueError(
                f"{name}: the covariance of {wide:,} features has {8 * wide**2 / 2**30:,.0f} GiB: use another feature "
                "space, or keep all rows with a larger reservoir"
            )

    def require_mergeable(self, name: str, other: KeptSet) -> None:
        if self.fixed is not None or other.fixed is not None:
            same = self.fixed is not None and other.fixed is not None
            if (self.seen and other.seen and not same) or (same and not _equal(self.fixed, other.fixed)):
                raise ValueError(f"{name}: statistics and other samples cannot be merged")
        for before, now, what in (
            (self.shape, other.shape, "samples"), (self.columns, other.columns, "features"),
        ):  # fmt: skip
            if before is not None and now is not None and before != now:
                raise ValueError(f"{name}: {what} of shape {now}, the others are {before}: give all one shape")

    def merge(self, other: KeptSet, joins: bool = False) -> None:
        """joins: whether the other's rows have numbers of their own, those of another rank."""
        self.fixed = self.fixed or other.fixed
        if not other.reservoir.seen:
            return
        total = self.reservoir.seen + other.reservoir.seen
        if self.keeps_moments and total > self.reservoir.size:
            theirs = other.moments()
            self._moments = self.moments().merge(theirs.to(self.device)) if self.device else theirs
        (self.reservoir.join if joins else self.reservoir.merge)(other.reservoir)
        self.shape, self.columns = other.shape, other.columns

    def state(self) -> dict[str, Any]:
        known, fixed = self._moments, self.fixed
        return {
            "shape": self.shape,
            "columns": self.columns,
            "reservoir": self.reservoir.state(),
            "moments": None if known is None else [known.n, known.mean.cpu(), known.scatter.cpu()],
            "fixed": None if fixed is None else [fixed.mean.cpu(), fixed.covariance.cpu(), fixed.n],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.shape, self.columns = state["shape"], state["columns"]
        self.reservoir.load(state["reservoir"])
        self._moments = None if state["moments"] is None else Moments(*state["moments"])
        self.fixed = None if state["fixed"] is None else Statistics(*state["fixed"])


def _equal(one: Statistics | None, other: Statistics | None) -> bool:
    assert one is not None
    assert other is not None
    return torch.equal(one.mean, other.mean) and torch.equal(one.covariance, other.covariance)
