"""What do the samples look like? A grid of generated images beside one of real ones; shapes turn, and are exported."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from ...core.protocols import Cell, Estimate, Record
from ...core.registry import study
from ...report import html
from ...report.figures import save_strips, save_turning, slug
from ...report.tables import add_run, run_name
from ...run import Run
from ...shapes.pictures import distances, turned
from ...shapes.surfaces import isosurface, write_mesh
from ...stats import intervals

LARGEST = 128
"""Larger images are shown smaller."""
MEASURED = {"image": ["mean_intensity", "laplacian_variance"], "shape": ["solid_volume", "surface_area"]}


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    table = add_run(found["samples"])
    shown = {about: _picture(folder, about, "fake") for about in table.run.unique()}
    shown |= {f"{name}, held-out images": _picture(folder, name, "holdout") for name in table.dataset.unique()}
    shown |= {f"{about}, from all sides": _picture(folder, about, "turning") for about in table.run.unique()}
    there = {what: path for what, path in shown.items() if path.is_file()}
    body = [html.figure(path, f"{what}: the first ones, none chosen") for what, path in there.items()]
    meshes = [_meshes(folder, about) for about in table.run.unique() if _meshes(folder, about).is_dir()]
    return [html.heading("Samples"), *body], [
        *(f"picture: {path}" for path in there.values()),
        *(f"meshes: {path}" for path in meshes),
    ]


@study(page)
def samples(
    run: Run, rows: int = 8, columns: int = 12, turning: int = 12, meshes: int = 4, suffix: str = ".obj"
) -> None:
    """Grids of the first generated and the first held-out images, none of them chosen; means of two plain measures.

    Of shapes, the first `turning` are also shown from all sides, and the surfaces of the first `meshes` are written as
    files of a suffix: .obj, .ply or .stl.
    """
    about = run_name(run.generator, run.dataset, run.seed, run.n)
    shown = {"fake": min(rows * columns, run.n), "holdout": min(rows * columns, run.views.data.count("test"))}
    for of, count in shown.items():
        if count:
            images = run.views.images(of, run.seed, max(count, run.n), range(count))  # type: ignore[arg-type]
            save_strips(
                torch.split(images, columns),
                _picture(run.folder, about if of == "fake" else run.dataset, of),
                LARGEST,
            )
    modality = run.views.modality
    if modality == "shape":
        _show_shapes(run, about, min(turning, run.n), min(meshes, run.n), suffix)
    cells = run.cells(MEASURED[modality])
    params = {"columns": "what", "shown": shown["fake"]}
    run.record("samples", 1, params, cells, lambda: {cell.label: _mean(run, cell) for cell in cells})


def _show_shapes(run: Run, about: str, turning: int, meshes: int, suffix: str) -> None:
    if turning:
        around = turned(run.views.stored("fake", run.seed, run.n, range(turning)))
        frames = [list(torch.split(frame[:, None], 6)) for frame in around.unbind(1)]
        save_turning(frames, _picture(run.folder, about, "turning"))
    if meshes:
        for i, sdf in enumerate(distances(run.views.stored("fake", run.seed, run.n, range(meshes)))):
            write_mesh(isosurface(sdf), _meshes(run.folder, about) / f"{i:04}{suffix}")


def _mean(run: Run, cell: Cell) -> Estimate:
    return intervals.mean(run.sample_scores(cell))


def _picture(folder: Path, about: str, of: str) -> Path:
    return folder / "figures" / f"samples-{slug(about)}-{of}.png"


def _meshes(folder: Path, about: str) -> Path:
    return folder / "meshes" / slug(about)
