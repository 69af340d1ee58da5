"""Samples of a run as files: images as PNG, shapes as meshes."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..core.escapes import for_json
from ..core.files import replace
from ..run import Run
from ..shapes.pictures import distances
from ..shapes.surfaces import isosurface, write_mesh


def sample_names(run: Run) -> tuple[list[int], list[str]]:
    """The number of each sample, which is its seed, and the name of its file, "" where it has none."""
    seeds = run.views.seeds(run.seed, run.n)
    files: Sequence[str] = getattr(run.views.generator, "names", ())
    return seeds, [for_json(files[seed]) if files else "" for seed in seeds]


def write_samples(run: Run, chosen: Sequence[int], folder: Path) -> list[str]:
    """The samples at these positions as <folder>/0001-NAME.png or .obj, and so on; the names of the files.

    NAME is that of the sample's file, or else its number. Files of an earlier choice are removed.
    """
    stems = numbered(run, chosen)
    if run.views.modality != "shape":
        return write_pictures(run, chosen, folder)
    remove_samples(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stem, sdf in zip(stems, distances(run.views.stored("fake", run.seed, run.n, chosen)), strict=True):
        write_mesh(isosurface(sdf), folder / f"{stem}.obj")
    return [f"{stem}.obj" for stem in stems]


def write_pictures(run: Run, chosen: Sequence[int], folder: Path) -> list[str]:
    """The same with a picture of each sample, of a shape its shaded surface."""
    remove_samples(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stems = numbered(run, chosen)
    for stem, image in zip(stems, run.views.images("fake", run.seed, run.n, chosen), strict=True):
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        content = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(content, "PNG")
        replace(folder / f"{stem}.png", content.getvalue(), lasting=False)
    return [f"{stem}.png" for stem in stems]


def numbered(run: Run, chosen: Sequence[int]) -> list[str]:
    """What the files of these samples are called, without a suffix."""
    seeds, names = sample_names(run)
    return [f"{rank:04}-{_stem(names[i]) or seeds[i]}" for rank, i in enumerate(chosen, 1)]


def remove_samples(folder: Path) -> None:
    """Remove what `write_samples` has written there."""
    for old in folder.iterdir() if folder.is_dir() else ():
        if re.fullmatch(r"\d{4,}-.*\.(png|obj)", old.name):
            old.unlink()


def _stem(name: str) -> str:
    """A file's name without folders and suffix, as part of another name."""
    return re.sub(r"[^\w.-]+", "-", Path(name).stem)[:100]
