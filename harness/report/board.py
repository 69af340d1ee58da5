"""Several results folders, of other people too, in one leaderboard. What was measured otherwise is kept apart."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..arrays.records import read_records
from ..core.escapes import for_csv
from ..core.files import replace
from ..core.protocols import Record
from . import html
from .behind import all_behind, read_costs, record_id, without_space
from .blocks import Block, Heading, Text, Verdicts, sections
from .conditions import Conditions, conditions, differences
from .evidence import COSTS, Evidence, Tables, gathered
from .leaderboard import Board, board
from .metrics_board import metric_frame, metric_section
from .numbers import Numbers
from .tables import study_tables, tables

SHOWN = 1000
"""Lines of a table of the page."""
KEYS = ["folder", "samples"]
METRIC = ["dataset", "metric", "name"]
NOTE = (
    "Numbers stand in one table where they have the same version of the metric, options, preprocessing, choice and "
    "number of real samples, and number of generated ones. best: the best of a column; tie: no other whole interval is "
    "better. What was measured otherwise is below, with the difference, and is compared with nothing above."
)


@dataclass(frozen=True)
class Folder:
    """A results folder. name: what the page calls it, different from all others."""

    name: str
    path: Path
    records: Sequence[Record]

    @property
    def studies(self) -> Tables:
        """The tables of its studies, and what metrics cost, where it tells that."""
        costs = self.path / f"{COSTS}.csv"
        return {**study_tables(self.records), **({COSTS: pd.read_csv(costs)} if costs.is_file() else {})}


@dataclass(frozen=True)
class Group:
    """Numbers of one data set that may be compared. reasons: how they differ from the first group; none for itself."""

    dataset: str
    reasons: tuple[str, ...]
    rows: pd.DataFrame


@dataclass(frozen=True)
class Gathered:
    """The set metrics of all folders: a row a number, with the columns folder, conditions (a number for each sort of
    conditions) and record, the position in `records`.
    """

    folders: Sequence[Folder]
    shown: dict[str, int] = field(default_factory=dict)

    @cached_property
    def records(self) -> list[tuple[int, Record]]:
        return [(i, record) for i, folder in enumerate(self.folders) for record in folder.records]

    @cached_property
    def evidence(self) -> Evidence:
        """What studies in the folders found about metrics."""
        return gathered([folder.studies for folder in self.folders])

    @cached_property
    def rows(self) -> pd.DataFrame:
        """None where the folders test metrics alone. Raises ValueError where they do not do that either."""
        frames, before = [], 0
        for folder in self.folders:
            found = tables([record for record in folder.records if record.kind != "study"])
            if "leaderboard" in found:
                frame = Numbers(found, folder.records).with_records("leaderboard")
                frames.append(frame.assign(folder=folder.name, record=frame.record + before))
            before += len(folder.records)
        if not frames and self.evidence.rows:
            return pd.DataFrame(columns=["dataset"])
        if not frames:
            names = ", ".join(folder.name for folder in self.folders)
            raise ValueError(f"no set metrics in {names}, and no tests of metrics, so there is nothing to compare")
        rows = pd.concat(frames, ignore_index=True)
        known = dict[Conditions, int]()
        codes = [known.setdefault(conditions(self.records[i][1]), len(known)) for i in rows.record]
        return rows.assign(conditions=codes, metric=rows.metric.map(without_space))

    @cached_property
    def groups(self) -> list[Group]:
        """Of each data set first what most folders and generators share, then what is kept apart."""
        parts: dict[tuple[str, tuple[str, ...]], list[pd.DataFrame]] = {}
        for dataset, of_data in self.rows.groupby("dataset", sort=True):
            parts[str(dataset), ()] = []
            usual = self._usual_preprocessing(of_data)
            for _, of_metric in of_data.groupby(METRIC, sort=True):
                first = self._first(of_metric, usual)
                for code, rows in of_metric.groupby("conditions", sort=False):
                    reasons = () if code == first else self._reasons(of_metric, code, first)
                    parts.setdefault((str(dataset), reasons), []).append(rows)
        found = [Group(*key, pd.concat(rows, ignore_index=True)) for key, rows in parts.items() if rows]
        return sorted(found, key=lambda group: (group.dataset, bool(group.reasons)))

    def board(self, group: Group) -> Board:
        caption = f"{group.dataset}: {'kept apart' if group.reasons else 'set metrics'}, by generator and folder"
        return board(group.rows, KEYS, SHOWN, self.link, caption, "board")

    def link(self, position: int) -> str:
        at, record = self.records[position]
        name = f"{record_id(record)}-{at}"
        self.shown[name] = position
        return name

    def behind(self) -> dict[str, Any]:
        costs = [read_costs(folder.path) for folder in self.folders]
        found = {name: self.records[position] for name, position in self.shown.items()}
        return all_behind({name: (record, costs[at]) for name, (at, record) in found.items()})

    def _of(self, rows: pd.DataFrame, code: int) -> Conditions:
        return conditions(self.records[rows.record[rows.conditions == code].iloc[0]][1])

    def _reasons(self, rows: pd.DataFrame, code: int, first: int) -> tuple[str, ...]:
        return tuple(differences(self._of(rows, code), self._of(rows, first)))

    def _usual_preprocessing(self, rows: pd.DataFrame) -> str:
        """That of most numbers of generators in folders; the first of equals."""
        counts: Counter[str] = Counter()
        for code, part in rows.groupby("conditions", sort=False):
            counts[self._of(rows, code).preprocessing] += len(part[["folder", "generator"]].drop_duplicates())
        return max(counts, key=lambda value: counts[value])

    def _first(self, rows: pd.DataFrame, usual: str) -> int:
        """The conditions of one number, with which those of the others are compared."""
        pairs = {code: len(part[["folder", "generator"]].drop_duplicates())
                 for code, part in rows.groupby("conditions", sort=False)}  # fmt: skip
        return int(max(pairs, key=lambda code: (self._of(rows, code).preprocessing == usual, pairs[code])))


def gather(paths: Sequence[Path]) -> Gathered:
    """Read results folders. Raises FileNotFoundError where one has no records, ValueError where one is given twice."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError("a folder is given twice; give each once")
    names = Counter(path.resolve().name for path in paths)
    called = [path.resolve().name if names[path.resolve().name] == 1 else str(path) for path in paths]
    return Gathered([Folder(name, path, _records(path)) for name, path in zip(called, paths, strict=True)])


def _records(path: Path) -> Sequence[Record]:
    return [] if (path / f"{COSTS}.csv").is_file() else read_records(path)


def write_board(found: Gathered, out: Path) -> list[str]:
    """Write board.html and board.md, board.csv where generators are compared, and metrics.csv where metrics are.

    Returns what was kept apart and why, a line each.
    """
    boards = [(group, found.board(group)) for group in found.groups]
    blocks = list(_blocks(found, boards))
    title = f"assay board: {', '.join(folder.name for folder in found.folders)}"
    body = [text for block in blocks if (text := block.html())]
    replace(out / "board.html", html.page(title, body, sections(blocks), found.behind()).encode())
    lines = [Heading(title, 1).markdown(), *(text for block in blocks if (text := block.markdown()))]
    replace(out / "board.md", ("\n\n".join(lines) + "\n").encode())
    if boards:
        replace(out / "board.csv", _csv(boards).to_csv(index=False, lineterminator="\n").encode())
    if found.evidence.rows:
        replace(out / "metrics.csv", metric_frame(found.evidence).to_csv(index=False, lineterminator="\n").encode())
    return [f"{_who(group)}: {reason}" for group, _ in boards for reason in group.reasons]


def _blocks(found: Gathered, boards: Sequence[tuple[Group, Board]]) -> Iterator[Block]:
    if boards:
        yield Text(NOTE)
    yield Verdicts([_described(folder) for folder in found.folders])
    if found.evidence.rows:
        yield from metric_section(found.evidence)
    before = ""
    for group, made in boards:
        if group.dataset != before:
            yield Heading(group.dataset, 2)
        before = group.dataset
        if group.reasons:
            yield Heading(f"Kept apart: {_who(group)}")
            yield Verdicts([f"{reason[:1].upper()}{reason[1:]}." for reason in group.reasons])
        yield made
        if (lines := len(group.rows[["generator", *KEYS]].drop_duplicates())) > SHOWN:
            yield Text(f"The first {SHOWN:,} of {lines:,} rows.", "note")


def _described(folder: Folder) -> str:
    """E.g. "zoo: 84 records, 0 failed; assay 0.1.0, device cpu"."""
    failed = sum(record.status == "failed" for record in folder.records)
    with_what = Counter(", ".join(f"{k} {v}" for k, v in sorted(record.numerics.items())) for record in folder.records)
    return (
        f"{folder.name}: {len(folder.records):,} records, {failed} failed; {' / '.join(with_what) or 'made elsewhere'}."
    )


def _who(group: Group) -> str:
    metrics = ", ".join(dict.fromkeys(group.rows.metric))
    return f"{metrics} of {', '.join(dict.fromkeys(group.rows.folder))} on {group.dataset}"


def _csv(boards: Sequence[tuple[Group, Board]]) -> pd.DataFrame:
    """A row a number: where it stands, the number, and why it is kept apart."""
    rows: list[Mapping[str, str]] = []
    for group, made in boards:
        for line in made.lines:
            for column in made.columns:
                if value := line.numbers.get(column.name):
                    numbers = {name: value.data.get(name, "") for name in ("value", "low", "high", "floor")}
                    about = {"dataset": group.dataset, "generator": line.generator, **line.keys}
                    named = {"metric": column.name, "better": column.better}
                    rows.append(
                        {**about, **named, **numbers, "mark": value.mark, "kept_apart": "; ".join(group.reasons)}
                    )
    return pd.DataFrame([{name: for_csv(text) for name, text in row.items()} for row in rows])
