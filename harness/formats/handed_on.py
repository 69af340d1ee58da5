"""A file that is recognised first and opened then is parsed once: what its first reader found is handed on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

Found = TypeVar("Found")
Place = str | Path

_opened: ContextVar[tuple[Path, dict[object, Any]] | None] = ContextVar("opened", default=None)
"""The path that is being opened, and what was found there and not handed on yet."""


@contextmanager
def opening(path: Place) -> Iterator[None]:
    """Inside, what a reader finds at this path is kept for its next call, which takes it, unless the file changes."""
    token = _opened.set((_whole(path), {}))
    try:
        yield
    finally:
        _opened.reset(token)


def hands_on(read: Callable[[Place], Found]) -> Callable[[Place], Found]:
    """Decorator of a function that reads a path, of which `opening` can hold one."""

    @wraps(read)
    def reader(path: Place) -> Found:
        opened, kept = _opened.get() or (None, {})
        if opened != _whole(path) or not opened.exists():
            return read(path)
        status = opened.stat()
        key = (read, status.st_size, status.st_mtime_ns)
        if key in kept:
            taken: Found = kept.pop(key)
            return taken
        found = kept[key] = read(path)
        return found

    return reader


def _whole(path: Place) -> Path:
    return Path(path).expanduser().absolute()
