"""Fashion-MNIST and MNIST as one data set of twenty classes, with attributes of each class: for few-shot studies."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from ..harness.core.files import digest
from ..harness.core.protocols import Dataset, Split
from ..harness.core.registry import dataset
from .fashion_mnist import CLASSES as CLOTHES
from .fashion_mnist import fashion_mnist
from .mnist import mnist
from .parts.splits import Arrays, Part

DIGITS = (
    "digit zero",
    "digit one",
    "digit two",
    "digit three",
    "digit four",
    "digit five",
    "digit six",
    "digit seven",
    "digit eight",
    "digit nine",
)
CLASSES = (*CLOTHES, *DIGITS)
KINDS = ("clothes",) * len(CLOTHES) + ("digit",) * len(DIGITS)
MAX_PER_CLASS = 5000
"""Maximum number of training images per class; the rarest class has 5,421 training and 892 test images."""
TRAIN_PER_TEST = 6
"""Number of training images per test image of a class, as in both sources."""

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "is worn": tuple(name for name in CLOTHES if name != "Bag"),
    "is written": DIGITS,
    "covers the chest": ("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt"),
    "covers the legs": ("Trouser", "Dress"),
    "covers the foot": ("Sneaker", "Ankle boot"),
    "is footwear": ("Sandal", "Sneaker", "Ankle boot"),
    "is carried": ("Bag",),
    "has sleeves": ("T-shirt/top", "Pullover", "Coat", "Shirt"),
    "has long sleeves": ("Pullover", "Coat", "Shirt"),
    "opens in front": ("Coat", "Shirt"),
    "has a collar": ("Coat", "Shirt"),
    "is of thick cloth": ("Pullover", "Coat"),
    "goes above the ankle": ("Ankle boot",),
    "has a heel": ("Sandal", "Ankle boot"),
    "is made of straps": ("Sandal",),
    "has a handle": ("Bag",),
    "is wider than tall": ("Sandal", "Sneaker", "Bag"),
    "is much taller than wide": ("Trouser", "Dress", "digit one"),
    "has a gap from the bottom up": ("Trouser",),
    "is the same left and right": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Shirt", "Bag", "digit zero", "digit one"),
        "digit eight",
    ),
    "is the same upside down": ("digit zero", "digit one", "digit three", "digit eight"),
    "fills its box": ("T-shirt/top", "Pullover", "Coat", "Shirt", "Bag", "Ankle boot"),
    "is drawn with curves": tuple(name for name in DIGITS if name.split()[1] not in ("one", "four", "seven")),
    "has an upright stroke": ("digit one", "digit four", "digit nine"),
    "has a slanted stroke": ("digit two", "digit four", "digit seven"),
    "has a bar at the top": ("digit five", "digit seven"),
    "has a bar in the middle": ("digit four",),
    "has a bar at the bottom": ("digit two",),
    "has a closed loop": ("Bag", "digit zero", "digit six", "digit eight", "digit nine"),
    "has its loop at the top": ("Bag", "digit eight", "digit nine"),
    "has its loop at the bottom": ("digit six", "digit eight"),
    "has a bow open to the left": ("digit two", "digit three", "digit five", "digit seven"),
    "has a bow open to the right": ("digit five", "digit six"),
}
"""Attributes and the classes that have them. They are written by hand for this data set from the meaning of the words
and the usual shapes of digits, not from the images, and are not published elsewhere."""


class ClothesAndDigits(Arrays):
    """A Dataset with attributes of its C classes. Sample i is sample i // C of class i % C.

    kinds: "clothes" or "digit" for each class; attributes [C, 33]: 1 where the class has the attribute, else 0.
    """

    def __init__(self, per_class: int, classes: Sequence[int]):
        self._numbers, self._per_class = list(classes), per_class
        self.options = {"per_class": per_class, "classes": self._numbers}
        clothes, digits = fashion_mnist(), mnist()
        counts: dict[Split, int] = {"train": per_class, "test": per_class // TRAIN_PER_TEST}

        @cache
        def load(split: Split) -> Part:
            by_class: dict[int, NDArray[np.uint8]] = {}
            for source, first in ((clothes, 0), (digits, len(CLOTHES))):
                images, labels = source.take(split, 0, source.count(split))
                for number in range(first, first + len(source.classes)):
                    by_class[number] = images[labels == number - first][: counts[split]].numpy()
            interleaved = np.stack([by_class[number] for number in classes], 1).reshape(-1, 1, 28, 28)
            return Part(interleaved, np.tile(np.arange(len(classes)), counts[split]))

        super().__init__(
            "clothes_and_digits",
            digest("clothes_and_digits", 1, clothes.fingerprint, digits.fingerprint, per_class, list(classes)),
            [CLASSES[number] for number in classes],
            {split: count * len(classes) for split, count in counts.items()},
            load,
        )
        self.kinds = [KINDS[number] for number in classes]
        table = [[name in having for having in ATTRIBUTES.values()] for name in self.classes]
        self.attributes = torch.tensor(table, dtype=torch.float32)

    def only(self, classes: Sequence[int]) -> "ClothesAndDigits":
        return ClothesAndDigits(self._per_class, [self._numbers[number] for number in classes])


@dataset
def clothes_and_digits(per_class: int = 600, classes: Sequence[int] = ()) -> Dataset:
    """Ten classes of Fashion-MNIST and ten of MNIST, images [1, 28, 28]; all classes have equally many images.

    per_class: number of training images of each class, the first ones of its source; 600, as in miniImageNet. The
               number of test images is a sixth of it.
    classes:   numbers of the classes to include, which are renumbered in this order; empty for all twenty.

    Raises ValueError for counts out of range and for class numbers that do not exist or repeat.
    """
    if not TRAIN_PER_TEST <= per_class <= MAX_PER_CLASS:
        raise ValueError(f"dataset.clothes_and_digits.per_class={per_class} must be {TRAIN_PER_TEST}..{MAX_PER_CLASS}")
    chosen = list(classes) or list(range(len(CLASSES)))
    if len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(len(CLASSES))):
        raise ValueError(f"dataset.clothes_and_digits.classes={chosen} must be different numbers 0..{len(CLASSES) - 1}")
    return ClothesAndDigits(per_class, chosen)
