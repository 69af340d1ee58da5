"""How do paths of least energy differ from straight ones? The schemes of Laine 2018 between pairs of latents."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from ...core.protocols import Estimate, View
from ...core.registry import METRICS, study, unknown
from ...run import Run
from ...stats import intervals
from .measures import Measured, Measures
from .page import LINEAR, NOTHING, ROWS, SCHEMES, draw_strips, page
from .paths import Paths

PARTS: Mapping[str, tuple[Sequence[str], str]] = {
    "shape": (("jensen gap", "speed variation", "straightness", "turning", "max_end_distance"), "as decoded"),
    "smoothness": (("path PPL",), "as decoded"),
    "look": (("contrast", "brightness"), "clamped"),
}
"""Records of a row: the quantities in it, and the images that they are of."""
EVERY = 5
"""Iterations between two points of the curve of energy."""
VERSION = 3


@study(page)
def interpolate(
    run: Run,
    spaces: Sequence[str] = (),
    features: str = "features",
    judges: Sequence[str] = (),
    power: int = 1,
    per_channel: bool = False,
    typical: Sequence[float] = (),
    levels: int = 5,
    iterations: int = 50,
    lr: float = 0.01,
    constrain: str = "auto",
    starts: int = 3,
    rounds: int = 8,
    pairs: int = 64,
    chunk: int = 64,
    shown: int = 3,
) -> None:
    """Paths between pairs of latents: straight, slerp, and of least energy in pixels, features and equalised both.

    The ends are the first 2 · pairs generated samples, the same for all rows; every number is a mean over pairs with
    its interval, also as paired difference to the straight path and, for equalised schemes, to the plain one. Rows are
    measured in the latent space, in all four distances and in those of `judges`, which no path was optimised for.
    Energies are those of images as decoded, neither clamped nor rounded; contrast and brightness those of clamped
    images. `run.scores` and `run.set_metrics` see the frames between the ends as samples are stored, 8 bits deep: the
    scores each frame, the sets all frames of a row against as many real samples.

    spaces:    latent spaces, of those that the generator has; by default its first.
    features:  an extractor that shows its layers; "features" is the one of the run. judges: any extractors.
    power, levels, iterations, lr, chunk: see `metrics.paths.energy`. per_channel: equalise each channel alone.
    typical:   mean and standard deviation of equalised images where the network sees them; by default those of the
               images of the ends, on average. (0.45, 0.23) is typical of photographs.
    constrain: "sphere" keeps latents on a sphere of radius sqrt(D), "free" does not; "auto" does where twice a latent
               gives the same image.
    starts:    from how many middles a path is optimised, to tell local minima: the mean of the ends, and others half
               their distance away from it, on the first pairs. The paths shown and measured are those of the first.
    rounds:    after the paper's procedure, how often each pair that another row undercuts in the scheme's own energy
               goes on from that row's path, for `iterations` more at a tenth of the learning rate; until none is left, 0: never.
               So each scheme has the least energy of all rows in its own distance by construction, up to the excess
               recorded; how far the procedure comes by itself is recorded as "at first". All else, but for the curve of
               energy and the other starts, is measured on the paths after the rounds. A pair that went on keeps much of
               the look of the row it went on from, the more as equalised energies see neither brightness nor contrast.
    shown:     pairs that are drawn.
    """
    for name, value in {"levels": levels, "iterations": iterations, "starts": starts, "chunk": chunk}.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be 1 or more")
    if rounds < 0:
        raise ValueError(f"rounds={rounds} must be 0 or more")
    if pairs < 2:
        raise ValueError(f"pairs={pairs} must be 2 or more: an interval needs them")
    if len(typical) not in (0, 2):
        raise ValueError(f"typical={list(typical)} must be a mean and a standard deviation")
    features = run.views.features if features == "features" else features
    options = (judges, power, per_channel, typical, levels, iterations, lr, constrain, starts, rounds, pairs, chunk)
    for space in _chosen(run.views.generator.spaces, spaces):
        paths = Paths(run, space, features, *options)
        measures = Measures(paths)
        for row in ROWS:
            _record_row(measures, row)
        draw_strips(run, paths.setting, [[paths.frames(row, i) for row in ROWS] for i in range(min(shown, pairs))])


def _chosen(spaces: Sequence[str], wanted: Sequence[str]) -> list[str]:
    chosen = [space for space in spaces if space in wanted] if wanted else list(spaces[:1])
    if not chosen:
        raise ValueError(unknown("latent space", ", ".join(wanted), list(spaces)))
    return chosen


def _record_row(measures: Measures, row: str) -> None:
    """All records of one row."""
    paths, run = measures.paths, measures.paths.run
    record = partial(_record, paths, row)
    scores = [measures.read_by(cell) for cell in run.cells(run.scores)]
    sets = [measures.read_by(cell, as_many=True) for cell in run.cells(run.set_metrics)]
    record("energy", "as decoded", lambda: _estimates(_energies(measures, row)))
    for part, (quantities, images) in PARTS.items():
        record(part, images, partial(_compared, row, partial(_some, measures, quantities)))
    for part, cells, measure in (("score", scores, measures.scores), ("frames", sets, measures.frame_set)):
        for cell in cells:
            views = {f"{cell.label} {name}": view for name, view in cell.views.items()}
            compute = partial(_compared, row, partial(measure, cell))
            record(f"{part} {cell.label}", "8 bits", compute, views, METRICS[cell.metric].version)
    if row in SCHEMES:
        record("optimisation", "as decoded", partial(_optimisation, paths, row))
        params = {"columns": "iteration", "row": row, **paths.setting}
        run.record("energy_curve", VERSION, params, [], partial(_curve, paths, row), paths.views)


def _record(
    paths: Paths,
    row: str,
    part: str,
    images: str,
    compute: Callable[[], Mapping[str, Estimate]],
    views: Mapping[str, View] | None = None,
    version: int = 0,
) -> None:
    """images: in what form the part takes them. views, version: of the metric whose scores the part holds."""
    params = {"columns": "quantity ~ of ~ against", "row": row, "part": part, "images": images, **paths.setting}
    paths.run.record("interpolate", 100 * VERSION + version, params, [], compute, {**paths.views, **(views or {})})


def _some(measures: Measures, quantities: Sequence[str], row: str) -> Measured:
    return {key: values for key, values in measures.measured(row).items() if key[0] in quantities}


def _energies(measures: Measures, row: str) -> Measured:
    own, straight = (_some(measures, ["energy"], name) for name in (row, LINEAR))
    return {**own, **{("energy ratio", of): values / straight["energy", of] for (_, of), values in own.items()}}


def _compared(row: str, measure: Callable[[str], Measured]) -> dict[str, Estimate]:
    """Means, and mean differences to the straight path and to the scheme without equalisation."""
    own = measure(row)
    found = _estimates(own)
    for other in ([LINEAR] if row != LINEAR else []) + ([row[1:]] if row.startswith("~") else []):
        theirs = measure(other)
        found |= _estimates({key: values - theirs[key] for key, values in own.items()}, other)
    return found


def _optimisation(paths: Paths, row: str) -> dict[str, Estimate]:
    """How far the optimiser came, in the distance that it optimised: by the paper's procedure alone, and in the end."""
    first, last = paths.optimised(row), paths.refined(row)
    values = {"gradient": last.gradient / last.energy[:, -1]}
    for start in range(1, paths.starts):
        other = paths.optimised(row, start).energy[:, -1]
        values[f"energy ratio from start {start}"] = other / first.energy[: len(other), -1]
    shares = {"went on": (last.path != first.path).flatten(1).any(1)}
    alone = {"calls": last.calls / paths.pairs}
    for when, path in ((" at first", paths.at_first), ("", paths.path)):
        energies = {other: paths.energies(path(other))[row] for other in ROWS}
        own = energies.pop(row)
        excess = own / torch.stack(list(energies.values())).amin(0) - 1
        values[f"improvement{when}"] = 1 - own / energies[LINEAR]
        shares[f"least of all rows{when}"] = excess <= 0
        alone[f"largest excess over the least{when}"] = float(excess.clamp(min=0).max())
    estimates = {name: intervals.mean(each) for name, each in values.items()}
    estimates |= {name: intervals.proportion(each) for name, each in shares.items()}
    estimates |= {name: Estimate(number, (math.nan, math.nan), paths.pairs) for name, number in alone.items()}
    return {f"{name} ~ {row} ~ {NOTHING}": estimate for name, estimate in estimates.items()}


def _curve(paths: Paths, row: str) -> dict[str, Estimate]:
    """Energy before an iteration of the paper's procedure, over that of the straight path with all its segments."""
    history = paths.optimised(row).energy / paths.energies(paths.at_first(LINEAR))[row][:, None]
    last = history.shape[1] - 1
    return {str(i): intervals.mean(history[:, i]) for i in sorted({*range(0, last, EVERY), last})}


def _estimates(values: Measured, against: str = NOTHING) -> dict[str, Estimate]:
    return {f"{quantity} ~ {of} ~ {against}": intervals.mean(each) for (quantity, of), each in values.items()}
