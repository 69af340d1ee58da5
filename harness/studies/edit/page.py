"""What `edit` found: whether a score has one maximum along edits, goes with quality, and knows where to stop."""

from collections.abc import Iterator, Mapping
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from ...report.blocks import Block, Drawing, Found, Grid, Heading, Line, Picture, Table, Text, Verdicts, lines, numbers
from ...report.figures import figure_path, short
from ...report.typeset import estimate, number
from ...report.verdict import UNDECIDED, Number, Verdict, sign
from . import quantities as named

NOTE = (
    "Samples moved both ways along the direction in which a linear model of the attribute rises; distances in standard "
    "deviations of the latents along it, falls and gains in those of samples. Agreement: rank correlation of a score "
    "with a signal of quality along an edit, mean over edits. Walks stop before the score has fallen too far, so that "
    "the mean change of the attribute is that of half the way. Gain of stopping, change where it stops: quality of the "
    "samples, and change of the attribute, less what they would be if as many walks stopped as early in the order of "
    "chance. A gain is one where the change is not less. "
    "The paper (arXiv:2407.15171) prints scores above a few edited faces; its directions are not published."
)
COUNTED = ("score", "cases", "better", "worse", "better than by the norm", "worse than by the norm")
WORDS = {1: "better", -1: "worse"}


def page(found: Found) -> Iterator[Block]:
    yield Heading("How far may an edit go?", 2)
    yield Text(NOTE, "note")
    yield Text("In how many cases (generator, space, attribute and signal) stopping by a score gains")
    yield Table(COUNTED, counts(found.tables["edit"]))
    for about, part in found.parts("edit", *named.SETTING):
        title = f"{about['run']}, space {about['space']}, along {about['attribute']}"
        cells, signals = numbers(part, "score", "quantity", "signal"), sorted(set(part.signal) - {named.ITSELF})
        columns = {(quantity, named.ITSELF): quantity for quantity in named.OF_SCORES}
        columns |= {(quantity, signal): f"{quantity}, {signal}" for quantity in named.BESIDE for signal in signals}
        words = (about["run"], short({name: about[name] for name in named.SETTING}))
        caption = "Mean over edits, in standard deviations of samples, less the value of the sample itself"
        course = partial(_drawn, found.matching("edit_course", about))
        yield Heading(title)
        yield Verdicts(list(_verdicts(cells, list(part.score.unique()), signals, about["attribute"])), title)
        in_grid = {(score, (quantity, signal)): row for (score, quantity, signal), row in cells.items()}
        yield Grid("score", list(part.score.unique()), columns, in_grid)
        yield Drawing(figure_path(found.folder, "edit-course", *words), caption, course)
        picture = figure_path(found.folder, "edit", *words)
        yield Picture(picture, "Edits of the first samples, the sample itself in the middle")


def counts(table: pd.DataFrame) -> list[list[str]]:
    """Rows of COUNTED: how many gains of stopping are decided. Codes from the prior make no other score of one."""
    names = table.score.str.replace(r"(, )?encode=prior", "", regex=True).str.removesuffix("()")
    rows = []
    for score, part in table.groupby(names):
        gains, over = (list(map(sign, part[part.quantity == of].itertuples())) for of in (named.GAIN, named.OVER_NORM))
        if gains:
            decided = (sum(one == way for one in signs) for signs in (gains, over) for way in WORDS)
            rows.append([str(score), str(len(gains)), *map(str, decided)])
    return rows


def _verdicts(
    cells: Mapping[tuple[str, str, str], Number], scores: list[str], signals: list[str], attribute: str
) -> Iterator[Verdict | str]:
    """Whether the edit works, then of each score what the paper says of its own."""
    moves, fit = (cells.get((attribute, quantity, named.ITSELF)) for quantity in (named.MOVES, named.FIT))
    if moves is not None and fit is not None:
        explained = f"A linear model of it in the latents explains {number(fit.value)} of its variance"
        yield Verdict(f"the edit moves {attribute} (rank correlation)", moves, more=[explained])
    for score in scores:
        shape = {quantity: cells.get((score, quantity, named.ITSELF)) for quantity in named.OF_SCORES}
        words = [f"{quantity} {estimate(cell)}" for quantity, cell in shape.items() if cell is not None]
        for quantity in (named.GAIN, named.OVER_NORM):
            gains = {signal: cells[at] for signal in signals if (at := (score, quantity, signal)) in cells}
            decided = [
                f"{WORDS[s]} by {signal} {estimate(gain)}" for signal, gain in gains.items() if (s := sign(gain))
            ]
            words += [f"{quantity}: {', '.join(decided) or UNDECIDED}"] if gains else []
        if words:
            yield f"{score}: {'; '.join(words)}"


def _drawn(course: pd.DataFrame) -> Figure:
    scores = course.assign(at=course["at"].astype(float)).groupby("score", sort=False)
    curves = [Line(score, points, style=("-", "--", ":")[i // 8 % 3]) for i, (score, points) in enumerate(scores)]
    across, up = "standard deviations along the direction", "change, standard deviations of samples"
    return lines({"": curves}, across, up, level=0, size=(9, 4), legend_beside=True)
