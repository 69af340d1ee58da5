"""Data sets whose two splits are arrays; how content decides the order and the split of samples; shared checks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...harness.core.digests import Digests, first_word, hexadecimal
from ...harness.core.files import digest
from ...harness.core.protocols import Samples, Split
from ...harness.formats.image_arrays import ImageArray, eight_bits


class Part(NamedTuple):
    """One split: images [N, C, H, W], uint8 or float in [0, 1]; integer labels [N] or None. Both may be memory maps, or
    images may be read by rows.
    """

    images: NDArray[Any] | ImageArray
    labels: NDArray[Any] | None


def divided(
    option: str, contents: Digests, labels: NDArray[np.int64] | None, splits: Sequence[Split] | None, holdout: float
) -> dict[Split, NDArray[np.int64]]:
    """The numbers of the samples of each split, in the order of their contents and labels.

    splits: of each sample, where it is given. Otherwise the digests decide which samples belong to the share `holdout`
    that is the test split. So nothing depends on the order or the names of files.

    Raises ValueError where no sample is left for training.
    """
    check_holdout(option, holdout)
    if splits is None:
        held = first_word(contents) < holdout * 2**32
    else:
        held = np.fromiter((split == "test" for split in splits), bool, len(splits))
    order = np.argsort(contents, kind="stable") if labels is None else np.lexsort((labels, contents))
    held = held[order]
    if held.all():
        raise ValueError(f"dataset.{option}.holdout={holdout} leaves none of {len(contents)} samples to train on")
    return {"train": order[~held], "test": order[held]}


def image_fingerprint(
    channels: int,
    contents: Digests,
    labels: NDArray[np.int64] | None,
    classes: Sequence[str],
    rows: Mapping[Split, NDArray[np.int64]],
) -> str:
    """The fingerprint of a data set of images: of pixels, labels and their order, and not of files."""
    pixels = {split: hexadecimal(contents, numbers) for split, numbers in rows.items()}
    named = None if labels is None else {split: map(int, labels[numbers]) for split, numbers in rows.items()}
    return digest("images", 1, channels, pixels, named, list(classes))


class Arrays:
    """A Dataset of arrays. `take` calls `load` with a split to get its arrays, and copies a range of rows.

    order: of each split, the rows of its arrays in the order in which they are samples; by default as they are.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        classes: Sequence[str],
        counts: Mapping[Split, int],
        load: Callable[[Split], Part],
        order: Mapping[Split, NDArray[np.int64]] | None = None,
    ):
        self.name, self.fingerprint, self.classes = name, fingerprint, classes
        self._counts, self._load, self._order = counts, load, order

    def count(self, split: Split) -> int:
        return self._counts[split]

    def take(self, split: Split, start: int, stop: int) -> Samples:
        check_range(self.name, split, self.count(split), start, stop)
        part = self._load(split)
        rows = slice(start, stop) if self._order is None else self._order[split][start:stop]
        labels = None if part.labels is None else torch.from_numpy(np.array(part.labels[rows], np.int64))
        return Samples(torch.from_numpy(eight_bits(part.images[rows])), labels)


def check_range(name: str, split: Split, count: int, start: int, stop: int) -> None:
    """Raises ValueError unless start..stop is a non-empty range of the split."""
    if not 0 <= start < stop <= count:
        raise ValueError(f"{name}: the {split} split has {count:,} samples, asked for {start}..{stop}")


def check_holdout(name: str, holdout: float) -> None:
    """Raises ValueError unless `holdout`, the share of the test split, leaves samples to train on."""
    if not 0 <= holdout < 1:
        raise ValueError(f"dataset.{name}.holdout={holdout} must be at least 0 and below 1")
