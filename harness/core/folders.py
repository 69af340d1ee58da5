"""The files of a folder, or of a zip archive, which is read as if it were unpacked."""

import hashlib
import io
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from .files import sha256_of

LARGEST = 2**30
"""Most bytes of a file in an archive that are read: no image or mesh has more, a false size may."""


class Files(Protocol):
    """Files by name. `names` are relative to `top`, with slashes, in order; hidden files and folders are not among
    them. Links are followed, and a folder that contains itself by a link is read once.
    """

    top: Path
    names: Sequence[str]

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
        self.names: Sequence[str] = sorted(below(top))

    def open(self, name: str) -> BinaryIO:
        return self._regular(name).open("rb")

    def sha256(self, name: str) -> str:
        return sha256_of(self._regular(name))

    def _regular(self, name: str) -> Path:
        path = self.top / name
        if not path.is_file():
            raise ValueError("not a regular file" if path.exists() else "a link to nothing")
        return path


class Archive:
    """The files in a zip archive, of which one at a time is in memory. Raises ValueError for a damaged archive."""

    def __init__(self, top: Path):
        self.top = top
        try:
            with zipfile.ZipFile(top) as archive:
                found = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise ValueError(f"{top} cannot be read as a zip archive ({error}); pack it again") from None
        if len(set(found)) < len(found):
            raise ValueError(f"{top} holds two files of one name; unpack it and give the folder")
        if out := next((name for name in found if not inside(name)), None):
            raise ValueError(f"{top} holds {out[:200]!r}, which lies outside of it; pack it again from its folder")
        self.names: Sequence[str] = sorted(name for name in found if not hidden(PurePosixPath(name)))

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.top)

    def open(self, name: str) -> BinaryIO:
        try:
            if (size := self._archive.getinfo(name).file_size) > LARGEST:
                raise ValueError(f"it has {size:,} bytes; files of at most {LARGEST:,} bytes are read")
            return io.BytesIO(self._archive.read(name))
        except (RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(str(error)) from None

    def sha256(self, name: str) -> str:
        with self.open(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


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
    yield from _below(top, PurePosixPath(), frozenset())


def _below(top: Path, folder: PurePosixPath, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Names of files; `above` are the folders on the way down, by device and inode."""
    status = (top / folder).stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(top / folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if (top / folder / entry.name).is_dir():
                yield from _below(top, folder / entry.name, above | {here})
            else:
                yield str(folder / entry.name)
