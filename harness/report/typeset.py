"""Tables as people read them, in Markdown and LaTeX: a number and its interval in one cell, what varies last across."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..core.columns import BESIDE
from ..core.escapes import for_latex, for_markdown, in_one_line

KEPT = ("better", "error", "used")
"""Columns that are shown although others determine them."""
NUMERIC = r"[-+.e\d]*"
FULL = 0.5
"""A table becomes wide where at least this share of its cells holds a number."""


def number(value: float) -> str:
    """Three digits, in full from 1,000 on; "-" for none."""
    return "-" if value != value else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def formatted(value: float, low: float, high: float) -> str:
    """0.71 (0.69 to 0.73)."""
    return number(value) + (f" ({number(low)} to {number(high)})" if low == low else "")


def estimate(row: Any) -> str:
    """The same of a row of a table, or of anything with value, low and high; behind it the floor, if there is one."""
    return formatted(row.value, row.low, row.high) + _floor(row)


def _floor(row: Any) -> str:
    """The value of real samples in place of generated ones; with their number where there were fewer than those."""
    floor = getattr(row, "floor", "")
    if not isinstance(floor, float) or floor != floor:
        return ""
    fewer = row.floor_n < getattr(row, "samples", row.floor_n)
    return f", real ({row.floor_n:,.0f}): {number(floor)}" if fewer else f", real: {number(floor)}"


def compact(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """A caption of all that is the same in every row, and the rest of the table as text.

    Of the columns that tell what a number is, those that others determine are left out, numbers before names. The last
    of them stands across, above columns of its own, where most of the cells that this makes are filled.
    """
    keys = [column for column in table.columns if column not in BESIDE]
    text = table[keys].map(str).replace("nan", "")
    same = [column for column in keys if text[column].nunique() == 1 and len(table) > 1]
    caption = "; ".join(f"{column} {text[column].iloc[0]}" for column in same if text[column].iloc[0])
    needed = [column for column in keys if column not in same and text[column].any()]
    numeric = [column for column in needed if text[column].str.fullmatch(NUMERIC).all()]
    order = [*reversed(numeric), *(column for column in reversed(needed) if column not in numeric)]
    for column in [column for column in order if column not in KEPT and len(table) > 1]:
        rest = [other for other in needed if other not in (column, *KEPT)]
        if rest and not text.duplicated(rest).any():
            needed.remove(column)
    across = list(table.columns)[list(table.columns).index("value") - 1]
    cells = [estimate(row) for row in table.itertuples(index=False)]
    long = text[needed].assign(value=cells)
    down = [column for column in needed if column != across]
    if across not in needed or not down or long.duplicated(needed).any():
        return caption, long
    rows, columns = text[down].drop_duplicates(), text[across].drop_duplicates()
    if len(long) < FULL * len(rows) * len(columns) or set(columns) & set(down):
        return caption, long
    if columns.str.fullmatch(r"\d+").all():
        columns = columns.sort_values(key=lambda texts: texts.astype(int))
    wide = long.pivot(index=down, columns=across, values="value").fillna("")
    return caption, rows.merge(wide[columns].reset_index(), on=down)


def markdown(table: pd.DataFrame) -> str:
    caption, text = compact(table)
    body = markdown_table(list(text.columns), text.values.tolist())
    return f"{for_markdown(caption)}\n\n{body}" if caption else body


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text below names of columns."""
    every = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(map(for_markdown, row)) + " |\n" for row in every)


def latex(table: pd.DataFrame) -> str:
    """A tabular in the rules of booktabs; the caption as a comment above."""
    caption, text = compact(table)

    def line(row: Sequence[str]) -> str:
        return " & ".join(map(for_latex, row)) + r" \\" + "\n"

    head = "\\begin{tabular}{" + "l" * len(text.columns) + "}\n\\toprule\n" + line(list(text.columns)) + "\\midrule\n"
    body = head + "".join(line(row) for row in text.values.tolist()) + "\\bottomrule\n\\end{tabular}\n"
    return f"% {in_one_line(caption)}\n{body}" if caption else body
