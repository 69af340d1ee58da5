"""What the benchmarks that write one table have in common: their options, and the table as csv and Markdown."""

import argparse
from pathlib import Path

import pandas as pd

from assay.harness.report.typeset import markdown_table

RESULTS = Path(__file__).parents[2] / "results" / "benchmarks"


def arguments(about: str | None) -> argparse.ArgumentParser:
    """Options --only and --out of a script; about: its docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="measure what has this text in its name")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the table")
    return parser


def publish(table: pd.DataFrame, out: Path, name: str, introduction: str) -> None:
    """NAME.csv, and NAME.md, where text in the column `command` is code."""
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / f"{name}.csv", index=False, lineterminator="\n")
    shown = table.astype(object).where(table.notna(), "")
    if "command" in shown:
        shown["command"] = [f"`{command}`" for command in shown["command"]]
    rows = [[str(cell).removesuffix(".0") for cell in row] for row in shown.itertuples(index=False)]
    (out / f"{name}.md").write_text(f"{introduction}\n\n{markdown_table(list(table.columns), rows)}\n")
