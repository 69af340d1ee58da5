"""What `correlate` found: which scores tell something about quality, all correlations, and how the scores agree."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from ...core.protocols import Record
from ...report.blocks import Block, Drawing, Found, Grid, Heading, Text, Verdicts, dots, heat_map, numbers
from ...report.figures import BLUE, GREY, figure_path
from ...report.typeset import number
from ...report.verdict import sign
from ..conditions import NOTHING

Pairs = set[tuple[str, str]]

EVERY = "rise with every independent signal, in every run: information about quality beyond what is held fixed"
SOME = "rise with some signals, in every run, and never fall"
MIXED = "rise with some signals or in some runs and fall in others"
FALLING = "fall with some signals and never rise"
CHANCE = "rise with no signal in every run, and never fall: nothing that the intervals can tell from chance"
NOT_INDEPENDENT = "read the same feature space as every signal, so that no signal judges them independently"
DETERMINED = "have no correlation left, because what is held fixed determines them"
NOTHING_LEFT = (
    "have no correlation left: what is held fixed determines them, or is not defined for all of the samples for which "
    "they are"
)
UNDEFINED = (
    "have no correlation with an independent signal, whatever is held fixed: scores or signals are constant, or not "
    "defined for enough of the same samples"
)
ANSWERS = (EVERY, SOME, MIXED, FALLING, CHANCE, NOT_INDEPENDENT, DETERMINED, NOTHING_LEFT, UNDEFINED)
"""What the intervals say about a score."""

NOTE = (
    "In how many runs the interval of the correlation lies above zero (rises) or below it (falls), and the median "
    "correlation. Spearman correlations over samples, signs turned so that more is better on both sides. Covariates "
    "are held fixed by their ranks, the class by indicators. A score without any information rises with one signal in "
    "one run once in 40 times. † the score reads the same feature space as the signal, so that the two are not "
    "independent, and the sentences above leave that signal out. A name shows what differs from the metric's "
    "defaults, which `assay list metrics` tells."
)


def page(found: Found) -> Iterator[Block]:
    if "correlate" in found.tables:
        yield from _with_quality(_finest(found.tables["correlate"]), found)
    if "agreement" in found.tables:
        yield Heading("How the scores agree with each other", 2)
        for run, part in _finest(found.tables["agreement"]).groupby("run", sort=False):
            caption = f"{run}: Spearman correlation between scores and signals"
            path = figure_path(found.folder, "agreement", run)
            yield Drawing(path, caption, partial(heat_map, part, "score", "other"))


def _with_quality(table: pd.DataFrame, found: Found) -> Iterator[Block]:
    defined = table[table.value.notna()]
    conditions = (defined if len(defined) else table).covariates.unique()
    most = max(conditions, key=lambda name: (name != NOTHING, len(name)))
    raw, held = table[table.covariates == NOTHING], table[table.covariates == most]
    shared, signals = shared_spaces(found.records), list(table.signal.unique())
    marks = dict.fromkeys(shared, "†")
    yield Heading("Which score tells good samples from bad ones?", 2)
    title = f"With {most} held fixed (runs: {held.run.nunique()}, signals of quality: {held.signal.nunique()})"
    yield Verdicts(verdict(held, raw, shared), title)
    yield Grid("score", list(held.score.unique()), signals, _tallies(held), lambda value: value, marks, _tally)
    yield Text(f"{NOTE} {table.resamples.max():,} bootstrap resamples.", "note")
    for run in table.run.unique():
        kinds = {"raw": raw[raw.run == run]} | ({"partial": held[held.run == run]} if most != NOTHING else {})
        scores = list(table.score[table.run == run].unique())
        panels = {
            signal: [(part[part.signal == signal], GREY if kind == "raw" else BLUE) for kind, part in kinds.items()]
            for signal in signals
        }
        columns = {(signal, kind): f"{signal}, {kind}" for signal in signals for kind in kinds}
        cells = {
            (score, (signal, kind)): row
            for kind, part in kinds.items()
            for (score, signal), row in numbers(part, "score", "signal").items()
        }
        daggers = {(score, (signal, kind)): "†" for score, signal in shared for kind in kinds}
        caption = f"{run}: correlation with each signal, raw (grey)" + (
            f" and partial, with {most} held fixed (blue)" if "partial" in kinds else ""
        )
        yield Heading(str(run))
        yield Drawing(figure_path(found.folder, "correlate", run), caption, partial(dots, panels, scores))
        yield Grid("score", scores, columns, cells, lambda value: value, daggers)


def shared_spaces(records: Sequence[Record]) -> Pairs:
    """Pairs of metrics that read real samples in the same space, other than that of latents."""
    spaces: dict[str, set[str]] = {}
    for record in records:
        read = spaces.setdefault(record.cell.label, set())
        for name, view in record.cell.views.items():
            if view.source != "fake" and not view.space.startswith("latent"):
                read.add(record.preprocessing.get(name, view.space))  # "features" may also be asked for by its own name
    return {(a, b) for a in spaces for b in spaces if spaces[a] & spaces[b]}


def verdict(held: pd.DataFrame, raw: pd.DataFrame, shared: Pairs) -> list[str]:
    """What the scores say about quality beyond what is held fixed: a sentence for each of ANSWERS that some have."""
    said: dict[str, list[str]] = {answer: [] for answer in ANSWERS}
    complete = held.run[held.value.notna() & (held.missing == 0)]  # runs where covariates are defined for every sample
    for score, part in held.groupby("score", sort=False):
        own = part[[(score, signal) not in shared for signal in part.signal]]
        before = raw[(raw.score == score) & raw.signal.isin(own.signal)]
        said[_answer(own, before, bool(own.run.isin(complete).all()))].append(str(score))
    return [f"{', '.join(scores)}: {answer}." for answer, scores in said.items() if scores]


def _answer(own: pd.DataFrame, before: pd.DataFrame, complete: bool) -> str:
    """What the correlations of one score with independent signals say.

    before: the same with nothing held fixed; complete: whether covariates are known to be defined for every sample.
    """
    if own.empty:
        return NOT_INDEPENDENT
    defined = own[own.value.notna()]
    if defined.empty:
        left = DETERMINED if complete else NOTHING_LEFT
        return left if before.value.notna().any() else UNDEFINED
    signs = pd.Series([sign(row) for _, row in defined.iterrows()], defined.signal)
    rises = (signs == 1).groupby(level=0).all()
    up, down = bool((signs == 1).any()), bool((signs == -1).any())
    if rises.all():
        return EVERY
    if down:
        return MIXED if up else FALLING
    return SOME if rises.any() else CHANCE


@dataclass
class Tally:
    """The median correlation over runs, and in how many of them the interval lies above 0 and below."""

    value: float
    rises: int
    falls: int
    low: float = math.nan
    high: float = math.nan


def _tallies(held: pd.DataFrame) -> dict[Any, Tally]:
    found = {}
    for keys, part in held[held.value.notna()].groupby(["score", "signal"], sort=False):
        signs = [sign(row) for _, row in part.iterrows()]
        found[keys] = Tally(float(part.value.median()), signs.count(1), signs.count(-1))
    return found


def _tally(cell: Any) -> str:
    """E.g. "rises 2, falls 1 (0.12)"; "no (0.01)" where no interval leaves 0 out."""
    says = [f"{word} {count}" for word, count in (("rises", cell.rises), ("falls", cell.falls)) if count]
    return f"{', '.join(says) or 'no'} ({number(cell.value)})"


def _finest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each run, the rows of the most resamples, where it was carried out with several numbers of them."""
    return table[table.resamples == table.groupby("run").resamples.transform("max")]
