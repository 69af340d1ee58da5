"""The 1,000 procedural objects for grasping that come with the Python package pybullet."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from ..harness.core.files import digest
from ..harness.core.protocols import Dataset, Split
from ..harness.core.registry import dataset
from ..harness.shapes.mesh_files import Fit, MeshFiles
from .parts.meshes import Meshes
from .parts.splits import check_holdout


@dataset
def pybullet_shapes(
    path: str = "", resolution: int = 32, radius: float = 0.95, offset: float = 0.05, holdout: float = 0.1
) -> Dataset:
    """Objects of pybullet_data/random_urdfs as volumes [1, R, R, R], without labels.

    path: the folder `pybullet_data` of an unpacked wheel; empty for the one of the installed package, which is not
    imported. The other options are those of `mesh_folder`, but the sha256 of the names, which are the same everywhere,
    decides the split. Raises FileNotFoundError with the fix.
    """
    check_holdout("pybullet_shapes", holdout)
    fit = Fit(resolution, radius, offset).checked("dataset.pybullet_shapes")
    if path:
        top = Path(path).expanduser()
    else:
        spec = find_spec("pybullet_data")
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not places:
            raise FileNotFoundError(
                "pybullet is not installed: pip install pybullet, or unpack its wheel and give "
                "dataset.pybullet_shapes.path=FOLDER/pybullet_data"
            )
        top = Path(places[0])
    names = sorted(file.relative_to(top).as_posix() for file in top.glob("random_urdfs/*/*.obj"))
    names = [name for name in names if Path(name).stem == Path(name).parent.name]
    if not names:
        raise FileNotFoundError(f"{top} has no random_urdfs/NNN/NNN.obj; give dataset.pybullet_shapes.path=FOLDER")
    files = MeshFiles(top, fit, names)
    held = [int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) < holdout * 2**32 for name in names]
    splits: dict[Split, list[str]] = {
        "train": [name for name, out in zip(names, held, strict=True) if not out],
        "test": [name for name, out in zip(names, held, strict=True) if out],
    }
    content = {split: [(name, files.sha256(name)) for name in names] for split, names in splits.items()}
    return Meshes("pybullet_shapes", files, splits, None, (), digest("pybullet_shapes", 2, content, *fit))
