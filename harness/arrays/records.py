"""Records on disk, one line of JSON each, so that a diff shows only changed science.

A run writes `records/<metric>-<digest>.json`, a file a record, so that several processes can share a folder. `pack`
joins them into one `records.jsonl`, which is what results/ has. Both are read; a file counts before a line.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..core.files import digest, replace
from ..core.protocols import Cell, Estimate, Record, Row, View
from .schema2 import upgraded

SCHEMA = 3
NUMBERS = ("value", "low", "high", "n", "missing")
"""What stands behind the keys in each row of a record."""


def record_name(cell: Cell) -> str:
    """The name of a cell's record: that of the question, so that a new answer replaces the old one."""
    question = (cell.experiment, cell.dataset, cell.generator, cell.label, cell.seed, cell.n)
    return f"{cell.metric}-{digest(*question)[:16]}.json"


def write_record(folder: Path, record: Record) -> None:
    replace(folder / "records" / record_name(record.cell), _line(record).encode())


def find_record(folder: Path, cell: Cell) -> Record | None:
    """The record of a cell; None when there is none, or what is there is not a whole record."""
    path = folder / "records" / record_name(cell)
    if path.is_file():
        return _parse(path.read_text())
    return _packed(folder).get(record_name(cell))


def read_records(folder: Path) -> list[Record]:
    """Records of a run in the order of their names. Raises FileNotFoundError when the run has none at all."""
    found: dict[str, Record | None] = {**_packed(folder)}
    for path in (folder / "records").glob("*.json"):
        record = _parse(path.read_text())
        found[record_name(record.cell) if record else path.name] = record
    whole = [record for _, record in sorted(found.items()) if record is not None]
    if not whole:
        raise FileNotFoundError(f"no records in {folder}; `assay run` makes them")
    return whole


def pack(folder: Path) -> None:
    """Write all records of a folder into its records.jsonl, and remove their files."""
    files = list((folder / "records").glob("*.json"))
    replace(folder / "records.jsonl", "".join(map(_line, read_records(folder))).encode())
    for path in files:
        path.unlink()
    if (folder / "records").is_dir() and not any((folder / "records").iterdir()):
        (folder / "records").rmdir()


def upgrade(folder: Path) -> None:
    """Write the record files of the first release anew, under the names of today."""
    for path in list((folder / "records").glob("*.json")):
        text = path.read_text()
        record = _parse(text) if '"schema": 2' in text else None
        if record is not None:
            write_record(folder, record)
            if path.name != record_name(record.cell):
                path.unlink()


def _packed(folder: Path) -> Mapping[str, Record]:
    """The records of records.jsonl by name."""
    path = folder / "records.jsonl"
    if not path.is_file():
        return {}
    status = path.stat()
    return _parsed(path, status.st_size, status.st_mtime_ns)


@lru_cache(2)
def _parsed(path: Path, size: int, modified: int) -> Mapping[str, Record]:
    """The records of a file that is read once as long as it does not change."""
    records = map(_parse, path.read_text().splitlines())
    return {record_name(record.cell): record for record in records if record is not None}


def _line(record: Record) -> str:
    fields = {"schema": SCHEMA} | dataclasses.asdict(record) | {"inputs": dict(sorted(record.inputs.items()))}
    fields["rows"] = [[*row.keys, row.estimate.value, *row.estimate.interval, *row.estimate[2:]] for row in record.rows]
    return json.dumps(_plain(fields), allow_nan=False, ensure_ascii=False) + "\n"


def _parse(text: str) -> Record | None:
    try:
        fields = json.loads(text)
        if fields["schema"] == 2:
            return upgraded(fields)
        if fields.pop("schema") != SCHEMA:
            return None
        cell = fields.pop("cell")
        views = {name: View(**view) for name, view in cell.pop("views").items()}
        rows = [_row(row, len(fields["columns"])) for row in fields.pop("rows")]
        return Record(cell=Cell(**cell, views=views), rows=rows, **fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _row(row: Sequence[Any], keys: int) -> Row:
    value, low, high, n, missing = row[keys:]
    value, low, high = (math.nan if number is None else number for number in (value, low, high))
    return Row(tuple(row[:keys]), Estimate(value, (low, high), n, missing))


def _plain(value: Any) -> Any:
    """JSON knows neither NaN nor tuples: undefined numbers become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
