"""Which container of image files a path is: the content says so. All of them are then files by name."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from ...core.folders import Files, Folder, below, is_folder, open_files
from .lmdb import is_lmdb, lmdb_spans
from .spans import Span, Spans
from .tar import is_tar, tar_spans
from .unpacked import begin_of, unpacked_tar

PARQUET, ARROW, LMDB = b"PAR1", b"ARROW1", "data.mdb"
TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
SPLIT = re.compile(r"(?:^|[/._-])(train|test|val)(?:id|idation)?(?:ing)?(?=[/._-]|\d)")
"""In the name of a shard, the split that it belongs to."""
OTHERS = ("", ".json", ".txt", ".md", ".yaml", ".csv", ".idx", ".lock")
"""Suffixes of what may lie beside shards."""


def container_of(path: Path) -> str:
    """ "folder", "zip", "tar", "lmdb", "parquet" or "arrow"; nothing where a path is no container of image files."""
    if path.is_dir():
        return _of_folder(path)
    begin = begin_of(path)
    if begin.startswith(b"PK") and is_folder(path):
        return "zip"
    kinds = {"tar": is_tar(begin), "lmdb": is_lmdb(begin), "parquet": begin.startswith(PARQUET)}
    kinds["arrow"] = begin.startswith(ARROW) or path.suffix == ".arrow"
    return next((kind for kind, found in kinds.items() if found), "zip" if is_folder(path) else "")


def open_container(top: Path) -> Files:
    """The image files of a container. Raises ValueError, in one line, where it is damaged, or none."""
    kind = container_of(top)
    if kind in ("folder", "zip"):
        return open_files(top)
    shards = _shards(top, kind)
    if kind in ("parquet", "arrow"):
        from .tables import open_tables, shard_name  # pyarrow, which a machine may do without, is for these alone

        return open_tables(top, [(path, before + shard_name(path, len(shards) > 1)) for path, before in shards])
    if kind == "tar":
        return Spans(top, _inside(shards, lambda path: (unpacked_tar(path), tar_spans)), apart=_with)
    if kind == "lmdb":
        return Spans(top, _inside(shards, lambda path: (path, lmdb_spans)))
    raise ValueError(f"{top} is no folder and no container of images that assay reads")


def _of_folder(path: Path) -> str:
    if (path / LMDB).is_file():
        return "lmdb"
    kinds = set[str]()
    for name in below(path):  # up to the first that is no shard: a folder of images may have a million
        kind = next((kind for kind, suffixes in _SHARDS.items() if name.lower().endswith(suffixes)), "")
        if kind:
            kinds.add(kind)
        elif PurePosixPath(name).suffix.lower() not in OTHERS:
            return "folder"
    return kinds.pop() if len(kinds) == 1 else "folder"


_SHARDS = {"tar": TARS, "parquet": (".parquet",), "arrow": (".arrow",)}


def _shards(top: Path, kind: str) -> list[tuple[Path, str]]:
    """The files of a container, and what stands before the names in each: its split, where there are several."""
    if top.is_file():
        return [(top, "")]
    if kind == "lmdb":
        return [(top / LMDB, "")]
    names = [name for name in Folder(top).names if name.lower().endswith(_SHARDS[kind])]
    splits = [found.group(1) if (found := SPLIT.search(name.lower())) else "" for name in names]
    apart = "train" in splits and len(set(splits)) > 1
    return [(top / name, f"{split}/" if apart and split else "") for name, split in zip(names, splits, strict=True)]


Reads = Callable[[Path], Iterator[Span]]


def _inside(shards: list[tuple[Path, str]], read: Callable[[Path], tuple[Path, Reads]]) -> Iterator[tuple[Path, Span]]:
    for path, before in shards:
        place, spans = read(path)
        yield from ((place, span._replace(name=before + span.name)) for span in spans(place))


def _with(name: str, shard: Path) -> str:
    """The name of a file that several shards have, with that of its shard.

    A key of WebDataset ends at the first dot, so the shard comes before it: a/1.cls becomes a/1@shard.cls.
    """
    folder, _, last = name.rpartition("/")
    key, dot, rest = last.partition(".")
    return f"{folder}/{key}@{shard.stem}{dot}{rest}".lstrip("/")
