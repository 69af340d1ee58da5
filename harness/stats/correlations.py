"""Rank correlations of every score with every other column, on the samples where both are defined."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.protocols import Estimate
from .intervals import percentile_interval
from .ranks import RankMoments, rank_correlations, rank_covariances, rank_moments, reliability

FEWEST = 10
"""Minimum number of samples of a correlation; with fewer it is undefined (NaN)."""
COMPOSITE = "composite"
"""The column of mean ranks of all truths."""
MEAN, RELIABILITY, CEILING, REST = "mean correlation", "reliability", "ceiling", "correlation with the others"
"""What `Correlations.ceilings` tells."""

Found = dict[tuple[str, str], Estimate]


class _Table(NamedTuple):
    """Rank moments of columns by name, and what is held fixed in them."""

    at: Mapping[str, int]
    moments: RankMoments
    fixed: Sequence[int]
    stratify: bool

    def correlations(self, ones: Sequence[str], others: Sequence[str]) -> Tensor:
        """[R, len(ones), len(others)]."""
        a, b = ([self.at[name] for name in names] for names in (ones, others))
        return rank_correlations(self.moments, a, b, self.fixed, self.stratify)

    def reliability(self, names: Sequence[str]) -> Tensor:
        """Of the mean rank of these columns, [R]."""
        return reliability(rank_covariances(self.moments, [self.at[name] for name in names], self.fixed, self.stratify))


class Correlations:
    """Rank correlations of named columns. The rank moments are computed on demand, once per set of samples.

    columns: float [N] by name, NaN where undefined; classes [N]: the class of each sample, NaN where unknown.
    resamples: number of bootstrap resamples, drawn from `seed`.
    truths: names of columns; if there are any, another column is COMPOSITE, the mean of their ranks, undefined where
    one of them is. It is found anew in every resample.
    """

    def __init__(
        self,
        columns: Mapping[str, Tensor],
        classes: Tensor,
        resamples: int,
        seed: int,
        truths: Sequence[str] = (),
    ):
        self.columns, self.classes, self.resamples, self.seed = columns, classes, resamples, seed
        self.truths = list(truths)
        self._moments: dict[bytes, tuple[list[str], RankMoments]] = {}
        self._members = {COMPOSITE: self.truths} if self.truths else {}
        if len(self.truths) > 1:
            self._members |= {_without(one): [name for name in self.truths if name != one] for one in self.truths}

    def of(
        self, scores: Sequence[str], others: Sequence[str], covariates: Sequence[str] = (), stratify: bool = False
    ) -> Found:
        """Spearman correlations in [-1, 1] of all pairs (score, other), with 95 % percentile intervals.

        covariates: columns that are held fixed; stratify: whether the class is held fixed too. Each pair is compared
        on the samples where the score is defined. The correlation is NaN if the other column or a covariate is
        undefined on one of these samples, or if there are fewer than FEWEST.

        Raises ValueError when the class is to be held fixed and the class of some samples is unknown.
        """
        found = {
            (score, other): self._empty(self.columns[score].isfinite())
            for score, other in itertools.product(scores, others)
        }
        for same_support, table in self._tables(scores, covariates, stratify):
            present = [name for name in others if name in table.at]
            values = table.correlations(same_support, present)
            for score, other, estimated in _estimated(same_support, present, values) if present else ():
                found[score, other] = found[score, other]._replace(**estimated)
        return found

    def gains(
        self,
        scores: Sequence[str],
        rivals: Sequence[str],
        others: Sequence[str],
        covariates: Sequence[str] = (),
        stratify: bool = False,
    ) -> dict[tuple[str, str, str], Estimate]:
        """By how much a score's correlation is above a rival's, by (score, rival, other): paired, in each resample.

        NaN unless both are defined on the same samples, and where one of the two correlations is undefined.
        """
        found = {
            key: self._empty(self.columns[key[0]].isfinite())
            for key in itertools.product(scores, rivals, others)
            if key[0] != key[1]
        }
        for same_support, table in self._tables([*scores, *rivals], covariates, stratify):
            present = [name for name in others if name in table.at]
            for rival in (name for name in same_support if name in rivals):
                ones = [name for name in same_support if name in scores and name != rival]
                if not ones or not present:
                    continue
                values = table.correlations([*ones, rival], present)
                for score, other, estimated in _estimated(ones, present, values[:, :-1] - values[:, -1:]):
                    found[score, rival, other] = found[score, rival, other]._replace(**estimated)
        return found

    def shares(self, scores: Sequence[str], covariates: Sequence[str] = (), stratify: bool = False) -> Found:
        """The correlation of each score with COMPOSITE and each truth, divided by the ceiling of the latter.

        The ceiling is that of `ceilings` on the samples where the score is defined, in the same resample: the
        correction for attenuation (Spearman 1904, https://doi.org/10.2307/1412159). It may lie outside [-1, 1]: a score
        can follow what one truth has of its own. Ranks of sums are no sums of ranks, so that with covariates fixed even
        a perfect score may have a share somewhat below 1. NaN where the ceiling is undefined, and the interval where
        that is so in any resample.
        """
        names = [COMPOSITE, *self.truths]
        found = {
            (score, name): self._empty(self.columns[score].isfinite())
            for score, name in itertools.product(scores, names)
        }
        for same_support, table in self._tables(scores, covariates, stratify):
            if COMPOSITE in table.at:
                values = table.correlations(same_support, names) / self._ceilings(table)[:, None]
                for score, name, estimated in _estimated(same_support, names, values):
                    found[score, name] = found[score, name]._replace(**estimated)
        return found

    def ceilings(self, covariates: Sequence[str] = (), stratify: bool = False) -> Found:
        """How well the truths agree, by (truth or COMPOSITE, quantity), on the samples where all are defined.

        MEAN, of COMPOSITE: the mean correlation of two truths. RELIABILITY: `ranks.reliability` of the mean rank of
        all. CEILING: the highest correlation that a score can have which follows nothing but what the truths share; for
        COMPOSITE the root of its reliability, for a truth REST, its correlation with the mean rank of the others,
        divided by the root of the reliability of that. With two truths alone the latter is undefined.
        """
        self._require_classes(stratify)
        rows = torch.stack([self.columns[name].isfinite() for name in self.truths]).all(0)
        keys = [(COMPOSITE, quantity) for quantity in (MEAN, RELIABILITY, CEILING)]
        keys += [(name, quantity) for name in self.truths for quantity in (REST, CEILING)]
        found = {key: self._empty(rows) for key in keys}
        table = self._table(rows, covariates, stratify) if rows.sum() >= FEWEST else None
        if table is None or len(self.truths) < 2:
            return found
        k, ceilings, agree = len(self.truths), self._ceilings(table), table.correlations(self.truths, self.truths)
        off = agree.masked_fill(torch.eye(k, dtype=torch.bool), 0).sum((1, 2)) / (k * (k - 1))
        rest = [table.correlations([name], [_without(name)])[:, 0, 0] for name in self.truths]
        values = [off, table.reliability(self.truths), ceilings[:, 0]]
        for one, ceiling in zip(rest, ceilings[:, 1:].T, strict=True):
            values += [one, ceiling]
        low, high = percentile_interval(torch.stack(values, 1)[1:])
        for i, key in enumerate(keys):
            found[key] = found[key]._replace(value=float(values[i][0]), interval=(float(low[i]), float(high[i])))
        return found

    def _ceilings(self, table: _Table) -> Tensor:
        """Of COMPOSITE and each truth, [R, K + 1]."""
        found = [table.reliability(self.truths).sqrt()]
        for name in self.truths:
            others = [other for other in self.truths if other != name]
            root = table.reliability(others).sqrt()  # NaN for fewer than two
            found.append(table.correlations([name], [_without(name)])[:, 0, 0] / root if others else root)
        return torch.stack(found, 1)

    def _empty(self, rows: Tensor) -> Estimate:
        return Estimate(math.nan, (math.nan, math.nan), int(rows.sum()), int((~rows).sum()))

    def _tables(
        self, scores: Sequence[str], covariates: Sequence[str], stratify: bool
    ) -> Iterator[tuple[list[str], _Table]]:
        """Scores that are defined on the same samples, with the moments there; left out where they say nothing."""
        self._require_classes(stratify)
        groups: dict[bytes, list[str]] = {}
        for name in dict.fromkeys(scores):
            groups.setdefault(self.columns[name].isfinite().numpy().tobytes(), []).append(name)
        for same_support in groups.values():
            rows = self.columns[same_support[0]].isfinite()
            table = self._table(rows, covariates, stratify) if rows.sum() >= FEWEST else None
            if table is not None:
                yield same_support, table

    def _require_classes(self, stratify: bool) -> None:
        unknown = int((~self.classes.isfinite()).sum())
        if stratify and unknown:
            raise ValueError(
                f"the class of {unknown} of {len(self.classes)} samples is not known, so it cannot be held fixed"
            )

    def _table(self, rows: Tensor, covariates: Sequence[str], stratify: bool) -> _Table | None:
        """The moments on these samples; None where a covariate is undefined on one of them."""
        names, moments = self._moments_on(rows)
        at = {name: position for position, name in enumerate(names)}
        return _Table(at, moments, [at[name] for name in covariates], stratify) if set(covariates) <= set(at) else None

    def _moments_on(self, rows: Tensor) -> tuple[list[str], RankMoments]:
        """The names of the columns that are defined on all these samples, and their rank moments."""
        key = rows.numpy().tobytes()
        if key not in self._moments:
            names = [name for name, column in self.columns.items() if bool(column[rows].isfinite().all())]
            table = torch.stack([self.columns[name][rows] for name in names], dim=1)
            classes = self.classes if self.classes.isfinite().all() else torch.zeros(len(rows))
            made = {name: members for name, members in self._members.items() if set(self.truths) <= set(names)}
            composites = [[names.index(member) for member in members] for members in made.values()]
            moments = rank_moments(table, classes[rows], self.resamples, self.seed, composites)
            self._moments[key] = [*names, *made], moments
        return self._moments[key]


def _without(name: str) -> str:
    """The column of mean ranks of all other truths."""
    return f"{COMPOSITE} without {name}"


def _estimated(ones: Sequence[str], others: Sequence[str], values: Tensor) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Value and interval of each pair, from values [R, len(ones), len(others)] of the sample and its resamples."""
    low, high = percentile_interval(values[1:])
    for (i, one), (j, other) in itertools.product(enumerate(ones), enumerate(others)):
        yield one, other, {"value": float(values[0, i, j]), "interval": (float(low[i, j]), float(high[i, j]))}
