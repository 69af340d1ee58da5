"""A table for a paper as lines of LaTeX: its head, its rows, and below it what a reader must know of the numbers."""

import math
from collections.abc import Iterator

from .cells import Cell, Grid
from .latex import ARROWS, decimal, escaped, heads, letter, line, spread
from .spec import Entry, Spec

ALIGNED = r"\begin{tabular}"
BOLD = (
    r"\textbf{Bold}: the best of its {where}, and all that no other whole interval there is better than; none where "
    "these are all."
)


class Notes:
    """Notes below a table, each with a letter; the same note has the same one."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"$^{{{letter(self.texts.index(text))}}}$"


def rendered(spec: Spec, found: Grid) -> list[str]:
    """The float where there is a caption, else the bare tabular and its notes."""
    notes = Notes()
    depth = max(len(row.titles) for row in found.rows)
    default = [escaped(spec.rows)] if isinstance(spec.rows, str) else []
    heading = [*(spec.heading or default), *[""] * depth][:depth]
    body = list(_rows(spec, found, depth, notes))
    columns = [_titles(column, found, j) for j, column in enumerate(found.columns)]
    levels = max(map(len, columns))
    above = heads([("",) * (levels - len(titles)) + titles for titles in columns], heading)
    smaller = [rf"{{\{spec.size}\setlength{{\tabcolsep}}{{4pt}}"] if spec.size != "normalsize" else []
    table = [
        *smaller, f"{ALIGNED}{{{'l' * depth}{'c' * len(columns)}}}",
        r"\toprule", *above, r"\midrule", *body, r"\bottomrule", r"\end{tabular}" + ("}" if smaller else ""),
    ]  # fmt: skip
    below = [r"\par\smallskip", r"{\footnotesize", *_below(spec, found, notes, depth), r"\par}"]
    if not spec.caption:
        return [*table, *below]
    kind = "table*" if spec.wide else "table"
    label = [rf"\label{{{spec.label}}}"] if spec.label else []
    caption = [rf"\caption{{{spec.caption}}}", *label, r"\smallskip"]
    return [rf"\begin{{{kind}}}[t]", r"\centering", *caption, *table, *below, rf"\end{{{kind}}}"]


def _titles(column: Entry, found: Grid, j: int) -> tuple[str, ...]:
    """The titles above a column, the last with the direction where all its numbers have the same."""
    ways = {cells[j].better for cells in found.cells if cells[j].measured and not cells[j].source}
    (way,) = ways if len(ways) == 1 else (None,)
    *outer, title = column.titles
    return (*outer, f"{title} {ARROWS[way]}" if way in ARROWS else title)


def _rows(spec: Spec, found: Grid, depth: int, notes: Notes) -> Iterator[str]:
    """The rows; a group is named once. A little room between groups, a rule before what papers print."""
    before: Entry | None = None
    for row, cells in zip(found.rows, found.cells, strict=True):
        if before is not None:
            if "value" in (row.printed or {}) and "value" not in (before.printed or {}):
                yield r"\midrule"
            elif depth > 1 and row.titles[0] != before.titles[0]:
                yield r"\addlinespace"
        titles = list(row.titles) + [""] * (depth - len(row.titles))
        for level in range(len(row.titles) - 1):
            if before is not None and row.titles[: level + 1] == before.titles[: level + 1]:
                titles[level] = ""
        shown = [_cell(spec, row, column, cell, notes) for column, cell in zip(found.columns, cells, strict=True)]
        yield line([*titles, *shown])
        before = row


def _cell(spec: Spec, row: Entry, column: Entry, cell: Cell, notes: Notes) -> str:
    if not cell.measured:
        return "--"
    mark = notes.mark(escaped(cell.why)) if cell.why else ""
    if math.isnan(cell.estimate.value):
        return f"n/a{mark}"
    chosen = next((digits for digits in (cell.digits, column.digits, row.digits) if digits is not None), spec.digits)
    value, low, high = (spec.scale * x for x in (cell.estimate.value, *cell.estimate.interval))
    number = decimal(value, chosen)
    shown = rf"\mathbf{{{number}}}" if cell.best else number
    star = "^{*}" if cell.decided and spec.decided else ""
    known = not math.isnan(low) and spec.interval != "none"
    interval = spread(value, low, high, chosen, spec.interval == "brackets") if known else ""
    return f"${shown}{star}{interval}${mark}"


def _below(spec: Spec, found: Grid, notes: Notes, depth: int) -> Iterator[str]:
    """Sentences on what stands in the table."""
    cells = [cell for row in found.cells for cell in row]
    ours = [cell for cell in cells if cell.measured and not cell.source and not math.isnan(cell.estimate.value)]
    if spec.note:
        yield spec.note
    if spec.interval != "none" and any(not math.isnan(cell.estimate.interval[0]) for cell in ours):
        longer = r"; $\pm$ is the longer side where the sides differ by one in the last digit"
        yield rf"Intervals are 95\,\%{longer if spec.interval == 'plus-minus' else ''}."
    if any(cell.best for cell in ours):
        yield BOLD.replace("{where}", "column in its group of rows" if depth > 1 else "column")
    if spec.decided:
        some = r"$^{*}$: decided" if any(cell.decided for cell in ours) else "No comparison is decided"
        yield rf"{some} at 5\,\% after Holm's correction for all comparisons of its family."
    if seeds := {cell.seeds for cell in ours} - {1}:
        few, many = min(cell.seeds for cell in ours), max(seeds)
        count = str(many) if few == many else f"{few} to {many}"
        yield f"Means over {count} seeds; their intervals contain how seeds differ."
    missing = {"not printed" if cell.source else "not measured" for cell in cells if not cell.measured}
    if missing:
        yield f"--: {' or '.join(sorted(missing))}."
    for i, text in enumerate(notes.texts):
        yield f"$^{{{letter(i)}}}$: {text}."
    if sources := list(dict.fromkeys(cell.source for cell in cells if cell.source and cell.measured)):
        yield f"Printed in papers: {'; '.join(map(escaped, sources))}."
    yield from (f"{remark}." for remark in found.remarks)
