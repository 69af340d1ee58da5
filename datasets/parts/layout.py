"""What the folders of files say: which class a file is of, and which split."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...harness.core.folders import by_suffix
from ...harness.core.progress import say_once
from ...harness.core.protocols import Split
from ...harness.core.texts import Texts

SPLITS: Mapping[str, Split] = {"train": "train", "test": "test", "val": "test"}
"""Names of folders of a split. Where there are test/ and val/, val/ is left out."""


class Layout(NamedTuple):
    """places: of the files that belong to the data set among all, and their names; folders: of each, the name of its
    class folder, or None; splits: of each, where there are folders for them.
    """

    places: NDArray[np.int64]
    names: Texts
    folders: Sequence[str | None]
    splits: Sequence[Split] | None


def layout(option: str, top: Path, names: Texts) -> Layout:
    """Folders are classes. There may be folders of the splits above them, train/CLASS/FILE and test/CLASS/FILE (or
    val/), or below them, CLASS/train/FILE and CLASS/test/FILE.

    Raises ValueError where that is unclear: `option` is the one that gave the folder `top`.
    """
    above, below, shortest = _levels(names)
    for level, found in enumerate((above, below)):
        test = "test" if "test" in found else "val"
        everywhere = shortest > 2 and below <= SPLITS.keys()
        if {"train", test} <= found and (level == 0 or everywhere):
            belongs = (name.count("/") >= level + 1 and name.split("/")[level] in ("train", test) for name in names)
            chosen = np.fromiter(belongs, bool, len(names))
            if left := by_suffix(names.at(np.flatnonzero(~chosen))):
                say_once(f"{top}: left out {left} that are neither in train/ nor in {test}/")
            kept = names.at(places := np.flatnonzero(chosen))
            folders = [sys.intern(parts[1 - level]) if len(parts) > 2 else None for parts in _parts(kept)]
            return Layout(places, kept, folders, [SPLITS[parts[level]] for parts in _parts(kept)])
    if len(above) == 1 and above <= SPLITS.keys() and shortest > 1:
        raise ValueError(
            f"{option}={top} contains only {above.pop()}/; add the other split (train/ and test/ or val/), "
            "or give that folder itself as root"
        )
    folders = [sys.intern(parts[0]) if len(parts) > 1 else None for parts in _parts(names)]
    return Layout(np.arange(len(names)), names, folders, None)


def _parts(names: Texts) -> Iterator[list[str]]:
    """The parts of each path."""
    return (name.split("/") for name in names)


def _levels(names: Texts) -> tuple[set[str], set[str], int]:
    """The names of folders, and of those in them; of how many parts the shortest path is."""
    above, below, depths = set[str](), set[str](), set[int]()
    for parts in _parts(names):
        depths.add(len(parts))
        above.update(parts[:1] if len(parts) > 1 else ())
        below.update(parts[1:2] if len(parts) > 2 else ())
    return above, below, min(depths, default=0)


def classes_of(top: Path, found: Layout) -> tuple[list[str], NDArray[np.int64] | None]:
    """Class names, and of each file the number of its class; no labels if no file is in a class folder.

    Raises ValueError where only some files are, or where a class has test files alone.
    """
    classes = sorted({folder for folder in found.folders if folder is not None})
    if not classes:
        return [], None
    for name, folder in zip(found.names, found.folders, strict=True):
        if folder is None:
            raise ValueError(
                f"{top / name} is in no class folder, but other files are; move it into one, or move all files out"
            )
    if found.splits is not None:
        trained = {folder for folder, split in zip(found.folders, found.splits, strict=True) if split == "train"}
        if missing := sorted(set(classes) - trained):
            raise ValueError(f"{top}: class {missing[0]!r} is in the test split alone; add it to train/, or remove it")
    number: dict[str | None, int] = {folder: i for i, folder in enumerate(classes)}
    return classes, np.fromiter((number[folder] for folder in found.folders), np.int64, len(found.folders))
