"""Images in a NumPy file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..harness.core.folders import is_folder
from ..harness.core.progress import say_once
from ..harness.core.protocols import Dataset, Split
from ..harness.core.registry import dataset
from ..harness.formats.arrays import read_arrays
from ..harness.formats.images import HELD_OUT, IMAGES, LABELS, contents_of, image_array, named_images
from .parts.splits import Arrays, Part, check_holdout, divided, image_fingerprint

MAX_CLASSES = 1_000_000


@dataset
def array(path: str = "", holdout: float = 0.0) -> Dataset:
    """Images from a .npy file, which is mapped into memory, or from a .npz file.

    Images are [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels, uint8 or float in [0, 1]. In a .npz file
    they are called `images`, with `labels`, `test_images` and `test_labels` where there are such; the names arr_0 of
    numpy.savez, train_images of MedMNIST and x_train of Keras are known too. Labels are integers or names of classes,
    [N] or [N, 1]. The sha256 of the pixels decides the order of the samples.

    holdout: the share of images that become the test split if the file has none; their pixels decide which.

    Raises FileNotFoundError, and ValueError with the name of the array and the first bad row.
    """
    check_holdout("array", holdout)
    if not path:
        raise ValueError("data set array needs a file: give dataset.array.path=FILE.npy (or .npz)")
    file = Path(path).expanduser()
    if not file.exists():
        raise FileNotFoundError(f"dataset.array.path={path} does not exist; give a .npy or .npz file")
    if is_folder(file):
        kind = "a directory" if file.is_dir() else "a zip archive"
        raise ValueError(f"dataset.array.path={path} is {kind}; use dataset=folder dataset.folder.root={path}")
    arrays = read_arrays(file, IMAGES[0])
    first, held = named_images(file, arrays), [name for name in HELD_OUT if name in arrays]
    if left := held[1:]:
        say_once(f"{file}: left out {', '.join(left)}; {held[0]} is the test split")
    pictures = {name: image_array(f"{file}, {name}", arrays[name]) for name in (first, *held[:1])}
    _check_consistent(file, pictures)
    labels, classes = _labels(file, {name: arrays.get(LABELS[name]) for name in pictures}, pictures)
    contents = [content for name in pictures for content in contents_of(pictures[name])]
    numbers = None if labels is None else np.concatenate(list(labels.values())).tolist()
    splits: list[Split] = ["train" if i < len(pictures[first]) else "test" for i in range(len(contents))]
    rows = divided("array", contents, numbers, splits if held else None, holdout)
    fingerprint = image_fingerprint(pictures[first].shape[1], contents, numbers, classes, rows)
    counts: dict[Split, int] = {split: len(numbers) for split, numbers in rows.items()}
    parts: dict[Split, Part] = {}
    for split, name in zip(rows, (first, held[0] if held else first), strict=True):
        parts[split] = Part(pictures[name], None if labels is None else labels[name])
    if held:
        rows["test"] = [row - len(pictures[first]) for row in rows["test"]]
    return Arrays("array", fingerprint, classes, counts, parts.__getitem__, rows)


Labelled = dict[str, NDArray[Any]]


def _labels(file: Path, found: dict[str, NDArray[Any] | None], pictures: Labelled) -> tuple[Labelled | None, list[str]]:
    """The class numbers [N] of each array of images, None if there are none, and the names of the classes."""
    given = {name: numbers for name, numbers in found.items() if numbers is not None}
    if not given:
        return None, []
    if len(given) < len(found):
        lacking = next(name for name in found if name not in given)
        raise ValueError(f"{file} has labels for one split only; give `{LABELS[lacking]}` too, or neither")
    flat = {name: _checked(f"{file}, {LABELS[name]}", given[name], len(pictures[name])) for name in given}
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


def _check_consistent(file: Path, pictures: Labelled) -> None:
    (first, train), *others = pictures.items()
    for name, test in others:
        if train.shape[1:] != test.shape[1:]:
            raise ValueError(
                f"{file}: {first} are {train.shape[1:]} and {name} {test.shape[1:]} [C, H, W]; give both the same shape"
            )
