"""Files and their names: atomic writes, digests, and the one folder that assay may fill on its own."""

import glob
import hashlib
import io
import itertools
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from .locks import claim, host, if_left

DAY = 24 * 60 * 60.0
WRITER = re.compile(r"(?:^|(?<=\.))([0-9a-f]{12})\.(?:[1-9][0-9]{0,8}\.)?[0-9a-f]{32}\.tmp$")
"""The end of a temporary name: host, in older ones the process, and a number of its own."""


WRITTEN = ("records", "tables", "figures", "select", "guarantee", "meshes", "tuned", "paper")
"""Folders in a results folder that assay writes to."""


def cache_folder() -> Path:
    """$ASSAY_CACHE, else $XDG_CACHE_HOME/assay, else ~/.cache/assay. It can be deleted without loss."""
    if own := os.environ.get("ASSAY_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "assay"


def replace(path: Path, content: bytes, lasting: bool = True) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part. Makes the folders it needs.

    Several processes, on several hosts with one disk, may write the same file at once: the last one counts.
    lasting: whether the content must outlive a power failure, which takes longer. Raises OSError that names the file.
    """
    with writing(path, lasting) as file:
        file.write(content)


@contextmanager
def writing(path: Path, lasting: bool = True) -> Iterator[BinaryIO]:
    """The same for a file that the body fills: it is there when all of it is written.

    When a process first writes to a folder, temporary files that nobody fills any more are removed there: those of this
    host by their lock, those of others after a day.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, file = _begun(path)
    try:
        with naming(path), file:  # its lock is held until it has its name
            _sweep(path.parent)
            yield file
            file.flush()
            if lasting:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the body name this file where they name none: a full disk does not say where it was full."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def _begun(path: Path) -> tuple[Path, BinaryIO]:
    """A new file with a temporary name, locked. A link that somebody put there is not followed."""
    while True:
        temporary = temporary_beside(path)
        file = temporary.open("xb")
        if claim(file.fileno(), temporary):
            return temporary, file
        file.close()
        temporary.unlink(missing_ok=True)


@cache
def _sweep(folder: Path) -> None:
    """Once a folder and process: looking through a folder takes longer the more files are in it."""
    for path in left_beside(folder / "*", DAY):
        path.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """A name that nobody else uses, for what becomes `path` when it is whole: it tells the host."""
    return path.with_name(f".{path.name}.{host()}.{uuid.uuid4().hex}.tmp")


def left_beside(path: Path, after: float) -> Iterator[Path]:
    """What has a temporary name of `path` and nobody is at work on; of other hosts, what is as old as `after` seconds.

    The name "*" stands for all files of a folder. Nobody begins with what is yielded before the next one is asked for.
    """
    name = "*" if path.name == "*" else glob.escape(path.name)
    for found in path.parent.glob(f".{name}.*.tmp"):
        writer = WRITER.search(found.name)
        if writer is None or (path.name not in ("*", found.name[1 : writer.start() - 1])):  # not one of ours
            continue
        with suppress(FileNotFoundError), if_left(found, writer[1], after) as left:  # its writer may be faster
            if left:
                yield found


def require_plain(name: str) -> None:
    """Raises ValueError for what leads to another folder as the name of a file or folder."""
    if name in ("", ".", "..") or name != Path(name).name or "\0" in name:
        raise ValueError(f"name={name} must be a plain name, without folders in it; choose the folder with out=DIR")


def require_writable(folder: Path) -> None:
    """Make a results folder. Raises OSError with the fix when it cannot be made or written, ValueError as below."""
    require_inside(folder, *WRITTEN)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(folder, os.W_OK) else "permission denied"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise OSError(f"cannot write results to {folder.absolute()} ({why}); choose another folder with out=DIR")


def read_at(file: io.FileIO, offset: int, length: int) -> bytes:
    """Bytes of a file, whichever other threads read it too. Raises EOFError where it has not so many."""
    parts = list[bytes]()
    while length and (part := os.pread(file.fileno(), length, offset)):
        parts.append(part)
        length, offset = length - len(part), offset + len(part)
    if length:
        raise EOFError("the file ends before it does")
    return b"".join(parts)


def require_inside(folder: Path, *names: str) -> None:
    """Raises ValueError where a folder to write to is a link that leads out of the results folder that it is in."""
    for name in names:
        if (folder / name).is_symlink() and not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{folder / name} is a link out of {folder}, so nothing is written there; remove the link")


def sha256_of(path: Path) -> str:
    """sha256 of a file's content; a file that has not changed is read once per process."""
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns)


@cache
def _sha256_of(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: object) -> str:
    """The one JSON text of a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(*parts: object) -> str:
    """sha256 of the canonical JSON of `parts`. Iterators among them, or among the values of a mapping, stand for lists
    that need not be in memory.
    """
    found = hashlib.sha256(b"[")
    for i, part in enumerate(parts):
        found.update(b"," if i else b"")
        for piece in _pieces(part):
            found.update(piece.encode())
    found.update(b"]")
    return found.hexdigest()


def _pieces(value: object) -> Iterator[str]:
    """The canonical JSON of a value, piece by piece."""
    if isinstance(value, Mapping) and any(isinstance(one, Iterator) for one in value.values()):
        for i, (name, one) in enumerate(sorted(value.items())):
            yield f"{',' if i else '{'}{canonical(name)}:"
            yield from _pieces(one)
        yield "}"
    elif isinstance(value, Iterator):
        yield "["
        for i, some in enumerate(iter(lambda: list(itertools.islice(value, 1000)), [])):
            yield ("," if i else "") + canonical(some)[1:-1]
        yield "]"
    else:
        yield canonical(value)
