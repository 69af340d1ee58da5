"""The files of tables for papers: of each a .tex, and where a paper prints numbers beside ours a .csv of both."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ...arrays.records import line as line_of
from ...core.columns import NUMBERS
from ...core.escapes import for_csv, in_one_line
from ...core.files import replace, require_inside
from ...core.protocols import Record
from ...core.registry import unknown
from ..conditions import computed_with, conditions
from ..tables import printed_in_papers, tables
from .cells import CELL, Grid, grid
from .render import rendered
from .spec import Spec, read_specs

DESCRIBED = Path(__file__).parents[3] / "configs" / "paper"
FOLDER = "paper"


class Written(NamedTuple):
    """paths: what was written; refused: a line for each table that cannot be made of these records."""

    paths: Sequence[Path]
    refused: Sequence[str]


def described(folder: Path) -> Path:
    """The file that describes the tables of an experiment, by the name of its results folder; it need not exist."""
    return DESCRIBED / f"{folder.resolve().name}.yaml"


def write_paper(folder: Path, records: Sequence[Record], description: Path, out: Path | None = None) -> Written:
    """Write <folder>/paper/<name>.tex for each table of a description, from records alone.

    Raises ValueError for a wrong description. A table that cannot be made leaves no file of an earlier one.
    """
    if out is None:
        require_inside(folder, FOLDER)
        out = folder / FOLDER
    made, refused = paper_files(read_specs(description), records, description.name)
    for name, content in made.items():
        replace(out / name, content)
    for name in refused:
        for suffix in (".tex", ".csv"):
            (out / f"{name}{suffix}").unlink(missing_ok=True)
    return Written(
        [out / name for name in made], [f"table {name} was not made: {why}" for name, why in refused.items()]
    )


def paper_files(
    specs: Sequence[Spec], records: Sequence[Record], description: str
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files by name, and of tables that cannot be made the reason. description: the name of its file."""
    frames, made, refused = tables(records), dict[str, bytes](), dict[str, str]()
    by = {_key(record): conditions(record) for record in records if record.kind != "study"}
    if "metrics" in frames:  # with those that failed, which the leaderboard leaves out
        frames["leaderboard"] = frames["metrics"][frames["metrics"].kind == "set"]
    for spec in specs:
        try:
            if spec.table not in frames:
                raise ValueError(unknown("table", spec.table, sorted(frames)))
            found = grid(spec, frames[spec.table], printed_in_papers(spec.papers), by)
        except ValueError as error:
            refused[spec.name] = str(error)
            continue
        lines = [*_head(spec, _behind(spec, found, records), description), *rendered(spec, found), ""]
        made[f"{spec.name}.tex"] = "\n".join(lines).encode()
        if any(cell.source for cells in found.cells for cell in cells):
            made[f"{spec.name}.csv"] = _csv(found)
    return made, refused


def _key(record: Record) -> tuple[Any, ...]:
    """What CELL tells of a row of a metric."""
    cell = record.cell
    return cell.dataset, cell.generator, cell.seed, cell.n, cell.label


def _behind(spec: Spec, found: Grid, records: Sequence[Record]) -> list[Record]:
    """The records that the numbers are from: of a study all of its table."""
    if "status" not in found.used:
        return [record for record in records if record.kind == "study" and record.cell.metric == spec.table]
    used = set(found.used[list(CELL)].itertuples(index=False, name=None))
    return [record for record in records if record.kind != "study" and _key(record) in used]


def _head(spec: Spec, records: Sequence[Record], description: str) -> list[str]:
    """Comments: how the table was made, of which records, and with what these were computed."""
    content = hashlib.sha256(b"".join(sorted(map(line_of, records)))).hexdigest()
    experiments = sorted({record.cell.experiment for record in records})
    versions = sorted({f"{record.cell.metric} {record.version}" for record in records})
    called = " and ".join(
        f"assay run experiment={name}" if (DESCRIBED.parent / "experiment" / f"{name}.yaml").is_file() else name
        for name in experiments
    )
    lines = [
        f"Table {spec.name} of {description}, made by: assay paper DIR {description}",
        f"Records: {len(records)} of {called}, sha256 {content}",
        f"Versions: {', '.join(versions)}. Computed with {computed_with(records)}",
        r"Needs \usepackage{booktabs}. Made by a program: change the description, not this file.",
    ]
    return [f"% {in_one_line(text)}" for text in lines]


def _csv(found: Grid) -> bytes:
    """Every number of a table that has printed ones, with all its digits: a row each."""
    rows = []
    for row, cells in zip(found.rows, found.cells, strict=True):
        for column, cell in zip(found.columns, cells, strict=True):
            if not cell.measured:
                continue
            numbers = (cell.estimate.value, *cell.estimate.interval)
            titles = [" / ".join(row.titles), " / ".join(column.titles), cell.source or "these records"]
            shown = ["" if math.isnan(value) else f"{value:.6g}" for value in numbers]
            rows.append([*map(for_csv, titles), *shown, str(cell.estimate.n or ""), for_csv(cell.why)])
    frame = pd.DataFrame(rows, columns=["row", "column", "from", *NUMBERS, "n", "note"])
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text.encode()
