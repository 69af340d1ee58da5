"""What do the samples look like? A grid of generated images beside one of real ones; shapes turn, and are exported."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ...core.protocols import Part, Row
from ...core.registry import study
from ...report.figures import figure_path, save_strips, save_turning
from ...run import Run
from ...shapes.pictures import distances, turned
from ...shapes.surfaces import isosurface, write_mesh
from ...stats import intervals
from .meshes import meshes_folder
from .page import page

LARGEST = 128
"""Larger images are shown smaller."""
ABREAST = 6
"""Shapes beside each other, where they turn."""
MEASURED = {"image": ["mean_intensity", "laplacian_variance"], "shape": ["solid_volume", "surface_area"]}


@dataclass(frozen=True)
class Options:
    """What to show.

    rows, columns: of the grids of images.
    turning: how many of the first shapes are shown from all sides.
    meshes:  of how many of the first shapes the surface is written as a file.
    suffix:  of these files: .obj, .ply or .stl.
    """

    rows: int = 8
    columns: int = 12
    turning: int = 12
    meshes: int = 4
    suffix: str = ".obj"


@study(page=page, samples=("what",))
def samples(run: Run, options: Options) -> Iterator[Part]:
    """Grids of the first generated and the first held-out images, none of them chosen; means of two plain measures.

    Shapes are also shown from all sides, and the surfaces of the first are written as files.
    """
    if min(options.rows, options.columns) < 1:
        raise ValueError(f"rows={options.rows}, columns={options.columns} must each be 1 or more")
    count = options.rows * options.columns
    shown, real = min(count, run.n), min(count, run.views.data.count("test"))
    images = run.views.images("fake", run.seed, run.n, range(shown))
    save_strips(torch.split(images, options.columns), run.figure("samples", "fake"), LARGEST)
    if real:
        images = run.views.images("holdout", run.seed, max(real, run.n), range(real))
        path = figure_path(run.folder, "samples", run.dataset, "holdout")
        save_strips(torch.split(images, options.columns), path, LARGEST)
    if run.views.modality == "shape":
        _show_shapes(run, options)
    cells = run.cells(MEASURED[run.views.modality])
    measured = {cell.label: run.sample_scores(cell) for cell in cells}
    yield Part(partial(_means, measured), {"shown": shown}, cells=cells)


def _show_shapes(run: Run, options: Options) -> None:
    turning, meshes = min(options.turning, run.n), min(options.meshes, run.n)
    if turning:
        around = turned(run.views.stored("fake", run.seed, run.n, range(turning)))
        frames = [list(torch.split(frame[:, None], ABREAST)) for frame in around.unbind(1)]
        save_turning(frames, run.figure("samples", "turning"))
    if meshes:
        for i, sdf in enumerate(distances(run.views.stored("fake", run.seed, run.n, range(meshes)))):
            write_mesh(isosurface(sdf), meshes_folder(run.folder, run.title) / f"{i:04}{options.suffix}")


def _means(scores: Mapping[str, Tensor]) -> Iterator[Row]:
    yield from (Row((name,), intervals.mean(column)) for name, column in scores.items())
