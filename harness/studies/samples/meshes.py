"""Where the surfaces of shapes lie in a results folder."""

from pathlib import Path

from ...report.figures import slug


def meshes_folder(folder: Path, run: str) -> Path:
    """The folder of a run's surfaces. run: its full name."""
    return folder / "meshes" / slug(run)
