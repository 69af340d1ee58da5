"""Images in a directory, with classes as sub-folders."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..harness.core.files import digest, sha256_of
from ..harness.core.protocols import Dataset, Samples, Split
from ..harness.core.registry import dataset
from ..harness.formats.images import MODES, check_sizes, decode, image_names
from .parts.splits import check_holdout, check_range


class Folder:
    """A Dataset of image files, which `take` decodes; `names` are relative to `root`."""

    name = "folder"

    def __init__(
        self,
        root: Path,
        names: Mapping[Split, Sequence[str]],
        labels: Mapping[Split, Sequence[int]] | None,
        classes: Sequence[str],
        size: int,
        mode: str,
        fingerprint: str,
    ):
        self._root, self._names, self._labels = root, names, labels
        self._size, self._mode = size, mode
        self.classes, self.fingerprint = classes, fingerprint

    def count(self, split: Split) -> int:
        return len(self._names[split])

    def take(self, split: Split, start: int, stop: int) -> Samples:
        check_range(self.name, split, self.count(split), start, stop)
        names = self._names[split][start:stop]
        images = torch.stack([decode(self._root / name, self._size, self._mode) for name in names])
        return Samples(images, None if self._labels is None else torch.tensor(self._labels[split][start:stop]))


@dataset
def folder(root: str = "", size: int = 0, mode: str = "RGB", holdout: float = 0.1) -> Dataset:
    """Images of the directory `root`, in the order of their names; each sub-folder is a class.

    Images directly in `root` have no labels. Instead, `root` may contain the folders train/ and test/ (or val/, if
    there is no test/), each with the same layout.

    size: 0 keeps the stored size, which must be the same for all images. Otherwise the shorter side is resized to
    `size` (bicubic, with antialiasing) and the central size × size pixels are cut out.
    mode: "RGB" or "L" (grey). Transparency is dropped and EXIF orientation ignored.
    holdout: if there are no folders for the splits, the share of images that become the test split; the sha256 of the
    names decides.

    Raises FileNotFoundError, and ValueError with the name of a file that cannot be read or does not fit.
    """
    check_holdout("folder", holdout)
    if not root:
        raise ValueError("data set folder needs a directory: give dataset.folder.root=DIRECTORY")
    if mode not in MODES:
        raise ValueError(f"dataset.folder.mode={mode!r} must be one of {', '.join(MODES)}")
    if size < 0:
        raise ValueError(f"dataset.folder.size={size} must be 0 (as stored) or a number of pixels")
    top = Path(root).expanduser()
    if not top.is_dir():
        raise FileNotFoundError(f"dataset.folder.root={root} is not a directory")
    names, above = _splits(top, holdout)
    classes, labels = _classes(top, names, above)
    if size == 0:
        check_sizes(top, [*names["train"], *names["test"]], "give dataset.folder.size=PIXELS to resize them all")
    content = {split: [(name, sha256_of(top / name)) for name in names[split]] for split in names}
    fingerprint = digest("folder", 1, content, size, mode, float(holdout))
    return Folder(top, names, labels, classes, size, mode, fingerprint)


def _splits(top: Path, holdout: float) -> tuple[dict[Split, list[str]], int]:
    """Names by split, and how many folders in each name precede the class folder."""
    inside = {path.name for path in top.iterdir() if path.is_dir()}
    test = "test" if "test" in inside else "val"
    if {"train", test} <= inside:
        return {"train": image_names(top, "train"), "test": image_names(top, test)}, 1
    if len(inside) == 1 and inside <= {"train", "test", "val"}:
        raise ValueError(
            f"dataset.folder.root={top} contains only {inside.pop()}/; add the other split (train/ and test/ or val/), "
            "or give that folder itself as root"
        )
    names = image_names(top, ".")
    held = [int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) < holdout * 2**32 for name in names]
    train = [name for name, out in zip(names, held, strict=True) if not out]
    if not train:
        raise ValueError(
            f"dataset.folder.root={top} has {len(names)} images; holdout={holdout} leaves none to train on"
        )
    return {"train": train, "test": [name for name, out in zip(names, held, strict=True) if out]}, 0


def _classes(
    top: Path, names: Mapping[Split, Sequence[str]], above: int
) -> tuple[list[str], dict[Split, list[int]] | None]:
    """Class names and labels from the folders of the images; no labels if the images are in no class folder."""
    found = {split: [_class(name, above) for name in names[split]] for split in names}
    classes = sorted({label for labels in found.values() for label in labels if label is not None})
    if not classes:
        return [], None
    for split, labels in found.items():
        if None in labels:
            loose = names[split][labels.index(None)]
            raise ValueError(
                f"{top / loose} is in no class folder, but other images are; move it into one, or move all images out"
            )
    test_only = set(found["test"]) - set(found["train"])
    if test_only and above:
        raise ValueError(
            f"{top}: class {sorted(map(str, test_only))[0]!r} has test images but no training images; add some, or "
            "remove the class"
        )
    number = {label: i for i, label in enumerate(classes)}
    return classes, {split: [number[label] for label in labels if label is not None] for split, labels in found.items()}


def _class(name: str, above: int) -> str | None:
    parts = name.split("/")
    return parts[above] if len(parts) > above + 1 else None
