"""Meshes in a directory, with classes as sub-folders, also in ShapeNet's layout."""

from pathlib import Path

from ..harness.core.protocols import Dataset, Split
from ..harness.core.registry import dataset
from .parts.meshes import SUFFIXES, Meshes, held_out

SHAPENET = "models/model_normalized.obj"
"""Path of the mesh in the folder of a ShapeNetCore model."""
SYNSETS = {
    "02691156": "airplane", "02958343": "car", "03001627": "chair", "04090263": "rifle", "04379243": "table",
}  # fmt: skip


@dataset
def mesh_folder(
    root: str = "", resolution: int = 32, radius: float = 0.95, offset: float = 0.05, holdout: float = 0.1
) -> Dataset:
    """Meshes (OBJ, OFF, PLY) of the directory `root` as volumes [1, R, R, R], in the order of their names.

    Each sub-folder is a class; meshes directly in `root` have no labels. If the directory has ShapeNet's layout,
    category/model/models/model_normalized.obj, other meshes are left out.

    resolution: number R of grid points per axis. radius: radius of the ball in which each mesh is fitted.
    offset: half the thickness of the shell that replaces a mesh with holes.
    holdout: the share of meshes that become the test split; the sha256 of the names decides.

    Raises FileNotFoundError, ValueError with the name of a file that cannot be read, ImportError without open3d.
    """
    if not root:
        raise ValueError("data set mesh_folder needs a directory: give dataset.mesh_folder.root=DIRECTORY")
    top = Path(root).expanduser()
    if not top.is_dir():
        raise FileNotFoundError(f"dataset.mesh_folder.root={root} is not a directory")
    paths = (path.relative_to(top) for path in top.rglob("*") if path.suffix.lower() in SUFFIXES)
    names = sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))
    names = [name for name in names if name.endswith(f"/{SHAPENET}")] or names
    if not names:
        raise FileNotFoundError(f"{top} has no meshes ({', '.join(SUFFIXES)})")
    folders = [name.split("/")[0] if "/" in name else "" for name in names]
    loose = [name for name, folder in zip(names, folders, strict=True) if not folder]
    if loose and len(loose) < len(names):
        raise ValueError(
            f"{top / loose[0]} is in no class folder, but other meshes are; move it into one, or move all meshes out"
        )
    splits = held_out(names, holdout, "mesh_folder")
    options = (resolution, float(radius), float(offset))
    if loose:
        return Meshes("mesh_folder", top, splits, None, (), options)
    number = {folder: i for i, folder in enumerate(sorted(set(folders)))}
    labels: dict[Split, list[int]] = {split: [number[n.split("/")[0]] for n in splits[split]] for split in splits}
    return Meshes("mesh_folder", top, splits, labels, [SYNSETS.get(folder, folder) for folder in number], options)
