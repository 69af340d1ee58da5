"""What is unpacked to the cache: once, again when the file changes, and never without bounds."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.harness.formats.containers import unpacked
from assay.harness.formats.containers.open import container_of, open_container


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unpacked"


def packed(path: Path, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("a.png")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return path


def test_it_is_unpacked_once_and_again_when_it_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "a.tgz", b"one")
    assert open_container(path).open("a.png").read() == b"one"
    (kept,) = cache.iterdir()
    monkeypatch.setattr(unpacked, "say", lambda line: pytest.fail(line))
    assert open_container(path).open("a.png").read() == b"one"
    monkeypatch.undo()
    packed(path, b"two, which is longer")
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    assert open_container(path).open("a.png").read() == b"two, which is longer"
    assert kept in cache.iterdir()
    assert not list(cache.glob("*.tmp"))


def test_what_expands_without_end_is_stopped(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "AT_LEAST", 2**20)
    path = packed(tmp_path / "a.tar.gz", bytes(2**25))
    assert path.stat().st_size < 2**25 / 500
    with pytest.raises(ValueError, match=r"expands to more than [\d,]+ bytes"):
        open_container(path)
    assert not list(cache.iterdir())


def test_a_compressed_file_that_is_no_archive_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"text"))
    assert container_of(tmp_path / "a.gz") == ""


def test_tables_that_lie_or_lack_images_are_refused(tmp_path: Path) -> None:
    for columns, message in (
        ({"text": ["a"]}, "has no column of encoded images; it has text"),
        ({"a": [b"x"], "b": [b"y"]}, r"several columns of bytes \(a, b\); call that of the images `image`"),
    ):
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=message):
            open_container(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [b"x"], "label": pa.array([None], pa.int64())}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="row 0 has no label; add it"):
        open_container(tmp_path / "a.parquet")


def test_class_names_of_a_schema_that_is_no_schema(tmp_path: Path) -> None:
    for about in ("{", "[]", json.dumps({"info": {"features": {"label": {"names": 3}}}})):
        table = pa.table({"image": [b"x"], "label": [2]}).replace_schema_metadata({"huggingface": about})
        pq.write_table(table, tmp_path / "a.parquet")
        assert open_container(tmp_path / "a.parquet").classes == []
