"""Records on disk, one line of JSON each, so that a diff shows only changed science.

A run writes `records/<metric>-<digest>.json`, a file a record, so that several processes can share a folder. `pack`
joins them into one `records.jsonl`, which is what results/ has, or into `records.jsonl.xz` where that would be large.
All are read; a file counts before a line. Files of the first release have other names, since the labels of their cells
were others.

Each has a digest of all else in it. One that was changed since has the status "edited": it is shown as such, ranked by
nothing, and computed again. Those of earlier releases have no digest.
"""

import dataclasses
import json
import lzma
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..core.escapes import for_json
from ..core.files import digest, replace
from ..core.locks import one_at_a_time
from ..core.protocols import Cell, Record, Row
from .schema2 import upgraded
from .schema3 import SCHEMA, record_of

USED = "metric "
"""Before the name of a metric, in the inputs of a study; the value is its version."""
PACKED, ZIPPED = "records.jsonl", "records.jsonl.xz"
LARGE = 2_000_000
"""Bytes of records from which on `pack` compresses them: those of one experiment then take a tenth of a repository."""
MOST = 1 << 30
"""Bytes that a compressed file may hold: it may be anybody's, and a small one can hold more than the memory."""
MEMORY = 1 << 28
"""Bytes of memory that it may need to be read."""
TRIES = 3
"""Times that tables are made again at once because other processes wrote records meanwhile."""
EDITED = "edited: it was changed after it was written, so its digest is another one"
T = TypeVar("T")


class Entry(NamedTuple):
    """What stands in a file of records, or in a line of one.

    record: None where it is damaged. why: what is wrong with it, "" where nothing is. sealed: whether it has a digest.
    text: as it stands there, where it cannot be written again from the record.
    """

    where: str
    record: Record | None
    why: str = ""
    sealed: bool = False
    text: bytes = b""


def record_name(cell: Cell) -> str:
    """The name of a cell's record: that of the question, so that a new answer replaces the old one."""
    question = (cell.experiment, cell.dataset, cell.generator, cell.label, cell.seed, cell.n)
    return f"{cell.metric}-{digest(*question)[:16]}.json"


def write_record(folder: Path, record: Record) -> None:
    replace(folder / "records" / record_name(record.cell), line(record))


def find_record(folder: Path, cell: Cell) -> Record | None:
    """The record of a cell; None when there is none, or what is there is not a whole record."""
    name = record_name(cell)
    own = _read(folder / "records" / name)
    if own and own[0].record and record_name(own[0].record.cell) == name:
        return own[0].record
    other = _otherwise_named(folder).get(name)
    for entry in _read(other) if other else ():
        if entry.record and record_name(entry.record.cell) == name:
            return entry.record
    for packed in _packs(folder):
        if (found := _named(packed, *_status(packed)).get(name)) is not None:
            return found
    return None


@lru_cache(maxsize=64)
def _otherwise_named(folder: Path) -> Mapping[str, Path]:
    """Files of the first release by the names that their records have today, as a process first finds them.

    To look again for each cell would take a time that grows with the square of their number.
    """
    found = {}
    for path in _files(folder):
        for entry in _read(path):
            if entry.record and record_name(entry.record.cell) != path.name:
                found[record_name(entry.record.cell)] = path
    return found


@lru_cache(maxsize=8)
def _named(packed: Path, *status: int) -> Mapping[str, Record]:
    return {record_name(entry.record.cell): entry.record for entry in _read(packed) if entry.record}


def read_records(folder: Path) -> list[Record]:
    """Records of a run in the order of their names; damaged ones are not among them.

    Raises FileNotFoundError when the run has none at all.
    """
    found = _by_name(folder)
    if not found:
        damaged = [f"{entry.where} is damaged: {entry.why}" for entry in entries(folder)]
        raise FileNotFoundError(f"no records in {folder}; {damaged[0] if damaged else '`assay run` makes them'}")
    return [entry.record for _, entry in sorted(found.items()) if entry.record]


def entries(folder: Path) -> list[Entry]:
    """All that stands in the files of records of a folder, whole or not."""
    return [entry for path in (*reversed(_packs(folder)), *_files(folder)) for entry in _read(path)]


def agreeing(folder: Path, write: Callable[[], T]) -> T:
    """Call what makes files of all records of a folder, so that at the end these are of the records that are there.

    One process at a time; where locks are not seen by other hosts, again when there are other records at the end.
    """
    if not folder.is_dir():
        return write()
    with one_at_a_time(folder):
        for _ in range(TRIES):
            before = _state(folder)
            made = write()
            if _state(folder) == before:
                break
    return made


def _state(folder: Path) -> list[tuple[Path, tuple[int, ...]]]:
    return [(path, _status(path)) for path in (*_packs(folder), *_files(folder))]


def _status(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _packs(folder: Path) -> list[Path]:
    """Files of many records, the one that counts first."""
    return [path for path in (folder / PACKED, folder / ZIPPED) if path.exists()]


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "records").glob("[!.]*.json"))


def pack(folder: Path) -> None:
    """Write all records of a folder into one file, and remove the others, but for those of damaged and edited ones.

    The same records give the same bytes, compressed or not. Raises ValueError where such a file cannot be read.
    """
    for path in _packs(folder):
        for entry in _read(path):
            if entry.where == str(path):
                raise ValueError(f"{path} is damaged, {entry.why}; remove it, or bring back the whole file")
    fine = [path for path in _files(folder) if any(not entry.text for entry in _read(path))]
    content, name = packed(folder), PACKED
    if len(content) > LARGE:
        content, name = lzma.compress(content), ZIPPED
    others = [path for path in _packs(folder) if path.name != name]
    replace(folder / name, content)
    for path in (*fine, *others):
        path.unlink()
    if (folder / "records").is_dir() and not any((folder / "records").iterdir()):
        (folder / "records").rmdir()


def packed(folder: Path) -> bytes:
    """The content of one records.jsonl for all records of a folder. What is damaged or edited there stays as it is."""
    whole = [line(entry.record) for _, entry in sorted(_by_name(folder).items()) if entry.record and not entry.text]
    kept = [
        entry.text + b"\n"
        for path in _packs(folder)
        for entry in _read(path)
        if entry.text and entry.where != str(path)
    ]
    return b"".join([*whole, *kept])


def _by_name(folder: Path) -> dict[str, Entry]:
    """All records of a folder. Of two of the same cell a file counts before a line, and one of its own name most."""
    found = [(entry, record_name(entry.record.cell)) for entry in entries(folder) if entry.record]
    own = {name: entry for entry, name in found if name == Path(entry.where).name}
    return {name: entry for entry, name in found} | own


def _read(path: Path) -> Sequence[Entry]:
    """What is in a file, one record a line; that of the first release is one over many lines."""
    status = _status(path)
    return _parsed(path, *status) if status else ()


@lru_cache(maxsize=4096)
def _parsed(path: Path, *status: int) -> Sequence[Entry]:
    """A file that has not changed is parsed once per process."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        return (Entry(str(path), None, error.strerror or str(error), text=b"?"),)
    if path.name == ZIPPED:
        try:
            content = _unzipped(content)
        except (ValueError, lzma.LZMAError) as error:
            return (Entry(str(path), None, str(error), text=b"?"),)
    elif path.suffix != ".jsonl":
        return (_entry(content, str(path)),)
    lines = enumerate(content.split(b"\n"), 1)
    return [_entry(text, f"{path}, line {number}") for number, text in lines if text.strip()]


def _unzipped(content: bytes) -> bytes:
    """Raises ValueError for a file that is cut off, is followed by something else or holds more than MOST bytes."""
    press = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
    found = press.decompress(content, MOST)
    if not press.eof and not press.needs_input:
        raise ValueError(f"it holds more than {MOST:,} bytes")
    if not press.eof or press.unused_data:
        raise ValueError("it is cut off, or more than one compressed file")
    return found


def line(record: Record) -> bytes:
    """A record as a line of JSON. A row is a list of its keys, value, low, high, n and missing."""
    fields = {"schema": SCHEMA} | dataclasses.asdict(record) | {"inputs": dict(sorted(record.inputs.items()))}
    fields["rows"] = list(map(_flat, record.rows))
    if record.floor is not None:
        fields["floor"]["rows"] = list(map(_flat, record.floor.rows))
    for name in ("samples", "floor"):  # older records have neither
        if not fields[name]:
            del fields[name]
    plain = _plain(fields)
    plain["digest"] = digest(plain)
    return json.dumps(plain, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _entry(text: bytes, where: str) -> Entry:
    try:
        fields = json.loads(text)
        if fields["schema"] == 2:
            return Entry(where, upgraded(fields))
        if fields["schema"] != SCHEMA:
            raise ValueError(f"schema {fields['schema']!r} is not known here; this release reads {SCHEMA} and 2")
        recorded = fields.pop("digest", None)
        edited = recorded is not None and recorded != digest(fields)
        del fields["schema"]
        record = record_of(fields)
    except RecursionError:
        return Entry(where, None, "its lists are too deep", text=text)
    except (TypeError, KeyError, AttributeError):
        return Entry(where, None, "it is no record", text=text)
    except ValueError as error:
        return Entry(where, None, " ".join(str(error).split())[:300], text=text)
    if edited:
        return Entry(where, dataclasses.replace(record, status="edited"), EDITED, True, text)
    return Entry(where, record, sealed=recorded is not None)


def _flat(row: Row) -> list[Any]:
    return [*row.keys, *map(float, (row.estimate.value, *row.estimate.interval)), *row.estimate[2:]]


def _plain(value: Any) -> Any:
    """JSON knows neither NaN nor tuples, and UTF-8 no halves of pairs: undefined numbers become null."""
    if isinstance(value, Mapping):
        return {for_json(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return for_json(value) if isinstance(value, str) else value
