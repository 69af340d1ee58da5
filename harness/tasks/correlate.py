"""Does a per-sample score track quality? Its rank correlation with independent signals, raw and partial."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ..protocols import Cell, Estimate
from ..registry import METRICS, task
from ..stats import RankMoments, percentile_interval, rank_correlations, rank_moments
from ..study import Study
from .correlate_page import RAW, page

FEWEST = 10
"""Samples below which a correlation is called undefined."""


@task(page)
def correlate(study: Study, resamples: int = 1000) -> None:
    """Spearman correlation of every score with every signal and with every other score.

    Signs are turned so that more is better on both sides. First nothing is held fixed, then the class, then with it
    each entry of `given` in its order. 95 % percentile intervals from a bootstrap over samples.
    """
    scores, signals = study.cells(study.scores), study.cells(study.signals)
    (classes,) = study.cells(study.classes)
    given = {name: study.cells(entries) for name, entries in study.given.items()}
    every = [*scores, *signals, *(cell for cells in given.values() for cell in cells)]
    columns = {cell.label: oriented(study, cell) for cell in every}
    bootstrap = Bootstrap(columns, study.sample_scores(classes), resamples, study.seed)
    names, targets = [cell.label for cell in scores], [cell.label for cell in signals]
    fixed: list[Cell] = []
    for condition, by_class, added in [(RAW, False, []), ("class", True, []), *_one_by_one(given)]:
        fixed += added
        compute = partial(bootstrap.correlations, names, targets, [cell.label for cell in fixed], by_class)
        params = {"columns": "score ~ signal", "given": condition, "resamples": resamples}
        study.record("correlate", 1, params, [*scores, *signals, *([classes] if by_class else []), *fixed], compute)
    compute = partial(bootstrap.correlations, names + targets, names + targets, [], False)
    study.record("agreement", 1, {"columns": "score ~ other", "resamples": resamples}, [*scores, *signals], compute)


def _one_by_one(given: Mapping[str, list[Cell]]) -> Iterator[tuple[str, bool, list[Cell]]]:
    """What is held fixed beyond the class: a name for all of it, and the cells added to those before."""
    name = "class"
    for key, cells in given.items():
        name += f" + {key}"
        yield name, True, cells


def oriented(study: Study, cell: Cell) -> Tensor:
    """Scores of a cell with the sign turned so that more is better."""
    sign = -1 if METRICS[cell.metric].better == "lower" else 1
    return sign * study.sample_scores(cell)


class Bootstrap:
    """Rank moments of all columns, found once for each set of samples on which scores are defined, and when needed."""

    def __init__(self, columns: Mapping[str, Tensor], classes: Tensor, resamples: int, seed: int):
        self.columns, self.classes, self.resamples, self.seed = columns, classes, resamples, seed
        self._moments: dict[bytes, tuple[list[str], RankMoments]] = {}

    def correlations(
        self, scores: list[str], others: list[str], given: list[str], by_class: bool
    ) -> dict[str, Estimate]:
        """All pairs. A score is compared on the samples where it is defined, with the others that are defined there."""
        if by_class and not self.classes.isfinite().all():
            raise ValueError("the class of some samples is undefined, so it cannot be held fixed")
        found = {}
        for score, other in itertools.product(scores, others):
            rows = self.columns[score].isfinite()
            undefined = Estimate(math.nan, (math.nan, math.nan), int(rows.sum()), int((~rows).sum()))
            found[f"{score} ~ {other}"] = undefined
        for alike in self._alike(scores):
            rows = self.columns[alike[0]].isfinite()
            if rows.sum() < FEWEST:
                continue
            names, moments = self._on(rows)
            if not set(given) <= set(names):
                continue
            present = [name for name in others if name in names]
            at = {name: position for position, name in enumerate(names)}
            position = [[at[name] for name in part] for part in (alike, present, given)]
            every = rank_correlations(moments, position[0], position[1], position[2], by_class)
            low, high = percentile_interval(every[1:])
            for (i, score), (j, other) in itertools.product(enumerate(alike), enumerate(present)):
                value, interval = float(every[0, i, j]), (float(low[i, j]), float(high[i, j]))
                found[f"{score} ~ {other}"] = found[f"{score} ~ {other}"]._replace(value=value, interval=interval)
        return found

    def _alike(self, scores: Sequence[str]) -> list[list[str]]:
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
