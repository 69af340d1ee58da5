"""Rank correlations of every score with every other column, on the samples where both are defined."""

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..core.protocols import Estimate
from .intervals import percentile_interval
from .ranks import RankMoments, rank_correlations, rank_moments

FEWEST = 10
"""Samples below which a correlation is called undefined."""


class Correlations:
    """Rank moments of all columns, found once for each set of samples on which scores are defined, and when needed."""

    def __init__(self, columns: Mapping[str, Tensor], classes: Tensor, resamples: int, seed: int):
        self.columns, self.classes, self.resamples, self.seed = columns, classes, resamples, seed
        self._moments: dict[bytes, tuple[list[str], RankMoments]] = {}

    def of(self, scores: list[str], others: list[str], given: list[str], by_class: bool) -> dict[str, Estimate]:
        """All pairs. A score is compared on the samples where it is defined, with the others that are defined there."""
        if by_class and not self.classes.isfinite().all():
            raise ValueError("the class of some samples is undefined, so it cannot be held fixed")
        found = {}
        for score, other in itertools.product(scores, others):
            rows = self.columns[score].isfinite()
            undefined = Estimate(math.nan, (math.nan, math.nan), int(rows.sum()), int((~rows).sum()))
            found[f"{score} ~ {other}"] = undefined
        for same_support in self._by_support(scores):
            rows = self.columns[same_support[0]].isfinite()
            if rows.sum() < FEWEST:
                continue
            names, moments = self._on(rows)
            if not set(given) <= set(names):
                continue
            present = [name for name in others if name in names]
            at = {name: position for position, name in enumerate(names)}
            position = [[at[name] for name in part] for part in (same_support, present, given)]
            every = rank_correlations(moments, position[0], position[1], position[2], by_class)
            low, high = percentile_interval(every[1:])
            for (i, score), (j, other) in itertools.product(enumerate(same_support), enumerate(present)):
                value, interval = float(every[0, i, j]), (float(low[i, j]), float(high[i, j]))
                found[f"{score} ~ {other}"] = found[f"{score} ~ {other}"]._replace(value=value, interval=interval)
        return found

    def _by_support(self, scores: Sequence[str]) -> list[list[str]]:
        """Scores grouped by the samples they are defined on."""
        groups: dict[bytes, list[str]] = {}
        for name in scores:
            groups.setdefault(self.columns[name].isfinite().numpy().tobytes(), []).append(name)
        return list(groups.values())

    def _on(self, rows: Tensor) -> tuple[list[str], RankMoments]:
        """The columns that are defined on all these samples, and their moments."""
        key = rows.numpy().tobytes()
        if key not in self._moments:
            names = [name for name, column in self.columns.items() if bool(column[rows].isfinite().all())]
            table = torch.stack([self.columns[name][rows] for name in names], dim=1)
            classes = self.classes if self.classes.isfinite().all() else torch.zeros(len(rows))
            self._moments[key] = names, rank_moments(table, classes[rows], self.resamples, self.seed)
        return self._moments[key]
