"""What a container has that allows no access to single files, kept in the cache in a form that does."""

import bz2
import gzip
import lzma
import shutil
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core.files import cache_folder, digest, sha256_of, writing
from ...core.progress import say
from ...core.texts import CODEC, WORD, Texts

OPENERS: Mapping[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
RATIO, AT_LEAST = 200, 2**30
"""A compressed file may expand to so many times its size, or to so many bytes; images expand little."""
CHUNK = 2**22


def decompressed(path: Path) -> IO[bytes] | None:
    """The content of a file that is compressed by gzip, bzip2 or xz; None for others."""
    with path.open("rb") as file:
        begin = file.read(8)
    return next((opener(path) for magic, opener in OPENERS.items() if begin.startswith(magic)), None)


def begin_of(path: Path, length: int = 1024) -> bytes:
    """The first bytes of a file, of a compressed one after decompression; nothing where it is damaged."""
    try:
        with decompressed(path) or path.open("rb") as file:
            return file.read(length)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return b""


def unpacked_tar(path: Path) -> Path:
    """A compressed tar archive without its compression, in the cache. Raises ValueError where it is damaged."""
    kept = _place(path, [path], ".tar")
    content = decompressed(path)
    if content is None or kept.exists():
        return kept if content is not None else path
    most, size = max(AT_LEAST, RATIO * path.stat().st_size), 0
    say(f"{path}: decompressing into {kept.parent}, since single files of it cannot be read")
    with content, _written(kept) as file:
        try:
            while part := content.read(CHUNK):
                size += len(part)
                if size > most:
                    raise ValueError(f"it expands to more than {most:,} bytes")
                file.write(part)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"{path} cannot be decompressed ({error}); unpack it yourself, or pack it again") from None
    return kept


class Rows(NamedTuple):
    """Rows whose bytes lie after each other in a file: their lengths, int64 [N], names and labels, None without."""

    file: Path
    lengths: NDArray[np.int64]
    names: Texts
    labels: NDArray[np.int64] | Texts | None


def unpacked_rows(
    top: Path, sources: list[Path], rows: Callable[[], Iterator[tuple[bytes, str, int | str | None]]]
) -> Rows:
    """The rows of tables, each with its bytes, its name and its label."""
    kept = _place(top, sources, ".images")
    index = kept.with_suffix(".npz")
    if not (kept.exists() and index.exists()):
        say(f"{top}: copying its images into {kept.parent}, since single ones of it cannot be read")
        lengths, numbers, words = array("q"), array("q"), bytearray()
        ends = array("q")
        with _written(kept) as file:

            def names() -> Iterator[str]:
                for content, name, label in rows():
                    file.write(content)
                    lengths.append(len(content))
                    if isinstance(label, int):
                        numbers.append(label)
                    elif label is not None:
                        words.extend(label.encode(*CODEC))
                        ends.append(len(words))
                    yield name

            named = Texts.of(names())
        arrays = {"lengths": lengths, "numbers": numbers, "word_ends": ends, "name_ends": named.ends}
        texts = {"words": words, "names": named.content[:-WORD]}
        with _written(index) as file:
            whole: dict[str, Any] = {name: np.array(part, np.int64) for name, part in arrays.items()}
            whole |= {name: np.frombuffer(part, np.uint8) for name, part in texts.items()}
            np.savez(file, **whole)
    with np.load(index, allow_pickle=False) as found:
        labels: NDArray[np.int64] | Texts | None = found["numbers"] if len(found["numbers"]) else None
        if len(found["word_ends"]):
            labels = Texts.joined(found["words"].tobytes(), found["word_ends"])
        return Rows(kept, found["lengths"], Texts.joined(found["names"].tobytes(), found["name_ends"]), labels)


def _place(top: Path, sources: list[Path], suffix: str) -> Path:
    """The sha256 of the sources is the name, so that a changed file is unpacked again."""
    return cache_folder() / "unpacked" / (digest(1, [sha256_of(source) for source in sources]) + suffix)


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there when all of it is written."""
    try:
        with writing(path) as file:
            yield file
    except OSError as error:
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            f"cannot write {path} ({error}; {free:,} bytes are free); set ASSAY_CACHE to a larger disk"
        ) from None
