"""Arrays of images: which array of a file they are, how their axes lie, and what range their values have."""

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.digests import BYTES
from ..core.progress import say_once
from .images import AUTO, MODES, Mode, contents_of, is_grey

CHANNELS = (1, 3)
BLOCK = 2**22
"""Number of values of an array that are in memory at a time."""
SCATTERED = 16
Range = Literal["auto", "0..1", "-1..1", "0..255"]
BOUNDS: Mapping[str, tuple[float, float]] = {"0..1": (0, 1), "-1..1": (-1, 1), "0..255": (0, 255)}
"""The values of black and of white."""
HALF = 0.5
"""Values in [-1, 1] below -HALF and above HALF can be nothing else; with fewer they may be overshoot of [0, 1]."""
IMAGES = ("images", "arr_0", "train_images", "x_train", "image", "imgs", "x", "X", "data")
"""Names of the images in a file of arrays: those of assay, of `numpy.savez` and published sample batches, of MedMNIST,
of Keras, and usual ones in HDF5 files."""
HELD_OUT = ("test_images", "x_test", "val_images")
LABELS: Mapping[str, Sequence[str]] = {
    "images": ("labels",), "arr_0": ("labels", "arr_1"), "train_images": ("train_labels",), "x_train": ("y_train",),
    "image": ("label", "labels"), "imgs": ("labels", "label"), "x": ("y",), "X": ("y", "Y"),
    "data": ("labels", "label"),
    "test_images": ("test_labels",), "x_test": ("y_test",), "val_images": ("val_labels",),
}  # fmt: skip
"""Names of the labels that belong to images of these names."""


class Values(NamedTuple):
    """lowest and highest value; whole: whether all are whole numbers."""

    lowest: float
    highest: float
    whole: bool


class ImageArray:
    """Images [N, C, H, W] as uint8, from an array [N, H, W], [N, H, W, C] or [N, C, H, W] that is read by rows.

    what: the file and the name of the array, for messages. array: one of numpy, mapped or not, or what has its `shape`,
    `dtype`, and rows by slices. option: the one that states the range. value_range: what is black and what is white;
    "auto" takes uint8 as they are, floats in [0, 1] likewise, and others where only one range is possible, which is
    said. mode: as of `Pictures`. contents: of each, the sha256 of its pixels.

    Raises ValueError, in one line, for any other array, with the first bad row and the fix.
    """

    def __init__(self, what: str, array: Any, option: str, value_range: str = AUTO, mode: str = AUTO):
        if value_range not in (AUTO, *BOUNDS):
            raise ValueError(f"{option}.range={value_range!r} must be one of {AUTO}, {', '.join(BOUNDS)}")
        if mode not in (AUTO, *MODES):
            raise ValueError(f"{option}.mode={mode!r} must be one of {AUTO}, {', '.join(MODES)}")
        self._what, self._array = what, array
        self._first = channels_first(what, array.shape)
        self.count = int(array.shape[0])
        self._bounds = BOUNDS[value_range if value_range != AUTO else self._guess(f"{option}.range")]
        if value_range != AUTO:
            self._check(self._bounds, f"; give another {option}.range, or ")
        self._mode: Mode | None = "L" if mode == "L" else None
        grey, self.contents = True, np.empty(self.count, f"S{BYTES}")
        for start, rows in self._blocks():
            images = self._eight_bits(rows)
            grey = grey and all(map(is_grey, images))
            self.contents[start : start + len(images)] = contents_of(images)
        self.mode: Mode = "L" if mode == "L" or (mode == AUTO and grey) else "RGB"
        self._mode = self.mode
        height, width = array.shape[2:] if self._first else array.shape[1:3]
        self.shape = (self.count, MODES[self.mode], int(height), int(width))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        numbers = range(self.count)[rows] if isinstance(rows, slice) else rows
        order = np.unique(np.asarray(numbers, np.int64))  # what HDF5 wants
        parts = []
        for start in range(0, len(order), self._scattered):
            parts.append(self._eight_bits(self._read(order[start : start + self._scattered])))
            self._let_go()
        found = np.concatenate(parts) if parts else np.empty((0, *self.shape[1:]), np.uint8)
        return found[np.searchsorted(order, numbers)]

    @property
    def _scattered(self) -> int:
        """How many rows are read at a time. Of a file that is mapped, Linux maps up to a megabyte around each."""
        return SCATTERED if self._map() else max(1, BLOCK // math.prod(self.shape[1:]))

    def _map(self) -> mmap.mmap | None:
        mapped = getattr(self._array, "_mmap", None)
        return mapped if isinstance(mapped, mmap.mmap) else None

    def _read(self, rows: Any) -> NDArray[Any]:
        """Rows as [n, C, H, W], of the type of the array."""
        try:
            found = np.asarray(self._array[rows])
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"{self._what} cannot be read ({error}); the file is cut off or damaged") from None
        if found.ndim == 3:
            return found[:, None]
        return found if self._first else found.transpose(0, 3, 1, 2)

    def _blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """All rows in parts, with the number of the first row of each."""
        size = max(1, BLOCK // math.prod(self._array.shape[1:]))
        for start in range(0, self.count, size):
            yield start, self._read(slice(start, start + size))
            self._let_go()

    def _let_go(self) -> None:
        """Of a file that is mapped, what was read would stay in memory while there is room."""
        if (mapped := self._map()) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def _eight_bits(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        black, white = self._bounds
        if rows.dtype != np.uint8 or white != 255:
            rows = np.rint((rows.astype(np.float64) - black) * (255 / (white - black))).astype(np.uint8)
        if self._mode == "L" and rows.shape[1] == 3:
            colour = np.ascontiguousarray(rows.transpose(0, 2, 3, 1))
            rows = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in colour])[:, None]
        if self._mode == "RGB" and rows.shape[1] == 1:
            rows = rows.repeat(3, 1)
        return np.ascontiguousarray(rows)

    def _values(self) -> Values:
        lowest, highest, whole = math.inf, -math.inf, True
        for start, rows in self._blocks():
            if rows.dtype.kind == "f" and not (finite := np.isfinite(rows)).all():
                row = int(np.argmin(finite.all(axis=(1, 2, 3))))
                value = rows[row][~finite[row]][0]
                raise ValueError(
                    f"{self._what}: row {start + row} of {self.count} holds {value}, outside [0, 1] and any range"
                )
            lowest, highest = min(lowest, float(rows.min())), max(highest, float(rows.max()))
            whole = whole and (rows.dtype.kind != "f" or bool((rows == np.rint(rows)).all()))
        return Values(lowest, highest, whole)

    def _guess(self, option: str) -> str:
        """The range of values that can have only one. Raises ValueError for others, with the option that states it."""
        kind, what = self._array.dtype.kind, self._what
        if kind not in "fiub":
            raise ValueError(f"{what}: type {self._array.dtype}; give uint8 in 0..255 or a float type in [0, 1]")
        if self._array.dtype == np.uint8:
            if max((int(rows.max()) for _, rows in self._first_above(1))) == 1:
                raise ValueError(
                    f"{what}: all values are 0 or 1 of 255, which is nearly black; save 255 * images, "
                    f"or give {option}=0..1"
                )
            return "0..255"
        lowest, highest, whole = self._values()
        if kind == "b" or (kind == "f" and lowest >= 0 and 1 / 255 < highest <= 1) or lowest == highest == 0:
            return "0..1"
        guess = ""
        if lowest >= 0 and 1 < highest <= 255 and whole:
            guess = "0..255"
        elif kind == "f" and -1 <= lowest < -HALF and HALF < highest <= 1:
            guess = "-1..1"
        if guess:
            say_once(f"{what}: values {lowest:g} to {highest:g} are taken as {guess}; {option} states another range")
            return guess
        if kind == "f" and 0 <= lowest <= highest <= 1 / 255:
            raise ValueError(
                f"{what}: no value is above 1/255, which is nearly black; scale them, or give {option}=0..1"
            )
        if kind != "f" and 0 <= lowest <= highest == 1:
            raise ValueError(f"{what}: all values are 0 or 1; give {option}=0..1, or {option}=0..255")
        self._check(
            (0, 255) if kind != "f" else (0, 1), f"; give {option}={' or '.join(BOUNDS)} if they have that range, or "
        )
        raise AssertionError("a value outside is found")

    def _first_above(self, limit: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Blocks up to the first with a value above a limit."""
        for start, rows in self._blocks():
            yield start, rows
            if rows.max() > limit:
                return

    def _check(self, bounds: tuple[float, float], fix: str) -> None:
        """Raises ValueError with the first row that has a value outside of bounds."""
        low, high = bounds
        for start, rows in self._blocks():
            inside = (rows >= low) & (rows <= high)
            if not inside.all():
                row = int(np.argmin(inside.all(axis=(1, 2, 3))))
                raise ValueError(
                    f"{self._what}: row {start + row} of {self.count} holds {rows[row][~inside[row]][0]}, outside "
                    f"[{low:g}, {high:g}]{fix}scale or clamp the images to [{low:g}, {high:g}], or give uint8"
                )


def eight_bits(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images uint8 from rows of an image array, uint8 or float in [0, 1]."""
    if images.dtype.kind == "f":
        images = np.rint(images.astype(np.float64) * 255).astype(np.uint8)
    return np.array(images, order="C")


def named_images(file: Path, arrays: Mapping[str, Any]) -> str:
    """The name of the images among the arrays of a file. Raises ValueError if there is none of IMAGES."""
    name = next((name for name in IMAGES if name in arrays), None)
    if name is None:
        raise ValueError(
            f"{file} has no array `{IMAGES[0]}` (or {', '.join(IMAGES[1:])}); it has {', '.join(arrays) or 'none'}"
        )
    return name


def channels_first(what: str, shape: Sequence[int]) -> bool:
    """Whether the channels are the second axis; where there are none, no."""
    shape = tuple(map(int, shape))
    if 0 in shape:
        raise ValueError(f"{what}: shape {shape} is empty")
    if len(shape) == 3:
        if shape[0] == 3 or (shape[2] in (1, 3, 4) and shape[1] != shape[2]):
            raise ValueError(
                f"{what}: shape {shape} may be one image without the axis of the images; save images[None], or "
                "images[..., None] if they are grey"
            )
        return False
    if len(shape) == 4:
        first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
        if first != last:
            return first
    raise ValueError(
        f"{what}: shape {shape} is not [N, H, W], [N, H, W, C] or [N, C, H, W], where exactly one of the second "
        "and the last axis is C = 1 or 3; blend or drop a fourth channel"
    )
