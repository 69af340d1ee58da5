"""Files and their names: atomic writes, digests, and the one folder that assay may fill on its own."""

import glob
import hashlib
import io
import itertools
import json
import math
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

DAY = 24 * 60 * 60.0
WRITER = re.compile(r"(?:^|(?<=\.))([0-9a-f]{12})\.([1-9][0-9]{0,8})\.[0-9a-f]{32}\.tmp$")
"""The end of a temporary name: host, process, and a number of its own."""


def cache_folder() -> Path:
    """$ASSAY_CACHE, else $XDG_CACHE_HOME/assay, else ~/.cache/assay. It can be deleted without loss."""
    if own := os.environ.get("ASSAY_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "assay"


def replace(path: Path, content: bytes, lasting: bool = True) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part. Makes the folders it needs.

    Several processes, on several hosts with one disk, may write the same file at once: the last one counts. When a
    process first writes to a folder, temporary files of killed processes are removed there: those of this host at once,
    those of other hosts after a day. lasting: whether the content must outlive a power failure, which takes longer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary = temporary_beside(path)
    unfinished = temporary.open("xb")  # a link that somebody put there is not followed
    try:
        with unfinished as file:
            file.write(content)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@cache
def _sweep(folder: Path) -> None:
    """Once a folder and process: looking through a folder takes longer the more files are in it."""
    for path in left_beside(folder / "*", older_than=DAY):
        path.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """A name that nobody else uses, for what becomes `path` when it is whole: it tells the host and the process."""
    return path.with_name(f".{path.name}.{host()}.{os.getpid()}.{uuid.uuid4().hex}.tmp")


def left_beside(path: Path, older_than: float = math.inf) -> Iterator[Path]:
    """Temporary names of `path` whose process was on this host and is gone, or that are older than so many seconds.

    The name "*" stands for all files of a folder.
    """
    name = "*" if path.name == "*" else glob.escape(path.name)
    for found in path.parent.glob(f".{name}.*.tmp"):
        writer = WRITER.search(found.name)
        if writer is None or (path.name not in ("*", found.name[1 : writer.start() - 1])):  # not one of ours
            continue
        there, process = writer.groups()
        try:
            dead = there == host() and not runs(int(process))
            if dead or time.time() - found.stat().st_mtime > older_than:
                yield found
        except FileNotFoundError:  # its writer was faster
            continue


def host() -> str:
    """A name for where a process number means the same process: this start of this host, or this container on it."""
    return _host(socket.gethostname())


@cache
def _host(name: str) -> str:
    parts = [name]
    with suppress(OSError):  # where there is no /proc
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return digest(parts)[:12]


def runs(process: int) -> bool:
    """Whether there is such a process here."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def require_writable(folder: Path) -> None:
    """Make a results folder. Raises OSError with the fix when it cannot be made or written."""
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
