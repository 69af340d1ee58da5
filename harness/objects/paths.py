"""What opens a path: a data set for real samples, a generator for stored samples or for a checkpoint."""

from pathlib import Path

from ..core.folders import is_folder, open_files
from ..formats.arrays import holds_arrays
from ..formats.checkpoint import read_checkpoint
from ..formats.containers.open import container_of
from ..formats.handed_on import opening
from ..formats.images import is_image
from ..formats.recognise import opener
from ..formats.statistics import has_statistics
from ..shapes.mesh_files import is_mesh


def existing(who: str, given: str | Path) -> Path:
    """A path that exists. Raises FileNotFoundError where there is none."""
    path = Path(given) if Path(given).exists() else Path(given).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{who} {str(given)!r} is neither a known name nor a path that exists")
    return path


def dataset_of(path: Path) -> tuple[str, str]:
    """The data set that opens a path, and its option: statistics, arrays, meshes, else images in a folder."""
    if has_statistics(path):
        return "statistics", "path"
    if holds_arrays(path):
        return "array", "path"
    return ("mesh_folder", "root") if _holds(path) == "meshes" else ("folder", "root")


def generator_of(path: Path) -> str:
    """The generator that opens a path: `replay` for samples, else the family of the checkpoint.

    Raises ValueError for a file that no generator opens.
    """
    if _holds(path) or container_of(path) not in ("", "folder", "zip"):
        return "replay"
    try:
        with opening(path):
            return opener(path, read_checkpoint(path)).name
    except ValueError:
        if holds_arrays(path):
            return "replay"
        raise


def _holds(path: Path) -> str:
    """Of which kind the first sample in a folder or a zip archive is; empty where there is none."""
    for name in open_files(path).names if is_folder(path) else ():
        if is_image(name) or is_mesh(name):
            return "images" if is_image(name) else "meshes"
    return ""
