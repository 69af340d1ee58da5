"""Image files: those of a folder, an archive or another container."""

import hashlib
import io
import os
import posixpath
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from ..core.digests import BYTES, Digests, packed
from ..core.files import cache_folder, digest, replace
from ..core.folders import by_suffix
from ..core.progress import say_once, track
from ..core.texts import Texts
from .containers.open import open_container
from .labels import ABOUT, is_label, stated_labels

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
T = TypeVar("T")
SEEN = np.dtype([
    ("content", f"S{BYTES}"), ("width", "i4"), ("height", "i4"), ("grey", "?"), ("brightest", "u1"), ("notes", "u1")
])  # fmt: skip
"""What is known of an image file that was decoded once: sha256 of its pixels, as of `content_of`; its size; whether all
its pixels are grey; its largest value, 0..255; a bit for each of NOTES."""
TOGETHER, AHEAD = 32, 1024
"""Number of files that a thread reads at a time, and whose reading is begun before they are asked for."""


class Pictures:
    """The images of a folder and of those below it, or of a container of image files.

    An image counts as it is shown: its EXIF orientation is applied, transparent parts are blended over white, and of
    several frames the first is taken. What is left out, and how many images that concerns, is said once.

    who: the option that the folder was given by, for messages. size: 0 keeps the stored size, which must be the same
    for all images; otherwise the shorter side is resized to `size` (bicubic, with antialiasing) and the central
    size × size pixels are cut out. mode: "RGB", "L" (grey), or "auto": "L" if all images are grey.

    names: relative to `top`, in order; contents: of each, the sha256 of its pixels, which is kept in the cache. No
    more than these stays in memory.

    Raises FileNotFoundError when there are no images, ValueError with the name of a file that cannot be decoded, has
    more than 8 bits per channel or does not fit.
    """

    def __init__(self, who: str, top: Path, size: int = 0, mode: str = AUTO, fix: str = "give them one size"):
        if mode not in (AUTO, *MODES):
            raise ValueError(f"{who}.mode={mode!r} must be one of {AUTO}, {', '.join(MODES)}")
        if size < 0:
            raise ValueError(f"{who}.size={size} must be 0 (as stored) or a number of pixels")
        self.top, self._size, self._files = top, size, open_container(top)
        found = self._files.names
        chosen = np.fromiter(map(is_image, found), bool, len(found))
        others = (found[int(i)] for i in np.flatnonzero(~chosen))
        rest = by_suffix(name for name in others if name != ABOUT and not is_label(name))
        if not chosen.any():
            raise FileNotFoundError(f"{top} has no images" + (f", but {rest}" if rest else ""))
        self.names = found if chosen.all() else found.at(np.flatnonzero(chosen))
        seen, place = self._seen("L" if mode == "L" else "RGB", fix)
        if seen["brightest"].max() == 1:
            raise ValueError(f"{top}: all pixels are 0 or 1 of 255, which is nearly black; multiply the images by 255")
        self.mode: Mode = "L" if mode == "L" or (mode == AUTO and seen["grey"].all()) else "RGB"
        self.contents: Digests = seen["content"][place]
        self._say(rest, seen["notes"][place])

    def load(self, names: Texts) -> Tensor:
        """Images uint8 [N, C, H, W]."""
        pixels = _parallel(lambda name: self._decode(name, self.mode)[0], names)
        return torch.from_numpy(np.stack(list(pixels)))

    def labels(self, names: Texts) -> tuple[list[str], NDArray[np.int64]] | None:
        """Class names, and the class number of each of `names`, where a file or the container states them."""
        return stated_labels(self._files, names)

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

    def _look(self, name: str, mode: Mode) -> tuple[Any, ...]:
        """The fields of SEEN."""
        pixels, notes = self._decode(name, mode)
        height, width = pixels.shape[1:]
        noted = sum(1 << i for i, note in enumerate(NOTES) if note in notes)
        content = bytes.fromhex(content_of(pixels))
        return content, width, height, is_grey(pixels), int(pixels.max()), noted

    def _seen(self, mode: Mode, fix: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """SEEN of all different files, and of each image which it is. They are decoded to `mode` unless the cache knows
        them already.
        """
        files, first, place = self._different()
        kept = cache_folder() / "pixels" / f"{digest(2, files, mode, self._size, PIL.__version__)}.npy"
        known = _read(kept, len(first))
        if known is None:
            known = np.zeros(len(first), SEEN)
            order = np.sort(first)
            names = self.names.at(order)
            with track(f"reading {self.top}", len(names), "images") as advance:
                for i, seen in zip(order, _parallel(lambda name: self._look(name, mode), names), strict=True):
                    known[place[i]] = seen
                    self._check_size(self.names[i], seen[1:3], known[place[0]], fix)
                    advance(1)
            with suppress(OSError):  # where nothing can be kept, it is read again
                content = io.BytesIO()
                np.save(content, known)
                replace(kept, content.getvalue())
        differs = (known["width"] != known["width"][place[0]]) | (known["height"] != known["height"][place[0]])
        if differs.any():
            i = int(np.argmax(differs[place]))
            self._check_size(self.names[i], known[["width", "height"]][place[i]], known[place[0]], fix)
        return known, place

    def _different(self) -> tuple[str, NDArray[np.int64], NDArray[np.int64]]:
        """What all files are in one digest, the first image of each different file in their order, and the number of
        the file of each image.
        """
        hashes = np.fromiter(_parallel(self._hash, self.names), f"S{BYTES}", len(self.names))
        order, total = np.argsort(hashes, kind="stable"), hashlib.sha256()
        new = np.ones(len(order), bool)
        for begin in range(0, len(order), AHEAD):
            some = hashes[order[max(0, begin - 1) : begin + AHEAD]]
            if begin:
                new[begin : begin + AHEAD] = some[1:] != some[:-1]
                some = some[1:]
            else:
                new[1:AHEAD] = some[1:] != some[:-1]
            total.update(some[new[begin : begin + AHEAD]].tobytes())
        place = np.empty(len(order), np.int64)
        place[order] = np.cumsum(new) - 1
        return total.hexdigest(), order[new], place

    def _hash(self, name: str) -> bytes:
        try:
            return bytes.fromhex(self._files.sha256(name))
        except UNREADABLE as error:
            raise ValueError(f"{self.top / name} cannot be read as an image ({error}); replace or remove it") from None

    def _check_size(self, name: str, size: Any, first: Any, fix: str) -> None:
        expected = f"{first['width']} x {first['height']}"
        if (found := f"{size[0]} x {size[1]}") != expected:
            raise ValueError(f"{self.top / name} has {found} pixels, {self.names[0]} {expected}; {fix}")

    def _say(self, rest: str, notes: NDArray[np.uint8]) -> None:
        counts = {note: int((notes >> i & 1).sum()) for i, note in enumerate(NOTES)}
        words = [f"left out {rest}"] if rest else []
        words += [
            f"{counts[note]:,} {'is' if counts[note] == 1 else 'are'} {NOTES[note]}" for note in NOTES if counts[note]
        ]
        if words:
            say_once(f"{self.top}: read {len(notes):,} images; {'; '.join(words)}")


def is_image(name: str) -> bool:
    """Whether a file has the suffix of an image that Pillow decodes."""
    return posixpath.splitext(name)[1].lower() in SUFFIXES


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
    shown = ImageOps.exif_transpose(image) if found["turned"] else image
    if "A" in shown.getbands() or "transparency" in shown.info:
        shown = shown.convert("RGBA")
        found["transparent"] = shown.getchannel("A").getextrema()[0] != 255
        shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return shown.convert(mode), [note for note in NOTES if found.get(note)]


def content_of(image: NDArray[np.uint8]) -> str:
    """sha256 of the pixels of an image [C, H, W]: the same for a grey image with one channel or three equal ones."""
    pixels = np.ascontiguousarray(image[:1] if is_grey(image) else image)
    return hashlib.sha256(f"{pixels.shape} ".encode() + pixels.tobytes()).hexdigest()


def contents_of(images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> Digests:
    """`content_of` of each."""
    return packed(map(content_of, images), len(images))


def is_grey(image: NDArray[np.uint8]) -> bool:
    """Whether the channels of an image [C, H, W] are equal."""
    return bool((image[1:] == image[:1]).all())


def _parallel(work: Callable[[str], T], names: Texts) -> Iterator[T]:
    """What becomes of each name, in order. Reading and decoding files let other threads of Python run."""
    if len(names) <= TOGETHER:
        yield from map(work, names)
        return
    pool = ThreadPoolExecutor(min(32, os.cpu_count() or 1))
    try:
        for begin in range(0, len(names), AHEAD):
            parts = [names[i : i + TOGETHER] for i in range(begin, min(begin + AHEAD, len(names)), TOGETHER)]
            for done in pool.map(lambda part: [work(name) for name in part], parts):
                yield from done
    finally:
        pool.shutdown(cancel_futures=True)


def _read(kept: Path, count: int) -> NDArray[Any] | None:
    """What the cache knows of so many files; None if it is damaged."""
    try:
        known = np.load(kept, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return known if isinstance(known, np.ndarray) and known.dtype == SEEN and known.shape == (count,) else None
