"""Cells of a table for a paper: numbers of records, those that another paper prints, or why there is none."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from ...core.columns import BESIDE
from ...core.protocols import Better, Estimate
from ...core.registry import unknown
from ...stats.families import HOLM, LEVEL
from ...stats.intervals import pooled
from ..conditions import Conditions, differences
from ..tables import ranks
from .latex import escaped
from .spec import Entry, Spec

IGNORED = (*BESIDE, "seed", "used", "kind", "better", "status", "error", "rank")
"""Columns in which the rows behind one number may differ."""
CELL = ("dataset", "generator", "seed", "samples", "metric")
"""Columns that tell a record of a metric from others of its folder."""
SHOWN = 8
"""Values that an error lists."""
NOTHING = Estimate(math.nan, (math.nan, math.nan))
By = Mapping[tuple[Any, ...], Conditions]
"""Under which conditions each number of a metric was measured, by the columns of CELL."""


@dataclass(frozen=True)
class Cell:
    """A number; NaN where there is none.

    why: what is wrong: it failed, is not defined, or some of its seeds failed. measured: whether the records know of it
    at all. source: of a number that a paper prints; digits: how many it has. seeds: over how many it is the mean.
    about: data set, number of samples and conditions, which numbers must share to be compared.
    """

    estimate: Estimate = NOTHING
    why: str = ""
    measured: bool = True
    source: str = ""
    seeds: int = 1
    decided: bool = False
    best: bool = False
    digits: int | None = None
    better: Better | None = None
    about: tuple[str, int, Conditions | None] = ("", 0, None)


@dataclass(frozen=True)
class Grid:
    """rows, columns: what stands where; cells: of each row. used: rows of the table behind them. remarks: what a reader
    must know of single columns.
    """

    rows: Sequence[Entry]
    columns: Sequence[Entry]
    cells: Sequence[Sequence[Cell]]
    used: pd.DataFrame
    remarks: Sequence[str]


def grid(spec: Spec, frame: pd.DataFrame, papers: pd.DataFrame, by: By) -> Grid:
    """The cells of one table. frame: all rows of `spec.table`; papers: those of its file in results/papers.

    Raises ValueError where the description names what is not there, or a cell has several numbers.
    """
    frame = frame[_matching(frame, spec.where)]
    if not len(frame):
        raise ValueError(f"no row of table {spec.table} has {_named(spec.where)}")
    rows, columns = (_entries(axis, frame) for axis in (spec.rows, spec.columns))
    cells, used, failed = list[list[Cell]](), set[int](), _failed(frame)
    for row in rows:
        cells.append([])
        of_row = frame[_matching(frame, row.where)]
        for column in columns:
            if "value" in {**(row.printed or {}), **(column.printed or {})}:
                cells[-1].append(_printed(papers, row, column, spec))
                continue
            part = of_row[_matching(of_row, column.where)]
            used |= set(part.index)
            cells[-1].append(_cell(spec, row, column, part, failed[part.index], by))
    lines = [*zip(rows, cells, strict=True), *zip(columns, zip(*cells, strict=True), strict=True)]
    if empty := [entry for entry, line in lines if not any(cell.measured or cell.source for cell in line)]:
        raise ValueError(_nothing(empty, frame))
    remarks = list(_mark(rows, columns, cells))
    return Grid(rows, columns, cells, frame.loc[sorted(used)], remarks)


def _entries(axis: str | Sequence[Entry], frame: pd.DataFrame) -> Sequence[Entry]:
    if not isinstance(axis, str):
        return axis
    _known(frame, axis)
    values = frame[axis][~_instead(frame, axis)].drop_duplicates()
    return [Entry((escaped(str(value)),), {axis: value}) for value in values]


def _matching(frame: pd.DataFrame, where: Mapping[str, Any]) -> "pd.Series[bool]":
    """Which rows have these values. What failed stands for all the numbers that it would have."""
    found = pd.Series(True, frame.index)
    for column, wanted in where.items():
        _known(frame, column)
        values = wanted if isinstance(wanted, list) else [wanted]
        equal = {value: any(_same(value, one) for one in values) for value in frame[column].unique()}
        found &= frame[column].map(equal).astype(bool) | _instead(frame, column)
    return found


def _instead(frame: pd.DataFrame, column: str) -> "pd.Series[bool]":
    """Rows of what failed in which this column has no value of its own: the reason, or nothing."""
    if "status" in frame:
        return (frame.status != "ok") & (column == "name")
    without = frame.value.isna() & (frame.n == 0)
    if without.any():
        status = frame[column].map(str)
        without &= status.str.startswith("failed") | (status == "edited")
    return without


def _same(value: Any, wanted: Any) -> bool:
    """Whether a value of a table is the one that a description names: as text, or as a number."""
    if str(value) == str(wanted):
        return True
    try:
        return not isinstance(wanted, bool) and float(value) == float(wanted)
    except (TypeError, ValueError):
        return False


def _known(frame: pd.DataFrame, column: str) -> None:
    if column not in frame:
        raise ValueError(unknown("column", column, [name for name in frame if name not in BESIDE]))


def _failed(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Rows of what failed: they have a reason, and no number."""
    found = frame.status != "ok" if "status" in frame else pd.Series(False, frame.index)
    for name in frame:
        found |= _instead(frame, name)
    return found


def _cell(spec: Spec, row: Entry, column: Entry, part: pd.DataFrame, failed: "pd.Series[bool]", by: By) -> Cell:
    """part: the rows of the table that belong here."""
    if not len(part):
        return Cell(measured=False)
    reasons = list(dict.fromkeys(_reason(each) for each in part[failed].to_dict("records")))
    known = part[~failed]
    if not len(known):
        return Cell(why="; ".join(reasons))
    where = f"the cell of {' / '.join(row.titles)} and {' / '.join(column.titles)}"
    for name in [name for name in known if name not in IGNORED] if len(known) > 1 else ():
        values = list(dict.fromkeys(map(str, known[name])))
        if len(values) > 1:
            listed = ", ".join(values[:SHOWN]) + (", ..." if len(values) > SHOWN else "")
            raise ValueError(f"{where} has {len(known)} numbers, which differ in {name} ({listed}); say which")
    if known.seed.nunique() < len(known):
        raise ValueError(f"{where} has {len(known)} numbers of {known.seed.nunique()} seeds; say which in `where`")
    first = known.iloc[0]
    each = [Estimate(one.value, (one.low, one.high), int(one.n), int(one.missing)) for one in known.itertuples()]
    found = pooled(each)
    if math.isnan(found.value):
        reasons.append("not defined for these samples")
    elif reasons:
        reasons = [f"the mean of {len(known)} of {len(part)} seeds; {reason}" for reason in reasons]
    conditions = by.get(tuple(first[name] for name in CELL)) if "metric" in known and "status" in known else None
    own: set[Better] = set(known.better) if "better" in known else set()
    return Cell(
        estimate=found,
        why="; ".join(reasons),
        seeds=len(known),
        decided=len(known) == 1 and bool(first.get(HOLM, 1.0) <= LEVEL),
        better=column.better or row.better or spec.better or (own.pop() if len(own) == 1 else None),
        about=(str(first.dataset), int(first.samples), conditions),
    )


def _reason(row: Mapping[str, Any]) -> str:
    """Why a row has no number, in the words of its record."""
    if "status" in row:
        return f"failed: {row['error']}" if row["error"] else str(row["status"])
    return next(text for text in map(str, row.values()) if text.startswith("failed") or text == "edited")


def _printed(papers: pd.DataFrame, row: Entry, column: Entry, spec: Spec) -> Cell:
    """A number that a paper prints: the key `value` names its column, `half_width` perhaps that of its interval."""
    nothing = Cell(measured=False, source=spec.papers)
    if row.printed is None or column.printed is None or not len(papers.columns):
        return nothing
    asked = {**spec.printed, **row.printed, **column.printed}
    where = {key: value for key, value in asked.items() if key not in ("value", "half_width")}
    for key in (*where, *(str(asked[key]) for key in ("value", "half_width") if key in asked)):
        if key not in papers:
            raise ValueError(f"results/papers/{spec.papers}.csv: {unknown('column', key, list(papers))}")
    found = papers
    for key, value in where.items():
        found = found[[_same(one, value) for one in found[key]]]
    if len(found) != 1:
        raise ValueError(f"results/papers/{spec.papers}.csv has {len(found)} rows with {_named(where)}, not one")
    printed = found.iloc[0]
    text, half_text = (str(printed[asked[key]]) if key in asked else "" for key in ("value", "half_width"))
    if not text:
        return nothing
    value, half = float(text), float(half_text or math.nan)
    digits = len(text.partition(".")[2]) - round(math.log10(spec.scale))
    source = ", ".join(printed[key] for key in ("source", "where", "read") if printed.get(key))
    return Cell(Estimate(value, (value - half, value + half)), source=source, digits=max(digits, 0))


def _nothing(empty: Sequence[Entry], frame: pd.DataFrame) -> str:
    """Why rows or columns have no number at all: most often a value that the table does not have."""
    for entry in empty:
        for column, wanted in entry.where.items():
            if not _matching(frame, {column: wanted}).any():
                return f"{' / '.join(entry.titles)}: {unknown(column, str(wanted), sorted({*map(str, frame[column])}))}"
    return f"{' / '.join(empty[0].titles)}: there is no number of {_named(empty[0].where)} in any of its cells"


def _named(where: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in where.items()) or "any value"


def _mark(rows: Sequence[Entry], columns: Sequence[Entry], cells: list[list[Cell]]) -> Iterator[str]:
    """Marks the best of each column, in each group of rows: all of which no other whole interval is better.

    None where all are, and none where they were measured under different conditions; yields a line about each of these.
    """
    for j, column in enumerate(columns):
        for group, members in groupby(range(len(rows)), lambda i: rows[i].titles[:-1]):
            at = [i for i in members if _may_be_best(rows[i], column, cells[i][j])]
            if len(at) < 2:
                continue
            if why := _differing([cells[i][j] for i in at]):
                yield f"{' / '.join((*group, *column.titles))}: no best value is marked ({why})"
                continue
            low, high = (np.array([cells[i][j].estimate.interval[end] for i in at]) for end in (0, 1))
            first = ranks(str(cells[at[0]][j].better), low, high) == "1"
            for i, best in zip(at, first, strict=True):
                cells[i][j] = replace(cells[i][j], best=bool(best) and not first.all())


def _may_be_best(row: Entry, column: Entry, cell: Cell) -> bool:
    known = not math.isnan(cell.estimate.interval[0])
    return known and not cell.source and row.compared and column.compared and cell.better in ("higher", "lower")


def _differing(cells: Sequence[Cell]) -> str:
    """What is not the same for all numbers of a column; "" where they may be compared."""
    if len({cell.better for cell in cells}) > 1:
        return "higher is better for some, lower for others"
    dataset, samples, conditions = cells[0].about
    for cell in cells[1:]:
        if cell.about[0] != dataset:
            return f"other data: {dataset} and {cell.about[0]}"
        if cell.about[1] != samples:
            return f"{samples:,} and {cell.about[1]:,} generated samples"
        if conditions and cell.about[2] and (why := next(iter(differences(cell.about[2], conditions)), "")):
            return why
    return ""
