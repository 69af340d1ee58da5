"""What `humans` found: which metrics order models as people do, on which images, and how sure that is."""

from collections.abc import Iterator

import pandas as pd

from ...report.blocks import Block, Drawing, Fold, Found, Grid, Heading, Text, Verdicts, numbers
from ...report.figures import BLUE, GREY, figure_path
from ...report.plots import Dots
from ...report.verdict import Finding, sign
from ...stats.families import HOLM
from .names import (
    AGREEMENT,
    ALL,
    APART,
    HOLM_P,
    OPEN,
    OPPOSITE,
    PERFECT,
    PUBLISHED,
    RAW,
    RESAMPLED,
    SAME,
    SHARE,
    P,
)

CLAIMS = {
    1: "{order|orders} models as people do",
    -1: "{order|orders} them the other way round",
    0: "cannot be told from chance",
}
SHOWN = (AGREEMENT, SHARE, RAW, RESAMPLED, P, HOLM_P, SAME, OPPOSITE, OPEN)
NOTE = (
    "Agreement: rank correlation with human error, its sign turned so that 1 is full agreement. Grey: its share of "
    "what a metric that knew the true error would reach. Intervals hold for other models, of which these are a sample."
)


def page(found: Found) -> Iterator[Block]:
    if "humans" not in found.tables:
        return
    table = found.tables["humans"]
    table = table.assign(metric=table.metric.where(table["values"] == PUBLISHED, table.metric + ", computed"))
    sets = [images for images in dict.fromkeys(table.images) if images != ALL]
    panels = {}
    for images in sets:
        part = table[table.images == images]
        of = {quantity: part[part.quantity == quantity] for quantity in (AGREEMENT, SHARE)}
        panels[images] = [(of[SHARE], GREY), (of[AGREEMENT], BLUE)]
        yield Heading(f"{images}: {int(part.n[part.quantity == RAW].max())} models")
        yield Verdicts(decided(part), images)
        yield Text(_about(part))
        yield Grid("metric", list(part.metric.unique()), SHOWN, numbers(part, "metric", "quantity"))
    order = list(dict.fromkeys(table.metric[table.quantity == AGREEMENT]))
    kinds = {GREY: SHARE, BLUE: AGREEMENT}
    yield Drawing(
        figure_path(found.folder, "humans"), NOTE, Dots(panels, order, "metric", limits=(-1.05, 1.25), kinds=kinds)
    )
    every = table[table.images == ALL]
    if len(every):
        yield Heading("Mean over the data sets")
        yield Grid("metric", list(every.metric.unique()), [AGREEMENT], numbers(every, "metric", "quantity"))
    models = found.tables.get("humans_models", pd.DataFrame())
    if len(models):
        errors = [
            Grid("model", list(part.model), ["human error"],
                 {(row.model, "human error"): row for row in part.itertuples()}, caption=images)
            for images, part in models.groupby("images", sort=False)
        ]  # fmt: skip
        yield Fold("Human error of each model, .5 is chance", errors)


def decided(part: pd.DataFrame) -> list[Finding]:
    """What the exact test says of each metric with a direction, after Holm's correction."""
    corrected = {row.metric: row.value for row in part[part.quantity == HOLM_P].itertuples()}
    said: dict[int, list[str]] = {side: [] for side in CLAIMS}
    for _, row in part[part.quantity == AGREEMENT].iterrows():
        said[sign(pd.Series({**row, HOLM: corrected[row.metric]}))].append(row.metric)
    return [Finding(metrics, CLAIMS[side]) for side, metrics in said.items() if metrics]


def _about(part: pd.DataFrame) -> str:
    """The ceiling, and how many pairs people tell apart."""
    (most,) = part[part.metric == PERFECT].itertuples()
    apart = part[part.quantity == APART].iloc[0]
    return (
        f"A metric that knew the true error of these models would have a rank correlation of {most.value:.2f} "
        f"({most.low:.2f} to {most.high:.2f}) with the measured one. People tell {apart.value:.0%} of the "
        f"{apart.n:,.0f} pairs of models apart."
    )
