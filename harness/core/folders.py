"""The files of a folder, or of a zip archive, which is read as if it were unpacked."""

import hashlib
import io
import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from . import zips
from .texts import Texts

LARGEST = 2**30
"""Most bytes of a file in an archive that are read: no image or mesh has more, a false size may."""


class Files(Protocol):
    """Files by name. `names` are relative to `top`, with slashes, in order; hidden files and folders are not among
    them. Links are followed, and a folder that contains itself by a link is read once.
    """

    top: Path
    names: Texts

    def open(self, name: str) -> BinaryIO:
        """The content of a file. Raises OSError, and ValueError for what is no regular file."""
        ...

    def sha256(self, name: str) -> str:
        """sha256 of the content of a file; with the errors of `open`."""
        ...


class Folder:
    """The files in a directory and in those below it."""

    def __init__(self, top: Path):
        self.top = top
        self.names = Texts.of(below(top)).sorted()

    def open(self, name: str) -> BinaryIO:
        path = os.path.join(self.top, name)  # a Path for each of a million files would take longer than to open it
        if not os.path.isfile(path):
            raise ValueError("not a regular file" if os.path.exists(path) else "a link to nothing")
        return open(path, "rb")

    def sha256(self, name: str) -> str:
        with self.open(name) as file:  # its digest is not kept: there may be a million files
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


class Archive:
    """The files in a zip archive, of which one at a time is in memory. Raises ValueError for a damaged archive."""

    def __init__(self, top: Path):
        self.top, self._entries = top, zips.Table()
        try:
            found = Texts.of(self._listed())
        except (OSError, struct.error, UnicodeDecodeError, zips.ArchiveError) as error:
            raise ValueError(f"{top} cannot be read as a zip archive ({error}); pack it again") from None
        self._order = found.order()
        self.names = found.at(self._order)
        if len(self.names.repeated()):
            raise ValueError(f"{top} holds two files of one name; unpack it and give the folder")

    def _listed(self) -> Iterator[str]:
        for name, entry in zips.entries(self.top):
            if name.endswith("/") or not name:
                continue
            if not inside(name):
                raise ValueError(
                    f"{self.top} holds {name[:200]!r}, which lies outside of it; pack it again from its folder"
                )
            if not hidden(PurePosixPath(name)):
                self._entries.add(entry)
                yield name

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._content(name))

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self._content(name)).hexdigest()

    def _content(self, name: str) -> bytes:
        place = self.names.place(name)
        if place is None:
            raise FileNotFoundError(f"{self.top} has no file {name}")
        entry = self._entries[int(self._order[place])]
        if (size := max(entry.size, entry.packed)) > LARGEST:
            raise ValueError(f"it has {size:,} bytes; files of at most {LARGEST:,} bytes are read")
        return zips.content(self.top, name, entry)


def is_folder(path: Path) -> bool:
    """Whether a path is a directory or a file that is called .zip."""
    return path.is_dir() or (path.is_file() and path.suffix.lower() == ".zip")


def open_files(top: Path) -> Files:
    """The files of a directory or a zip archive. Raises ValueError where it is neither."""
    return Folder(top) if top.is_dir() else Archive(top)


def by_suffix(names: Iterable[str]) -> str:
    """How many files there are with each suffix, in words: "3 .txt, 1 .mp4"."""
    counts = Counter(PurePosixPath(name).suffix.lower() or "without a suffix" for name in names)
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common())


def hidden(name: PurePosixPath) -> bool:
    """Whether a file or a folder that it is in is hidden."""
    return any(part.startswith(".") for part in name.parts)


def inside(name: str) -> bool:
    """Whether the name of a file in an archive stays within the folder that it would be unpacked to."""
    return not name.startswith(("/", "\\")) and ".." not in PurePosixPath(name.replace("\\", "/")).parts


def below(top: Path) -> Iterator[str]:
    """The names of the files in a directory and in those below it, in no order; hidden ones are not among them."""
    yield from _below(str(top), "", frozenset())


def _below(top: str, folder: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Names of files; `above` are the folders on the way down, by device and inode."""
    status = os.stat(os.path.join(top, folder))
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(os.path.join(top, folder)) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = os.path.join(folder, entry.name)
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                yield from _below(top, name, above | {here})
            else:
                yield name
