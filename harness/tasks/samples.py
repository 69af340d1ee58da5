"""What do the samples look like? A grid of generated images beside a grid of real ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from .. import html
from ..figures import save_strips, slug
from ..protocols import Cell, Estimate, Record
from ..registry import task
from ..stats import mean_with_interval
from ..study import Study
from ..tables import add_run, run_name

LARGEST = 128
"""Larger images are shown smaller."""


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    table = add_run(found["samples"])
    shown = {run: _picture(folder, run, "fake") for run in table.run.unique()}
    shown |= {f"{name}, held-out images": _picture(folder, name, "holdout") for name in table.dataset.unique()}
    there = {what: path for what, path in shown.items() if path.is_file()}
    body = [html.figure(path, f"{what}: the first ones, none chosen") for what, path in there.items()]
    return [html.heading("Samples"), *body], [f"picture: {path}" for path in there.values()]


@task(page)
def samples(study: Study, rows: int = 8, columns: int = 12) -> None:
    """Grids of the first generated and the first held-out images, none of them chosen; mean ink and sharpness."""
    run = run_name(study.generator, study.dataset, study.seed, study.n)
    shown = {"fake": min(rows * columns, study.n), "holdout": min(rows * columns, study.views.data.count("test"))}
    for of, count in shown.items():
        if count:
            images = study.views.images(of, study.seed, max(count, study.n), range(count))  # type: ignore[arg-type]
            save_strips(
                torch.split(images, columns),
                _picture(study.folder, run if of == "fake" else study.dataset, of),
                LARGEST,
            )
    cells = study.cells(["ink", "laplacian_variance"])
    params = {"columns": "what", "shown": shown["fake"]}
    study.record("samples", 1, params, cells, lambda: {cell.label: _mean(study, cell) for cell in cells})


def _mean(study: Study, cell: Cell) -> Estimate:
    return mean_with_interval(study.sample_scores(cell))


def _picture(folder: Path, run: str, of: str) -> Path:
    return folder / "figures" / f"samples-{slug(run)}-{of}.png"
