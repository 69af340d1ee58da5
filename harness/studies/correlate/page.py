"""What `correlate` found: which scores tell something about quality, all correlations, and how the scores agree."""

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

from ...core.protocols import Record
from ...report.blocks import Block, Drawing, Found, Grid, Heading, Text, Verdicts, dots, heat_map, numbers
from ...report.figures import BLUE, GREY, figure_path
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
NOTHING_LEFT = "have no correlation left: what is held fixed determines them, or is undefined for some of their samples"
UNDEFINED = "have no correlation even with nothing held fixed: they or the signals are constant, or undefined too often"
ANSWERS = (EVERY, SOME, MIXED, FALLING, CHANCE, NOT_INDEPENDENT, DETERMINED, NOTHING_LEFT, UNDEFINED)
"""What the intervals say about a score."""

NOTE = (
    "A score rises with a signal where the interval of their correlation lies above zero, and falls where it lies "
    "below. Spearman correlations over samples, signs turned so that more is better on both sides; partial ones hold "
    "covariates fixed by their ranks, and the class by indicators. A score without any information rises with one "
    "signal in one run once in 40 times. † the score reads the same feature space as the signal: the two are not "
    "independent, and the sentences leave the signal out. A name shows what differs from the metric's defaults."
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
    most = max(table.covariates[table.value.notna()], key=lambda name: (name != NOTHING, len(name)), default=NOTHING)
    raw, held = (table[table.covariates == name] for name in (NOTHING, most))
    shared = shared_spaces(found.records)
    colours, kinds = {NOTHING: GREY, most: BLUE}, {most: "partial", NOTHING: "raw"}
    yield Heading("Which score tells good samples from bad ones?", 2)
    title = f"With {most} held fixed (runs: {held.run.nunique()}, signals of quality: {held.signal.nunique()})"
    yield Verdicts(verdict(held, raw, shared), title)
    yield Text(f"{NOTE} {table.resamples.max():,} bootstrap resamples.", "note")
    for run, part in table[table.covariates.isin(kinds)].groupby("run", sort=False):
        part = part.assign(column=part.signal + ", " + part.covariates.map(kinds))
        scores, columns = list(part.score.unique()), sorted(part.column.unique())
        panels = {
            str(signal): [(one[one.covariates == name], colour) for name, colour in colours.items()]
            for signal, one in part.groupby("signal")
        }
        marks = {(row.score, row.column): "†" for _, row in part.iterrows() if (row.score, row.signal) in shared}
        caption = f"{run}: correlation with each signal, with {most} held fixed in blue, and with nothing in grey"
        yield Heading(str(run))
        yield Drawing(figure_path(found.folder, "correlate", run), caption, partial(dots, panels, scores))
        yield Grid("score", scores, columns, numbers(part, "score", "column"), lambda value: value, marks)


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
        before = raw.value[(raw.score == score) & raw.signal.isin(own.signal)]
        defined = own[own.value.notna()]
        signs = pd.Series([sign(row) for _, row in defined.iterrows()], defined.signal, dtype=float)
        rises, up, down = (signs == 1).groupby(level=0).all(), (signs == 1).any(), (signs == -1).any()
        if own.empty:
            answer = NOT_INDEPENDENT
        elif defined.empty and before.isna().all():
            answer = UNDEFINED
        elif defined.empty:
            answer = DETERMINED if own.run.isin(complete).all() else NOTHING_LEFT
        elif rises.all():
            answer = EVERY
        elif down:
            answer = MIXED if up else FALLING
        else:
            answer = SOME if rises.any() else CHANCE
        said[answer].append(str(score))
    return [f"{', '.join(scores)}: {answer}." for answer, scores in said.items() if scores]


def _finest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each run, the rows of the most resamples, where it was carried out with several numbers of them."""
    return table[table.resamples == table.groupby("run").resamples.transform("max")]
