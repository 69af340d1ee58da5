"""What do the best and the worst samples of each class look like? Galleries by every score, class by class."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ...arrays.views import SEEDS
from ...core.protocols import Estimate, Known, Record
from ...core.registry import task
from ...report import html
from ...report.figures import save_strips, slug
from ...report.tables import add_run, run_name
from ...run import Entry, Study
from ...stats.ranks import mean_with_interval
from ..extremes import split

SHOWN = ("top", "middle", "bottom")
MARK = (225, 111, 36)
"""Colour of the edge of a sample that is known to be faulty."""


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    table = add_run(found["gallery"])
    body = [html.heading("The best and the worst of each class")]
    for (run, score), part in table.groupby(["run", "score"], sort=False):
        path = _picture(folder, str(run), str(score))
        if path.is_file():
            rows = "; ".join(f"{name}: top, middle, bottom" for name in part["class"].unique())
            body.append(html.details(f"{run}: {score}", [html.figure(path, f"from above, {rows}")]))
    return body, []


@task(page)
def gallery(study: Study, scores: Sequence[Entry] = (), shown: int = 10) -> None:
    """A picture for each score: the best, median and worst samples of each class, in rows. Faulty ones have an edge.

    scores: those of the run where none are named. Classes are those that the generator knows, or else `study.classes`.
    The table has the mean score of each row; of samples whose state is known, the share of sound ones.
    """
    if shown < 1:
        raise ValueError(f"shown={shown} must be 1 or more samples a row")
    cells = study.cells(list(scores) or study.scores)
    kinds, names, faulty = _classes(study)
    run = run_name(study.generator, study.dataset, study.seed, study.n)
    for cell in cells:
        column = study.oriented(cell)
        rows = {
            f"{names[int(kind)]} ~ {group}": members[positions]
            for kind, members in ((kind, (kinds == kind).nonzero()[:, 0]) for kind in torch.unique(kinds))
            for group, positions in split(column[members], shown, study.seed).items()
            if group in SHOWN and len(positions)
        }
        values = column if faulty is None else (~faulty).double()
        params = {"columns": "class ~ group", "score": cell.label, "shown": shown}
        study.record("gallery", 1, params, [cell], partial(_means, values, rows))
        if rows:
            strips = [study.views.images("fake", study.seed, study.n, chosen.tolist()) for chosen in rows.values()]
            marks = [None if faulty is None else faulty[chosen] for chosen in rows.values()]
            save_strips(list(map(_marked, strips, marks)), _picture(study.folder, run, cell.label))


def _classes(study: Study) -> tuple[Tensor, Sequence[str], Tensor | None]:
    """The class of each sample [n], the names of classes, and which samples are faulty, where that is known."""
    model = study.views.generator
    if isinstance(model, Known):
        truth = model.truth(range(study.seed * SEEDS, study.seed * SEEDS + study.n))
        return truth.kind, model.kinds, truth.state > 0
    (cell,) = study.cells(study.classes)
    classes = study.sample_scores(cell)
    if not classes.isfinite().all():  # its own record says why
        return torch.zeros(study.n), ["all"], None
    names = study.views.data.classes
    count = int(classes.max()) + 1
    return classes, names if len(names) >= count else [f"class {i}" for i in range(count)], None


def _means(values: Tensor, rows: Mapping[str, Tensor]) -> dict[str, Estimate]:
    return {name: mean_with_interval(values[chosen]) for name, chosen in rows.items()}


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


def _picture(folder: Path, run: str, score: str) -> Path:
    return folder / "figures" / f"classes-{slug(run)}-{slug(score)}.png"
