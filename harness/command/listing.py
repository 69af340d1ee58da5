"""`assay list`: what is declared, with options and sources; and what is known of a metric."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.options import limits
from ..core.registry import GROUPS, METRICS, discover, unknown
from ..core.renamed import KINDS, say_renamed
from .overrides import CONFIGS, LISTS, PRESETS

FILES = (*PRESETS.values(), LISTS)
"""Groups whose members are files of configs."""


def main(arguments: Sequence[str]) -> int:
    """Prints a table for each kind, or the evidence about metrics."""
    kinds = [_plural(group) for group in [*GROUPS, *FILES]]
    parser = argparse.ArgumentParser("assay list", description=f"List {', '.join(kinds)}.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="one or more of them; by default all")
    parser.add_argument("--evidence", nargs="?", const="", metavar="NAME",
                        help="with metrics: what tests found about this one, or, without NAME, about all")  # fmt: skip
    parser.add_argument("--results", type=Path, metavar="DIR",
                        help="with --evidence: a folder of results folders (those that are published)")  # fmt: skip
    asked = parser.parse_args(arguments)
    for old in KINDS.keys() & set(asked.kinds):
        say_renamed(old, KINDS[old])
    chosen = [KINDS.get(kind, kind) for kind in asked.kinds or kinds]
    for kind in chosen:
        if kind not in kinds:
            raise LookupError(unknown("kind", kind, kinds))
    if asked.evidence is not None:
        if asked.kinds and chosen != ["metrics"]:
            raise ValueError(f"--evidence is about metrics, not {', '.join(chosen)}; use assay list metrics --evidence")
        return _evidence(asked.evidence, asked.results)
    if declared := {_group(kind) for kind in chosen} - {*FILES}:
        discover(*(["datasets/*.py"] if declared == {"dataset"} else []))
    for kind in chosen:
        _print_table(kind)
    return 0


def _evidence(metric: str, results: Path | None) -> int:
    from ..report.evidence import gathered, published_tables
    from ..report.metrics_board import about
    from ..report.tables import PUBLISHED

    discover()
    folder = results or PUBLISHED
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; give a folder of results folders with --results DIR")
    if metric:
        METRICS[metric]  # raises LookupError for an unknown one
    found = gathered(published_tables(folder))
    for name in [metric] if metric else sorted({row.partition("(")[0] for row in found.rows}):
        print("\n".join(about(found, name)))
    return 0


def _print_table(kind: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=kind, title_justify="left", box=None, pad_edge=False)
    for column in ("name", "better", "kind"):
        table.add_column(column, no_wrap=True)
    for column in ("options", "source or first line"):
        table.add_column(column, overflow="fold")
    for row in _rows(kind):
        table.add_row(*row)
    Console(highlight=False).print(table, markup=False)


def _plural(group: str) -> str:
    return "studies" if group == "study" else group if group == LISTS else f"{group}s"


def _group(kind: str) -> str:
    return "study" if kind == "studies" else kind if kind == LISTS else kind.removesuffix("s")


def _rows(kind: str) -> list[tuple[str, ...]]:
    if _group(kind) in FILES:
        files = sorted((CONFIGS / _group(kind)).glob("*.yaml"))
        about = [next(line for line in file.read_text().splitlines() if "@package" not in line) for file in files]
        return [(file.stem, "", "", "", line.lstrip("# ")) for file, line in zip(files, about, strict=True)]
    rows: list[tuple[str, ...]] = []
    for name, entry in sorted(GROUPS[_group(kind)].items()):
        options = ", ".join(_option(key, value, entry.types[key]) for key, value in entry.options.items())
        first_line = (entry.function.__doc__ or "").strip().splitlines()[:1]
        metric = kind == "metrics"
        rows.append((
            name, entry.better if metric else "", entry.kind if metric else "", options,
            entry.source if metric else "".join(first_line),
        ))  # fmt: skip
    return rows


def _option(name: str, default: Any, declared: Any) -> str:
    allowed = limits(declared)
    return f"{name}={default}" + (f" ({allowed})" if allowed else "")
