"""Records on disk, one line of JSON each, so that a diff shows only changed science.

A run writes `records/<metric>-<digest>.json`, a file a record, so that several processes can share a folder. `pack`
joins them into one `records.jsonl`, which is what results/ has. Both are read; a file counts before a line. Files of
the first release have other names, since the labels of their cells were others.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..core.files import digest, replace
from ..core.protocols import Cell, Estimate, Floor, Record, Row, Scalar, View
from .schema2 import upgraded

SCHEMA = 3
SHARED = ("columns", "preprocessing", "numerics", "samples", "source", "inputs")
"""Fields that many records of a folder have in common."""
USED = "metric "
"""Before the name of a metric, in the inputs of a study; the value is its version."""


def record_name(cell: Cell) -> str:
    """The name of a cell's record: that of the question, so that a new answer replaces the old one."""
    question = (cell.experiment, cell.dataset, cell.generator, cell.label, cell.seed, cell.n)
    return f"{cell.metric}-{digest(*question)[:16]}.json"


def write_record(folder: Path, record: Record) -> None:
    replace(folder / "records" / record_name(record.cell), _line(record).encode())


def find_record(folder: Path, cell: Cell) -> Record | None:
    """The record of a cell; None when there is none, or what is there is not a whole record."""
    name = record_name(cell)
    own = _read(folder / "records" / name)
    if own and record_name(own[0].cell) == name:
        return own[0]
    other = _otherwise_named(folder).get(name)
    for record in _read(other) if other else ():
        if record_name(record.cell) == name:
            return record
    packed = folder / "records.jsonl"
    return _named(packed, packed.stat().st_mtime_ns).get(name) if packed.exists() else None


@lru_cache(maxsize=64)
def _otherwise_named(folder: Path) -> Mapping[str, Path]:
    """Files of the first release by the names that their records have today, as a process first finds them.

    To look again for each cell would take a time that grows with the square of their number.
    """
    found = {}
    for path in sorted((folder / "records").glob("*.json")):
        for record in _read(path):
            if record_name(record.cell) != path.name:
                found[record_name(record.cell)] = path
    return found


@lru_cache(maxsize=8)
def _named(packed: Path, modified: int) -> Mapping[str, Record]:
    return {record_name(record.cell): record for record in _read(packed)}


def read_records(folder: Path) -> list[Record]:
    """Records of a run in the order of their names. Raises FileNotFoundError when the run has none at all."""
    found = _by_name(folder)
    if not found:
        raise FileNotFoundError(f"no records in {folder}; `assay run` makes them")
    return [record for _, record in sorted(found.items())]


def pack(folder: Path) -> None:
    """Write all records of a folder into its records.jsonl, and remove their files."""
    files = [path for path in (folder / "records").glob("*.json") if _read(path)]
    replace(folder / "records.jsonl", joined(read_records(folder)))
    for path in files:
        path.unlink()
    if (folder / "records").is_dir() and not any((folder / "records").iterdir()):
        (folder / "records").rmdir()


def joined(records: Iterable[Record]) -> bytes:
    """The content of a records.jsonl."""
    return "".join(map(_line, records)).encode()


def _by_name(folder: Path) -> dict[str, Record]:
    """All records of a folder. Of two of the same cell a file counts before a line, and one of its own name most."""
    files = sorted((folder / "records").glob("*.json"))
    read = [(path.name, record) for path in (folder / "records.jsonl", *files) for record in _read(path)]
    named = [(record_name(record.cell), name, record) for name, record in read]
    own = {name: record for name, file, record in named if name == file}
    return {name: record for name, _, record in named} | own


def _read(path: Path) -> Sequence[Record]:
    """The whole records in a file, one a line; that of the first release is one over many lines."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return _parsed(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _parsed(path: Path, modified: int, size: int) -> Sequence[Record]:
    """A file that has not changed is parsed once per process."""
    content = path.read_bytes()
    texts = content.split(b"\n") if path.suffix == ".jsonl" else [content]
    return [record for record in map(_parse, texts) if record is not None]


def _line(record: Record) -> str:
    """A record as JSON. A row is a list of its keys, value, low, high, n and missing."""
    fields = {"schema": SCHEMA} | dataclasses.asdict(record) | {"inputs": dict(sorted(record.inputs.items()))}
    fields["rows"] = list(map(_flat, record.rows))
    if record.floor is not None:
        fields["floor"]["rows"] = list(map(_flat, record.floor.rows))
    for name in ("samples", "floor"):  # older records have neither
        if not fields[name]:
            del fields[name]
    return json.dumps(_plain(fields), allow_nan=False, ensure_ascii=False) + "\n"


def _parse(text: bytes) -> Record | None:
    """A record from its JSON; None for what is not a whole record."""
    try:
        fields = json.loads(text)
        if fields["schema"] == 2:
            return upgraded(fields)
        if fields.pop("schema") != SCHEMA:
            return None
        cell = fields.pop("cell")
        views = _views(json.dumps(cell.pop("views")))
        for name in SHARED:
            if name in fields:
                fields[name] = _shared(json.dumps(fields[name]))
        rows = [_row(row, len(fields["columns"])) for row in fields.pop("rows")]
        floor = fields.pop("floor", None)
        if floor is not None:
            floor = Floor(**floor | {"rows": [_row(row, len(fields["columns"])) for row in floor["rows"]]})
        return Record(cell=Cell(**cell, views=views), rows=rows, floor=floor, **fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


@lru_cache(maxsize=4096)
def _views(text: str) -> Mapping[str, View]:
    """One object for all records whose views are the same."""
    return {name: View(**view) for name, view in json.loads(text).items()}


@lru_cache(maxsize=4096)
def _shared(text: str) -> Any:
    """One object for all equal values: of 100,000 records most have the same source, preprocessing and numerics."""
    return json.loads(text)


def _flat(row: Row) -> list[Any]:
    return [*row.keys, row.estimate.value, *row.estimate.interval, *row.estimate[2:]]


def _row(row: Sequence[Any], keys: int) -> Row:
    value, low, high, n, missing = row[keys:]
    value, low, high = (math.nan if number is None else float(number) for number in (value, low, high))
    return Row(tuple(map(_scalar, row[:keys])), Estimate(value, (low, high), int(n), int(missing)))


def _scalar(key: Any) -> Scalar:
    if not isinstance(key, Scalar):
        raise TypeError(f"{key!r} is no key of a row")
    return key


def _plain(value: Any) -> Any:
    """JSON knows neither NaN nor tuples: undefined numbers become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
