"""What `interpolate` found: which of the paper's observations hold, tables, curves of energy and strips of frames."""

import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure

from ...report.blocks import Block, Drawing, Fold, Found, Grid, Heading, Line, Picture, Text, Verdicts, lines, numbers
from ...report.figures import BLUE, GREY, ORANGE, figure_path
from ...report.typeset import estimate
from ...report.verdict import HOLDS, OPPOSITE, UNDECIDED, Verdict, sign
from . import names
from .names import AT_FIRST, BRIGHTNESS, CONTRAST, LATENT, LINEAR, MIDDLE, NOTHING, ROWS, SCHEMES, picture_words

NOTE = (
    "Every number is a mean over pairs of ends, the same for all rows. Linear: a straight line, put back on the sphere "
    "where latents lie on one. The others minimise the energy in pixels or in features; ~: of images equalised to zero "
    "mean and unit variance before. Differences to the straight path and to the scheme without equalisation, paired, "
    "are in tables/interpolate.csv. The paper (Laine 2018) has no numbers to compare with. At first: by its procedure "
    "alone. All else is of the paths after the rounds, in which pairs that another row undercut went on from its path. "
    "They keep much of its look: equalised energies see neither brightness nor contrast. Rounds 0: the procedure alone."
)
CURVES = "Energy of each scheme in its own distance by the paper's procedure, over that of the straight path"
COLOURS = {"pixel": GREY, "feature": BLUE, "~pixel": ORANGE, "~feature": "#1a7f37"}
NO_DARKENING = "no darkening was found that it could stop"
IN_PART = "holds in part, it lessens the darkening but does not end it"
UNITS = {CONTRAST: "of that of the ends", BRIGHTNESS: "above the mean of the ends (1 is white)"}
RATIOS = "Energy in each distance over that of the straight path (cross-energy matrix)"
OPTIMISER = (
    "The optimiser, each scheme in its own distance. At first: by the paper's procedure alone; then pairs that another "
    "row undercut went on from its path. Gradient: its norm over the energy, at the end"
)
SCORES = "Scores of the frames between the ends, 8 bits deep: mean over a path and worst frame"
FRAME_SETS = "All frames between the ends of a row, 8 bits deep, against as many real samples (jackknife)"
OWN = (names.IMPROVEMENT, names.LEAST_OF_ALL, names.EXCESS)

Numbers = Mapping[tuple[str, str, str, str], Any]
"""Rows of the table, by row, quantity, what it is measured in, and against what."""


def page(found: Found) -> Iterator[Block]:
    yield Heading("Paths of least energy between latents", 2)
    yield Text(NOTE, "note")
    for about, part in found.parts("interpolate", *names.COMMON):
        title = "{run}, space {space}, features {features}, rounds {rounds}".format_map(about)
        cells = numbers(part, "row", "quantity", "measured_in", "against")
        yield Heading(title)
        yield Verdicts(observations(cells), f"Paths of least energy, {title}")
        yield Text("; ".join(f"{name.replace('_', ' ')} {about[name] or 'none'}" for name in names.COMMON), "note")
        yield from _grids(cells)
        words = about["run"], *picture_words(about)
        curves = found.matching("energy_curve", about)
        if len(curves):
            yield Drawing(figure_path(found.folder, "energy", *words), CURVES, partial(_curves, curves))
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
    if darkening is not None and left is not None:
        words = (IN_PART if sign(left) < 0 else HOLDS, OPPOSITE, UNDECIDED)
        words = words if sign(darkening) < 0 else (NO_DARKENING,) * 3
        stopped, more = ("~feature", BRIGHTNESS, "feature"), f"Less that of the straight path: {estimate(left)}"
        claims.append(_claim(cells, "Equalisation stops the darkening", stopped, 1, words, more))
    return [*filter(None, claims), *_least(cells)]


def _claim(
    cells: Numbers, claim: str, of: tuple[str, str, str], direction: Literal[-1, 1],
    words: tuple[str, str, str] = (HOLDS, OPPOSITE, UNDECIDED), *more: str,
) -> Verdict | None:  # fmt: skip
    """On the sign of a row's quantity in the middle image less that of another row; None without these numbers."""
    row, quantity, against = of
    value, difference = (cells.get((row, quantity, MIDDLE, other)) for other in (NOTHING, against))
    if value is None or difference is None:
        return None
    other = "the straight path" if against == LINEAR else against
    middle = f"This is mid-path {quantity} of {row}, {estimate(value)} {UNITS[quantity]}, less that of {other}"
    return Verdict(claim, difference, direction, words, [middle, *more])


def _least(cells: Numbers) -> Iterator[str]:
    """Whether each scheme has less of its own energy than all other rows: by the paper's procedure, and in the end."""

    def shares(when: str) -> str:
        return "; ".join(
            f"{row} in {share.value:.0%} of pairs (at most {excess.value:.2%} above the least)"
            for row in SCHEMES
            if (share := cells.get((row, names.LEAST_OF_ALL + when, row, NOTHING))) is not None
            and (excess := cells.get((row, names.EXCESS + when, row, NOTHING))) is not None
        )

    went_on = {row: cells[row, names.WENT_ON, row, NOTHING].value for row in SCHEMES if shares("")}
    moved = ", ".join(f"{row} {share:.0%}" for row, share in went_on.items() if share)
    if first := shares(AT_FIRST):
        yield f"Least energy of all rows in their own distance, by the paper's procedure alone: {first}."
    if moved:
        yield (
            f"After the pairs that another row undercut went on from its path ({moved} of pairs), so by construction "
            f"up to what is left: {shares('')}."
        )


def _grids(cells: Numbers) -> Iterator[Block]:
    """Rows of paths; in the columns quantities, and what they are measured in where that is not the row's own."""
    plain = {(row, (what, where)): cell for (row, what, where, other), cell in cells.items() if other == NOTHING}
    order = {where: i for i, where in enumerate((LATENT, *SCHEMES))}
    every = sorted({column for _, column in plain}, key=lambda column: (order.get(column[1], len(order)), column[::-1]))
    plain |= {(row, (what, "")): cell for (row, (what, where)), cell in plain.items() if where == row}
    starts = sorted({what for what, _ in every if what.startswith(names.FROM_START)})
    own = (*(name + AT_FIRST for name in OWN), names.WENT_ON, *OWN, names.GRADIENT, *starts, names.CALLS)
    look = [*itertools.product((CONTRAST, BRIGHTNESS), (MIDDLE, names.MEAN, names.LEAST))]
    for title, columns in {
        RATIOS: [column for column in every if column[0] == names.RATIO],
        OPTIMISER: [(what, "") for what in own],
        "Evenness and straightness": [*itertools.product(names.SHAPE, ("pixel", "feature"))],
        "What the images lose on the way, and how smoothly they change": look + [c for c in every if c[0] == names.PPL],
        SCORES: [column for column in every if column[0] in (names.MEAN_SCORE, names.WORST_SCORE)],
        FRAME_SETS: [column for column in every if column[0] == names.FRAMES],
    }.items():
        shade = (lambda value: 1 - value) if title == RATIOS else None
        yield Text(title if columns else "")
        yield Grid("path", ROWS, {column: ", ".join(filter(None, column)) for column in columns}, plain, shade)


def _curves(curves: pd.DataFrame) -> Figure:
    curves = curves.assign(at=curves.iteration.astype(int))
    drawn = [Line(row, curves[curves.row == row], colour, band=True) for row, colour in COLOURS.items()]
    return lines({"": drawn}, "iteration", "energy over the straight path's", level=1, size=(8, 3.4))
