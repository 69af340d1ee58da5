"""Images in a NumPy file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..harness.core.files import digest, sha256_of
from ..harness.core.protocols import Dataset, Split
from ..harness.core.registry import dataset
from ..harness.formats.images import image_array, read_arrays
from .parts.splits import Arrays, Part, check_holdout

MAX_CLASSES = 1_000_000


@dataset
def array(path: str = "", holdout: float = 0.1) -> Dataset:
    """Images from a .npy file, which is mapped into memory, or from a .npz file.

    Images are [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels, uint8 or float in [0, 1]. In a .npz file
    they are called `images`; it may also contain integer `labels`, `test_images` and `test_labels`.

    holdout: the share of images, the last ones, that become the test split if the file has no `test_images`.

    Raises FileNotFoundError, and ValueError with the name of the array and the first bad row.
    """
    check_holdout("array", holdout)
    if not path:
        raise ValueError("data set array needs a file: give dataset.array.path=FILE.npy (or .npz)")
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"dataset.array.path={path} does not exist; give a .npy or .npz file")
    arrays = read_arrays(file, "images")
    if "images" not in arrays:
        raise ValueError(f"{file} has no array `images`; it has {', '.join(arrays) or 'none'}")
    parts: dict[Split, Part] = {"train": _part(file, arrays, "images", "labels")}
    if "test_images" in arrays:
        parts["test"] = _part(file, arrays, "test_images", "test_labels")
        _check_consistent(file, parts["train"], parts["test"])
    else:
        images, labels = parts["train"]
        train = len(images) - round(len(images) * holdout)
        if train == 0:
            raise ValueError(f"{file} has {len(images)} images; holdout={holdout} leaves none to train on")
        parts = {
            "train": Part(images[:train], None if labels is None else labels[:train]),
            "test": Part(images[train:], None if labels is None else labels[train:]),
        }
    labelled = [part.labels for part in parts.values() if part.labels is not None and len(part.labels)]
    classes = 1 + max((int(labels.max()) for labels in labelled), default=-1)
    counts: dict[Split, int] = {split: len(part.images) for split, part in parts.items()}
    fingerprint = digest("array", 1, sha256_of(file), float(holdout))
    return Arrays("array", fingerprint, [str(c) for c in range(classes)], counts, parts.__getitem__)


def _part(file: Path, arrays: dict[str, NDArray[Any]], images: str, labels: str) -> Part:
    pictures = image_array(f"{file}, {images}", arrays[images])
    numbers = arrays.get(labels)
    if numbers is not None:
        _check_labels(f"{file}, {labels}", numbers, len(pictures))
    return Part(pictures, numbers)


def _check_labels(what: str, labels: NDArray[Any], count: int) -> None:
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(f"{what}: {labels.dtype} of shape {labels.shape}; give {count} integers, one per image")
    bad = (labels < 0) | (labels >= MAX_CLASSES)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{what}: row {row} is {labels[row]}, not a class number 0..{MAX_CLASSES - 1}")


def _check_consistent(file: Path, train: Part, test: Part) -> None:
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"{file}: images are {train.images.shape[1:]} and test_images {test.images.shape[1:]} [C, H, W]; "
            "give both the same shape"
        )
    if (train.labels is None) != (test.labels is None):
        raise ValueError(f"{file} has labels for one split only; give both `labels` and `test_labels`, or neither")
