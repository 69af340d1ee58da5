"""The pieces that pages of studies are made of: what they say, and how each looks in HTML and in Markdown."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd

from ..core.escapes import for_markdown
from ..core.protocols import Record
from . import html
from .html import Value
from .plots import Plot, save_plot
from .typeset import estimate, markdown_table
from .verdict import Finding, Number, Verdict

MARKS = {1: "yes", -1: "no", 0: "open"}


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


class Block(Protocol):
    """A piece of a page."""

    def html(self) -> str: ...

    def markdown(self) -> str: ...


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

    lines: Sequence[Verdict | Finding | str]
    title: str = ""

    def html(self) -> str:
        return (html.paragraph(self.title) if self.title else "") + html.items([_line(line) for line in self.lines])

    def markdown(self) -> str:
        title = [f"{for_markdown(self.title)}\n"] if self.title else []
        return "\n".join([*title, *(f"- {for_markdown(str(line))}" for line in self.lines)])

    def printed(self) -> list[str]:
        lines = (line.short if isinstance(line, Finding) else line for line in self.lines)
        return [*([f"{self.title}:"] if self.title else []), *(f"  {line}" for line in lines)]


@dataclass(frozen=True)
class Table:
    """Rows of text, and of numbers, below names of columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Value]]
    caption: str = ""

    def html(self) -> str:
        return html.table(self.columns, self.rows, caption=self.caption)

    def markdown(self) -> str:
        return markdown_table(self.columns, [list(map(str, row)) for row in self.rows])


@dataclass(frozen=True)
class Grid:
    """Estimates with intervals in rows and columns; rows without any are left out.

    corner: what stands above the names of rows. cells: by (row, column); what is missing is "-".
    shade: of a value, its colour from -1 (orange) to 1 (blue). marks: text behind a cell.
    columns: in order, with the title of each where it is not its name. strong: rows in bold.
    """

    corner: str
    rows: Sequence[Any]
    columns: Sequence[Any] | Mapping[Any, str]
    cells: Mapping[tuple[Any, Any], Number]
    shade: Callable[[float], float] | None = None
    marks: Mapping[tuple[Any, Any], str] = field(default_factory=dict)
    text: Callable[[Number], str] = estimate
    caption: str = ""
    strong: Collection[Any] = ()

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
        strong = [i for i, (name, *_) in enumerate(rows) if name in self._strong]
        return html.table(columns, rows, colours, self.caption, strong) if rows else ""

    def markdown(self) -> str:
        columns, rows, _ = self.table()
        rows = [[f"**{text}**" if text != "-" else text for text in row] if row[0] in self._strong else row
                for row in rows]  # fmt: skip
        return markdown_table(columns, rows) if rows else ""

    @property
    def _strong(self) -> set[str]:
        return set(map(str, self.strong))


@dataclass(frozen=True)
class Drawing:
    """A plot, saved as PNG where the page is made, and drawn anew by the page itself."""

    path: Path
    caption: str
    plot: Plot

    def html(self) -> str:
        save_plot(self.plot, self.path)
        return html.plot(self.path.stem, self.plot.spec(), self.caption)

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
    blocks: Sequence[Block]

    def html(self) -> str:
        inside = [text for block in self.blocks if (text := block.html())]
        return html.details(self.summary, inside) if inside else ""

    def markdown(self) -> str:
        inside = [text for block in self.blocks if (text := block.markdown())]
        return "\n\n".join([f"**{for_markdown(self.summary)}**", *inside]) if inside else ""


def printed(blocks: Iterable[Block]) -> list[str]:
    """The lines that are printed after a run: what was found, and where pictures are."""
    return [line for block in blocks if isinstance(block, (Verdicts, Picture)) for line in block.printed()]


def sections(blocks: Iterable[Block]) -> list[tuple[str, str]]:
    """The headings of a page's contents, each with its place."""
    named = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    return [(html.heading_id(text), text) for text in named]


def _image(path: Path, caption: str) -> str:
    return f"![{for_markdown(caption)}](figures/{path.name})"


def _line(line: Verdict | Finding | str) -> str:
    if isinstance(line, Verdict):
        return html.verdict(line.decision, MARKS[line.decided], line.claim, estimate(line.effect), line.more)
    if isinstance(line, Finding) and len(line.names) > 1:
        return html.finding(line.sentence, line.families, line.names)
    return str(line)
