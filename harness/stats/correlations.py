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
"""Minimum number of samples of a correlation; with fewer it is undefined (NaN)."""


class Correlations:
    """Rank correlations of named columns. The rank moments are computed on demand, once per set of samples.

    columns: float [N] by name, NaN where undefined; classes [N]: the class of each sample, NaN where unknown.
    resamples: number of bootstrap resamples, drawn from `seed`.
    """

    def __init__(self, columns: Mapping[str, Tensor], classes: Tensor, resamples: int, seed: int):
        self.columns, self.classes, self.resamples, self.seed = columns, classes, resamples, seed
        self._moments: dict[bytes, tuple[list[str], RankMoments]] = {}

    def of(
        self, scores: Sequence[str], others: Sequence[str], covariates: Sequence[str] = (), stratify: bool = False
    ) -> dict[tuple[str, str], Estimate]:
        """Spearman correlations in [-1, 1] of all pairs (score, other), with 95 % percentile intervals.

        covariates: columns that are held fixed; stratify: whether the class is held fixed too. Each pair is compared
        on the samples where the score is defined. The correlation is NaN if the other column or a covariate is
        undefined on one of these samples, or if there are fewer than FEWEST.

        Raises ValueError when the class is to be held fixed and the class of some samples is unknown.
        """
        unknown = int((~self.classes.isfinite()).sum())
        if stratify and unknown:
            raise ValueError(
                f"the class of {unknown} of {len(self.classes)} samples is not known, so it cannot be held fixed"
            )
        found = {}
        for score, other in itertools.product(scores, others):
            rows = self.columns[score].isfinite()
            found[score, other] = Estimate(math.nan, (math.nan, math.nan), int(rows.sum()), int((~rows).sum()))
        for same_support in self._grouped_by_support(scores):
            rows = self.columns[same_support[0]].isfinite()
            if rows.sum() < FEWEST:
                continue
            names, moments = self._moments_on(rows)
            present = [name for name in others if name in names]
            if not present or not set(covariates) <= set(names):
                continue
            at = {name: position for position, name in enumerate(names)}
            a, b, fixed = ([at[name] for name in part] for part in (same_support, present, covariates))
            values = rank_correlations(moments, a, b, fixed, stratify)
            low, high = percentile_interval(values[1:])
            for (i, score), (j, other) in itertools.product(enumerate(same_support), enumerate(present)):
                value, interval = float(values[0, i, j]), (float(low[i, j]), float(high[i, j]))
                found[score, other] = found[score, other]._replace(value=value, interval=interval)
        return found

    def _grouped_by_support(self, scores: Sequence[str]) -> list[list[str]]:
        """Scores grouped by the samples on which they are defined."""
        groups: dict[bytes, list[str]] = {}
        for name in scores:
            groups.setdefault(self.columns[name].isfinite().numpy().tobytes(), []).append(name)
        return list(groups.values())

    def _moments_on(self, rows: Tensor) -> tuple[list[str], RankMoments]:
        """The names of the columns that are defined on all these samples, and their rank moments."""
        key = rows.numpy().tobytes()
        if key not in self._moments:
            names = [name for name, column in self.columns.items() if bool(column[rows].isfinite().all())]
            table = torch.stack([self.columns[name][rows] for name in names], dim=1)
            classes = self.classes if self.classes.isfinite().all() else torch.zeros(len(rows))
            self._moments[key] = names, rank_moments(table, classes[rows], self.resamples, self.seed)
        return self._moments[key]
