"""Records to a page: tables, then what each study has to say, in one self-contained HTML file."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..arrays.records import read_records
from ..core.files import replace
from ..core.protocols import Record
from ..core.registry import TASKS
from . import html
from .tables import add_run, number_name, tables, write_tables
from .typeset import with_interval

FEW = 24
"""Scores that are still printed one by one."""


def report(folder: Path) -> str:
    """Write tables/, figures/ and report.html from the records of a run. Returns what is worth printing."""
    records = read_records(folder)
    found = tables(records)
    write_tables(found, folder)
    body, summary = [*_about(records)], [_printed(found)]
    for name in sorted(TASKS):
        if name in found:
            blocks, words = TASKS[name].page(records, found, folder)
            body += blocks
            summary += words
    if "leaderboard" in found:
        body[1:1] = [html.heading("Leaderboard"), *_leaderboard(found["leaderboard"])]
    if "metrics" in found:
        body += [html.heading("Every cell"), _cells(found["metrics"])]
    replace(folder / "report.html", html.page(f"assay: {folder.name}", body).encode())
    return "\n".join([*filter(None, summary), f"page: {folder / 'report.html'}"])


def _about(records: Sequence[Record]) -> list[str]:
    failed = [record for record in records if record.status == "failed"]
    numerics = ", ".join(f"{key} {value}" for key, value in sorted(records[0].numerics.items()))
    generators = ", ".join(sorted({record.generator for record in records}))
    datasets = ", ".join(sorted({record.dataset for record in records}))
    n = ", ".join(f"{n:,}" for n in sorted({record.n for record in records}))
    lines = [
        html.paragraph(
            f"{generators} on {datasets}; {n} generated samples each; {len(records)} records, {len(failed)} failed; "
            f"{numerics}. Intervals are 95 %. Every number is in tables/*.csv, with its interval."
        )
    ]
    for record in failed:
        lines.append(html.paragraph(f"failed: {record.generator} {record.label}: {record.error}", "failed"))
    return lines


def _pivot(board: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Generators down, set metrics across."""
    arrow = {"higher": " ↑", "lower": " ↓", "neither": ""}
    names = {number_name(row): arrow[row.better] for _, row in board.iterrows()}
    cells: dict[str, dict[str, str]] = {}
    for _, row in add_run(board).iterrows():
        ranked = with_interval(row) + (f" [{row['rank']}]" if row["rank"] else "")
        cells.setdefault(row.run, {})[number_name(row)] = ranked
    rows = [[run, *(of.get(name, "-") for name in names)] for run, of in cells.items()]
    return ["generator", *(name + direction for name, direction in names.items())], rows


def _leaderboard(board: pd.DataFrame) -> list[str]:
    note = "In brackets the rank: 1 + the number of generators whose whole interval is better; ties share a rank."
    return [html.table(*_pivot(board)), html.paragraph(note, "note")]


def _printed(found: dict[str, pd.DataFrame]) -> str:
    """The leaderboard, and the means of per-sample scores where they are few, as text."""
    blocks = []
    if "leaderboard" in found:
        columns, rows = _pivot(found["leaderboard"])
        if len(rows) == 1:  # one generator reads better downwards
            columns, rows = ["metric", rows[0][0]], [list(pair) for pair in zip(columns[1:], rows[0][1:], strict=True)]
        blocks.append(_aligned(columns, rows))
    scores = add_run(found["metrics"][found["metrics"].kind == "sample"]) if "metrics" in found else pd.DataFrame()
    if 0 < len(scores) <= FEW:
        rows = [[number_name(row), row.run, with_interval(row)] for _, row in scores.iterrows()]
        blocks.append(_aligned(["mean score", "generator", "value"], rows))
    return "\n".join(blocks)


def _aligned(columns: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[j]) for row in [columns, *rows]) for j in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [columns, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def _cells(metrics: pd.DataFrame) -> str:
    columns = ["metric", "generator", "name", "value", "better", "n", "missing", "status"]
    rows = [
        [
            r.metric,
            r.generator,
            r["name"],
            with_interval(r),
            r.better,
            f"{r.n:,}",
            f"{r.missing:,}",
            r.error or r.status,
        ]
        for _, r in metrics.iterrows()
    ]
    return html.table(columns, rows)
