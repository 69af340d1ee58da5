"""Arrays kept by content of their key: made once, written atomically, checked when read, never pickled."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.claims import claimed
from ..core.files import cache_folder, digest, replace
from ..core.progress import say
from .subsets import Subset


@dataclasses.dataclass(frozen=True)
class ShardKey:
    """What a shard of a view is: all fields count, none is left out of the digest.

    producer: fingerprint of the generator or data set that the samples come from; source: "fake", "real" or "holdout".
    space:    the space they are in; fingerprint: of the network that leads there, "" without one.
    encode:   where codes of images come from, "" in a space without such codes.
    seed:     the repeat that generated samples belong to, 0 for stored ones; start, stop: positions within it.
    drawn:    the subset of a stored set that these positions count in; None where they count in the whole set.
    """

    producer: str
    source: str
    space: str
    fingerprint: str
    encode: str
    seed: int
    start: int
    stop: int
    drawn: Subset | None = None

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The samples' numbers in the whole set, int64 [stop - start]."""
        return np.arange(self.start, self.stop) if self.drawn is None else self.drawn.numbers[self.start : self.stop]

    @property
    def content(self) -> dict[str, Any]:
        """All fields under the names of the first release: they are part of every digest, so they stay."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.drawn is None:
            del fields["drawn"]
        else:
            fields["drawn"] = dataclasses.asdict(self.drawn)
        for new, old in {"source": "of", "space": "through", "fingerprint": "lens"}.items():
            fields[old] = fields.pop(new)
        return fields | {"through": self.space.replace("reencoded", "recoded")}


@dataclasses.dataclass(frozen=True)
class ScoreKey:
    """Per-sample scores of a metric; inputs are pairs of a view's name and its digest."""

    metric: str
    version: int
    params: str
    inputs: tuple[tuple[str, str], ...]

    @property
    def content(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


KINDS = {ShardKey: "Key", ScoreKey: "ScoreKey"}
"""What each kind of key is called in digests."""


@lru_cache(maxsize=1 << 16)
def _name_of(key: ShardKey | ScoreKey) -> str:
    return digest(KINDS[type(key)], key.content)


@lru_cache(maxsize=1 << 10)
def digest_of(keys: tuple[ShardKey, ...]) -> str:
    """Names the content of a view that these shards make up."""
    return digest([key.content for key in keys])


class Store:
    """`<digest>.npy` beside `<digest>.json`, which holds the readable key and the checksum of the array file.

    made: how many entries this process has made. refused: entries that are not to be made, by name, and why.
    """

    def __init__(self, root: Path):
        self.root, self.made = root, 0
        self.refused: Mapping[str, str] = {}
        self._sound: set[str] = set()
        self._damaged: set[str] = set()

    def array(
        self,
        key: ShardKey | ScoreKey,
        make: Callable[[], np.ndarray[Any, Any]],
        numerics: Callable[[], Mapping[str, str]] | None = None,
    ) -> np.ndarray[Any, Any]:
        """The array of a key, memory-mapped; `make` is called when there is none, or a damaged one.

        Of several processes that need it one makes it, and the others wait. numerics: with what it is computed, kept on
        the card beside the array; without it the number of threads, on which the last digits may depend. Raises
        ValueError for an entry that is not to be made, OSError that names the file where the store cannot be written.
        """
        if self.has(key):
            return self.read(key)
        path = self._path(key)
        if path.stem in self.refused:
            raise ValueError(self.refused[path.stem])
        waiting = f"store: another process makes {_readable(key)}; this one waits for it"
        with claimed(self.root / ".claims", path.stem, waiting):
            if not self.has(key):
                self._write(key, make(), numerics() if numerics else {"threads": str(torch.get_num_threads())})
        return self.read(key)

    def _write(self, key: ShardKey | ScoreKey, array: np.ndarray[Any, Any], numerics: Mapping[str, str]) -> None:
        path, content = self._path(key), io.BytesIO()
        np.save(content, np.ascontiguousarray(array), allow_pickle=False)
        raw = content.getvalue()
        card = {"key": key.content, "sha256": hashlib.sha256(raw).hexdigest(), "numerics": dict(numerics)}
        replace(path, raw)
        replace(path.with_suffix(".json"), json.dumps(card, indent=1, sort_keys=True).encode())
        self._sound.add(path.name)
        self._damaged.discard(path.name)
        self.made += 1

    def name(self, key: ShardKey | ScoreKey) -> str:
        """What an entry is called on disk."""
        return self._path(key).stem

    def read(self, key: ShardKey | ScoreKey) -> np.ndarray[Any, Any]:
        """The array of a key that the store has, memory-mapped."""
        path = self._path(key)
        status = path.stat()
        return _mapped(path, status.st_mtime_ns, status.st_size, status.st_ino)

    def numerics(self, key: ShardKey | ScoreKey) -> dict[str, str]:
        """With what the array of a key was computed, as its card tells; empty where it does not."""
        found: dict[str, str] = json.loads(self._path(key).with_suffix(".json").read_text()).get("numerics", {})
        return found

    def has(self, key: ShardKey | ScoreKey) -> bool:
        """Whether a sound entry exists. The checksum is compared once a process; a damaged entry is announced."""
        if f"{_name_of(key)}.npy" in self._sound:
            return True
        path = self._path(key)
        if not path.is_file() or not path.with_suffix(".json").is_file():
            return False
        if why := fault(path):
            if path.name not in self._damaged:
                say(f"store: entry {path} is damaged ({_readable(key)}: {why}); it is made again")
            self._damaged.add(path.name)
            return False
        self._sound.add(path.name)
        return True

    def _path(self, key: ShardKey | ScoreKey) -> Path:
        name = _name_of(key)
        return self.root / name[:2] / f"{name}.npy"


@lru_cache(maxsize=256)
def _mapped(path: Path, *status: int) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def fault(path: Path) -> str:
    """What is wrong with an entry, by its array file; "" where nothing is. Its name must be the digest of its key."""
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            return f"{file.name} is not there"
    try:
        card = json.loads(path.with_suffix(".json").read_text())
        key, expected = card["key"], card["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "its card cannot be read"
    if path.stem not in [digest(kind, key) for kind in KINDS.values()]:
        return "its card is that of another entry"
    return "" if hashlib.sha256(path.read_bytes()).hexdigest() == expected else "its content has changed"


@cache
def open_store(root: str | Path | None = None) -> Store:
    """The store in a folder; without one, in the cache folder. The same object at every call of a process."""
    return Store(Path(root).expanduser() if root else cache_folder() / "store")


def _readable(key: ShardKey | ScoreKey) -> str:
    if isinstance(key, ShardKey):
        return f"{key.source} {key.space} {key.start}..{key.stop}"
    return f"scores of {key.metric}"
