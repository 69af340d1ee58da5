"""The sinks of one run: all get the same, and none of their failures gets out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ..arrays.records import packed, read_records
from ..core.declarations import Entry
from ..core.progress import say, say_once
from ..core.protocols import Record
from ..core.registry import READY, SINKS
from ..evaluate import reason
from ..report.tables import tables
from .payload import counts, numbers
from .protocol import About, Sink, Value

ROWS = 10_000
"""Rows of a table up to which sinks are given it."""


class Log:
    """What a run tells its sinks: they are opened when there is something to tell.

    chosen: the names of sinks with their options. dead: names of those that are not called any more; a sink that fails
    is added, so that one line is said of it however many runs share the set.
    """

    def __init__(self, about: About, chosen: Mapping[str, Mapping[str, Any]], dead: set[str] | None = None):
        self.about, self._chosen = about, chosen
        self._dead = set[str]() if dead is None else dead
        self._open: dict[str, Sink] | None = None
        self._done = self._failed = 0

    @classmethod
    def silent(cls) -> Log:
        """One without sinks."""
        return cls(About("", "train", "", Path()), {})

    def begin(self) -> None:
        """Before anything is computed: says of each sink that could not be opened later why."""
        for name, options in self._chosen.items():
            if name in READY:
                self._guarded(name, "the start", partial(READY[name], **options))

    def evaluated(self, records: Sequence[Record], planned: int) -> None:
        """One more of the planned metrics and studies is done. records: of it, none where they were found."""
        self._done += 1
        self._failed += any(record.status == "failed" for record in records)
        progress = {"progress/done": self._done, "progress/failed": self._failed, "progress/planned": planned}
        what = records[0].cell.label if records else f"step {self._done}"
        self._tell(what, lambda sink: sink.progress(progress, self._done))
        if values := numbers(records):
            self._tell(what, lambda sink: sink.summary(values))

    def step(self, number: int, values: Mapping[str, float], picture: Path | None = None) -> None:
        """What is known after an epoch of a training, or a call; a picture of samples."""
        if picture is not None:
            self._tell(f"step {number}", lambda sink: sink.pictures({"samples": picture}, number))
        self._tell(f"step {number}", lambda sink: sink.progress(values, number))

    def summary(self, records: Sequence[Record]) -> None:
        """The numbers of all records of the run, found or made."""
        self._tell("the summary", lambda sink: sink.summary(numbers(records) | counts(records)))

    def table(self, records: Sequence[Record]) -> None:
        """A row for each number of metrics."""
        self._tables({name: table for name, table in tables(records).items() if name == "metrics"})

    def values(self, values: Mapping[str, Value]) -> None:
        """Final values of other kinds."""
        self._tell("the summary", lambda sink: sink.summary(dict(values)))

    def report(self, folder: Path) -> None:
        """All that a report has made of a results folder: tables, pictures, and the records themselves."""
        if not self._chosen:
            return
        records = read_records(folder)
        self._tell("the summary", lambda sink: sink.summary(counts(records)))
        self._tables(tables(records))
        pictures = {f"figures/{path.stem}": path for path in sorted((folder / "figures").glob("*.png"))}
        if pictures:
            self._tell("the figures", lambda sink: sink.pictures(pictures))
        files = {"records.jsonl": packed(folder)}
        files |= {f"tables/{path.name}": path.read_bytes() for path in sorted((folder / "tables").glob("*.csv"))}
        self._tell("the records", lambda sink: sink.records(folder.name, files))

    def close(self, failed: bool = False) -> None:
        if self._open:
            self._tell("the end", lambda sink: sink.close(failed))
        self._open = {}

    def _tables(self, found: Mapping[str, pd.DataFrame]) -> None:
        for name, table in found.items():
            if len(table) > ROWS:
                say_once(f"sinks are given the first {ROWS:,} of {len(table):,} rows of table {name}")
            self._tell(f"table {name}", partial(_table, name, table[:ROWS]))

    def open(self) -> dict[str, Sink]:
        """The sinks that could be opened, by name; opened at the first call."""
        if self._open is None:
            self._open = {}
            for name, options in self._chosen.items():
                self._guarded(name, "the start", partial(self._begin, name, options))
        return self._open

    def _tell(self, what: str, tell: Callable[[Sink], None]) -> None:
        for name, sink in list(self.open().items()):
            self._guarded(name, what, partial(tell, sink))

    def _begin(self, name: str, options: Mapping[str, Any]) -> None:
        beside = self.about.folder.absolute()
        about = replace(self.about, folder=beside.with_name(f"{beside.name}.{name}"))
        entry: Entry = SINKS[name]
        self.open()[name] = entry.function(about, **options)

    def _guarded(self, name: str, what: str, action: Callable[[], None]) -> None:
        """Calls a sink that is still alive. Of its failure one line is said: why, and from where on it lacks all."""
        if name in self._dead:
            return
        try:
            action()
        except (Exception, SystemExit) as failure:
            self._dead.add(name)
            missing = isinstance(failure, ImportError)
            why = f"it needs a package: pip install 'assay[{name}]'" if missing else reason(failure)
            say(f"sink {name} failed: {why}. All else goes on without it; it lacks everything from {what} on")
            sink = (self._open or {}).get(name)
            if sink is not None:
                with suppress(Exception, SystemExit):
                    sink.close(True)


def _table(name: str, table: pd.DataFrame, sink: Sink) -> None:
    sink.table(f"tables/{name}", table)
