"""What is known of metrics: one number for each metric and each question, of the tables of studies that tested them."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import stdtrit

from ..core.columns import NUMBERS
from ..core.protocols import Better, Estimate
from ..core.registry import METRICS
from ..stats.intervals import mean_of_independent, proportion
from .tables import ranks

Tables = Mapping[str, pd.DataFrame]
"""Tables of studies by name, as `tables.study_tables` makes them or as they lie in a results folder."""
SLIP = "slip:"
"""How the names of damages begin from which all images suffer."""
SHAPES = "sdf_primitives"
"""The data set of shapes whose faults are known; all other data sets with known faults are of images."""
LITTLE = 0.1
"""Share of damaged samples that a metric should notice."""
NOTICED = 2.486474860519302
"""Deviations of one value by which it must change to be noticed in 8 of 10 cases; the study `damage` counts with it."""
Found = dict[str, Estimate]


@dataclass(frozen=True)
class Question:
    """A column of the board. of: what its number is; table: which it is read from; read: the numbers by metric."""

    name: str
    better: Better
    of: str
    table: str
    read: Callable[[pd.DataFrame], Found]


@dataclass(frozen=True)
class Evidence:
    """rows: metrics, some with options; values: by metric and question, none where it was not measured.

    ranks: 1 + how many others have a whole interval that is better. best: metrics to which no other is preferable, see
    `undominated`.
    """

    rows: list[str]
    values: Mapping[tuple[str, str], Estimate]
    ranks: Mapping[tuple[str, str], int]
    best: frozenset[str]

    def count(self, question: str) -> int:
        """How many metrics have a number there."""
        return sum(name == question for _, name in self.values)


def gathered(tables: Iterable[Tables]) -> Evidence:
    """Of the tables of several results folders; tables of one name are read as one."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for found in tables:
        for name, frame in found.items():
            parts.setdefault(name, []).append(frame)
    values = {
        (metric, question.name): estimate
        for question in QUESTIONS if question.table in parts
        for metric, estimate in question.read(pd.concat(parts[question.table], ignore_index=True)).items()
        if not math.isnan(estimate.value)
    }  # fmt: skip
    rows = sorted({metric for metric, _ in values})
    placed: dict[tuple[str, str], int] = {}
    for question in QUESTIONS:
        here = [metric for metric in rows if (metric, question.name) in values]
        ends = np.array([interval(values[metric, question.name]) for metric in here]).reshape(-1, 2)
        for metric, rank in zip(here, ranks(question.better, ends[:, 0], ends[:, 1]), strict=True):
            if rank:
                placed[metric, question.name] = int(rank)
    tested = [metric for metric in rows if any(name == metric and asked != COST for name, asked in values)]
    return Evidence(rows, values, placed, undominated(tested, values))


def interval(estimate: Estimate) -> tuple[float, float]:
    """That of an estimate; its value twice where it has none, as the count of something has."""
    return (estimate.value,) * 2 if math.isnan(estimate.interval[0]) else estimate.interval


def undominated(rows: Iterable[str], values: Mapping[tuple[str, str], Estimate]) -> frozenset[str]:
    """Metrics to which no other is preferable (Pareto-best), by all questions, none of which weighs more.

    Another one is preferable where it was measured in everything that this one was, has a whole interval that is better
    in one of these questions at least, and in none a whole interval that is worse.
    """
    rows = list(rows)
    asked = {metric: [q for q in QUESTIONS if (metric, q.name) in values] for metric in rows}

    def ahead(one: str, other: str, question: Question) -> bool:
        a, b = (interval(values[metric, question.name]) for metric in (one, other))
        return a[0] > b[1] if question.better == "higher" else a[1] < b[0]

    def preferable(other: str, this: str) -> bool:
        common = asked[this]
        return (
            {q.name for q in common} <= {q.name for q in asked[other]}
            and any(ahead(other, this, q) for q in common)
            and not any(ahead(this, other, q) for q in common)
        )

    return frozenset(m for m in rows if not any(preferable(other, m) for other in rows if other != m))


def needs(metric: str) -> str:
    """What a metric reads beside generated samples, as its declaration says."""
    declared = METRICS.get(metric.partition("(")[0])
    if declared is None:
        return "not known here"
    words = {"real": "training", "holdout": "held-out"}
    read = dict.fromkeys(
        f"{words[view.source]} {'codes' if view.space.startswith(('latent', 'reencoded')) else view.space}"
        for view in declared.views.values()
        if view.source in words
    )
    return ", ".join(read) or "nothing"


def published_tables(folder: Path) -> Iterator[Tables]:
    """The tables that questions are read from, of each results folder in a folder."""
    asked = {question.table for question in QUESTIONS}
    for tables in sorted(folder.glob("*/tables")):
        files = {name: tables / f"{name}.csv" for name in sorted(asked)}
        if found := {name: _read(path) for name, path in files.items() if path.is_file()}:
            yield found
    costs = folder / "benchmarks" / f"{COSTS}.csv"
    if costs.is_file():
        yield {COSTS: pd.read_csv(costs)}


def _read(path: Path) -> pd.DataFrame:
    """A table of a results folder; only a number may be missing."""
    return pd.read_csv(path, keep_default_na=False, na_values={name: [""] for name in NUMBERS})


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """With options that differ within a study behind the metric; those of all its numbers are the study's choice."""
    if "options" not in frame:
        return frame
    several = frame.groupby("metric").options.transform("nunique") > 1
    label = frame.metric + "(" + frame.options.astype(str) + ")"
    return frame.assign(metric=frame.metric.where(~several | (frame.options == ""), label))


def _estimate(row: object) -> Estimate:
    value, low, high, n = (getattr(row, name) for name in ("value", "low", "high", "n"))
    return Estimate(float(value), (float(low), float(high)), int(n))


def _shares(frame: pd.DataFrame, hits: "pd.Series[bool]") -> Found:
    """Of each metric the share of its rows that are hits."""
    return {
        str(metric): proportion(torch.tensor(part.to_numpy(bool))) for metric, part in hits.groupby(frame.metric)
    }  # fmt: skip


def _checks(frame: pd.DataFrame) -> Found:
    whole = _named(frame[frame.case == "all"])
    return _shares(whole, whole.verdict.isin(["pass", "low", "high"]))


def _noticed(frame: pd.DataFrame) -> Found:
    part = _named(_smallest(frame[(frame.number == "smallest share") & ~frame.damage.str.startswith(SLIP)]))
    return _shares(part, part.value <= LITTLE)


def _smallest(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the smallest number of samples: larger ones are of the same images."""
    return frame[frame["size"] == frame["size"].min()] if "size" in frame else frame


def _withstood(frame: pd.DataFrame) -> Found:
    part = _named(_smallest(frame[(frame.number == "change") & frame.damage.str.startswith(SLIP)]))
    return _shares(part, part.value.abs() < NOTICED)


def _bias(frame: pd.DataFrame) -> Found:
    terms: dict[str, list[Estimate]] = {}
    runs = [name for name in ("dataset", "features") if name in frame]
    for (metric, *_), part in _named(frame).groupby(["metric", *runs]):
        ordered = part[part.n > 1].sort_values("count")  # a single set has no spread
        if len(ordered) < 2:
            continue
        few, many = (_estimate(row) for row in (ordered.iloc[0], ordered.iloc[-1]))
        halves = [(each.interval[1] - each.interval[0]) / 2 for each in (few, many)]
        if not halves[0] > 0:
            continue
        spread = halves[0] * math.sqrt(few.n) / float(stdtrit(few.n - 1, 0.975))
        bias, half = abs(few.value - many.value) / spread, math.hypot(*halves) / spread
        terms.setdefault(str(metric), []).append(Estimate(bias, (max(0.0, bias - half), bias + half), few.n))
    return {metric: mean_of_independent(each) for metric, each in terms.items()}


def _people(frame: pd.DataFrame) -> Found:
    part = frame[(frame.quantity == "agreement") & (frame["values"] == "published")]
    found = {}
    for metric, rows in part.groupby("metric"):
        whole = rows[rows.images == "all of them"]
        found[str(metric)] = _estimate((whole if len(whole) else rows).iloc[0])
    return found


def _faults(frame: pd.DataFrame, shapes: bool) -> Found:
    """Within the finest strata that a run has, the mean over runs on images or on shapes, of scores that all have."""
    terms: dict[str, list[Estimate]] = {}
    of_shapes = frame.dataset.str.partition("(")[0] == SHAPES
    part = frame[frame.generator.str.startswith("faulty") & (frame.fault == "any fault") & (of_shapes == shapes)]
    runs = list(part.groupby(["dataset", "generator", "seed", "samples"]))
    for _, run in runs:
        finest = max(run.covariates.unique(), key=len)
        for row in run[run.covariates == finest].itertuples():
            if not math.isnan(row.value):
                terms.setdefault(str(row.score), []).append(_estimate(row))
    return {score: mean_of_independent(each) for score, each in terms.items() if len(each) == len(runs)}


def _cost(frame: pd.DataFrame) -> Found:
    return {
        str(row.metric): _estimate(row) for row in frame.rename(columns={"seconds": "value"}).assign(n=1).itertuples()
    }


COSTS, COST = "metric_costs", "seconds"
"""The table of costs, and the question that it answers; a metric of which nothing else is known is not tested."""
QUESTIONS = (
    Question("checks passed", "higher", "share of the checks of arXiv:2505.22450 that it passes", "sanity", _checks),
    Question(
        "damage noticed", "higher",
        f"share of the kinds of damage that it notices, in 8 of 10 cases, where {LITTLE:.0%} of the images have it",
        "damage_summary", _noticed,
    ),
    Question(
        "slips withstood", "higher", "share of the slips of preprocessing that it does not notice",
        "damage_summary", _withstood,
    ),
    Question(
        "bias of few", "lower",
        "how far its mean of the fewest samples is from that of the most, in deviations of one value of the fewest, "
        "mean over data sets and features",
        "damage_few", _bias,
    ),
    Question(
        "people", "higher",
        "rank correlation with human error, its sign turned to the metric's direction, mean over data sets",
        "humans", _people,
    ),
    Question(
        "faults of images", "higher",
        "how often a faulty image scores below a sound one of its class and typicality (AUROC), mean over data sets",
        "detect", partial(_faults, shapes=False),
    ),
    Question(
        "faults of shapes", "higher", "the same of shapes", "detect", partial(_faults, shapes=True),
    ),
    Question(COST, "lower", "CPU seconds for 1,000 samples, beside what their features cost", COSTS, _cost),
)  # fmt: skip
"""Questions that were put to metrics, each answered by a study, in the order of the board's columns."""
