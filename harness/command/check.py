"""What is wrong with a results folder, which may come from elsewhere: `assay check`. Nothing is written."""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..arrays.records import Entry, entries, read_records, record_name
from ..core.escapes import for_terminal
from ..core.files import canonical
from ..core.protocols import Estimate, Record
from ..core.registry import METRICS, STUDIES, discover
from ..report.tables import table_files, tables
from ..run import label
from ..stats import intervals

CLOSE = 1e-6
"""By what share a number may differ from the same one computed again, which sums in another order."""


def main(arguments: Sequence[str]) -> int:
    """The command. Prints a line for each thing that is wrong; 1 where there is one."""
    parser = argparse.ArgumentParser(
        prog="assay check",
        description="Check a results folder: every record's schema, version, digest, name and numbers, and whether "
        "tables and scores are those of the records. A line for each thing that is wrong, and exit code 1.",
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("outputs/run"), metavar="DIR")
    folder = parser.parse_args(list(arguments)).folder
    discover()
    found = list(findings(folder))
    for line in found:
        print(for_terminal(line))
    known = [entry for entry in entries(folder) if entry.record]
    without = sum(not entry.sealed for entry in known)
    if without:
        print(f"{without:,} of {len(known):,} records have no digest: an earlier release wrote them, so nobody can "
              "tell whether they were changed since")  # fmt: skip
    print(f"{len(known):,} records, {len(found):,} things wrong")
    return 1 if found else 0


def findings(folder: Path) -> Iterator[str]:
    """A line for each thing that is wrong. Raises FileNotFoundError where there is no record at all."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    all_of_it = entries(folder)
    if not all_of_it:
        read_records(folder)
    for entry in all_of_it:
        where = entry.where.removeprefix(f"{folder}/")
        if entry.record is None:
            yield f"{where}: damaged: {entry.why}"
            continue
        if entry.why:
            yield f"{where}: {entry.why}"
        for why in [*_misnamed(entry), *_unlike_declared(entry.record), *_odd_numbers(entry.record)]:
            yield f"{where}: {why}"
    yield from _twice(folder, [entry for entry in all_of_it if entry.record])
    yield from _other_scores(folder)
    yield from _other_tables(folder)


def _misnamed(entry: Entry) -> Iterator[str]:
    """A file of a record has the name of its cell, and a label that of its options; of those of today's schema."""
    assert entry.record
    cell, path = entry.record.cell, Path(entry.where)
    if not entry.sealed:
        return
    if path.suffix == ".json" and path.name != record_name(cell):
        yield f"the record of this cell is called {record_name(cell)}: a copy, or its cell was changed"
    if entry.record.status == "failed":
        return
    if entry.record.kind == "study":
        if cell.label != label(cell.metric, {}, dict(sorted(cell.params.items()))):
            yield f"its label {cell.label!r} is not that of its setting"
        return
    declared = METRICS.get(cell.metric)
    usual = {} if declared is None else _listed(declared.options)
    named = {key: value for key, value in cell.params.items() if usual.get(key, value) != value}
    for key, value in named.items():
        if f"{key}={value}" not in cell.label:
            yield f"its label {cell.label!r} lacks {key}={value}"


def _listed(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}


def _unlike_declared(record: Record) -> Iterator[str]:
    """What a record says of its metric or study, against what this release says."""
    name = record.cell.metric
    if record.status == "failed":
        return
    if record.kind == "study":
        study = next((study for study in STUDIES.values() if name in study.tables), None)
        if study is None:
            yield f"table {name!r} is of no study that is known here"
        elif record.version != study.version:
            yield f"{study.name} has version {study.version} here, and this record {record.version}"
        elif tuple(record.columns) != tuple(study.tables[name]):
            yield f"its columns are {', '.join(record.columns)}; those of {name} are {', '.join(study.tables[name])}"
        return
    metric = METRICS.get(name)
    if metric is None:
        yield f"metric {name!r} is not known here"
    elif record.version != metric.version:
        yield f"{name} has version {metric.version} here, and this record {record.version}: another definition"
    else:
        for field in ("kind", "better", "source"):
            recorded, declared = getattr(record, field), getattr(metric, field)
            if recorded != declared:
                yield f"it says {field}={recorded!r}; {name} has {declared!r}"


def _odd_numbers(record: Record) -> Iterator[str]:
    """Numbers that cannot be as they are, whatever was measured."""
    rows = [*record.rows, *(record.floor.rows if record.floor else ())]
    for row in rows:
        value, (low, high), n, missing = row.estimate
        what = " ".join(map(str, row.keys))
        if math.isnan(low) != math.isnan(high) or low > high:
            yield f"{what}: the interval from {low:g} to {high:g} is not possible"
        elif record.kind != "study" and not math.isnan(low):
            beyond = CLOSE * max(1.0, abs(value))
            if not low - beyond <= value <= high + beyond:
                yield f"{what}: {value:g} is not in its interval from {low:g} to {high:g}"
        if record.kind == "sample" and n + missing != record.cell.n:
            yield f"{what}: {n:,} values and {missing:,} without one are not the {record.cell.n:,} samples"
    if record.status == "ok" and record.kind != "study" and not record.rows:
        yield "it has no numbers"
    for name, counts in record.samples.items():
        if counts.get("used", 0) > counts.get("found", math.inf):
            yield f"{name}: {counts['used']:,} samples used of {counts['found']:,}"


def _twice(folder: Path, known: Sequence[Entry]) -> Iterator[str]:
    """One answer under two names: a file and a line of one cell that differ, or a copy that is counted as another."""
    cells: dict[str, Entry] = {}
    answers: dict[str, Entry] = {}
    for entry in known:
        record, where = entry.record, entry.where.removeprefix(f"{folder}/")
        assert record
        first = cells.setdefault(record_name(record.cell), entry)
        if first is not entry and repr(first.record) != repr(record):
            yield f"{where}: {first.where.removeprefix(f'{folder}/')} has another answer to the same question"
        read_samples = any(view.source == "fake" for view in record.cell.views.values())
        if record.status != "ok" or record.kind == "study" or not record.inputs or not read_samples:
            continue
        asked = (record.cell.metric, record.version, record.cell.params, record.cell.n, dict(record.inputs))
        first = answers.setdefault(canonical(asked), entry)
        assert first.record
        about = (record.cell.generator, record.cell.dataset)
        if first is not entry and (first.record.cell.generator, first.record.cell.dataset) != about:
            there = f"{first.record.cell.generator} on {first.record.cell.dataset}"
            yield f"{where}: {about[0]} on {about[1]} have the same samples as {there}: one result is counted twice"


def _other_scores(folder: Path) -> Iterator[str]:
    """Means of scores.parquet that are not those of the records."""
    file = folder / "scores.parquet"
    if not file.is_file():
        return
    try:
        table = pd.read_parquet(file)
        about = table[["dataset", "generator", "seed"]]
    except (OSError, ValueError, KeyError) as error:
        yield f"scores.parquet: damaged: {' '.join(str(error).split())[:200]}"
        return
    for record in _records(folder):
        cell = record.cell
        if record.kind != "sample" or record.status == "failed" or cell.label not in table:
            continue
        rows = (about == [cell.dataset, cell.generator, cell.seed]).all(axis=1)
        scores = torch.from_numpy(table[rows][cell.label].to_numpy(np.float64).copy())
        for estimate in record.values.values():
            if len(scores) == cell.n and not _equal(intervals.mean(scores), estimate):
                yield (
                    f"scores.parquet: the mean of {cell.label} of {cell.generator}, seed {cell.seed}, is "
                    f"{float(scores.nanmean()):.6g}; the record says {estimate.value:.6g}"
                )


def _equal(one: Estimate, other: Estimate) -> bool:
    pairs = zip((one.value, *one.interval), (other.value, *other.interval), strict=True)
    return all((math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=CLOSE, abs_tol=1e-9) for a, b in pairs)


def _other_tables(folder: Path) -> Iterator[str]:
    """Tables on disk that are not those of the records."""
    for path, content in table_files(tables(_records(folder)), folder):
        if path.is_file() and path.read_bytes() != content:
            yield f"{path.relative_to(folder)}: not the table of these records; `assay report` makes it again"


def _records(folder: Path) -> list[Record]:
    try:
        return read_records(folder)
    except FileNotFoundError:
        return []
