"""Who is at work on a file or folder: its owner holds a lock on it, which the system takes away when the owner ends.

Process numbers say nothing of that where several containers, each with a process 1, share a disk.
"""

import fcntl
import hashlib
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

BEAT = 60.0
"""After so many seconds a file that is held gets a new time, for those on other hosts, who may see no locks of ours."""


def host() -> str:
    """A name for where our locks are seen: this start of this machine, or of this container on it."""
    return _host(socket.gethostname())


@cache
def _host(name: str) -> str:
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:  # then nobody can know that a lock of ours must be seen
        machine = uuid.uuid4().hex
    return hashlib.sha256(f"{name} {machine}".encode()).hexdigest()[:12]


def disk_time(folder: Path) -> float:
    """Now, by the clock that gives the files of a folder their times: it may be that of another machine."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()


def claim(opened: int, path: Path) -> bool:
    """Lock what was just made at `path`, a file or a folder. False where somebody took it for left behind by then."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks: its age tells
        pass
    return path.exists()


@contextmanager
def if_left(path: Path, by: str, after: float) -> Iterator[bool]:
    """Whether nobody is at work any more on a file or folder, whose owner was on host `by`; if so, nobody begins to.

    Where no lock can tell, it is left once it has not changed for `after` seconds.
    """
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # gone, or not ours to touch
        yield False
        return
    try:
        yield _is_free(opened, path, by, after)
    finally:
        os.close(opened)


def _is_free(opened: int, path: Path, by: str, after: float) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if by == host():
            return True
    except BlockingIOError:
        return False
    except OSError:
        pass
    return disk_time(path.parent) - _changed(path) > after


def _changed(path: Path) -> float:
    """When a file, or anything in a folder, last changed."""
    times = [path.lstat().st_mtime]
    with suppress(OSError), os.scandir(path) as entries:
        times += [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
    return max(times)


_HELD: dict[Path, int] = {}


def hold(path: Path, opened: int) -> None:
    """Be at work on a file until `release`, or until this process ends. opened: the file, locked; it is closed then."""
    before = _HELD.get(path)
    _HELD[path] = opened
    if before is not None:
        os.close(before)
    _beating()


def release(path: Path) -> None:
    if (opened := _HELD.pop(path, None)) is not None:
        os.close(opened)


@cache
def _beating() -> None:
    threading.Thread(target=_beat, daemon=True, name="assay: times of held files").start()


def _beat() -> None:
    pause = threading.Event()
    while not pause.wait(BEAT):
        for path in list(_HELD):
            with suppress(OSError):
                os.utime(path)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """The body, when nobody else is in it for this folder; where the disk has no locks, at once."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
