"""The entries of a zip archive by its central directory, of which little stays in memory, and their contents.

Stored and deflated entries are read here; `zipfile` takes over for the rest. The format is that of
PKWARE's APPNOTE.TXT.
"""

import struct
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .files import read_at

END, END64, LOCATOR, CENTRAL, LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
COMMENT, ANY = 0xFFFF, 0xFFFFFFFF
"""Longest comment at the end; the number that stands for one in the fields of ZIP64."""
ENCRYPTED, UTF8 = 1, 0x800
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
FIELDS = 6


class ArchiveError(ValueError):
    """What is read is no zip archive, or a damaged one."""


class Entry(NamedTuple):
    """Where the local header of a file is, its bytes in the archive and unpacked, checksum, method and flags."""

    offset: int
    packed: int
    size: int
    checksum: int
    method: int
    flags: int


def entries(top: Path) -> Iterator[tuple[str, Entry]]:
    """The names and entries of an archive. Raises ArchiveError, and what `struct` and decoding raise."""
    with top.open("rb") as file:
        count, begin, before = _directory(file, top.stat().st_size)
        file.seek(begin)
        for _ in range(count):
            fixed = file.read(46)
            if len(fixed) < 46 or not fixed.startswith(CENTRAL):
                raise ArchiveError("its central directory is damaged or cut off")
            flags, method = struct.unpack_from("<HH", fixed, 8)
            checksum, packed, size, name, extra, comment = struct.unpack_from("<IIIHHH", fixed, 16)
            (offset,) = struct.unpack_from("<I", fixed, 42)
            text = file.read(name).decode("utf-8" if flags & UTF8 else "cp437").partition("\0")[0]
            size, packed, offset = _wide(file.read(extra), size, packed, offset)
            file.seek(comment, 1)
            yield text, Entry(offset + before, packed, size, checksum, method, flags)


def _directory(file: BinaryIO, length: int) -> tuple[int, int, int]:
    """The number of entries, where the first one is, and how many bytes lie before the archive."""
    file.seek(max(0, length - 22 - COMMENT))
    tail = file.read()
    begin = length - len(tail)
    place = last = tail.rfind(END, 0, max(0, len(tail) - 22 + len(END)))
    while place >= 0 and place + 22 + struct.unpack_from("<H", tail, place + 20)[0] != len(tail):
        place = tail.rfind(END, 0, place + len(END) - 1)  # it was part of the comment
    place = last if place < 0 else place
    if place < 0:
        raise ArchiveError("File is not a zip file")
    count, size, offset = struct.unpack_from("<HII", tail, place + 10)
    end = begin + place
    if place >= 20 and tail[place - 20 :].startswith(LOCATOR):
        stated = struct.unpack_from("<Q", tail, place - 12)[0]
        for end in (stated, begin + place - 20 - 56):  # the second where something lies before the archive
            file.seek(min(end, length))
            wide = file.read(56)
            if wide.startswith(END64) and len(wide) == 56:
                break
        else:
            raise ArchiveError("the end of its central directory is damaged")
        count, size, offset = struct.unpack_from("<QQQ", wide, 32)
    begin = end - size
    if begin < offset or begin < 0 or 46 * count > size:
        raise ArchiveError("its central directory is damaged or cut off")
    return count, begin, begin - offset


def _wide(extra: bytes, *values: int) -> list[int]:
    """The values, those of which stand for fields of ZIP64 replaced by these."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, place)
        if kind == 1:
            fields = iter(struct.unpack_from(f"<{min(length, len(extra) - place - 4) // 8}Q", extra, place + 4))
            return [next(fields, value) if value == ANY else value for value in values]
        place += 4 + length
    return list(values)


class Table:
    """Entries of which only the numbers are kept."""

    def __init__(self) -> None:
        self._numbers = array("Q")

    def add(self, entry: Entry) -> None:
        self._numbers.extend(entry)

    def __getitem__(self, place: int) -> Entry:
        return Entry(*self._numbers[FIELDS * place : FIELDS * (place + 1)])


def content(top: Path, name: str, entry: Entry) -> bytes:
    """The content of an entry. Raises ValueError where it is damaged or needs a password."""
    if entry.method not in (STORED, DEFLATED) or entry.flags & ENCRYPTED:
        return _by_zipfile(top, name)
    try:
        with top.open("rb", buffering=0) as file:
            header = read_at(file, entry.offset, 30)
            if not header.startswith(LOCAL):
                raise ValueError("its place in the archive is damaged")
            before = 30 + sum(struct.unpack_from("<HH", header, 26))
            found = read_at(file, entry.offset + before, entry.packed)
        if entry.method == DEFLATED:
            found = zlib.decompressobj(-zlib.MAX_WBITS).decompress(found, entry.size + 1)
    except (EOFError, OverflowError, zlib.error) as error:
        raise ValueError(str(error)) from None
    if len(found) != entry.size or zlib.crc32(found) != entry.checksum:
        raise ValueError(f"Bad CRC-32 for file {name!r}")
    return found


def _by_zipfile(top: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(top) as archive:
            return archive.read(name)
    except (RuntimeError, NotImplementedError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(str(error)) from None
