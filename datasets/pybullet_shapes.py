"""The 1,000 procedural objects for grasping that come with the Python package pybullet."""

from importlib.util import find_spec
from pathlib import Path

from ..harness.core.protocols import Dataset
from ..harness.core.registry import dataset
from .parts.meshes import Meshes, held_out


@dataset
def pybullet_shapes(
    path: str = "", resolution: int = 32, radius: float = 0.95, offset: float = 0.05, holdout: float = 0.1
) -> Dataset:
    """Objects of pybullet_data/random_urdfs as volumes [1, R, R, R], without labels.

    path: the folder `pybullet_data` of an unpacked wheel; empty for the one of the installed package, which is not
    imported. The other options are those of `mesh_folder`. Raises FileNotFoundError with the fix.
    """
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
    splits = held_out(names, holdout, "pybullet_shapes")
    return Meshes("pybullet_shapes", top, splits, None, (), (resolution, float(radius), float(offset)))
