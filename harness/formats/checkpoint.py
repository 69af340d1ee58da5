"""Checkpoints of other people, read without running anything they contain.

The format is recognised from the content. Every pickle, alone or inside a torch file, goes through the inert reader of
`harness.formats.pickles`, and storages are taken from the file by this code: `torch.load` is not called, not even with
weights_only=True, because it fills a storage that the file leaves out with whatever was in memory (torch 2.13).
"""

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.files import digest, sha256_of
from ..core.folders import Folder
from .built import require_few_names
from .handed_on import hands_on
from .inert import Inert, require_shallow
from .pickles import LEGACY, Reader, legacy
from .settings import read_json
from .storages import Storage, allocate, fill
from .weights import own_metadata, read_safetensors

LIMIT, JSON = 16 * 2**30, 2**27
"""Most bytes that a file or folder may have, and the JSON in a folder."""
FOLDERS = ("model_index.json", "config.json", "specs.json")
"""What makes a folder a checkpoint: a diffusers pipeline, a diffusers or transformers model, DeepSDF."""
DEPTH, LENGTH, PARTS = 100, 1000, 1_000_000
"""How deep modules may be nested, how long dotted names may be, and how many modules and tensors there may be."""


class Checkpoint(NamedTuple):
    """What was in a file or folder.

    content: the unpickled object made of inert records, tensors, arrays and plain Python values; for a safetensors file
             its tensors by name; for TorchScript its tensors by dotted name; for a folder its JSON files by relative
             path.
    sha256:  of the file; for a folder of the names and sha256 of its files, hidden ones left out.
    card:    plain JSON: `format`, `bytes`, `keys` (names at the top), `names` (those that inert records stand for,
             counted), `sources` (sha256 of embedded source texts, and what they define); `family` in files of our own.
    """

    content: Any
    sha256: str
    card: dict[str, Any]


@hands_on
def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint file or folder.

    Raises ValueError, in one line, where it is none, is damaged or too large, or asks for more than its size.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise ValueError(f"{path} is no file or folder; give the path of a checkpoint")
    size = path.stat().st_size
    if size > LIMIT:
        raise ValueError(f"{path} has {size:,} bytes; checkpoints of at most {LIMIT:,} bytes are read")
    with path.open("rb") as file:
        head = file.read(32)
        file.seek(0)
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
            kind, read = "safetensors", _safetensors
        elif head[:4] == b"PK\x03\x04":
            kind, read = "torch zip", _zip
        elif head[:1] == b"\x80":
            kind, read = ("legacy torch", _legacy) if LEGACY in head else ("pickle", _pickle)
        else:
            raise ValueError(
                f"{path} is no checkpoint that assay reads: expected a torch file, a pickle of protocol 2 to 5, a "
                f"TorchScript archive, a safetensors file, or a folder with {', '.join(FOLDERS[:-1])} or {FOLDERS[-1]}"
            )
        try:
            content, card = read(file, size)
            require_shallow(content)
        except Exception as error:  # whatever a damaged or hostile file leads to
            why = "it asks for too much memory" if isinstance(error, MemoryError) else printable(str(error))
            raise ValueError(f"{path} cannot be read as a {kind} file: {why}") from None
    return Checkpoint(content, sha256_of(path), {"bytes": size, "keys": _keys(content), **card})


def tensors_of(module: Any) -> dict[str, Tensor]:
    """The state dict of an inert module: parameters and buffers by dotted name, contiguous, of the type in the file.

    A tensor with several names is one tensor. Raises ValueError when it is no module, contains itself, or has so many
    names for the same tensors that a network of them would take far more memory than they do.
    """

    def parts(module: Any) -> Iterator[tuple[Any, Any]]:
        state = module.state if isinstance(module, Inert) else None
        if not isinstance(state, dict):
            raise ValueError(f"{_kind(module)} is no module")
        groups = {name: state.get(name) or {} for name in ("_parameters", "_buffers", "_modules")}
        passing = state.get("_non_persistent_buffers_set", ())
        usual = all(isinstance(group, dict) for group in groups.values()) and isinstance(passing, set | tuple)
        if "_modules" not in state or not usual:
            raise ValueError(f"{_kind(module)} is no module")
        yield from groups["_parameters"].items()
        yield from ((name, value) for name, value in groups["_buffers"].items() if name not in passing)
        yield from groups["_modules"].items()

    return _dotted(module, parts)


def arguments_of(module: Any) -> dict[str, Any]:
    """The keyword arguments with which an inert record was made: those that NVIDIA's files keep, or those of the call.

    Raises ValueError when it is no record, or was made with arguments without names.
    """
    if not isinstance(module, Inert):
        raise ValueError(f"{_kind(module)} is no record of an object")
    state = module.state if isinstance(module.state, dict) else {}
    unnamed, named = state.get("_init_args", module.args), state.get("_init_kwargs", module.kwargs)
    if unnamed or not isinstance(named, dict):
        raise ValueError(f"{_kind(module)} was made with arguments that have no names")
    return dict(named)


def _attributes(module: Any) -> Iterator[tuple[Any, Any]]:
    """Parts of a TorchScript module: there they are attributes like all others."""
    if isinstance(module.state, dict):
        yield from ((name, value) for name, value in module.state.items() if isinstance(value, Tensor | Inert))


def _dotted(module: Any, parts: Callable[[Any], Iterator[tuple[Any, Any]]]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    once: dict[int, Tensor] = {}
    left = PARTS

    def walk(module: Any, prefix: str, depth: int) -> None:
        nonlocal left
        for name, value in parts(module):
            left -= 1
            if depth > DEPTH or left < 0:
                raise ValueError(f"modules nested more than {DEPTH} deep, or more than {PARTS:,} of them")
            if not isinstance(name, str) or len(prefix) + len(name) > LENGTH:
                raise ValueError(f"a module whose name is no text of at most {LENGTH} characters")
            if isinstance(value, Inert):
                walk(value, f"{prefix}{name}.", depth + 1)
            elif value is not None:
                if id(value) not in once:
                    once[id(value)] = _tensor(value)
                tensors[f"{prefix}{name}"] = once[id(value)]

    walk(module, "", 1)
    require_few_names(tensors)
    return tensors


def _tensor(value: Any) -> Tensor:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy(order="C"))
    if not isinstance(value, Tensor):
        raise ValueError(f"{_kind(value)} where a tensor must be")
    return value.contiguous()


def _kind(value: Any) -> str:
    return f"a record of {printable(value.name)}" if isinstance(value, Inert) else f"a {type(value).__name__}"


def printable(text: str) -> str:
    """The beginning of a text from a file as one line that a terminal can show."""
    return "".join(c if c.isprintable() else " " for c in text[:200])


def _keys(content: Any) -> list[str]:
    keys = content if isinstance(content, dict) else ()
    return sorted(printable(str(key)) for key in keys if isinstance(key, str | int))


def _card(kind: str, reader: Reader) -> dict[str, Any]:
    return {
        "format": kind,
        "names": {printable(name): count for name, count in sorted(reader.names.items())},
        "sources": {sha256: sorted(map(printable, names)) for sha256, names in sorted(reader.sources.items())},
    }


def _room(size: int) -> int:
    """Nested files, storages and tensors take a file's size each; the rest is for tensors that share memory."""
    return 6 * size + 2**24


def _safetensors(file: IO[bytes], size: int) -> tuple[Any, dict[str, Any]]:
    tensors, metadata = read_safetensors(Path(file.name))
    family = own_metadata(metadata).get("family")
    return tensors, {"format": "safetensors", **({} if family is None else {"family": str(family)})}


def _pickle(file: IO[bytes], size: int) -> tuple[Any, dict[str, Any]]:
    reader = Reader(_room(size))
    return reader.read(file), _card("pickle", reader)


def _legacy(file: IO[bytes], size: int) -> tuple[Any, dict[str, Any]]:
    reader = Reader(_room(size))
    return legacy(file, size, reader), _card("legacy torch", reader)


def _zip(file: IO[bytes], size: int) -> tuple[Any, dict[str, Any]]:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        roots = [name.partition("/")[0] for name in entries if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(roots) != 1:
            raise ValueError("the archive has no <name>/data.pkl")
        root = roots[0]
        wanted = [e for e in archive.infolist() if e.filename.startswith((f"{root}/data", f"{root}/byteorder"))]
        if any(e.compress_type != zipfile.ZIP_STORED for e in wanted) or sum(e.file_size for e in wanted) > size:
            raise ValueError("its entries expand to more than the file has; torch stores them as they are")
        if f"{root}/byteorder" in entries and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("it was written on a big-endian machine; load and save it there with byteorder little")
        storages: dict[str, Storage] = {}

        def stored(saved: Any) -> Storage:
            _, dtype, key, _, count = saved
            if not isinstance(key, str) or f"{root}/data/{key}" not in entries:
                raise ValueError("a storage that its tensors use is not in the file")
            if key not in storages:
                entry = entries[f"{root}/data/{key}"]
                storages[key] = allocate(reader.spend, count, dtype, entry.file_size)
                with archive.open(entry) as content:
                    fill(storages[key].memory, content)
            return storages[key]

        reader = Reader(_room(size), stored)
        content = reader.read(io.BytesIO(archive.read(f"{root}/data.pkl")))
    if f"{root}/constants.pkl" in entries:
        return _dotted(content, _attributes), _card("torchscript", reader)
    return content, _card("torch", reader)


def regular_files(folder: Path) -> Sequence[str]:
    """The names of the files in a folder and below it, hidden ones left out.

    Raises ValueError where one is a device, a pipe or a socket, which may have no end, or a link to nothing.
    """
    names = Folder(folder).names
    if odd := next((name for name in names if not (folder / name).is_file()), None):
        raise ValueError(f"{folder / odd} is no regular file, so nothing in {folder} is opened; remove it")
    return names


def _folder(path: Path) -> Checkpoint:
    """Files below links are among those of a folder, because whoever opens its parts follows links too."""
    if not any((path / name).is_file() for name in FOLDERS):
        raise ValueError(
            f"{path} is no checkpoint that assay reads: expected {', '.join(FOLDERS[:-1])} or {FOLDERS[-1]} in a folder"
        )
    files = regular_files(path)
    size = sum((path / name).stat().st_size for name in files)
    if size > LIMIT:
        raise ValueError(f"{path} has {size:,} bytes; checkpoints of at most {LIMIT:,} bytes are read")
    texts = [name for name in files if name.endswith(".json")]
    if sum((path / name).stat().st_size for name in texts) > JSON:
        raise ValueError(f"{path} has more than {JSON:,} bytes of JSON")
    # A log of a training beside the weights may hold NaN, a configuration may not.
    content = {name: read_json(path / name, finite=name.endswith((*FOLDERS, "config.json"))) for name in texts}
    sha256 = digest(*((name, sha256_of(path / name)) for name in files))
    return Checkpoint(content, sha256, {"format": "folder", "bytes": size, "keys": _keys(content)})
