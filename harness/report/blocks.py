"""The pieces that pages of studies are made of: what they say, and how each looks in HTML and in Markdown."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..core.escapes import for_markdown
from ..core.protocols import Record
from . import html
from .figures import COLOURS, save_drawn
from .typeset import estimate, markdown_table
from .verdict import Number, Verdict


@dataclass(frozen=True)
class Found:
    """What a page is made of: the tables of a run by name, each with the column `run`; its records; its folder."""

    tables: Mapping[str, pd.DataFrame]
    records: Sequence[Record]
    folder: Path

    def parts(self, table: str, *columns: str) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
        """The table in parts of equal run and columns, in order of appearance, each with these by name.

        A column that records of another release lack is empty.
        """
        names, frame = ["run", *columns], self.tables[table]
        frame = frame.assign(**{name: "" for name in names if name not in frame})
        for values, part in frame.groupby(names, sort=False, dropna=False):
            yield dict(zip(names, values, strict=True)), part

    def matching(self, table: str, about: Mapping[str, Any]) -> pd.DataFrame:
        """The rows of a table whose columns have these values; none where there is no such table."""
        frame = self.tables.get(table, pd.DataFrame(columns=list(about)))
        for name, value in about.items():
            frame = frame[frame[name].astype(str) == str(value)] if name in frame or value != "" else frame
        return frame


def numbers(part: pd.DataFrame, *columns: str) -> dict[Any, "pd.Series[float]"]:
    """Rows of a table that have a value, by the values of these columns (a tuple where there are several)."""
    defined = part[part.value.notna()]
    keys = defined[columns[0]] if len(columns) == 1 else zip(*(defined[name] for name in columns), strict=True)
    return dict(zip(keys, (row for _, row in defined.iterrows()), strict=True))


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 3

    def html(self) -> str:
        return html.heading(self.text, self.level)

    def markdown(self) -> str:
        return f"{'#' * self.level} {for_markdown(self.text)}"


@dataclass(frozen=True)
class Text:
    """A paragraph; a "note" is set smaller, "failed" is what went wrong."""

    text: str
    kind: Literal["", "note", "failed"] = ""

    @classmethod
    def of_setting(cls, about: Mapping[str, Any], names: Iterable[str]) -> "Text":
        """The named values of a setting in one note."""
        values = {name: "none" if about[name] == "" else about[name] for name in names}
        return cls("; ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items()), "note")

    def html(self) -> str:
        return html.paragraph(self.text, self.kind) if self.text else ""

    def markdown(self) -> str:
        return for_markdown(self.text)


@dataclass(frozen=True)
class Verdicts:
    """What was found, a line each, below a title. These lines are printed after a run, too."""

    lines: Sequence[Verdict | str]
    title: str = ""

    def html(self) -> str:
        return (html.paragraph(self.title) if self.title else "") + html.items(list(map(str, self.lines)))

    def markdown(self) -> str:
        title = [f"{for_markdown(self.title)}\n"] if self.title else []
        return "\n".join([*title, *(f"- {for_markdown(str(line))}" for line in self.lines)])

    def printed(self) -> list[str]:
        return [*([f"{self.title}:"] if self.title else []), *(f"  {line}" for line in self.lines)]


@dataclass(frozen=True)
class Table:
    """Rows of text below names of columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def html(self) -> str:
        return html.table(self.columns, self.rows)

    def markdown(self) -> str:
        return markdown_table(self.columns, self.rows)


@dataclass(frozen=True)
class Grid:
    """Estimates with intervals in rows and columns; rows without any are left out.

    corner: what stands above the names of rows. cells: by (row, column); what is missing is "-".
    shade: of a value, its colour from -1 (orange) to 1 (blue). marks: text behind a cell.
    columns: in order, with the title of each where it is not its name.
    """

    corner: str
    rows: Sequence[Any]
    columns: Sequence[Any] | Mapping[Any, str]
    cells: Mapping[tuple[Any, Any], Number]
    shade: Callable[[float], float] | None = None
    marks: Mapping[tuple[Any, Any], str] = field(default_factory=dict)
    text: Callable[[Number], str] = estimate

    def table(self) -> tuple[list[str], list[list[str]], list[list[str]]]:
        """Titles, cells as text, and their colours."""
        titles = self.columns if isinstance(self.columns, Mapping) else {name: str(name) for name in self.columns}
        shown = [row for row in self.rows if any((row, column) in self.cells for column in titles)]
        body, colours = [], []
        for row in shown:
            cells = {column: self.cells.get((row, column)) for column in titles}
            body.append([
                str(row),
                *(("-" if cell is None else self.text(cell)) + self.marks.get((row, column), "")
                  for column, cell in cells.items()),
            ])  # fmt: skip
            shades = [math.nan if cell is None or not self.shade else self.shade(cell.value) for cell in cells.values()]
            colours.append(["", *map(html.shade, shades)])
        return [self.corner, *titles.values()], body, colours

    def html(self) -> str:
        columns, rows, colours = self.table()
        return html.table(columns, rows, lambda i, j: colours[i][j]) if rows else ""

    def markdown(self) -> str:
        columns, rows, _ = self.table()
        return markdown_table(columns, rows) if rows else ""


@dataclass(frozen=True)
class Drawing:
    """A figure, saved as PNG where the page is made. `figure()` draws it; a `partial` of values is drawn only once."""

    path: Path
    caption: str
    figure: Callable[[], Figure]

    def html(self) -> str:
        return html.figure(save_drawn(self.figure, self.path), self.caption)

    def markdown(self) -> str:
        return _image(self.path, self.caption)


@dataclass(frozen=True)
class Picture:
    """A PNG that the study made while it ran, shown where it is there. `printed` tells where."""

    path: Path
    caption: str

    def html(self) -> str:
        return html.figure(self.path, self.caption) if self._is_there else ""

    def markdown(self) -> str:
        return _image(self.path, self.caption) if self._is_there else ""

    def printed(self) -> list[str]:
        return [f"  picture: {self.path}"] if self._is_there else []

    @property
    def _is_there(self) -> bool:
        """A link, in a folder that may be anybody's, might put any file into the page."""
        return self.path.is_file() and not self.path.is_symlink()


@dataclass(frozen=True)
class Fold:
    """Blocks that open at a click."""

    summary: str
    blocks: Sequence["Block"]

    def html(self) -> str:
        inside = [text for block in self.blocks if (text := block.html())]
        return html.details(self.summary, inside) if inside else ""

    def markdown(self) -> str:
        inside = [text for block in self.blocks if (text := block.markdown())]
        return "\n\n".join([f"**{for_markdown(self.summary)}**", *inside]) if inside else ""


Block = Heading | Text | Verdicts | Table | Grid | Drawing | Picture | Fold


def printed(blocks: Iterable[Block]) -> list[str]:
    """The lines that are printed after a run: what was found, and where pictures are."""
    return [line for block in blocks if isinstance(block, (Verdicts, Picture)) for line in block.printed()]


def _image(path: Path, caption: str) -> str:
    return f"![{for_markdown(caption)}](figures/{path.name})"


@dataclass(frozen=True)
class Line:
    """A curve of a plot: a table with columns at, value and, for a band, low and high; size: of its markers."""

    name: str
    points: pd.DataFrame
    colour: str = ""
    band: bool = False
    style: str = "-"
    size: float = 4


def lines(
    panels: Mapping[str, Sequence[Line]], across: str, up: str = "", level: float | None = None, wide: int = 2,
    logarithmic: bool = False, size: tuple[float, float] = (4.5, 3.0), legend_beside: bool = False,
) -> Figure:  # fmt: skip
    """Curves in panels by title, `wide` beside each other, with one legend. level: a horizontal line."""
    count = min(wide, len(panels))
    tall = math.ceil(len(panels) / count)
    figure = Figure(figsize=(size[0] * count, size[1] * tall), layout="constrained")
    for index, (title, curves) in enumerate(panels.items()):
        axis = figure.add_subplot(tall, count, index + 1)
        for i, curve in enumerate(curves):
            points = curve.points.sort_values("at")
            colour = curve.colour or COLOURS[i % len(COLOURS)]
            axis.plot(
                points["at"], points.value, curve.style, color=colour, label=curve.name, linewidth=1.4,
                markersize=curve.size,
            )  # fmt: skip
            if curve.band:
                axis.fill_between(points["at"], points.low, points.high, color=colour, alpha=0.15, linewidth=0)
        if level is not None:
            axis.axhline(level, color="black", linewidth=0.8)
        if logarithmic:
            places = sorted({place for curve in curves for place in curve.points["at"]})
            axis.set_xscale("log")
            axis.set_xticks(places, [f"{place:g}" for place in places])
            axis.minorticks_off()
        axis.set_title(title, fontsize=8)
        axis.set_xlabel(across, fontsize=8)
        axis.set_ylabel(up, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        if index == 0 and legend_beside:
            figure.legend(fontsize=6, loc="outside right center")
        elif index == 0:
            axis.legend(fontsize=6)
    return figure


def dots(
    panels: Mapping[str, Sequence[tuple[pd.DataFrame, str]]], order: Sequence[str], name: str = "score",
    level: float = 0.0, limits: tuple[float, float] = (-1, 1),
) -> Figure:  # fmt: skip
    """Values with intervals beside each other, a row for each of `order` (in column `name`); in panels by title.

    panels: tables and the colour of each. level: a vertical line; limits: of the axis.
    """
    figure = Figure(figsize=(2.6 * len(panels) + 2.5 + 2 * (len(panels) == 1), 0.28 * len(order) + 0.9))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, sets) in zip(axes, panels.items(), strict=True):
        shifts = np.linspace(-0.2, 0.2, len(sets)) if len(sets) > 1 else [0.0]
        for (frame, colour), shift in zip(sets, shifts, strict=True):
            part = frame.set_index(name).reindex(order)
            at = np.arange(len(order)) + shift
            axis.hlines(at, part.low, part.high, color=colour, linewidth=2)
            axis.plot(part.value, at, "o", color=colour, markersize=3.5)
        axis.axvline(level, color="black", linewidth=0.8)
        axis.set_title(title, fontsize=9)
        axis.set_xlim(*limits)
        axis.tick_params(labelsize=8)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(order)), order)
    axes[0].invert_yaxis()
    return figure


def heat_map(table: pd.DataFrame, rows: str, columns: str) -> Figure:
    """A square of correlations between the values of two columns, printed in the cells."""
    names = list(table[rows].unique())
    matrix = table.pivot(index=rows, columns=columns, values="value").reindex(index=names, columns=names).to_numpy()
    matrix = np.where(np.isnan(matrix), matrix.T, matrix)
    figure = Figure(figsize=(0.33 * len(names) + 3, 0.33 * len(names) + 2))
    axis = figure.subplots()
    image = axis.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    for i, j in np.argwhere(~np.isnan(matrix)):
        colour = "white" if abs(matrix[i, j]) > 0.6 else "black"
        axis.text(j, i, f"{matrix[i, j]:.1f}".replace("0.", "."), ha="center", va="center", fontsize=5.5, color=colour)
    figure.colorbar(image, ax=axis, shrink=0.6)
    return figure
