"""Images in a file of arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..harness.core.progress import say_once
from ..harness.core.protocols import Dataset, Split
from ..harness.core.registry import dataset
from ..harness.formats.arrays import holds_arrays, read_arrays
from ..harness.formats.containers.open import container_of
from ..harness.formats.image_arrays import HELD_OUT, IMAGES, LABELS, ImageArray, Range, named_images
from ..harness.formats.images import AUTO, MODES
from ..harness.formats.labels import MAX_CLASSES
from .parts.splits import Arrays, Part, check_holdout, divided, image_fingerprint


@dataset
def array(path: str = "", holdout: float = 0.0, range: Range = "auto", mode: str = AUTO) -> Dataset:
    """Images from a .npy or .npz file, which is mapped into memory, from an HDF5, torch or safetensors file, or from
    CIFAR as it is published (its folder, or the .tar.gz).

    Images are [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels. In a file of several arrays they are called
    `images`, with `labels`, `test_images` and `test_labels` where there are such; the names arr_0 and arr_1 of
    numpy.savez, train_images of MedMNIST, x_train of Keras, and x, y or data of HDF5 files are known too. Labels are
    integers or names of classes, [N] or [N, 1]. The sha256 of the pixels decides the order of the samples.

    holdout: the share of images that become the test split if the file has none; their pixels decide which.
    range: the values of black and of white: "0..1", "-1..1" or "0..255". "auto": uint8 is 0..255, floats in [0, 1] are
    that; other values are taken where only one range is possible, which is said, and refused elsewhere.
    mode: "RGB", "L" (grey), or "auto": grey if all images are.

    Raises FileNotFoundError, and ValueError with the name of the array and the first bad row.
    """
    check_holdout("array", holdout)
    if not path:
        raise ValueError("data set array needs a file: give dataset.array.path=FILE.npy (or .npz)")
    file = Path(path).expanduser()
    if not file.exists():
        raise FileNotFoundError(f"dataset.array.path={path} does not exist; give a .npy or .npz file")
    if not holds_arrays(file) and (kind := container_of(file)):
        raise ValueError(f"dataset.array.path={path} is {_CALLED[kind]}; use dataset=folder dataset.folder.root={path}")
    arrays = read_arrays(file, IMAGES[0])
    first, held = named_images(file, arrays), [name for name in HELD_OUT if name in arrays]
    if left := held[1:]:
        say_once(f"{file}: left out {', '.join(left)}; {held[0]} is the test split")
    names = (first, *held[:1])
    pictures = {name: ImageArray(f"{file}, {name}", arrays[name], "dataset.array", range, mode) for name in names}
    if len({part.mode for part in pictures.values()}) == 2:  # one split happens to be all grey
        pictures = {name: ImageArray(f"{file}, {name}", arrays[name], "dataset.array", range, "RGB") for name in names}
    _check_consistent(file, pictures)
    labels, classes = _labels(file, {name: _found(file, arrays, name, len(pictures[name])) for name in names}, pictures)
    contents = np.concatenate([part.contents for part in pictures.values()])
    numbers = None if labels is None else np.concatenate(list(labels.values())).astype(np.int64)
    count = len(pictures[first])
    splits: list[Split] = ["train" if i < count else "test" for i, _ in enumerate(contents)]
    rows = divided("array", contents, numbers, splits if held else None, holdout)
    fingerprint = image_fingerprint(MODES[pictures[first].mode], contents, numbers, classes, rows)
    counts: dict[Split, int] = {split: len(numbers) for split, numbers in rows.items()}
    parts: dict[Split, Part] = {}
    for split, name in zip(rows, (first, held[0] if held else first), strict=True):
        parts[split] = Part(pictures[name], None if labels is None else labels[name])
    if held:
        rows["test"] = rows["test"] - count
    return Arrays("array", fingerprint, classes, counts, parts.__getitem__, rows)


_CALLED = {
    "folder": "a directory", "zip": "a zip archive", "tar": "a tar archive", "lmdb": "an LMDB database",
    "parquet": "a Parquet file", "arrow": "an Arrow file",
}  # fmt: skip
Pixels = Mapping[str, ImageArray]
Labelled = dict[str, NDArray[Any]]


def _found(file: Path, arrays: Mapping[str, Any], images: str, count: int) -> tuple[str, NDArray[Any]] | None:
    """The name of the labels of an array of images, and the labels; those that `numpy.savez` called arr_1 only if they
    can be nothing else.
    """
    name = next((name for name in LABELS[images] if name in arrays), None)
    if name is None:
        return None
    found = np.asarray(arrays[name])
    if name == "arr_1" and (found.shape not in ((count,), (count, 1)) or found.dtype.kind not in "iuUS"):
        say_once(f"{file}: left out {name}, {found.dtype} of shape {found.shape}, which are no labels of the images")
        return None
    return name, found


def _labels(
    file: Path, found: dict[str, tuple[str, NDArray[Any]] | None], pictures: Pixels
) -> tuple[Labelled | None, list[str]]:
    """The class numbers [N] of each array of images, None if there are none, and the names of the classes."""
    given = {name: numbers for name, numbers in found.items() if numbers is not None}
    if not given:
        return None, []
    if len(given) < len(found):
        lacking = next(name for name in found if name not in given)
        raise ValueError(f"{file} has labels for one split only; give `{LABELS[lacking][0]}` too, or neither")
    flat = {name: _checked(f"{file}, {given[name][0]}", given[name][1], len(pictures[name])) for name in given}
    words = {name: labels.dtype.kind in "US" for name, labels in flat.items()}
    if len(set(words.values())) == 2:
        raise ValueError(f"{file} has class names for one split and numbers for the other; give both the same")
    if all(words.values()):
        classes, numbers = np.unique(
            np.concatenate([labels.astype(np.str_) for labels in flat.values()]), return_inverse=True
        )
        ends = np.cumsum([len(labels) for labels in flat.values()])[:-1]
        return dict(zip(flat, np.split(numbers.reshape(-1), ends), strict=True)), [str(name) for name in classes]
    return flat, [str(i) for i in range(1 + max(int(labels.max()) for labels in flat.values()))]


def _checked(what: str, labels: NDArray[Any], count: int) -> NDArray[Any]:
    """Labels [N] from [N] or [N, 1]."""
    if labels.shape not in ((count,), (count, 1)) or labels.dtype.kind not in "iuUS":
        raise ValueError(
            f"{what}: {labels.dtype} of shape {labels.shape}; give {count} integers or class names, one per image"
        )
    flat = labels.reshape(count)
    if flat.dtype.kind in "iu" and (bad := (flat < 0) | (flat >= MAX_CLASSES)).any():
        row = int(np.argmax(bad))
        raise ValueError(f"{what}: row {row} is {flat[row]}, not a class number 0..{MAX_CLASSES - 1}")
    return flat


def _check_consistent(file: Path, pictures: Pixels) -> None:
    (first, train), *others = pictures.items()
    for name, test in others:
        if train.shape[1:] != test.shape[1:]:
            raise ValueError(
                f"{file}: {first} are {train.shape[1:]} and {name} {test.shape[1:]} [C, H, W]; give both the same shape"
            )
