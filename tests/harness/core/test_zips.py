"""Zip archives of many kinds hold what `zipfile` says."""

import io
import zipfile
from pathlib import Path

import pytest

from assay.harness.core.folders import Archive

FILES = {"b/2.txt": b"two" * 500, "a/1.txt": b"", "漢.txt": b"text", "a/é.txt": bytes(range(256))}
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def packed(kind: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        archive.comment = comment
        archive.mkdir("a")
        archive.writestr(".hidden/x.txt", b"no")
        for name, content in FILES.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_contents_are_those_of_zipfile(tmp_path: Path) -> None:
    written = {f"{kind}": packed(kind) for kind in KINDS}
    written |= {"comment": packed(comment=b"PK\5\6" + bytes(300)), "after other bytes": b"#!/bin/sh\n" + packed()}
    for name, content in written.items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(content)
        archive = Archive(path)
        assert list(archive.names) == sorted(FILES), name
        assert {file: archive.open(file).read() for file in archive.names} == FILES, name


def test_large_numbers_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives in the format ZIP64, of more files or bytes than the first format counts."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 20)
    content = packed(zipfile.ZIP_STORED)
    assert b"PK\6\6" in content
    for before in (b"", b"#!/bin/sh\n"):
        (tmp_path / "a.zip").write_bytes(before + content)
        archive = Archive(tmp_path / "a.zip")
        assert {file: archive.open(file).read() for file in archive.names} == FILES


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda raw: raw[:-30], "File is not a zip file"),
        (lambda raw: raw[100:], "its central directory is damaged"),
        (lambda raw: raw.replace(b"PK\1\2", b"PK\1\3"), "its central directory is damaged"),
        (lambda raw: b"", "File is not a zip file"),
        (lambda raw: raw.replace(b"b/2.txt", b"../.txt"), "lies outside of it"),
        (lambda raw: raw.replace(b"b/2.txt", b"a/1.txt"), "two files of one name"),
    ],
)
def test_damaged_archives_are_refused_in_one_line(tmp_path: Path, damage: object, told: str) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(damage(packed()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=told) as refused:
        Archive(path)
    assert "\n" not in str(refused.value)


def test_damaged_entries_are_refused_when_read(tmp_path: Path) -> None:
    path, raw = tmp_path / "a.zip", bytearray(packed(zipfile.ZIP_STORED))
    raw[raw.index(b"twotwo")] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"Bad CRC-32 for file 'b/2\.txt'"):
        Archive(path).open("b/2.txt")
    assert Archive(path).open("a/1.txt").read() == b""
    with pytest.raises(FileNotFoundError):
        Archive(path).open("none.txt")
