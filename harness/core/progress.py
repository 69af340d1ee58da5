"""What is being made, how much of it and how long it takes: a bar on a terminal, one line at the end elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .escapes import for_terminal

console = Console(stderr=True, highlight=False, soft_wrap=True)
LONG = 5.0
"""Work that takes so many seconds is reported even where little is."""
_briefly: ContextVar[bool] = ContextVar("briefly", default=False)


class Advance(Protocol):
    def __call__(self, amount: int, note: str = "") -> None: ...


def say(line: str) -> None:
    """One line to standard error."""
    console.print(for_terminal(line), markup=False)


@cache
def say_once(line: str) -> None:
    """The same, once in a process however often it is said."""
    say(line)


def say_done(line: str, seconds: float) -> None:
    """One line about work that is done; within `briefly` of long work alone."""
    if seconds >= LONG or not _briefly.get():
        say(line)


@contextmanager
def briefly() -> Iterator[None]:
    """Inside, nothing is said of work that took a moment: its results are at hand."""
    token = _briefly.set(True)
    try:
        yield
    finally:
        _briefly.reset(token)


@contextmanager
def track(what: str, total: int, unit: str) -> Iterator[Advance]:
    """Announce work on `total` units; the body calls the yielded function as units are finished."""
    begin, done = time.monotonic(), 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=total, note=unit)

        def advance(amount: int, note: str = "") -> None:
            nonlocal done
            done += amount
            progress.update(bar, advance=amount, note=note or unit)

        yield advance
    seconds = time.monotonic() - begin
    say_done(f"{what}: {done:,} {unit} in {seconds:.1f} s", seconds)
    sys.stderr.flush()
