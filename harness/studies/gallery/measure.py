"""What do the best and the worst samples of each class look like? Galleries by every score, class by class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ...core.abilities import HasGroundTruth
from ...core.protocols import Cell, Part, Row
from ...core.registry import study
from ...report.figures import save_strips
from ...run import MetricSpec, Run
from ...stats import intervals
from ..extremes import EXTREMES, extremes, labels
from .page import page

MARK = (225, 111, 36)
"""Colour of the edge of a sample that is known to be faulty."""
LEAST = 32
"""Pixels of the side of an image in a sheet, where it is smaller."""


@dataclass(frozen=True)
class Options:
    """What to show.

    scores: by which the samples are ordered; those of the run where none are named.
    shown:  samples in a row.
    sheet:  scores whose best, median and worst samples, of all classes together, make one picture of the run.
    """

    scores: Sequence[MetricSpec] = ()
    shown: int = 10
    sheet: Sequence[MetricSpec] = ()


@study(page=page, gallery=("class", "group"))
def gallery(run: Run, options: Options) -> Iterator[Part]:
    """A picture for each score: the best, median and worst samples of each class, in rows. Faulty ones have an edge.

    Classes are those that the generator knows, or else `run.classes`; where the class of some samples is not known, all
    samples are one class. The table has the mean score of each row; of samples whose state is known, the share of sound
    ones.
    """
    if options.shown < 1:
        raise ValueError(f"shown={options.shown} must be 1 or more samples a row")
    known = _known(run)
    for cell in run.cells(list(options.scores) or run.scores):
        scores = run.oriented(cell)
        rows = {
            (name, group): members[positions]
            for name, members in known.members.items()
            for group, positions in extremes(scores[members], options.shown, run.seed).items()
            if group in EXTREMES and len(positions)
        }
        values = scores if known.faulty is None else (~known.faulty).double()
        setting = {"score": cell.label, "shown": options.shown}
        yield Part(partial(_means, values, rows), setting, cells=[cell, *known.cells])
        if rows:
            strips = [run.views.images("fake", run.seed, run.n, chosen.tolist()) for chosen in rows.values()]
            if known.faulty is not None:
                faulty = [known.faulty[chosen] for chosen in rows.values()]
                strips = list(map(_marked, strips, faulty))
            raw = run.sample_scores(cell)
            said = [labels(raw, chosen, f"{name}, {group}: ") for (name, group), chosen in rows.items()]
            save_strips(strips, run.figure("classes", cell.label), labels=said)
    if options.sheet:
        _save_sheet(run, run.cells(list(options.sheet)), options.shown)


def _save_sheet(run: Run, cells: Sequence[Cell], shown: int) -> None:
    """A picture with three rows for each score, the best, the median and the worst samples."""
    strips, said = [], []
    for cell in cells:
        raw, rows = run.sample_scores(cell), extremes(run.oriented(cell), shown, run.seed)
        for group in EXTREMES:
            if len(rows[group]):
                strips.append(_enlarged(run.views.images("fake", run.seed, run.n, rows[group].tolist())))
                said.append(labels(raw, rows[group], f"{cell.label}, {group}: "))
    if strips:
        save_strips(strips, run.figure("sheet"), labels=said)


def _enlarged(images: Tensor) -> Tensor:
    """Images of few pixels, each pixel as a square of several."""
    times = max(1, LEAST // images.shape[-1])
    return images.repeat_interleave(times, -1).repeat_interleave(times, -2)


@dataclass(frozen=True)
class Known:
    """What is known of the samples.

    members: positions of the samples of each class, by its name; faulty bool [n]: None where that is not known.
    cells: the metric that the classes come from, if any.
    """

    members: Mapping[str, Tensor]
    faulty: Tensor | None
    cells: Sequence[Cell]


def _known(run: Run) -> Known:
    model = run.views.generator
    if isinstance(model, HasGroundTruth):
        truth = model.truth(run.views.seeds(run.seed, run.n))
        return Known(_members(truth.kind, model.kinds), truth.state > 0, [])
    cells, classes = run.sample_classes()
    if not classes.isfinite().all():
        return Known({"all": torch.arange(run.n)}, None, cells)
    names = run.views.data.classes
    count = int(classes.max()) + 1
    return Known(_members(classes, names if len(names) >= count else [f"class {i}" for i in range(count)]), None, cells)


def _members(classes: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    return {names[int(number)]: (classes == number).nonzero()[:, 0] for number in torch.unique(classes)}


def _means(values: Tensor, rows: Mapping[tuple[str, str], Tensor]) -> Iterator[Row]:
    yield from (Row(keys, intervals.mean(values[chosen])) for keys, chosen in rows.items())


def _marked(images: Tensor, faulty: Tensor) -> Tensor:
    """Images uint8 [N, C, H, W] in colour, those that are faulty with an edge."""
    marked = images.expand(-1, 3, -1, -1).clone()
    edge = max(1, images.shape[-1] // 32)
    inner = torch.zeros(images.shape[-2:], dtype=torch.bool)
    inner[edge:-edge, edge:-edge] = True
    colour = torch.tensor(MARK, dtype=torch.uint8)[:, None, None]
    marked[faulty] = torch.where(inner, marked[faulty], colour)
    return marked
