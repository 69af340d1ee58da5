"""What `fine_tune` found: which of the paper's claims hold, tables of differences, the course of training, samples."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ...report.blocks import Block, Drawing, Found, Grid, Heading, Picture, Text, Verdicts, numbers
from ...report.figures import figure_path, short
from ...report.plots import Line, Lines
from ...report.typeset import estimate
from ...report.verdict import Number, Verdict
from ...stats.families import family
from .names import COMMON, NOTHING, THESE, TRIED, UNTUNED, in_order

family(
    "fine_tune",
    together=["dataset", "generator", "seed", "samples", *COMMON],
    tested=lambda table: (table.against != NOTHING) & ~table.against.str.endswith(THESE),
    terms="plain_trainings",
)
STRONG = 10
"""Weights from which on, or below the inverse of which, a tuning is for precision or recall; milder ones for FID."""


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("fine_tune", *COMMON):
        run, *_ = about.values()
        control, name = about["control"], short({name: about[name] for name in COMMON})
        tunings = in_order(part.tuning.unique(), control)
        cells = numbers(part.assign(judged=part.metric + " in " + part.space), "tuning", "judged", "against")
        weights = part.groupby("tuning").weight_real.first().astype(float).to_dict()
        yield Heading(run)
        said: list[Verdict | str] = [_trainings(about["plain_trainings"]), *_verdicts(cells, weights, control)]
        yield Verdicts(said, f"Fine-tuned by pseudo density, {run}")
        yield Text.of_setting(about, COMMON)
        for against in (NOTHING, control, f"{control}{THESE}", UNTUNED, f"{UNTUNED}{THESE}"):
            shown = {(tuning, judged): row for (tuning, judged, other), row in cells.items() if other == against}
            columns = list(dict.fromkeys(judged for _, judged, _ in cells))
            yield Grid("tuning" if against == NOTHING else f"less {against}", tunings, columns, shown)
        course = found.matching("fine_tune_course", about)
        if len(course):
            caption = "The course of training, by fewer samples than the tables"
            drawn = _course(course, tunings[1:])
            yield Drawing(figure_path(found.folder, "course", run, name), caption, drawn)
        yield Picture(figure_path(found.folder, "tuned", run, name), f"The same seeds; rows: {', '.join(tunings)}")


def _trainings(known: int | str) -> str:
    """How sure differences can be, by the number of plain trainings; it is empty in records of another release."""
    plain = int(known or 1)
    if plain < 2:
        return "One plain training does not tell how far trainings differ by chance, so no difference is decided."
    return (
        f"How far trainings differ by chance is estimated from {plain} plain ones; intervals use Student's t with "
        f"{plain - 1} {'degree' if plain == 2 else 'degrees'} of freedom."
    )


def _verdicts(cells: Mapping[Any, Number], weights: Mapping[str, float], control: str) -> Iterator[Verdict]:
    """For each tuning whether it does what its weight is for, against the control, in every space."""
    for (tuning, judged, against), difference in cells.items():
        weight = weights[tuning]
        strong = "precision" if weight >= STRONG else "recall" if weight <= 1 / STRONG else ""
        if weight != 1 and against == control and judged.startswith(f"{strong or 'frechet_distance'} in "):
            claim = f"{tuning} (weight {weight:g}) {'raises' if strong else 'lowers'} {judged}, compared with {control}"
            these = cells.get((tuning, judged, f"{against}{THESE}"))
            more = [f"For these trainings alone it is {estimate(these)}"] if these is not None else []
            yield Verdict(claim, difference, 1 if strong else -1, more=more)


def _course(course: pd.DataFrame, tunings: list[str]) -> Lines:
    """A panel for every quantity that is known of every epoch, a line for every tuning."""
    course = course.assign(at=course.images.astype(int))
    shown = [quantity for quantity in course.quantity.unique() if " in " in quantity or quantity == TRIED]
    panels = {
        "samples tried for one accepted" if quantity == TRIED else quantity: [
            Line(tuning, course[(course.tuning == tuning) & (course.quantity == quantity)]) for tuning in tunings
        ]
        for quantity in shown
    }
    return Lines(panels, "images learned from")
