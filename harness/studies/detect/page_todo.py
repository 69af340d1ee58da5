"""What `detect` found: the verdict in words, areas with intervals, and whether low scores mean broken or rare."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...core.protocols import Record
from ...report import html
from ...report.figures import BLUE, GREY, ORANGE, save, slug
from ...report.tables import add_run
from ...report.typeset import with_interval

RAW, BY_CLASS, BY_SORT = "nothing", "class", "class + typicality"
"""What is held fixed: pairs of samples are compared within strata of it."""
OTHER = "class + the other"
ANY, RARE = "any fault", "rare, not faulty"
SOUNDNESS, TYPICALITY = "soundness", "typicality"

NOTE = (
    "AUROC: the probability that a faulty sample scores worse than a sound one; 0.5 is chance. Signs are turned so "
    "that a higher score should be better; a score without direction is taken as it is. Within class and typicality, "
    "only samples of one class whose style is equally common are compared, so that finding what is rare is no help. "
    "'Rare, not faulty' has sound samples on both sides: above 0.5, rare ones score worse. DeLong's intervals; a score "
    "without any information is called a finder of a fault once in 40 times."
)
FOLLOWED = (
    "Rank correlation with soundness (1 sound, 0 faulty) and with typicality, each with the class and the other of the "
    "two held fixed."
)


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    table = add_run(found["detect"])
    followed, gains = add_run(found["detect_followed"]), add_run(found["detect_gain"])
    body, printed = [html.heading("Which scores find faulty samples?"), html.paragraph(NOTE, "note")], []
    for run in table.run.unique():
        one, of = table[table.run == run], followed[followed.run == run]
        given = next(given for given in (BY_SORT, BY_CLASS) if given in set(one.given))
        raw, fixed = one[one.given == RAW], one[one.given == given]
        words = verdict(fixed, one[one.given == BY_CLASS], given)
        printed += [f"{run}:", *words]
        path = save(_dots(raw, fixed, given), folder / "figures" / f"detect-{slug(run)}.png")
        body += [
            html.heading(run, 3),
            html.items(words),
            html.paragraph(f"Within {given}; rare ones within the class"),
            _areas(pd.concat([fixed, one[(one.given == BY_CLASS) & (one.fault == RARE)]])),
            html.details("nothing held fixed", [_areas(raw)]),
            html.figure(path, f"AUROC for all faults: nothing held fixed (grey), within {given} (blue), rare (orange)"),
            html.paragraph(FOLLOWED),
            _pivot(of[of.given == OTHER], "fact", 0.0, 1.0),
            html.paragraph(f"Area for all faults beyond that of another score, within {given}, paired"),
            _pivot(gains[gains.run == run], "against", 0.0, 4.0),
        ]
    return body, printed


def verdict(fixed: pd.DataFrame, by_class: pd.DataFrame, given: str) -> list[str]:
    """In words: which scores find which faults beyond what is held fixed, and which find what is merely rare."""
    every, some, blind, misled = [], [], [], []
    for score, part in fixed[(fixed.fault != ANY) & (fixed.fault != RARE)].groupby("score", sort=False):
        finds, misses = list(part.fault[part.low > 0.5]), list(part.fault[part.high < 0.5])
        if len(finds) == len(part):
            every.append(str(score))
        elif finds and not misses:
            some.append(f"{score} ({', '.join(finds)})")
        elif misses:
            misled.append(f"{score} ({', '.join(misses)})")
        else:
            blind.append(str(score))
    rare = by_class[by_class.fault == RARE]
    told = {
        f"find every kind of fault, within {given}": every,
        "find some kinds": some,
        "find none": blind,
        "rank samples with some fault above sound ones": misled,
        "rank rare sound samples below common ones": list(rare.score[rare.low > 0.5]),
        "rank rare sound samples above common ones": list(rare.score[rare.high < 0.5]),
    }
    return [f"{', '.join(scores)}: {answer}." for answer, scores in told.items() if scores]


def _areas(table: pd.DataFrame) -> str:
    return _pivot(table, "fault", 0.5, 2.0)


def _pivot(table: pd.DataFrame, across: str, middle: float, strength: float) -> str:
    """Scores down; blue above `middle`, orange below."""
    scores, names = list(table.score.unique()), list(table[across].unique())
    names.sort(key=lambda name: (name != ANY, name == RARE))
    cells = {(row.score, row[across]): row for _, row in table.iterrows()}
    rows = [[score, *(_shown(cells.get((score, name))) for name in names)] for score in scores]
    values = [[_value(cells.get((score, name))) for name in names] for score in scores]
    colours = [["", *(html.shade(strength * (value - middle)) for value in row)] for row in values]
    return html.table(["score", *names], rows, lambda i, j: colours[i][j])


def _shown(row: "pd.Series[float] | None") -> str:
    return "-" if row is None else with_interval(row)


def _value(row: "pd.Series[float] | None") -> float:
    return float("nan") if row is None else float(row.value)


def _dots(raw: pd.DataFrame, fixed: pd.DataFrame, given: str) -> Figure:
    """Areas for all faults, and for what is rare, with intervals."""
    order = fixed[fixed.fault == ANY].sort_values("value", ascending=False).score.tolist()
    figure = Figure(figsize=(7, 0.3 * len(order) + 1.1))
    axis = figure.subplots()
    parts = ((raw, ANY, GREY, -0.2), (fixed, ANY, BLUE, 0.0), (raw, RARE, ORANGE, 0.2))
    for frame, fault, colour, shift in parts:
        part = frame[frame.fault == fault].set_index("score").reindex(order)
        at = np.arange(len(order)) + shift
        axis.hlines(at, part.low, part.high, color=colour, linewidth=2)
        axis.plot(part.value, at, "o", color=colour, markersize=3.5)
    axis.axvline(0.5, color="black", linewidth=0.8)
    axis.set_yticks(range(len(order)), order, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.grid(axis="x", alpha=0.3)
    return figure
