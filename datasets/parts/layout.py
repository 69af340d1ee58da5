"""What the folders of files say: which class a file is of, and which split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ...harness.core.folders import by_suffix
from ...harness.core.progress import say_once
from ...harness.core.protocols import Split

SPLITS: Mapping[str, Split] = {"train": "train", "test": "test", "val": "test"}
"""Names of folders of a split. Where there are test/ and val/, val/ is left out."""


class Layout(NamedTuple):
    """names: of the files that belong to the data set; folders: of each, the name of its class folder, or None;
    splits: of each, where there are folders for them.
    """

    names: Sequence[str]
    folders: Sequence[str | None]
    splits: Sequence[Split] | None


def layout(option: str, top: Path, names: Sequence[str]) -> Layout:
    """Folders are classes. There may be folders of the splits above them, train/CLASS/FILE and test/CLASS/FILE (or
    val/), or below them, CLASS/train/FILE and CLASS/test/FILE.

    Raises ValueError where that is unclear: `option` is the one that gave the folder `top`.
    """
    paths = {name: name.split("/") for name in names}
    above = {parts[0] for parts in paths.values() if len(parts) > 1}
    below = {parts[1] for parts in paths.values() if len(parts) > 2}
    for level, found in enumerate((above, below)):
        test = "test" if "test" in found else "val"
        everywhere = all(len(parts) > 2 and parts[1] in SPLITS for parts in paths.values())
        if {"train", test} <= found and (level == 0 or everywhere):
            kept = [name for name in names if paths[name][level] in ("train", test)]
            if left := [name for name in names if name not in set(kept)]:
                say_once(f"{top}: left out {by_suffix(left)} that are neither in train/ nor in {test}/")
            folders = [paths[name][1 - level] if len(paths[name]) > 2 else None for name in kept]
            return Layout(kept, folders, [SPLITS[paths[name][level]] for name in kept])
    if len(above) == 1 and above <= SPLITS.keys() and all(len(parts) > 1 for parts in paths.values()):
        raise ValueError(
            f"{option}={top} contains only {above.pop()}/; add the other split (train/ and test/ or val/), "
            "or give that folder itself as root"
        )
    return Layout(names, [parts[0] if len(parts) > 1 else None for parts in paths.values()], None)


def classes_of(top: Path, found: Layout) -> tuple[list[str], list[int] | None]:
    """Class names, and of each file the number of its class; no labels if no file is in a class folder.

    Raises ValueError where only some files are, or where a class has test files alone.
    """
    named = [folder for folder in found.folders if folder is not None]
    if not named:
        return [], None
    for name, folder in zip(found.names, found.folders, strict=True):
        if folder is None:
            raise ValueError(
                f"{top / name} is in no class folder, but other files are; move it into one, or move all files out"
            )
    classes = sorted(set(named))
    if found.splits is not None:
        trained = {folder for folder, split in zip(named, found.splits, strict=True) if split == "train"}
        if missing := sorted(set(named) - trained):
            raise ValueError(f"{top}: class {missing[0]!r} is in the test split alone; add it to train/, or remove it")
    number = {folder: i for i, folder in enumerate(classes)}
    return classes, [number[folder] for folder in named]
