"""The images in a column of a table: Parquet files, and Arrow files as Hugging Face `datasets` saves them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .spans import BEGIN, Span, Spans, suffix_of
from .unpacked import unpacked_rows

IMAGE_COLUMNS = ("image", "img", "images", "jpg", "png", "bytes", "image_bytes", "data")
LABEL_COLUMNS = ("label", "labels", "class", "target", "cls", "fine_label", "y")
"""Names of columns that are looked for, in this order."""
BATCH = 64
"""Number of rows in memory."""
UNDECODED = ".png"
"""The suffix of a row that begins as no image does: reading it as one names the row."""


class Column(NamedTuple):
    """images, labels: names of columns, of which the second may be missing; inner: whether images are {bytes, path};
    classes: names of the class numbers.
    """

    images: str
    labels: str | None
    inner: bool
    classes: list[str]


def open_tables(top: Path, shards: Sequence[tuple[Path, str]]) -> Spans:
    """The images of Parquet or Arrow files; each comes with what stands before the names of its rows.

    Raises ValueError, in one line, for a damaged file, one without a column of images, or a row without one.
    """
    sources = [path for path, _ in shards]
    columns = [_columns(path) for path in sources]
    if len({column[1:] != columns[0][1:] for column in columns}) > 1 or any(
        c.classes != columns[0].classes for c in columns
    ):
        raise ValueError(f"{top}: its files have different columns; give a folder of files with the same")

    def rows() -> Iterator[tuple[bytes, str, int | str | None]]:
        for (path, before), column in zip(shards, columns, strict=True):
            for number, (content, label) in enumerate(_rows(path, column)):
                suffix = suffix_of(content[:BEGIN]) or UNDECODED
                yield content, f"{before}{number:09}{suffix}", label

    kept = unpacked_rows(top, sources, rows)
    begins = np.cumsum(kept.lengths) - kept.lengths
    spans = zip(kept.names, begins.tolist(), kept.lengths.tolist(), strict=True)
    return Spans(top, ((kept.file, Span(*span)) for span in spans), kept.labels, columns[0].classes)


def _columns(path: Path) -> Column:
    schema = _schema(path)
    found = {field.name: field.type for field in schema}
    binary = [name for name, kind in found.items() if _is_binary(kind) or _is_struct(kind)]
    image = next((name for name in IMAGE_COLUMNS if name in binary), binary[0] if len(binary) == 1 else None)
    if image is None:
        several = f"several columns of bytes ({', '.join(binary)}); call that of the images `image`"
        raise ValueError(
            f"{path} has {several}" if binary else f"{path} has no column of encoded images; it has {', '.join(found)}"
        )
    label = next((name for name in LABEL_COLUMNS if name in found and _is_label(found[name])), None)
    return Column(image, label, _is_struct(found[image]), _class_names(schema, label))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_struct(kind: pa.DataType) -> bool:
    """Whether it is how Hugging Face keeps an image: its bytes, and the path where they are if they are elsewhere."""
    return (
        bool(pa.types.is_struct(kind)) and kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)
    )


def _is_label(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _class_names(schema: pa.Schema, label: str | None) -> list[str]:
    """Those that `datasets` writes into the schema; none where there are none."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        names = about["info"]["features"][label]["names"]
        return [str(name) for name in names] if isinstance(names, list) else []
    except (KeyError, ValueError, TypeError, RecursionError):
        return []


def _rows(path: Path, column: Column) -> Iterator[tuple[bytes, int | str | None]]:
    names = [column.images, *([column.labels] if column.labels else [])]
    number = 0
    for batch in _batches(path, names):
        images = batch.column(column.images)
        contents = images.field("bytes") if column.inner else images
        valid = images.is_valid() if column.inner else contents.is_valid()
        labels = batch.column(column.labels).to_pylist() if column.labels else [None] * len(contents)
        for content, there, label in zip(contents, valid, labels, strict=True):
            if not there.as_py() or not content.is_valid:
                where = "only its path, and not the image itself" if column.inner and there.as_py() else "no image"
                raise ValueError(f"{path}: row {number} has {where}; remove the row, or put the image's bytes into it")
            if label is None and column.labels:
                raise ValueError(f"{path}: row {number} has no {column.labels}; add it, or remove the column")
            number += 1
            yield content.as_py(), label


def _schema(path: Path) -> pa.Schema:
    try:
        if _is_parquet(path):
            return pq.read_schema(path)
        with pa.memory_map(str(path)) as file:
            return _reader(file).schema
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _batches(path: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        if _is_parquet(path):
            with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as table:
                yield from table.iter_batches(BATCH, columns=names, use_threads=False)
            return
        with pa.memory_map(str(path)) as file:
            reader = _reader(file)
            count = getattr(reader, "num_record_batches", None)
            for whole in reader if count is None else map(reader.get_batch, range(count)):
                yield from (whole.slice(start, BATCH) for start in range(0, len(whole), BATCH))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _reader(file: pa.NativeFile) -> Any:
    """`datasets` writes streams; other tools files, which can be read from the end."""
    return pa.ipc.open_file(file) if file.read(6) == b"ARROW1" else (file.seek(0), pa.ipc.open_stream(file))[1]


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _unreadable(path: Path, error: Exception) -> ValueError:
    why = (str(error) or type(error).__name__).splitlines()[0]
    kind = "a Parquet" if path.suffix == ".parquet" else "an Arrow"
    return ValueError(f"{path} cannot be read as {kind} file ({why}); it is cut off or damaged, so get it again")


def shard_name(path: Path, several: bool) -> str:
    """What stands before the numbers of a shard's rows."""
    return f"{PurePosixPath(path.name).stem}-" if several else ""
