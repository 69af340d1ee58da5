"""What `interpolate` found: which of the paper's observations hold, tables, curves of energy and strips of frames."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import pandas as pd

from ...report.blocks import Block, Drawing, Fold, Found, Grid, Heading, Picture, Text, Verdicts, numbers
from ...report.figures import BLUE, GREY, ORANGE, figure_path
from ...report.plots import Line, Lines
from ...report.typeset import estimate
from ...report.verdict import HOLDS, OPPOSITE, UNDECIDED, Verdict, sign
from ...stats.families import family
from . import names
from .names import AT_FIRST, BRIGHTNESS, CONTRAST, LINEAR, MIDDLE, NOTHING, ROWS, SCHEMES, picture_words

family(
    "interpolate",
    together=["dataset", "generator", "seed", "samples", *names.COMMON],
    tested=lambda table: (
        table.quantity.isin([CONTRAST, BRIGHTNESS]) & (table.measured_in == MIDDLE) & (table.against != NOTHING)
    ),
    terms="n",
)
CURVES = "Energy of each scheme in its own distance by the paper's procedure, over that of the straight path"
COLOURS = {"pixel": GREY, "feature": BLUE, "~pixel": ORANGE, "~feature": "#1a7f37"}
NO_DARKENING = "no darkening was found that it could stop"
IN_PART = "holds in part, it lessens the darkening but does not end it"
UNITS = {CONTRAST: "of that of the ends", BRIGHTNESS: "above the mean of the ends (1 is white)"}
OWN = (names.IMPROVEMENT, names.LEAST_OF_ALL, names.EXCESS)
RATIOS = "Energy in each distance over that of the straight path (cross-energy matrix)"
OPTIMISER = "The optimiser, each scheme in its own distance. Gradient: its norm over the energy, at the end"
Numbers = Mapping[tuple[str, str, str, str], Any]
"""Rows of the table, by row, quantity, what it is measured in, and against what."""


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("interpolate", *names.COMMON):
        title = "{run}, space {space}, features {features}, rounds {rounds}".format_map(about)
        cells = numbers(part, "row", "quantity", "measured_in", "against")
        yield Heading(title)
        yield Verdicts(observations(cells), f"Paths of least energy, {title}")
        yield Text.of_setting(about, names.COMMON)
        yield from _grids(cells)
        words = about["run"], *picture_words(about)
        curves = found.matching("energy_curve", about)
        if len(curves):
            yield Drawing(figure_path(found.folder, "energy", *words), CURVES, _curves(curves))
        paths = [figure_path(found.folder, "strip", *words, f"{pair:02}") for pair in range(about["pairs"])]
        strips = [Picture(path, f"pair {i}, from the top: {', '.join(ROWS)}") for i, path in enumerate(paths, 1)]
        yield Fold(f"{title}: frames of the first pairs", strips)


def observations(cells: Numbers) -> list[Verdict | str]:
    """What the paper saw by eye, each with what the numbers say; and whether the optimiser did its work."""
    claims = [
        _claim(cells, "Energy in pixels flattens the contrast mid-path", ("pixel", CONTRAST, LINEAR), -1),
        _claim(cells, "Equalisation lessens the loss of contrast", ("~pixel", CONTRAST, "pixel"), 1),
        _claim(cells, "Energy in features darkens the path", ("feature", BRIGHTNESS, LINEAR), -1),
    ]
    darkening, left = (cells.get((row, BRIGHTNESS, MIDDLE, LINEAR)) for row in ("feature", "~feature"))
    stops = _claim(cells, "Equalisation stops the darkening", ("~feature", BRIGHTNESS, "feature"), 1)
    if darkening is not None and left is not None and stops is not None:
        words = (IN_PART if sign(left) < 0 else HOLDS, OPPOSITE, UNDECIDED)
        words = words if sign(darkening) < 0 else (NO_DARKENING,) * 3
        more = [*stops.more, f"Less that of the straight path it is {estimate(left)}"]
        claims.append(replace(stops, words=words, more=more))
    return [*filter(None, claims), *_least(_own(cells))]


def _claim(cells: Numbers, claim: str, of: tuple[str, str, str], direction: Literal[-1, 1]) -> Verdict | None:
    """On the sign of a row's quantity in the middle image less that of another row; None without these numbers."""
    row, quantity, against = of
    value, difference = (cells.get((row, quantity, MIDDLE, other)) for other in (NOTHING, against))
    if value is None or difference is None:
        return None
    claim = f"{claim} ({row} less {'the straight path' if against == LINEAR else against})"
    return Verdict(
        claim, difference, direction, more=[f"Mid-path {quantity} of {row} is {estimate(value)} {UNITS[quantity]}"]
    )


def _own(cells: Numbers) -> dict[tuple[str, str], Any]:
    """The numbers of each scheme in its own distance, by row and quantity."""
    return {(row, what): cell for (row, what, where, other), cell in cells.items() if (where, other) == (row, NOTHING)}


def _least(own: Mapping[tuple[str, str], Any]) -> Iterator[str]:
    """Whether each scheme has less of its own energy than all other rows: by the paper's procedure, and in the end."""
    whens = {AT_FIRST: "by the paper's procedure alone"}
    if any(cell.value for (_, what), cell in own.items() if what == names.WENT_ON):
        whens[""] = "after pairs that another row undercut went on from its path, so by construction up to what is left"
    for when, how in whens.items():
        least = {row: own[row, names.LEAST_OF_ALL + when] for row in SCHEMES if (row, names.EXCESS + when) in own}
        shares = (
            f"{row} in {share.value:.0%} of pairs (at most {own[row, names.EXCESS + when].value:.2%} above the least)"
            for row, share in least.items()
        )
        if least:
            yield f"Least energy of all rows in their own distance, {how}: {'; '.join(shares)}."


def _grids(cells: Numbers) -> Iterator[Block]:
    """Rows of paths; in the columns quantities, and what they are measured in where that is not the row's own."""
    plain = {(row, (what, where)): cell for (row, what, where, other), cell in cells.items() if other == NOTHING}
    every = sorted({column for _, column in plain})
    plain |= {(row, (what, "")): cell for (row, what), cell in _own(cells).items()}
    starts = dict.fromkeys(what for what, _ in every if what.startswith(names.FROM_START))
    for title, quantities in {
        RATIOS: [names.RATIO],
        OPTIMISER: [*(name + AT_FIRST for name in OWN), names.WENT_ON, *OWN, names.GRADIENT, *starts, names.CALLS],
        "Evenness and straightness": names.SHAPE,
        "What the images lose on the way, and how smoothly they change": [CONTRAST, BRIGHTNESS, names.PPL],
        "Scores of the frames between the ends, 8 bits deep": [names.MEAN_SCORE, names.WORST_SCORE],
        "All frames between the ends of a row, 8 bits deep, against as many real samples (jackknife)": [names.FRAMES],
    }.items():
        columns = [column for what in quantities for column in every if column[0] == what]
        columns = [(what, "") for what in quantities] if title == OPTIMISER else columns
        shade = (lambda value: 1 - value) if title == RATIOS else None
        yield Text(title if columns else "")
        yield Grid("path", ROWS, {column: ", ".join(filter(None, column)) for column in columns}, plain, shade)


def _curves(curves: pd.DataFrame) -> Lines:
    curves = curves.assign(at=curves.iteration.astype(int))
    drawn = [Line(row, curves[curves.row == row], colour, band=True) for row, colour in COLOURS.items()]
    return Lines({"": drawn}, "iteration", "energy over the straight path's", level=1, size=(8, 3.4))
