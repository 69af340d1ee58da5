"""What `samples` shows: generated images of each run, and held-out ones beside them."""

from collections.abc import Iterator

from ...report.blocks import Block, Found, Picture, Verdicts
from ...report.figures import figure_path
from .meshes import meshes_folder


def page(found: Found) -> Iterator[Block]:
    table = found.tables["samples"]
    runs, datasets = table.run.unique(), table.dataset.unique()
    shown = [
        *((run, figure_path(found.folder, "samples", run, "fake")) for run in runs),
        *((f"{name}, held-out images", figure_path(found.folder, "samples", name, "holdout")) for name in datasets),
        *((f"{run}, from all sides", figure_path(found.folder, "samples", run, "turning")) for run in runs),
    ]
    for what, path in shown:
        yield Picture(path, f"{what}: none chosen")
    folders = [folder for run in runs if (folder := meshes_folder(found.folder, run)).is_dir()]
    if folders:
        yield Verdicts([str(folder.relative_to(found.folder)) for folder in folders], "Surfaces of shapes, none chosen")
