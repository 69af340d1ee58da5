"""The IDX format of MNIST (http://yann.lecun.com/exdb/mnist/), and data sets that consist of four such files."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...harness.core.files import digest
from ...harness.core.protocols import Dataset, Split
from .sources import Source, locate
from .splits import Arrays, Part

IMAGES: Mapping[Split, str] = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABELS: Mapping[Split, str] = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
COUNTS: Mapping[Split, int] = {"train": 60_000, "test": 10_000}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, mapped into memory. Raises ValueError for any other file."""
    with path.open("rb") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\x00\x00\x08":
            raise ValueError(f"{path} is not an IDX file of unsigned bytes: it begins with {magic.hex() or 'nothing'}")
        shape = tuple(int(size) for size in np.frombuffer(file.read(4 * magic[3]), ">u4"))
        offset = file.tell()
    expected, found = 4 + 4 * magic[3] + math.prod(shape), path.stat().st_size
    if found != expected or 0 in shape:
        raise ValueError(f"{path} is cut off or empty: shape {shape} needs {expected:,} bytes, it has {found:,}")
    return np.memmap(path, np.uint8, "r", offset, shape)


def idx_dataset(
    name: str,
    classes: Sequence[str],
    pinned: Mapping[str, str],
    sources: Sequence[Source],
    root: str | None,
    counts: Mapping[Split, int] = COUNTS,
) -> Dataset:
    """A data set of the files IMAGES and LABELS, with `pinned` sha256. Computing its fingerprint needs no file.

    The files are located at the first `take`, but at once if `root` is given. Raises the errors of `locate`.
    """

    @cache
    def files() -> Mapping[str, Path]:
        return locate(name, pinned, sources, root)

    @cache
    def load(split: Split) -> Part:
        images, labels = read_idx(files()[IMAGES[split]]), read_idx(files()[LABELS[split]])
        return Part(images[:, None], labels)

    if root is not None:
        files()
    return Arrays(name, digest("idx", 1, dict(pinned)), classes, counts, load)
