"""Records as today's release writes them (schema 3): which fields there are, and what each may hold.

A record may be anybody's, so nothing is taken on trust: what a table, a page or a picture could not show is refused.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, get_args

from ..core.columns import RESERVED
from ..core.protocols import Better, Cell, Codes, Estimate, Floor, Record, Row, View
from ..core.registry import TABLE_NAME, is_table_name

SCHEMA = 3
LARGEST = 2**53
"""No number of samples, seed or version is larger."""
DEEPEST = 4
"""Lists and mappings within each other in an option."""


def record_of(fields: dict[str, Any]) -> Record:
    """The record in fields from JSON, without their schema. Raises ValueError that says what is wrong with which."""
    try:
        cell, rows, floor = fields.pop("cell"), fields.pop("rows"), fields.pop("floor", None)
        study = fields["kind"] == "study"
        columns = _shared(json.dumps(fields.pop("columns")), "columns")
        shared = {name: _shared(json.dumps(fields.pop(name, {})), name) for name in ("preprocessing", "numerics")}
        shared |= {name: _shared(json.dumps(fields.pop(name, {})), name) for name in ("samples", "inputs", "source")}
        record = Record(
            cell=_cell(cell, study, columns),
            rows=_rows(rows, columns),
            columns=columns,
            floor=None if floor is None else _floor(floor, columns),
            **shared,
            **fields,
        )
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from None
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None
    _check("kind", record.kind, record.kind in ("set", "sample", "study"))
    _check("better", record.better, record.better in get_args(Better))
    _check("status", record.status, record.status in ("ok", "failed"))
    _check("version", record.version, _is_whole(record.version))
    _check("error", record.error, (record.error is None) == (record.status == "ok"))
    _check("error", record.error, record.error is None or _is_text(record.error))
    if not study and tuple(columns) != ("name",):
        raise ValueError(f"columns={columns!r}: those of a metric are ['name']")
    if record.status == "failed" and record.rows:
        raise ValueError("it failed, and has numbers")
    return record


def _check(name: str, value: Any, fine: bool) -> None:
    if not fine:
        raise ValueError(f"{name}={repr(value)[:80]} is not a possible value")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value))


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    return value is None or (isinstance(value, (int, float)) and -LARGEST <= value <= LARGEST)


def _is_option(value: Any, deep: int = 0) -> bool:
    if isinstance(value, list):
        return deep < DEEPEST and all(_is_option(item, deep + 1) for item in value)
    if isinstance(value, dict):
        return deep < DEEPEST and all(_is_text(key) and _is_option(item, deep + 1) for key, item in value.items())
    return _is_scalar(value)


def _cell(fields: dict[str, Any], study: bool, columns: Sequence[str]) -> Cell:
    views, params = _views(json.dumps(fields.pop("views"))), fields.pop("params")
    cell = Cell(**fields, params=params, views=views)
    for name in ("experiment", "dataset", "generator", "metric", "label"):
        _check(name, getattr(cell, name), _is_text(getattr(cell, name)))
    _check("seed", cell.seed, _is_whole(cell.seed))
    _check("n", cell.n, _is_whole(cell.n))
    if not isinstance(params, dict):
        raise ValueError(f"params={params!r} is no mapping")
    for name, value in params.items():
        _check(name, value, _is_text(name) and (_is_scalar(value) if study else _is_option(value)))
    if study and not is_table_name(cell.metric):
        raise ValueError(TABLE_NAME.format(cell.metric[:80]))
    if study:
        _check_columns([*columns, *params])
    return cell


def _check_columns(names: Sequence[str]) -> None:
    for name in names:
        if name in RESERVED or names.count(name) > 1:
            raise ValueError(f"its table has a column {name!r} already")


@lru_cache(maxsize=4096)
def _views(text: str) -> Mapping[str, View]:
    """One object for all records whose views are the same."""
    views = {name: View(**view) for name, view in json.loads(text).items()}
    for name, view in views.items():
        _check("view", name, _is_text(name) and _is_text(view.space))
        _check("source", view.source, view.source in ("fake", "real", "holdout"))
        _check("n", view.n, view.n in ("all", "same", "moments") or _is_whole(view.n))
        _check("encode", view.encode, view.encode in [name for kind in get_args(Codes) for name in _names(kind)])
    return views


def _names(kind: Any) -> Sequence[str]:
    return get_args(kind) or (kind,)


@lru_cache(maxsize=4096)
def _shared(text: str, name: str) -> Any:
    """One object for all equal values: of 100,000 records most have the same source, preprocessing and numerics."""
    value = json.loads(text)
    if name == "source":
        _check(name, value, _is_text(value))
    elif name == "columns":
        _check(name, value, isinstance(value, list) and all(map(_is_text, value)) and len({*value}) == len(value))
    elif name == "samples":
        counts = (count for view in value.values() for count in view.values())
        _check(name, value, all(map(_is_whole, counts)) and all(map(_is_text, value)))
    else:
        _check(name, value, all(map(_is_text, [*value, *value.values()])))
    return value


def _floor(fields: dict[str, Any], columns: Sequence[str]) -> Floor:
    floor = Floor(**fields | {"rows": _rows(fields["rows"], columns)})
    _check("floor", floor.n, _is_whole(floor.n) and _is_text(floor.samples))
    _check("floor", floor.error, floor.error is None or _is_text(floor.error))
    return floor


def _rows(rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> list[Row]:
    found = [_row(row, len(columns)) for row in rows]
    if len({row.keys for row in found}) < len(found):
        raise ValueError("two of its rows have the same keys")
    return found


def _row(row: Sequence[Any], keys: int) -> Row:
    value, low, high, n, missing = row[keys:]
    _check("n", n, _is_whole(n))
    _check("missing", missing, _is_whole(missing))
    if not all(map(_is_scalar, row[:keys])):
        raise ValueError(f"{row[:keys]!r} cannot be the keys of a row"[:200])
    return Row(tuple(row[:keys]), Estimate(_number(value), (_number(low), _number(high)), n, missing))


def _number(value: Any) -> float:
    """An undefined number is null on disk."""
    if value is None:
        return math.nan
    if type(value) not in (int, float) or not abs(value) < math.inf:
        raise ValueError(f"{value!r} is not a number"[:200])
    return float(value)
