"""The numbers of a run on its page: the leaderboard, every cell, and what is behind each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.protocols import Record
from .behind import all_behind, read_costs, record_id
from .blocks import Block, Table
from .conditions import Conditions, conditions
from .html import Value
from .leaderboard import Board, board, value_of
from .tables import USED_SAMPLES

CELL = ["dataset", "generator", "seed", "samples", "metric"]
"""Columns of the tables of cells that name a record."""
COLUMNS = ["metric", "generator", "dataset", "seed", "samples", "name", "value", "better", "n", "missing", "status"]


@dataclass(frozen=True)
class ForReaders:
    """One block in the page, where numbers open and seeds are pooled, and another one in Markdown."""

    plain: Block
    page: Block

    def html(self) -> str:
        return self.page.html()

    def markdown(self) -> str:
        return self.plain.markdown()


@dataclass(frozen=True)
class Numbers:
    """The tables of a run, and its records. shown: records whose numbers are on the page, by `record_id`."""

    tables: Mapping[str, pd.DataFrame]
    records: Sequence[Record]
    shown: dict[str, Record] = field(default_factory=dict)

    def leaderboard(self, columns: Sequence[str], rows: Sequence[Sequence[str]], limit: int) -> Board:
        """columns, rows: the same as text. limit: of the lines."""
        frame, known = self.with_records("leaderboard"), dict[Conditions, int]()
        measured = [known.setdefault(conditions(self.records[i]), len(known)) for i in frame.record]
        caption = "Set metrics by generator; of several seeds their mean"
        made = board(frame.assign(conditions=measured), ["dataset", "samples"], limit, self.link, caption)
        return replace(made, table=(columns, rows))

    def note(self, sides: Sequence[str]) -> str:
        """What the marks of the leaderboard mean."""
        text = (
            "best: the best of the generators that were measured in the same way; tie: no other whole interval is "
            "better. With several seeds the number is their mean, and its interval contains how seeds differ. A click "
            "on a number opens what is behind it."
        )
        if sides:
            text += f" real: the value of real samples in place of generated ones: {'; '.join(sides)}."
        if self.tables["leaderboard"].samples.nunique() > 1:
            text += " Generators with other numbers of samples are not compared; n=NUMBER gives all of them as many."
        return text

    def cells(self, limit: int) -> Table:
        frame = self.with_records("metrics", limit)
        same = [name for name in ("dataset", "seed", "samples") if frame[name].nunique() == 1]
        names = [name for name in COLUMNS if name not in same] + ([USED_SAMPLES] if USED_SAMPLES in frame else [])
        rows = [[self._cell(row, name) for name in names] for row in frame.itertuples()]
        title = {USED_SAMPLES: "samples used"}
        return Table([title.get(name, name) for name in names], rows, "Every number of every metric")

    def link(self, index: int) -> str:
        """The place on the page of what is behind a record's numbers, which will be shown there."""
        name = record_id(self.records[index])
        self.shown[name] = self.records[index]
        return name

    def behind(self, folder: Path) -> dict[str, Any]:
        """What is behind the numbers on the page, for `html.page`."""
        costs = read_costs(folder)
        return all_behind({name: (record, costs) for name, record in self.shown.items()})

    def _cell(self, row: Any, name: str) -> str | Value:
        if name == "value":
            return value_of(row, self.link)
        if name == "status":
            return str(row.error or row.status)
        text = getattr(row, name)
        return f"{text:,}" if name in ("n", "missing", "samples") else str(text)

    def with_records(self, table: str, limit: int | None = None) -> pd.DataFrame:
        """A table of cells with the column `record`: its index."""
        frame = self.tables[table][:limit]
        rows = zip(*(frame[name].tolist() for name in CELL), strict=True)
        return frame.assign(record=[self._indices[row] for row in rows])

    @cached_property
    def _indices(self) -> dict[tuple[Any, ...], int]:
        cells = ((i, record.cell) for i, record in enumerate(self.records) if record.kind != "study")
        return {(cell.dataset, cell.generator, cell.seed, cell.n, cell.label): i for i, cell in cells}
