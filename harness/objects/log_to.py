"""Sinks from Python: what `evaluate` finds goes there, too."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..core.declarations import Entry
from ..core.options import checked
from ..core.protocols import Record
from ..core.registry import SINKS, discover, unknown
from ..sinks.log import Log
from ..sinks.payload import counts, numbers
from ..sinks.protocol import About

_open: list[LogTo] = []


class LogTo:
    """Sinks to which the results of `evaluate` go until it is closed: at the end of a `with`, or by `close`.

    At the end of the process a run that was not given is closed by itself.
    """

    def __init__(self, log: Log):
        self._log, self._calls = log, 0
        self._records: list[Record] = []

    def __enter__(self) -> LogTo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, records: Sequence[Record]) -> None:
        self._records += records
        self._calls += 1
        values = numbers(records)
        self._log.step(self._calls, {name: value for name, value in values.items() if not isinstance(value, str)})
        self._log.values(values | counts(self._records))

    def close(self) -> None:
        """Gives the sinks a table of all that was evaluated. A run that was given stays open."""
        if self in _open:
            _open.remove(self)
            if self._records:
                self._log.table(self._records)
            self._log.close(any(record.status == "failed" for record in self._records))


def log_to(sink: str, run: Any = None, *, name: str = "", out: str | Path = "outputs", **options: Any) -> LogTo:
    """Send what later calls of `evaluate` find to a sink, too: log_to("wandb", project="mine").

    sink: "wandb", "tensorboard" or another one of `assay list sinks`. run: a run of wandb or a SummaryWriter that is
    open; it takes the results and stays open. options: of the sink, as on the command line, for a run of its own.
    name: of that run; out: where its files go, <out>/python.<sink>.
    Each call is a step. Returns what can be closed, or used in a `with`. A sink that fails costs one line, and
    never fails a call.

    Raises LookupError for an unknown sink, ValueError for a wrong option.
    """
    discover("harness/sinks/*.py")
    entry: Entry = SINKS[sink]
    for option in options:
        if option not in entry.options:
            raise ValueError(unknown(f"option of sink {sink}:", option, sorted(entry.options)))
    checked(f"sink {sink}", entry.types, options)
    about = About(name or "python", "evaluate", "python", Path(out) / "python", run=run)
    log = Log(about, {sink: options})
    log.open()
    opened = LogTo(log)
    _open.append(opened)
    if run is None:  # once it is open, since what is registered last is called first
        atexit.register(opened.close)
    return opened


def tell_sinks(records: Sequence[Record]) -> None:
    """Hand records to all sinks that are open."""
    for opened in list(_open):
        opened.add(records)
