"""What `correlate` found: which scores tell something about quality, all correlations, and how far signals agree."""

from collections.abc import Iterator, Sequence

import pandas as pd

from ...report.blocks import Block, Drawing, Found, Grid, Heading, Text, Verdicts, numbers
from ...report.figures import BLUE, GREY, figure_path
from ...report.plots import Dots, HeatMap
from ...report.typeset import formatted, number
from ...report.verdict import Finding, sign
from ...stats.correlations import CEILING, COMPOSITE, RELIABILITY
from ...stats.families import counted_once, family
from ..conditions import NOTHING
from ..shared_spaces import Pairs, shared_spaces, with_composite

EVERY = "{rise|rises} with every independent signal, in every run: information about quality beyond what is held fixed"
SOME = "{rise|rises} with some signals, in every run, and never {fall|falls}"
SOMETIMES = "{rise|rises} with some signals in some runs, with none in all, and never {fall|falls}"
MIXED = "{rise|rises} with some signals or in some runs and {fall|falls} in others"
FALLING = "{fall|falls} with some signals and never {rise|rises}"
CHANCE = "neither {rise nor fall|rises nor falls} with any signal: nothing that the intervals can tell from chance"
NOT_INDEPENDENT = (
    "{read|reads} the same feature space as every signal, so that no signal judges {them|it} independently"
)
DETERMINED = "{have|has} no correlation left, because what is held fixed determines {them|it}"
NOTHING_LEFT = (
    "{have|has} no correlation left: what is held fixed determines {them|it}, or is undefined for some of {their|its} "
    "samples"
)
UNDEFINED = (
    "{have|has} no correlation even with nothing held fixed: {they are|it is} constant, failed or undefined too often"
)
UNJUDGED = (
    "{have|has} no correlation even with nothing held fixed, because no signal independent of {them|it} could be read"
)
ANSWERS = (
    EVERY, SOME, SOMETIMES, MIXED, FALLING, CHANCE, NOT_INDEPENDENT, DETERMINED, NOTHING_LEFT, UNDEFINED, UNJUDGED
)  # fmt: skip
"""What the intervals say about scores; in braces the form for several and that for one."""
CORRELATIONS = "rank correlation with each signal; partial: with the rest held fixed; †: of the same feature space"
ONE = 0.9
"""Rank correlation over which two signals count as one."""

family("correlate", together=["resamples"], scale="correlation")
family("gain", together=["resamples"])
family("signal_agreement", together=["resamples"], scale="correlation")


def page(found: Found) -> Iterator[Block]:
    if "correlate" in found.tables:
        yield from _with_quality(_finest(found.tables["correlate"]), found)
    if "signal_agreement" in found.tables:
        yield from _of_signals(_finest(found.tables["signal_agreement"]))
    if "ceiling" in found.tables and "share" in found.tables:
        yield from _of_ceiling(_finest(found.tables["ceiling"]), _finest(found.tables["share"]))
    if "gain" in found.tables:
        yield from _of_gain(_finest(found.tables["gain"]))
    if "agreement" in found.tables:
        yield Heading("How the scores agree with each other")
        for run, part in _finest(found.tables["agreement"]).groupby("run", sort=False):
            caption = f"{run}: Spearman correlation between scores and signals"
            path = figure_path(found.folder, "agreement", run)
            yield Drawing(path, caption, HeatMap(part, "score", "other"))


def _with_quality(table: pd.DataFrame, found: Found) -> Iterator[Block]:
    most = _most(table)
    raw, held = (table[table.covariates == name] for name in (NOTHING, most))
    shared = with_composite(shared_spaces(found.records), table.signal.unique())
    colours, kinds = {NOTHING: GREY, most: BLUE}, {most: "partial", NOTHING: "raw"}
    drawn = {colour: f"with {name} held fixed" for name, colour in colours.items()}
    title = f"With {most} held fixed (runs: {held.run.nunique()}, signals of quality: {held.signal.nunique()})"
    yield Text(f"Intervals come from {table.resamples.max():,} bootstrap resamples of samples.", "note")
    yield Verdicts(verdict(held, raw, shared), title)
    for run, part in table[table.covariates.isin(kinds)].groupby("run", sort=False):
        part = part.assign(column=part.signal + ", " + part.covariates.map(kinds))
        scores, columns = list(part.score.unique()), sorted(part.column.unique(), key=_composite_first)
        panels = {
            str(signal): [(one[one.covariates == name], colour) for name, colour in colours.items()]
            for signal, one in sorted(part.groupby("signal"), key=lambda pair: _composite_first(pair[0]))
        }
        marks = {(row.score, row.column): "†" for _, row in part.iterrows() if (row.score, row.signal) in shared}
        caption = f"{run}: correlation with each signal, with {most} held fixed in blue, and with nothing in grey"
        yield Heading(str(run))
        yield Drawing(figure_path(found.folder, "correlate", run), caption, Dots(panels, scores, kinds=drawn))
        cells = numbers(part, "score", "column")
        yield Grid("score", scores, columns, cells, lambda value: value, marks, caption=f"{run}: {CORRELATIONS}")


def _most(table: pd.DataFrame) -> str:
    """The condition of most covariates under which something has a correlation."""
    return max(table.covariates[table.value.notna()], key=lambda name: (name != NOTHING, len(name)), default=NOTHING)


def _of_signals(table: pd.DataFrame) -> Iterator[Block]:
    """How far the signals of quality agree, in a sentence and in numbers."""
    if table.value.notna().any():
        kinds = {_most(table): "partial", NOTHING: "raw"}
        shown = table[table.covariates.isin(kinds)]
        titles = shown.run + ": " + shown.covariates.map(kinds)
        shown = shown.assign(pair=shown.signal + ", " + shown.other, column=titles)
        yield Heading("How the signals of quality agree with each other")
        yield Verdicts(agreement_of_signals(table, _most(table)))
        yield Grid("signals", list(shown.pair.unique()), list(shown.column.unique()), numbers(shown, "pair", "column"))


def _composite_first(name: object) -> tuple[bool, str]:
    return not str(name).startswith(COMPOSITE), str(name)


def _of_ceiling(ceilings: pd.DataFrame, shares: pd.DataFrame) -> Iterator[Block]:
    """What the signals can tell at most, and how much of that each score has."""
    if ceilings.value.notna().any():
        most = _most(ceilings)
        yield Heading("The noise ceiling, and each correlation as a share of it")
        yield Verdicts(said_of_ceiling(ceilings[ceilings.covariates == most], most))
        for run, part in shares[shares.covariates == most].groupby("run", sort=False):
            columns = sorted(part.signal.unique(), key=_composite_first)
            caption = f"{run}: correlation as a share of the ceiling, with {most} held fixed"
            yield Grid("score", list(part.score.unique()), columns, numbers(part, "score", "signal"), caption=caption)


def said_of_ceiling(ceilings: pd.DataFrame, most: str) -> list[str]:
    """A sentence for each run, from the rows of one condition."""
    said = []
    for run, part in ceilings[ceilings.signal == COMPOSITE].groupby("run", sort=False):
        values = {row.quantity: row for row in part.itertuples()}
        kept, top = values[RELIABILITY], values[CEILING]
        if kept.value != kept.value:
            said.append(f"{run}: with {most} held fixed the signals share nothing, so there is no ceiling.")
            continue
        reliable, ceiling = (formatted(row.value, row.low, row.high) for row in (kept, top))
        said.append(
            f"{run}: with {most} held fixed the reliability of the composite is {reliable}, so that no score can "
            f"correlate with it by more than {ceiling}."
        )
    return said


def _of_gain(table: pd.DataFrame) -> Iterator[Block]:
    """By how much each score is above the ones it is compared with."""
    most = _most(table)
    held = table[table.covariates == most]
    if held.value.notna().any():
        yield Heading("Gains over other scores")
        for (run, against), part in held.groupby(["run", "against"], sort=False):
            columns = sorted(part.signal.unique(), key=_composite_first)
            caption = f"{run}: rank correlation minus that of {against}, paired, with {most} held fixed"
            yield Grid("score", list(part.score.unique()), columns, numbers(part, "score", "signal"), caption=caption)


def agreement_of_signals(table: pd.DataFrame, most: str) -> list[str]:
    """The range of their correlations, and which of them are one signal in every run."""
    raw, held = (table[(table.covariates == name) & table.value.notna()] for name in (NOTHING, most))
    ranges = [
        f"{number(part.value.min())} to {number(part.value.max())} with {name} held fixed"
        for name, part in {NOTHING: raw, most: held}.items()
        if len(part)
    ]
    said = [f"Rank correlations of the signals with each other: {', '.join(ranges)}."]
    least = raw.groupby(["signal", "other"]).value.min().to_dict()
    names = list(dict.fromkeys([*table.signal, *table.other]))
    one = [" and ".join(group) for group in counted_once(least, names, ONE) if len(group) > 1]
    return said + [f"{names} are one signal, not several: their raw rank correlation is over {ONE:g}." for names in one]


def verdict(held: pd.DataFrame, raw: pd.DataFrame, shared: Pairs) -> list[Finding | str]:
    """What the scores say about quality beyond what is held fixed: a sentence for each of ANSWERS that some have."""
    said: dict[str, list[str]] = {answer: [] for answer in ANSWERS}
    before = {(row.run, row.score, row.signal) for row in raw.itertuples() if row.value == row.value}
    readable = {(run, signal) for run, _, signal in before}
    whole = {(r.run, r.signal) for r in held.itertuples() if r.value == r.value and r.missing == 0}
    for score, part in held.groupby("score", sort=False):
        own = part[[(score, signal) not in shared for signal in part.signal]]
        signs = pd.Series([sign(row) for row in own.itertuples()], own.signal, dtype=float)
        rises, up, down = (signs == 1).groupby(level=0).all(), (signs == 1).any(), (signs == -1).any()
        places = list(zip(own.run, own.signal, strict=True))
        if own.empty:
            answer = NOT_INDEPENDENT
        elif own.value.isna().all():
            answer = _why_undefined(str(score), places, before, readable, whole)
        elif down:
            answer = MIXED if up else FALLING
        elif rises.all():
            answer = EVERY
        else:
            answer = SOME if rises.any() else SOMETIMES if up else CHANCE
        said[answer].append(str(score))
    lines: list[Finding | str] = [Finding(scores, answer) for answer, scores in said.items() if scores]
    lacking = sorted({row.signal for row in held.itertuples() if (row.run, row.signal) not in readable})
    why = "in some run: it failed or is undefined"
    return lines + [f"No score has a correlation with {name} {why}." for name in lacking]


def _why_undefined(
    score: str,
    places: Sequence[tuple[str, str]],
    before: set[tuple[str, str, str]],
    readable: set[tuple[str, str]],
    whole: set[tuple[str, str]],
) -> str:
    """Why a score has no correlation, at any place of run and signal, with what is held fixed.

    before: places and scores that have one with nothing held fixed; readable: places where some score has; whole:
    places where a score of every sample has one with the rest held fixed, so that all of that is defined.
    """
    left = [place for place in places if (place[0], score, place[1]) in before]
    if left:
        return DETERMINED if all(place in whole for place in left) else NOTHING_LEFT
    return UNDEFINED if any(place in readable for place in places) else UNJUDGED


def _finest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each run, the rows of the most resamples, and those with the composite, where it was also done otherwise."""
    finest = table[table.resamples == table.groupby("run").resamples.transform("max")]
    if "composite" not in finest:
        return finest
    composite = finest.composite.fillna(False).astype(bool)
    return finest[composite == composite.groupby(finest.run).transform("max")]
