"""The 1,797 handwritten digits, 8×8 pixels, that come with scikit-learn (UCI Optical Recognition, test part)."""

import hashlib

import numpy as np

from ..harness.core.files import digest
from ..harness.core.protocols import Dataset, Split
from ..harness.core.registry import dataset
from .parts.splits import Arrays, Part


@dataset
def digits() -> Dataset:
    """Digits [1, 8, 8], grey values 0..16 scaled to 0..255; every fifth sample (index % 5 == 4) is for testing."""
    from sklearn.datasets import load_digits  # takes a second to import

    source = load_digits()
    images = np.rint(source.images[:, None] * 255 / 16).astype(np.uint8)
    labels = source.target.astype(np.int64)
    test = np.arange(len(images)) % 5 == 4
    parts: dict[Split, Part] = {"train": Part(images[~test], labels[~test]), "test": Part(images[test], labels[test])}
    content = hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    counts: dict[Split, int] = {split: len(part.images) for split, part in parts.items()}
    return Arrays("digits", digest("digits", 1, content), tuple("0123456789"), counts, parts.__getitem__)
