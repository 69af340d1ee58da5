"""The leaderboard of a page: generators down, set metrics across, seeds pooled, the best marked by intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.columns import FLOOR, NUMBERS
from ..core.files import digest
from ..core.protocols import Estimate
from ..stats.intervals import pooled
from . import html
from .html import Value
from .tables import number_name, ranks
from .typeset import markdown_table, number

ARROWS = {"higher": " ↑", "lower": " ↓", "neither": ""}
OWN = (*NUMBERS, *FLOOR, "n", "rank", "seed", "record")
"""Columns in which seeds of one number differ."""
DIFFER = "seeds differ in how they were measured"


Link = Callable[[int], str]


@dataclass(frozen=True)
class Column:
    name: str
    better: str

    @property
    def title(self) -> str:
        return self.name + ARROWS.get(self.better, "")


@dataclass(frozen=True)
class Line:
    """A generator on a data set with a number of samples; or one of its seeds.

    keys: what else tells rows apart; numbers: by the name of a column; seeds: the lines that this one is the mean of.
    """

    generator: str
    keys: Mapping[str, str]
    numbers: Mapping[str, Value]
    seeds: Sequence["Line"] = ()

    @property
    def title(self) -> str:
        return ", ".join([self.generator, *(f"{name} {value}" for name, value in self.keys.items())])

    @property
    def id(self) -> str:
        return f"row-{digest(self.title)[:10]}"


@dataclass(frozen=True)
class Board:
    """keys: those that are shown as columns, where rows differ by them. name: of the file that is downloaded.

    table: names of columns and rows of text, for Markdown.
    """

    caption: str
    keys: Sequence[str]
    columns: Sequence[Column]
    lines: Sequence[Line]
    table: tuple[Sequence[str], Sequence[Sequence[str]]] = ((), ())
    name: str = "leaderboard"

    def html(self) -> str:
        return html.leaderboard(self)

    def markdown(self) -> str:
        return markdown_table(*(self.table if self.table[0] else self.text()))

    def text(self) -> tuple[list[str], list[list[str]]]:
        """Names of columns and rows, the mark of each number behind it."""
        rows = []
        for line in self.lines:
            values = [line.numbers.get(column.name, Value("-")) for column in self.columns]
            marked = [f"{value} [{value.mark}]" if value.mark else str(value) for value in values]
            rows.append([line.generator, *(line.keys[key] for key in self.keys), *marked])
        return ["generator", *self.keys, *(column.title for column in self.columns)], rows


def board(
    frame: pd.DataFrame, keys: Sequence[str], shown: int, link: Link, caption: str = "", name: str = "leaderboard"
) -> Board:
    """Of a table of set metrics, whose columns beside those of `tables.tables` are `keys` and, perhaps, others.

    Rows that differ in any column but OWN are neither pooled nor compared. keys: what tells lines apart beside the
    generator, e.g. dataset and samples. shown: how many lines there may be. link: of the column `record`, where the
    page tells more of it.
    """
    frame = frame.reset_index(drop=True)
    same = [column for column in frame if column not in OWN]
    whole = _marked(_pooled(frame, same), [column for column in same if column not in ("generator", "folder")])
    names = dict.fromkeys(zip(map(number_name, whole.itertuples()), whole.better, strict=True))
    lines, by = [], ["generator", *keys]
    first = whole.drop_duplicates(by)[by][:shown].itertuples(index=False, name=None)
    places = whole.groupby(by, sort=False, dropna=False).indices
    for values in first:
        part = whole.iloc[places[values]]
        about = dict(zip(keys, map(_text, values[1:]), strict=True))
        seeds = sorted({seed for seeds in part.seeds for seed in seeds})
        own = frame.iloc[[row for rows in part.parts for row in rows] if len(seeds) > 1 else []]
        single = [
            Line(str(values[0]), {**about, "seed": str(seed)}, _numbers(rows, link))
            for seed, rows in own.groupby("seed", sort=True)
        ]
        keys_of_all = {**about, "seed": ", ".join(map(str, seeds))}
        lines.append(Line(str(values[0]), keys_of_all, _numbers(part, link), single))
    every = [line.keys for line in lines] + [seed.keys for line in lines for seed in line.seeds]
    differing = [key for key in (*keys, "seed") if len({keys[key] for keys in every}) > 1]
    return Board(caption, differing, [Column(*column) for column in names], lines, name=name)


def _pooled(frame: pd.DataFrame, same: Sequence[str]) -> pd.DataFrame:
    """One row for all seeds, where the first of them stood. seeds: which these are; parts: positions of their rows."""
    groups = list(frame.groupby(list(same), sort=False, dropna=False).indices.values())
    columns = {name: frame[name].to_numpy(float, copy=True) for name in (*NUMBERS, "n", FLOOR[0]) if name in frame}
    seeds = frame.seed.tolist()
    for rows in groups:
        if len(rows) > 1:
            terms = zip(*(columns[name][rows].tolist() for name in (*NUMBERS, "n")), strict=True)
            found = pooled([Estimate(value, (low, high), int(n)) for value, low, high, n in terms])
            floors = columns[FLOOR[0]][rows] if FLOOR[0] in columns else np.array([])
            for name, value in zip((*NUMBERS, "n"), (found.value, *found.interval, found.n), strict=True):
                columns[name][rows[0]] = value
            if len(known := floors[~np.isnan(floors)]):
                columns[FLOOR[0]][rows[0]] = known.mean()
    parts = [tuple(rows.tolist()) for rows in groups]
    first = frame.assign(**columns).iloc[[rows[0] for rows in parts]]
    return first.assign(seeds=[tuple(seeds[row] for row in rows) for rows in parts], parts=parts).sort_index()


def _marked(whole: pd.DataFrame, compared: Sequence[str]) -> pd.DataFrame:
    """With the column `mark`: "best", or "tie" where no other whole interval is better; none for one alone."""
    marks = np.full(len(whole), "", dtype=object)
    low, high, value = (whole[name].to_numpy(float) for name in ("low", "high", "value"))
    for _, rows in whole.groupby(list(compared), sort=False, dropna=False).indices.items():
        better = str(whole.better.iloc[rows[0]])
        first = rows[ranks(better, low[rows], high[rows]) == "1"]
        if len(rows) > 1 and len(first):
            best = value[first].max() if better == "higher" else value[first].min()
            marks[first] = np.where(value[first] == best, "best", "tie")
    return whole.assign(mark=marks)


def _numbers(rows: pd.DataFrame, link: Link) -> dict[str, Value]:
    """The cells of a line. Two numbers of one column were measured under different conditions, so neither is shown."""
    found: dict[str, Value] = {}
    for row in rows.itertuples():
        name = number_name(row)
        found[name] = Value(DIFFER) if name in found else value_of(row, link)
    return found


def value_of(row: Any, link: Link) -> Value:
    """A cell of a table with columns value, low, high and record; one of several seeds has no record of its own."""
    interval = f"({number(row.low)} to {number(row.high)})" if row.low == row.low else ""
    floor = getattr(row, "floor", float("nan"))
    real = f"real {number(floor)}" if isinstance(floor, float) and floor == floor else ""
    numbers = {"value": row.value, "low": row.low, "high": row.high, "floor": floor}
    return Value(
        text=number(row.value), interval=interval, floor=real, mark=getattr(row, "mark", ""),
        record=link(row.record) if len(getattr(row, "parts", "1")) == 1 else "",
        data={name: f"{value:.6g}" for name, value in numbers.items() if isinstance(value, float) and value == value},
    )  # fmt: skip


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)
