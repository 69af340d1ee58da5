"""How do paths of least energy differ from straight ones? The schemes of Laine 2018 between pairs of latents."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ...core.protocols import Cell, Estimate, Part, Row
from ...core.registry import study, unknown
from ...report.figures import save_strips
from ...run import Run
from ...stats import intervals
from . import names
from .measures import Measured, Measures
from .names import AT_FIRST, LINEAR, NOTHING, ROWS, SCHEMES
from .options import Options
from .page import page
from .paths import Paths

PARTS: Mapping[str, tuple[Sequence[str], str]] = {
    "shape": (names.SHAPE, "as decoded"),
    "smoothness": ((names.PPL,), "as decoded"),
    "look": ((names.CONTRAST, names.BRIGHTNESS), "clamped"),
}
"""Parts of a row that are measured on the path itself: the quantities of each, and the images that they are of."""
EVERY = 5
"""Iterations between two points of the curve of energy."""


@study(version=3, page=page, interpolate=("quantity", "measured_in", "against"), energy_curve=("iteration",))
def interpolate(run: Run, options: Options) -> Iterator[Part]:
    """Paths between pairs of latents: straight, slerp, and of least energy in pixels, features and equalised both.

    The ends are the first 2 · pairs generated samples, the same for all rows; every number is a mean over pairs with
    its interval, also as paired difference to the straight path and, for equalised schemes, to the plain one. Rows are
    measured in the latent space, in all four distances and in those of `judges`, which no path was optimised for.
    Energies are those of images as decoded, neither clamped nor rounded; contrast and brightness those of clamped
    images. `run.scores` and `run.set_metrics` see the frames between the ends as samples are stored, 8 bits deep: the
    scores each frame, the set metrics all frames of a row against as many real samples.
    Raises ValueError where the generator has none of the spaces asked for.
    """
    for space in _chosen(run.views.generator.spaces, options.spaces):
        paths = Paths(run, space, options)
        measures = Measures(paths)
        for row in ROWS:
            yield from _parts(measures, row)
        kind, *words = "strip", *names.picture_words(vars(paths.common))
        for pair in range(min(options.shown, options.pairs)):
            save_strips([paths.frames(row, pair) for row in ROWS], run.figure(kind, *words, f"{pair:02}"))


def _chosen(spaces: Sequence[str], wanted: Sequence[str]) -> list[str]:
    chosen = [space for space in spaces if space in wanted] if wanted else list(spaces[:1])
    if not chosen:
        raise ValueError(unknown("latent space", ", ".join(wanted), list(spaces)))
    return chosen


def _parts(measures: Measures, row: str) -> Iterator[Part]:
    """All parts of one row."""
    paths, run = measures.paths, measures.run

    def part(name: str, images: str, rows: Callable[[], Iterator[Row]], cells: Sequence[Cell] = ()) -> Part:
        return Part(rows, paths.setting(row, name, images), "interpolate", cells, paths.views)

    yield part(names.ENERGY, "as decoded", partial(_energies, measures, row))
    for name, (quantities, images) in PARTS.items():
        yield part(name, images, partial(_compared, row, partial(measures.some, quantities)))
    for cell in map(measures.read_by, run.cells(run.scores)):
        yield part(f"score {cell.label}", "8 bits", partial(_compared, row, partial(measures.scores, cell)), [cell])
    for cell in map(partial(measures.read_by, as_many=True), run.cells(run.set_metrics)):
        yield part(f"frames {cell.label}", "8 bits", partial(_compared, row, partial(measures.frame_set, cell)), [cell])
    if row in SCHEMES:
        yield part("optimisation", "as decoded", partial(_optimisation, paths, row))
        yield Part(partial(_curve, paths, row), paths.setting(row), "energy_curve", views=paths.views)


def _energies(measures: Measures, row: str) -> Iterator[Row]:
    own, straight = (measures.some([names.ENERGY], name) for name in (row, LINEAR))
    yield from _means(own)
    yield from _means({
        (names.RATIO, measured_in): values / straight[names.ENERGY, measured_in]
        for (_, measured_in), values in own.items()
    })  # fmt: skip


def _compared(row: str, measure: Callable[[str], Measured]) -> Iterator[Row]:
    """Means, and mean differences to the straight path and to the scheme without equalisation."""
    own = measure(row)
    yield from _means(own)
    for other in ([LINEAR] if row != LINEAR else []) + ([row[1:]] if row.startswith("~") else []):
        theirs = measure(other)
        yield from _means({key: values - theirs[key] for key, values in own.items()}, other)


def _means(values: Measured, against: str = NOTHING) -> Iterator[Row]:
    return (Row((*key, against), intervals.mean(each)) for key, each in values.items())


def _optimisation(paths: Paths, row: str) -> Iterator[Row]:
    """How far the optimiser came, in the distance that it optimised: by the paper's procedure alone, and in the end."""
    first, last, pairs = paths.optimised(row), paths.refined(row), paths.options.pairs

    def alone(number: float) -> Estimate:
        return Estimate(number, (math.nan, math.nan), pairs)

    found = {names.GRADIENT: intervals.mean(last.gradient / last.energy[:, -1])}
    for start in range(1, paths.options.starts):
        other = paths.optimised(row, start).energy[:, -1]
        found[f"{names.FROM_START} {start}"] = intervals.mean(other / first.energy[: len(other), -1])
    found[names.WENT_ON] = intervals.proportion((last.path != first.path).flatten(1).any(1))
    found[names.CALLS] = alone(last.calls / pairs)
    whens: Mapping[str, Callable[[str], Tensor]] = {AT_FIRST: paths.at_first, "": paths.path}
    for when, path in whens.items():
        energies = {other: paths.energies(path(other))[row] for other in ROWS}
        own = energies.pop(row)
        excess = own / torch.stack(list(energies.values())).amin(0) - 1
        found[names.IMPROVEMENT + when] = intervals.mean(1 - own / energies[LINEAR])
        found[names.LEAST_OF_ALL + when] = intervals.proportion(excess <= 0)
        found[names.EXCESS + when] = alone(float(excess.clamp(min=0).max()))
    yield from (Row((name, row, NOTHING), estimate) for name, estimate in found.items())


def _curve(paths: Paths, row: str) -> Iterator[Row]:
    """Energy before an iteration of the paper's procedure, over that of the straight path with all its segments."""
    history = paths.optimised(row).energy / paths.energies(paths.at_first(LINEAR))[row][:, None]
    last = history.shape[1] - 1
    yield from (Row((str(i),), intervals.mean(history[:, i])) for i in sorted({*range(0, last, EVERY), last}))
