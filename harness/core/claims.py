"""One process at a time, by claims that the system takes back when their process ends, however it ends."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import digest
from .progress import say

_open: dict[Path, tuple[int, int]] = {}
"""Of each file of claims its descriptor, and how many claims of this process are on it."""
_guard = threading.Lock()


@contextmanager
def claimed(file: Path, name: str, waiting: str = "") -> Iterator[None]:
    """Inside, no other process has the claim of this name, be it on this host or on another that sees the disk.

    A claim is the lock of one byte of `file`: the name says which. So there is one file, and nothing is left of a
    process that was killed. Where a disk has no locks or cannot be written there is no waiting: work may then be done
    twice, and whoever writes it writes whole files. waiting: what is said where another process has the claim.
    """
    byte = int(digest(name)[:15], 16)
    try:
        descriptor = _opened(file)
    except OSError:
        yield
        return
    try:
        held = _lock(descriptor, byte, waiting)
        try:
            yield
        finally:
            if held:
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)
    finally:
        _closed(file)


def _lock(descriptor: int, byte: int, waiting: str) -> bool:
    """Whether the lock was got, after waiting for it where another process has it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except BlockingIOError:
        if waiting:
            say(waiting)
        fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, byte)
    except OSError:
        return False
    return True


def _opened(file: Path) -> int:
    """One descriptor a file: to close any other would give up all locks that this process has on it."""
    with _guard:
        if file in _open:
            descriptor, count = _open[file]
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor, count = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), 0
        _open[file] = (descriptor, count + 1)
        return descriptor


def _closed(file: Path) -> None:
    with _guard:
        descriptor, count = _open[file]
        if count > 1:
            _open[file] = (descriptor, count - 1)
        else:
            del _open[file]
            os.close(descriptor)
