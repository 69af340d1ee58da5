"""What do the best and the worst samples of each class look like? Galleries by every score, class by class."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ...arrays.views import SEEDS
from ...core.protocols import Estimate, HasGroundTruth, Record
from ...core.registry import study
from ...report import html
from ...report.figures import save_strips, slug
from ...report.tables import add_run, run_name
from ...run import MetricSpec, Run
from ...stats import intervals
from ..extremes import split

SHOWN = ("top", "middle", "bottom")
MARK = (225, 111, 36)
"""Colour of the edge of a sample that is known to be faulty."""


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    table = add_run(found["gallery"])
    body = [html.heading("The best and the worst of each class")]
    for (about, score), part in table.groupby(["run", "score"], sort=False):
        path = _picture(folder, str(about), str(score))
        if path.is_file():
            rows = "; ".join(f"{name}: top, middle, bottom" for name in part["class"].unique())
            body.append(html.details(f"{about}: {score}", [html.figure(path, f"from above, {rows}")]))
    return body, []


@study(page)
def gallery(run: Run, scores: Sequence[MetricSpec] = (), shown: int = 10) -> None:
    """A picture for each score: the best, median and worst samples of each class, in rows. Faulty ones have an edge.

    scores: those of the about where none are named. Classes are those that the generator knows, or else `run.classes`.
    The table has the mean score of each row; of samples whose state is known, the share of sound ones.
    """
    if shown < 1:
        raise ValueError(f"shown={shown} must be 1 or more samples a row")
    cells = run.cells(list(scores) or run.scores)
    kinds, names, faulty = _classes(run)
    about = run_name(run.generator, run.dataset, run.seed, run.n)
    for cell in cells:
        column = run.oriented(cell)
        rows = {
            f"{names[int(kind)]} ~ {group}": members[positions]
            for kind, members in ((kind, (kinds == kind).nonzero()[:, 0]) for kind in torch.unique(kinds))
            for group, positions in split(column[members], shown, run.seed).items()
            if group in SHOWN and len(positions)
        }
        values = column if faulty is None else (~faulty).double()
        params = {"columns": "class ~ group", "score": cell.label, "shown": shown}
        run.record("gallery", 1, params, [cell], partial(_means, values, rows))
        if rows:
            strips = [run.views.images("fake", run.seed, run.n, chosen.tolist()) for chosen in rows.values()]
            marks = [None if faulty is None else faulty[chosen] for chosen in rows.values()]
            save_strips(list(map(_marked, strips, marks)), _picture(run.folder, about, cell.label))


def _classes(run: Run) -> tuple[Tensor, Sequence[str], Tensor | None]:
    """The class of each sample [n], the names of classes, and which samples are faulty, where that is known."""
    model = run.views.generator
    if isinstance(model, HasGroundTruth):
        truth = model.truth(range(run.seed * SEEDS, run.seed * SEEDS + run.n))
        return truth.kind, model.kinds, truth.state > 0
    (cell,) = run.cells(run.classes)
    classes = run.sample_scores(cell)
    if not classes.isfinite().all():  # its own record says why
        return torch.zeros(run.n), ["all"], None
    names = run.views.data.classes
    count = int(classes.max()) + 1
    return classes, names if len(names) >= count else [f"class {i}" for i in range(count)], None


def _means(values: Tensor, rows: Mapping[str, Tensor]) -> dict[str, Estimate]:
    return {name: intervals.mean(values[chosen]) for name, chosen in rows.items()}


def _marked(images: Tensor, faulty: Tensor | None) -> Tensor:
    """Images uint8 [N, C, H, W], in colour and with an edge where they are faulty."""
    if faulty is None:
        return images
    marked = images.expand(-1, 3, -1, -1).clone()
    edge = max(1, images.shape[-1] // 32)
    inner = torch.zeros(images.shape[-2:], dtype=torch.bool)
    inner[edge:-edge, edge:-edge] = True
    colour = torch.tensor(MARK, dtype=torch.uint8)[:, None, None]
    marked[faulty] = torch.where(inner, marked[faulty], colour)
    return marked


def _picture(folder: Path, about: str, score: str) -> Path:
    return folder / "figures" / f"classes-{slug(about)}-{slug(score)}.png"
