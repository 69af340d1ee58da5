"""What do the samples look like? A grid of generated images beside one of real ones; shapes turn, and are exported."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from ...core.protocols import Cell, Estimate, Record
from ...core.registry import task
from ...report import html
from ...report.figures import save_strips, save_turning, slug
from ...report.tables import add_run, run_name
from ...run import Study
from ...shapes.pictures import distances, turned
from ...shapes.surfaces import isosurface, write_mesh
from ...stats.ranks import mean_with_interval

LARGEST = 128
"""Larger images are shown smaller."""
MEASURED = {"image": ["ink", "laplacian_variance"], "shape": ["solid_volume", "surface_area"]}


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    table = add_run(found["samples"])
    shown = {run: _picture(folder, run, "fake") for run in table.run.unique()}
    shown |= {f"{name}, held-out images": _picture(folder, name, "holdout") for name in table.dataset.unique()}
    shown |= {f"{run}, from all sides": _picture(folder, run, "turning") for run in table.run.unique()}
    there = {what: path for what, path in shown.items() if path.is_file()}
    body = [html.figure(path, f"{what}: the first ones, none chosen") for what, path in there.items()]
    meshes = [_meshes(folder, run) for run in table.run.unique() if _meshes(folder, run).is_dir()]
    return [html.heading("Samples"), *body], [
        *(f"picture: {path}" for path in there.values()),
        *(f"meshes: {path}" for path in meshes),
    ]


@task(page)
def samples(
    study: Study, rows: int = 8, columns: int = 12, turning: int = 12, meshes: int = 4, suffix: str = ".obj"
) -> None:
    """Grids of the first generated and the first held-out images, none of them chosen; means of two plain measures.

    Of shapes, the first `turning` are also shown from all sides, and the surfaces of the first `meshes` are written as
    files of a suffix: .obj, .ply or .stl.
    """
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
    modality = study.views.modality
    if modality == "shape":
        _show_shapes(study, run, min(turning, study.n), min(meshes, study.n), suffix)
    cells = study.cells(MEASURED[modality])
    params = {"columns": "what", "shown": shown["fake"]}
    study.record("samples", 1, params, cells, lambda: {cell.label: _mean(study, cell) for cell in cells})


def _show_shapes(study: Study, run: str, turning: int, meshes: int, suffix: str) -> None:
    if turning:
        around = turned(study.views.stored("fake", study.seed, study.n, range(turning)))
        frames = [list(torch.split(frame[:, None], 6)) for frame in around.unbind(1)]
        save_turning(frames, _picture(study.folder, run, "turning"))
    if meshes:
        for i, sdf in enumerate(distances(study.views.stored("fake", study.seed, study.n, range(meshes)))):
            write_mesh(isosurface(sdf), _meshes(study.folder, run) / f"{i:04}{suffix}")


def _mean(study: Study, cell: Cell) -> Estimate:
    return mean_with_interval(study.sample_scores(cell))


def _picture(folder: Path, run: str, of: str) -> Path:
    return folder / "figures" / f"samples-{slug(run)}-{of}.png"


def _meshes(folder: Path, run: str) -> Path:
    return folder / "meshes" / slug(run)
