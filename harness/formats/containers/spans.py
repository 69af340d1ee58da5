"""Files that are stretches of bytes of larger files, as those in a tar archive are."""

import hashlib
import io
import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np

from ...core.folders import LARGEST, inside

IMAGE_BYTES = (
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"GIF8", ".gif"),
    (0, b"BM", ".bmp"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
    (8, b"WEBP", ".webp"),
    (4, b"ftypavif", ".avif"),
    (4, b"jP  \r\n", ".jp2"),
    (0, b"P5", ".pgm"),
    (0, b"P6", ".ppm"),
)
"""The suffix of an image by the bytes that it has at a place, for images that are stored without a name."""
BEGIN = 16
"""Number of bytes that are enough to tell."""
NOTHING = -1
"""The length of what a link to nothing stands for."""


class Span(NamedTuple):
    """A file inside another one: its name there, and where its bytes begin and how many there are."""

    name: str
    offset: int
    length: int


class Spans:
    """Files inside other files, read one at a time: of each only its name and place are in memory.

    names: in order; labels: of the files by name, where the container has them; classes: names of the class numbers.
    """

    def __init__(
        self,
        top: Path,
        found: Iterable[tuple[Path, Span]],
        labels: Mapping[str, int | str] | None = None,
        classes: Sequence[str] = (),
    ):
        self.top, self.labels, self.classes = top, labels or {}, classes
        entries = sorted(((span.name, source, span) for source, span in found), key=lambda entry: entry[0])
        self.names: Sequence[str] = [name for name, _, _ in entries]
        self._sources = sorted({source for _, source, _ in entries})
        number = {source: i for i, source in enumerate(self._sources)}
        places = [(number[source], span.offset, span.length) for _, source, span in entries]
        self._places = np.array(places, np.int64).reshape(-1, 3)
        if twice := next((a for a, b in zip(self.names, self.names[1:], strict=False) if a == b), None):
            raise ValueError(f"{top} holds two files of the name {twice}; unpack it and give the folder")

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._content(name))

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self._content(name)).hexdigest()

    def begin(self, name: str) -> bytes:
        """The first bytes of a file."""
        return self._content(name, BEGIN)

    def _content(self, name: str, limit: int = LARGEST + 1) -> bytes:
        i = bisect_left(self.names, name)
        if i == len(self.names) or self.names[i] != name:
            raise FileNotFoundError(f"{self.top} has no file {name}")
        source, offset, length = map(int, self._places[i])
        if length == NOTHING:
            raise ValueError("a link to nothing in the archive")
        if length > LARGEST and limit > LARGEST:
            raise ValueError(f"it has {length:,} bytes; files of at most {LARGEST:,} bytes are read")
        with self._sources[source].open("rb", buffering=0) as file:  # anew: another file may lie there by now
            return read_at(file, offset, min(length, limit))


def read_at(file: io.FileIO, offset: int, length: int) -> bytes:
    """Bytes of a file, whichever other threads read it too. Raises EOFError where it has not so many."""
    parts = list[bytes]()
    while length and (part := os.pread(file.fileno(), length, offset)):
        parts.append(part)
        length, offset = length - len(part), offset + len(part)
    if length:
        raise EOFError("the file ends before it does")
    return b"".join(parts)


def suffix_of(begin: bytes) -> str:
    """The suffix of an encoded image by its first bytes; nothing where they are not those of an image."""
    return next((suffix for place, magic, suffix in IMAGE_BYTES if begin[place:].startswith(magic)), "")


def plain_name(top: Path, name: str) -> str:
    """A name in an archive without "./". Raises ValueError for one that leads out of it."""
    if not inside(name):
        raise ValueError(f"{top} holds {name[:200]!r}, which lies outside of it; pack it again from within its folder")
    return str(PurePosixPath(name))
