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
from ...shapes.pictures import distances, pictures, turned
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
    turning: how many shapes are shown from all sides.
    meshes:  of how many shapes the surface is written as a file.
    suffix:  of these files: .obj, .ply or .stl.
    """

    rows: int = 8
    columns: int = 12
    turning: int = 12
    meshes: int = 4
    suffix: str = ".obj"


@study(page=page, samples=("what",))
def samples(run: Run, options: Options) -> Iterator[Part]:
    """Grids of generated and of held-out images, none of them chosen; means of two plain measures.

    A generator that makes its samples shows the first; stored samples and held-out ones are drawn by the seed. Shapes
    are also shown from all sides, and the surfaces of some are written as files.
    """
    if min(options.rows, options.columns) < 1:
        raise ValueError(f"rows={options.rows}, columns={options.columns} must each be 1 or more")
    count = options.rows * options.columns
    shown, real = min(count, run.n), min(count, run.views.data.count("test"))
    images = pictures(_some(run, shown))
    save_strips(torch.split(images, options.columns), run.figure("samples", "fake"), LARGEST)
    if real:
        of = max(real, run.n)
        images = run.views.images("holdout", run.seed, of, run.views.shown("holdout", run.seed, of, real))
        path = figure_path(run.folder, "samples", run.dataset, "holdout")
        save_strips(torch.split(images, options.columns), path, LARGEST)
    if run.views.modality == "shape":
        _show_shapes(run, options)
    cells = run.cells(MEASURED[run.views.modality])
    measured = {cell.label: run.sample_scores(cell) for cell in cells}
    yield Part(partial(_means, measured), {"shown": shown}, cells=cells)


def _some(run: Run, count: int) -> Tensor:
    """Generated samples as they are stored, uint8 [count, ...]."""
    return run.views.stored("fake", run.seed, run.n, run.views.shown("fake", run.seed, run.n, count))


def _show_shapes(run: Run, options: Options) -> None:
    turning, meshes = min(options.turning, run.n), min(options.meshes, run.n)
    if turning:
        around = turned(_some(run, turning))
        frames = [list(torch.split(frame[:, None], ABREAST)) for frame in around.unbind(1)]
        save_turning(frames, run.figure("samples", "turning"))
    if meshes:
        for i, sdf in enumerate(distances(_some(run, meshes))):
            write_mesh(isosurface(sdf), meshes_folder(run.folder, run.title) / f"{i:04}{options.suffix}")


def _means(scores: Mapping[str, Tensor]) -> Iterator[Row]:
    yield from (Row((name,), intervals.mean(column)) for name, column in scores.items())
