"""Images in files: those of a folder or a zip archive, and arrays of images."""

import hashlib
import json
import math
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from ..core.files import cache_folder, digest, replace
from ..core.folders import by_suffix, open_files
from ..core.progress import say_once, track

Image.init()
NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that Pillow names but does not decode, or hands to another program."""
SUFFIXES = {
    suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN and kind not in NOT_DECODED
}
MODES = {"RGB": 3, "L": 1}
Mode = Literal["RGB", "L"]
UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, OverflowError, NotImplementedError, zlib.error,
    struct.error, Image.DecompressionBombError,
)  # fmt: skip
CHANNELS = (1, 3)
BLOCK = 2**24
"""Number of values of an array that are checked at a time."""
AUTO = "auto"
DEEP = re.compile(r";16[BLN]")
"""In the name by which Pillow calls pixels of 16 bits per channel that it reads as 8."""
NOTES = {
    "transparent": "transparent in places and blended over white",
    "turned": "turned as their EXIF orientation says",
    "frames": "of several frames or pages, of which the first is taken",
    "deep": "of 16 bits per channel, of which the upper 8 are taken",
}
"""What is said of images that are not taken as their pixels are stored."""
ABOUT = "dataset.json"
"""The file in which StyleGAN's data sets keep their labels."""
IMAGES = ("images", "arr_0", "train_images", "x_train")
"""Names of the images in a .npz file: those of assay, of `numpy.savez` and published sample batches, of MedMNIST and of
Keras."""
HELD_OUT = ("test_images", "x_test", "val_images")
LABELS = {
    "images": "labels", "arr_0": "labels", "train_images": "train_labels", "x_train": "y_train",
    "test_images": "test_labels", "x_test": "y_test", "val_images": "val_labels",
}  # fmt: skip
"""Names of the labels that belong to images of these names."""
T = TypeVar("T")


class Seen(NamedTuple):
    """What is known of an image file that was decoded once.

    content: sha256 of its pixels, as of `content_of`; size: width and height; grey: whether all its pixels are;
    brightest: its largest value, 0..255; notes: keys of NOTES.
    """

    content: str
    size: tuple[int, int]
    grey: bool
    brightest: int
    notes: tuple[str, ...]


class Pictures:
    """The images of a folder, of those below it, or of a zip archive.

    An image counts as it is shown: its EXIF orientation is applied, transparent parts are blended over white, and of
    several frames the first is taken. What is left out, and how many images that concerns, is said once.

    who: the option that the folder was given by, for messages. size: 0 keeps the stored size, which must be the same
    for all images; otherwise the shorter side is resized to `size` (bicubic, with antialiasing) and the central
    size × size pixels are cut out. mode: "RGB", "L" (grey), or "auto": "L" if all images are grey.

    names: relative to `top`, in order; contents: of each, the sha256 of its pixels, which is kept in the cache.

    Raises FileNotFoundError when there are no images, ValueError with the name of a file that cannot be decoded, has
    more than 8 bits per channel or does not fit.
    """

    def __init__(self, who: str, top: Path, size: int = 0, mode: str = AUTO, fix: str = "give them one size"):
        if mode not in (AUTO, *MODES):
            raise ValueError(f"{who}.mode={mode!r} must be one of {AUTO}, {', '.join(MODES)}")
        if size < 0:
            raise ValueError(f"{who}.size={size} must be 0 (as stored) or a number of pixels")
        self.top, self._size, self._files = top, size, open_files(top)
        self.names = [name for name in self._files.names if is_image(name)]
        rest = [name for name in self._files.names if not is_image(name) and name != ABOUT]
        if not self.names:
            raise FileNotFoundError(f"{top} has no images" + (f", but {by_suffix(rest)}" if rest else ""))
        seen = self._seen("L" if mode == "L" else "RGB", fix)
        if max(image.brightest for image in seen) == 1:
            raise ValueError(f"{top}: all pixels are 0 or 1 of 255, which is nearly black; multiply the images by 255")
        self.mode: Mode = "L" if mode == "L" or (mode == AUTO and all(image.grey for image in seen)) else "RGB"
        self.contents = [image.content for image in seen]
        self._say(rest, seen)

    def load(self, names: Sequence[str]) -> Tensor:
        """Images uint8 [N, C, H, W]."""
        return torch.stack([torch.from_numpy(self._decode(name, self.mode)[0].copy()) for name in names])

    def about(self) -> Any:
        """The content of the file ABOUT, None if there is none. Raises ValueError where it is no JSON."""
        if ABOUT not in self._files.names:
            return None
        try:
            with self._files.open(ABOUT) as file:
                return json.load(file)
        except ValueError as error:
            raise ValueError(f"{self.top / ABOUT} is no JSON ({error}); mend or remove it") from None

    def _decode(self, name: str, mode: Mode) -> tuple[NDArray[np.uint8], list[str]]:
        """Pixels [C, H, W] of an image, and its notes."""
        try:
            with self._files.open(name) as file, Image.open(file) as image:
                shown, notes = as_shown(image, mode)
        except UNREADABLE as error:
            raise ValueError(f"{self.top / name} cannot be read as an image ({error}); replace or remove it") from None
        if size := self._size:
            width, height = (max(size, round(side * size / min(shown.size))) for side in shown.size)
            left, top = (width - size) // 2, (height - size) // 2
            shown = shown.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
        return np.asarray(shown).reshape(*shown.size[::-1], MODES[mode]).transpose(2, 0, 1), notes

    def _look(self, name: str, mode: Mode) -> Seen:
        pixels, notes = self._decode(name, mode)
        height, width = pixels.shape[1:]
        return Seen(content_of(pixels), (width, height), _is_grey(pixels), int(pixels.max()), tuple(notes))

    def _seen(self, mode: Mode, fix: str) -> list[Seen]:
        """All images, decoded to `mode` unless the cache knows these files already."""
        hashes = list(_parallel(self._hash, self.names))
        kept = cache_folder() / "pixels" / f"{digest(1, sorted(set(hashes)), mode, self._size, PIL.__version__)}.json"
        known = _read(kept)
        if not known.keys() >= set(hashes):
            with track(f"reading {self.top}", len(hashes), "images") as advance:
                for name, file, image in zip(
                    self.names, hashes, _parallel(lambda name: self._look(name, mode), self.names), strict=True
                ):
                    known[file] = image
                    self._check_size(name, image, known[hashes[0]], fix)
                    advance(1)
            with suppress(OSError):  # where nothing can be kept, it is read again
                replace(kept, json.dumps(known).encode())
        seen = [known[file] for file in hashes]
        for name, image in zip(self.names, seen, strict=True):
            self._check_size(name, image, seen[0], fix)
        return seen

    def _hash(self, name: str) -> str:
        try:
            return self._files.sha256(name)
        except UNREADABLE as error:
            raise ValueError(f"{self.top / name} cannot be read as an image ({error}); replace or remove it") from None

    def _check_size(self, name: str, image: Seen, first: Seen, fix: str) -> None:
        if image.size != first.size:
            found, expected = (" x ".join(map(str, size)) for size in (image.size, first.size))
            raise ValueError(f"{self.top / name} has {found} pixels, {self.names[0]} {expected}; {fix}")

    def _say(self, rest: Sequence[str], seen: Sequence[Seen]) -> None:
        counts = Counter(note for image in seen for note in image.notes)
        words = [f"left out {by_suffix(rest)}"] if rest else []
        words += [
            f"{counts[note]:,} {'is' if counts[note] == 1 else 'are'} {NOTES[note]}" for note in NOTES if counts[note]
        ]
        if words:
            say_once(f"{self.top}: read {len(seen):,} images; {'; '.join(words)}")


def is_image(name: str) -> bool:
    """Whether a file has the suffix of an image that Pillow decodes."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def as_shown(image: Image.Image, mode: Mode) -> tuple[Image.Image, list[str]]:
    """An opened image file as a viewer shows it, in `mode`, and its notes, keys of NOTES.

    Raises ValueError where it has more than 8 bits per channel and Pillow does not make them 8.
    """
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are of type {image.mode}, not 8 bits per channel")
    found = {
        "frames": bool(getattr(image, "is_animated", False)),
        "deep": any(DEEP.search(str(tile[3])) for tile in getattr(image, "tile", ())),
        "turned": image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9),
    }
    shown = ImageOps.exif_transpose(image)
    if "A" in shown.getbands() or "transparency" in shown.info:
        shown = shown.convert("RGBA")
        found["transparent"] = shown.getchannel("A").getextrema()[0] != 255
        shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return shown.convert(mode), [note for note in NOTES if found.get(note)]


def content_of(image: NDArray[np.uint8]) -> str:
    """sha256 of the pixels of an image [C, H, W]: the same for a grey image with one channel or three equal ones."""
    pixels = np.ascontiguousarray(image[:1] if _is_grey(image) else image)
    return hashlib.sha256(f"{pixels.shape} ".encode() + pixels.tobytes()).hexdigest()


def _is_grey(image: NDArray[np.uint8]) -> bool:
    return bool((image[1:] == image[:1]).all())


def _parallel(work: Callable[[str], T], names: Sequence[str]) -> Iterator[T]:
    """What becomes of each name, in order. Reading and decoding files let other threads of Python run."""
    pool = ThreadPoolExecutor(min(32, os.cpu_count() or 1))
    try:
        yield from pool.map(work, names)
    finally:
        pool.shutdown(cancel_futures=True)


def _read(kept: Path) -> dict[str, Seen]:
    """What the cache knows, by sha256 of the file; nothing if it is damaged."""
    try:
        return {
            file: Seen(str(content), (int(width), int(height)), bool(grey), int(brightest), tuple(notes))
            for file, (content, (width, height), grey, brightest, notes) in json.loads(kept.read_bytes()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def image_array(what: str, images: NDArray[Any]) -> NDArray[Any]:
    """A view [N, C, H, W] of images [N, H, W], [N, H, W, C] or [N, C, H, W], uint8 or float in [0, 1].

    Raises ValueError for any other array; the message names the array by `what`, and the first bad row.
    """
    first = channels_first(what, images.shape)
    view = images[:, None] if images.ndim == 3 else images if first else images.transpose(0, 3, 1, 2)
    _check_values(what, view)
    return view


def eight_bits(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images uint8 from rows of an image array, uint8 or float in [0, 1]."""
    if images.dtype.kind == "f":
        images = np.rint(images.astype(np.float64) * 255).astype(np.uint8)
    return np.array(images, order="C")


def contents_of(images: NDArray[Any]) -> list[str]:
    """sha256 of the pixels of each image of an array [N, C, H, W], as of `content_of`."""
    return [content_of(eight_bits(image)) for image in images]


def named_images(file: Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    """The name of the images among the arrays of a file. Raises ValueError if there is none of IMAGES."""
    name = next((name for name in IMAGES if name in arrays), None)
    if name is None:
        raise ValueError(
            f"{file} has no array `{IMAGES[0]}` (or {', '.join(IMAGES[1:])}); it has {', '.join(arrays) or 'none'}"
        )
    return name


def channels_first(what: str, shape: Sequence[int]) -> bool:
    """Whether the channels are the second axis of images of this shape; where there are none, no."""
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


def _blocks(images: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The rows of an array in parts, with the number of the first row of each."""
    size = max(1, BLOCK // math.prod(images.shape[1:]))
    for start in range(0, len(images), size):
        yield start, images[start : start + size]


def _check_values(what: str, images: NDArray[Any]) -> None:
    if images.dtype == np.uint8:
        highest = 0
        for _, rows in _blocks(images):
            highest = max(highest, int(rows.max()))
            if highest > 1:
                return
        if highest == 1:
            raise ValueError(f"{what}: all values are 0 or 1 of 255, which is nearly black; save 255 * images")
        return
    if images.dtype.kind != "f":
        raise ValueError(f"{what}: type {images.dtype}; give uint8 in 0..255 or a float type in [0, 1]")
    for start, rows in _blocks(images):
        inside = (rows >= 0) & (rows <= 1)
        if not inside.all():
            row = int(np.argmin(inside.all(axis=(1, 2, 3))))
            value = rows[row][~inside[row]][0]
            raise ValueError(
                f"{what}: row {start + row} of {len(images)} holds {value}, outside [0, 1]; "
                "scale the images to [0, 1], or give uint8"
            )
