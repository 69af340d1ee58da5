"""Meshes in a directory, with classes as sub-folders, also in the layouts of ShapeNet and ModelNet."""

from pathlib import Path

from ..harness.core.digests import hexadecimal, packed
from ..harness.core.files import digest
from ..harness.core.folders import is_folder
from ..harness.core.progress import say_once
from ..harness.core.protocols import Dataset
from ..harness.core.registry import dataset
from ..harness.core.texts import Texts
from ..harness.shapes.mesh_files import Fit, MeshFiles
from .parts.layout import classes_of, layout
from .parts.meshes import Meshes
from .parts.splits import check_holdout, divided

SHAPENET = "models/model_normalized.obj"
"""Path of the mesh in the folder of a ShapeNetCore model."""
SYNSETS = {
    "02691156": "airplane", "02958343": "car", "03001627": "chair", "04090263": "rifle", "04379243": "table",
}  # fmt: skip


@dataset
def mesh_folder(
    root: str = "", resolution: int = 32, radius: float = 0.95, offset: float = 0.05, holdout: float = 0.0
) -> Dataset:
    """Meshes (OBJ, OFF, PLY, STL, GLB) of the directory or zip archive `root` as volumes [1, R, R, R].

    The sha256 of the files decides their order, and not their names. Each sub-folder is a class; meshes directly in
    `root` have no labels. There may be folders train/ and test/ above the classes, or in each class as in ModelNet. If
    the directory has ShapeNet's layout, category/model/models/model_normalized.obj, other meshes are left out.

    resolution: number R of grid points per axis. radius: radius of the ball in which each mesh is fitted.
    offset: half the thickness of the shell that replaces a mesh with holes.
    holdout: if there are no folders for the splits, the share of meshes that become the test split; the sha256 of the
    files decides which.

    Raises FileNotFoundError, ValueError with the name of a file that cannot be read, ImportError without open3d.
    """
    check_holdout("mesh_folder", holdout)
    if not root:
        raise ValueError("data set mesh_folder needs a directory: give dataset.mesh_folder.root=DIRECTORY")
    top = Path(root).expanduser()
    if not top.exists():
        raise FileNotFoundError(f"dataset.mesh_folder.root={root} does not exist; give a directory, or a zip archive")
    if not is_folder(top):
        raise ValueError(f"dataset.mesh_folder.root={root} is a file; give the folder that it is in, or a zip archive")
    fit = Fit(resolution, radius, offset).checked("dataset.mesh_folder")
    files = MeshFiles(top, fit)
    normalized = [name for name in files.names if name.endswith(f"/{SHAPENET}")]
    if normalized and (left := len(files.names) - len(normalized)):
        say_once(f"{top}: left out {left:,} meshes that are not called {SHAPENET}")
    found = layout("dataset.mesh_folder.root", top, Texts.of(normalized or files.names))
    classes, labels = classes_of(top, found)
    contents = packed(map(files.sha256, found.names), len(found.names))
    rows = divided("mesh_folder", contents, labels, found.splits, holdout)
    names = {split: found.names.at(numbers) for split, numbers in rows.items()}
    by_split = None if labels is None else {split: labels[numbers].tolist() for split, numbers in rows.items()}
    named = [SYNSETS.get(folder, folder) for folder in classes]
    content = {split: hexadecimal(contents, numbers) for split, numbers in rows.items()}
    fingerprint = digest("mesh_folder", 2, content, by_split, named, *fit)
    return Meshes("mesh_folder", files, names, by_split, named, fingerprint)
