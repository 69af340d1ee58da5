"""Records on disk: one sorted JSON file a record, so that a diff shows only changed science."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.files import digest, replace
from ..core.protocols import Cell, Estimate, Record, View

SCHEMA = 2


def record_path(folder: Path, cell: Cell) -> Path:
    """Where the record of a cell lies: named by the question, so that a new answer replaces the old one."""
    question = (cell.experiment, cell.dataset, cell.generator, cell.label, cell.seed, cell.n)
    return folder / "records" / f"{cell.metric}-{digest(*question)[:16]}.json"


def write_record(path: Path, record: Record) -> None:
    fields = _plain(dataclasses.asdict(record))
    replace(path, (json.dumps(fields, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def read_record(path: Path) -> Record | None:
    """The record in a file; None when there is none, or what is there is not a whole record of this schema."""
    try:
        fields = json.loads(path.read_text())
        if fields["schema"] != SCHEMA:
            return None
        fields["views"] = {name: View(**view) for name, view in fields["views"].items()}
        fields["values"] = {name: _estimate(**estimate) for name, estimate in fields["values"].items()}
        return Record(**fields)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def read_records(folder: Path, since: float = 0.0) -> list[Record]:
    """Records of a run in the order of their file names, or those written `since` a time (seconds of the epoch).

    Raises FileNotFoundError when the run has none at all.
    """
    paths = sorted((folder / "records").glob("*.json"))
    records = [read_record(path) for path in paths if path.stat().st_mtime >= since]
    whole = [record for record in records if record is not None]
    if not whole and not since:
        raise FileNotFoundError(f"no records in {folder / 'records'}; `assay run` makes them")
    return whole


def _plain(value: Any) -> Any:
    """JSON knows neither NaN nor tuples: undefined numbers become null, estimates become mappings."""
    if isinstance(value, Estimate):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _estimate(value: float | None, interval: list[float | None], n: int, missing: int) -> Estimate:
    low, high = (math.nan if bound is None else bound for bound in interval)
    return Estimate(math.nan if value is None else value, (low, high), n, missing)
