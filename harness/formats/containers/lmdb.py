"""The values of an LMDB database, found by its own tree of pages.

The library would map the file and follow whatever numbers a damaged one has, to the end of the process. Here each page
is read from its place, checked, and visited once. The format is that of mdb.c, version 1.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...core.files import read_at
from .spans import BEGIN, Span, suffix_of

MAGIC = struct.pack("<I", 0xBEEFC0DE)
META, META_AT, HEADER = "<IIQQ" + 2 * "IHHQQQQQ" + "QQ", 16, 16
"""Fields of a meta page: magic, version, address, size; of the free and the main tree: page size or padding, flags,
depth, branch, leaf and overflow pages, entries, root; last page, transaction. They follow the header of the page."""
BRANCH, LEAF, OVERFLOW = 1, 2, 4
"""Flags of pages."""
BIG, TREE, SEVERAL = 1, 2, 4
"""Flags of entries: a value on pages of its own, a named database, several values of one key."""
EMPTY = 2**64 - 1
AGAIN = "copy the database again"


class Meta(NamedTuple):
    """A state of the database: size of a page, flags, number of entries and root of the main tree, transaction."""

    page: int
    flags: int
    entries: int
    root: int
    transaction: int


def is_lmdb(begin: bytes) -> bool:
    """Whether a file begins as the data.mdb of an LMDB database does."""
    return begin[META_AT:].startswith(MAGIC)


def lmdb_spans(file: Path) -> Iterator[Span]:
    """The values of a database by their keys; an encoded image whose key has no suffix gets that of its kind.

    Raises ValueError, in one line, for a database that is cut off or damaged or that has databases in it.
    """
    try:
        with file.open("rb", buffering=0) as opened:
            meta = max((_meta(opened, 0), _meta(opened, _meta(opened, 0).page)), key=lambda meta: meta.transaction)
            count = 0
            for key, offset, length in _values(opened, file.stat().st_size, meta):
                count += 1
                name = key.decode("utf-8", "replace") if _is_text(key) else key.hex()
                name = name.replace("/", "_")
                if "." not in name:
                    name += suffix_of(read_at(opened, offset, min(BEGIN, length)))
                yield Span(name, offset, length)
            if count != meta.entries:
                raise ValueError(f"{count:,} of {meta.entries:,} entries are found")
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise ValueError(f"{file} cannot be read as an LMDB database ({error}); {AGAIN}") from None


def _is_text(key: bytes) -> bool:
    try:
        return key.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


def _meta(file: io.FileIO, offset: int) -> Meta:
    fields = struct.unpack(META, read_at(file, offset + META_AT, struct.calcsize(META)))
    magic, version, page, main = fields[0], fields[1], fields[4], fields[12:20]
    if struct.pack("<I", magic) != MAGIC or version != 1:
        raise ValueError(f"its format is number {version}; version 1 is read")
    if page not in (2**power for power in range(8, 17)):
        raise ValueError(f"its pages have {page} bytes")
    return Meta(page, main[1], main[6], main[7], fields[-1])


def _values(file: io.FileIO, size: int, meta: Meta) -> Iterator[tuple[bytes, int, int]]:
    """Keys, and the places and lengths of their values, in the order of the tree."""
    if meta.flags & SEVERAL:
        raise ValueError("its keys have several values each")
    pages = [] if meta.root == EMPTY else [meta.root]
    seen = bytearray(size // meta.page + 1)
    while pages:
        number = pages.pop()
        if number >= len(seen) or seen[number]:
            raise ValueError(f"it is cut off or damaged: page {number}")
        seen[number] = 1
        page = read_at(file, number * meta.page, meta.page)
        flags, lower = struct.unpack_from("<HH", page, 10)
        places = struct.unpack_from(f"<{(lower - HEADER) // 2}H", page, HEADER) if lower >= HEADER else ()
        if flags & BRANCH:
            children = [struct.unpack_from("<HHH", page, place) for place in places]
            pages += [low | high << 16 | top << 32 for low, high, top in reversed(children)]
        elif flags & LEAF:
            for place in places:
                yield _value(page, place, number * meta.page, size, meta.page)
        else:
            raise ValueError(f"page {number} is no part of its tree")


def _value(page: bytes, place: int, begin: int, size: int, page_size: int) -> tuple[bytes, int, int]:
    low, high, flags, key_size = struct.unpack_from("<HHHH", page, place)
    if flags & (TREE | SEVERAL):
        raise ValueError("it has databases in it; copy the one with the images into a database of its own")
    key, length, at = page[place + 8 : place + 8 + key_size], low | high << 16, place + 8 + key_size
    if flags & BIG:
        offset, end = struct.unpack_from("<Q", page, at)[0] * page_size + HEADER, size
    else:
        offset, end = begin + at, begin + page_size
    if offset + length > end:
        raise ValueError(f"it is cut off or damaged: the value of {key[:50]!r}")
    return key, offset, length
