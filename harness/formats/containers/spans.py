"""Files that are stretches of bytes of larger files, as those in a tar archive are."""

import hashlib
import io
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core.files import read_at
from ...core.folders import LARGEST, inside
from ...core.texts import Texts

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


Labels = NDArray[np.int64] | Texts


class Spans:
    """Files inside other files, read one at a time: of each only its name and place are in memory.

    names: in order; labels: of the files in this order, where the container has them; classes: names of the class
    numbers. apart: the name that a file gets of which several are found in different places, from name and place.
    """

    def __init__(
        self,
        top: Path,
        found: Iterable[tuple[Path, Span]],
        labels: Labels | None = None,
        classes: Sequence[str] = (),
        apart: Callable[[str, Path], str] | None = None,
    ):
        self.top, self.classes = top, classes
        sources, table = dict[Path, int](), array("q")

        def listed() -> Iterator[str]:
            for source, span in found:
                table.extend((sources.setdefault(source, len(sources)), span.offset, span.length))
                yield span.name

        names = Texts.of(listed())
        self._sources, places = list(sources), np.frombuffer(table, np.int64).reshape(-1, 3)
        order = names.order()
        if apart and len(sources) > 1 and len(twice := names.at(order).repeated()):
            several = np.zeros(len(names), bool)
            several[order[twice]] = several[order[twice - 1]] = True
            members = zip(names, several, places[:, 0], strict=True)
            names = Texts.of(apart(name, self._sources[i]) if again else name for name, again, i in members)
            order = names.order()
        self.names, self._places = names.at(order), places[order]
        self.labels = None if labels is None else labels.at(order) if isinstance(labels, Texts) else labels[order]
        if len(twice := self.names.repeated()):
            raise ValueError(f"{top} holds two files of the name {self.names[twice[0]]}; unpack it and give the folder")

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._content(name))

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self._content(name)).hexdigest()

    def begin(self, name: str) -> bytes:
        """The first bytes of a file."""
        return self._content(name, BEGIN)

    def _content(self, name: str, limit: int = LARGEST + 1) -> bytes:
        place = self.names.place(name)
        if place is None:
            raise FileNotFoundError(f"{self.top} has no file {name}")
        source, offset, length = map(int, self._places[place])
        if length == NOTHING:
            raise ValueError("a link to nothing in the archive")
        if length > LARGEST and limit > LARGEST:
            raise ValueError(f"it has {length:,} bytes; files of at most {LARGEST:,} bytes are read")
        with self._sources[source].open("rb", buffering=0) as file:  # anew: another file may lie there by now
            return read_at(file, offset, min(length, limit))


def suffix_of(begin: bytes) -> str:
    """The suffix of an encoded image by its first bytes; nothing where they are not those of an image."""
    return next((suffix for place, magic, suffix in IMAGE_BYTES if begin[place:].startswith(magic)), "")


def plain_name(top: Path, name: str) -> str:
    """A name in an archive without "./". Raises ValueError for one that leads out of it."""
    if not inside(name):
        raise ValueError(f"{top} holds {name[:200]!r}, which lies outside of it; pack it again from within its folder")
    return str(PurePosixPath(name))
