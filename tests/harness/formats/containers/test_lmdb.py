"""The reader of LMDB databases against the library that writes them, and against damage."""

import os
import struct
from pathlib import Path

import lmdb
import numpy as np
import pytest

from assay.harness.formats.containers.lmdb import lmdb_spans
from assay.harness.formats.containers.open import open_container

PNG = b"\x89PNG\r\n\x1a\n"


def written(path: Path, values: dict[bytes, bytes], **options: bool) -> Path:
    with lmdb.open(str(path), map_size=2**26, subdir=False, lock=False) as opened:
        database = opened.open_db(None, **options)
        with opened.begin(write=True) as writing:
            for key, value in values.items():
                writing.put(key, value, db=database)
    return path


def found(path: Path) -> dict[str, bytes]:
    content = path.read_bytes()
    return {name: content[offset : offset + length] for name, offset, length in lmdb_spans(path)}


@pytest.mark.parametrize("count", [0, 1, 3, 500, 5000])
def test_values_are_those_that_the_library_wrote(tmp_path: Path, count: int) -> None:
    """Small ones in the leaves of a tree, large ones on pages of their own, in three levels of pages."""
    rng = np.random.default_rng(count)
    values = {f"{i:07}".encode(): rng.bytes(int(rng.integers(0, 3000 if i % 50 else 40_000))) for i in range(count)}
    path = written(tmp_path / "a.lmdb", values)
    assert found(path) == {key.decode(): value for key, value in values.items()}


def test_what_was_deleted_and_changed_is_gone(tmp_path: Path) -> None:
    path = written(tmp_path / "a.lmdb", {f"{i}".encode(): bytes(5000) for i in range(300)})
    with lmdb.open(str(path), map_size=2**26, subdir=False, lock=False) as opened:
        for i in range(0, 300, 2):
            with opened.begin(write=True) as writing:
                writing.delete(f"{i}".encode())
        with opened.begin(write=True) as writing:
            writing.put(b"1", b"new")
    values = found(path)
    assert sorted(values, key=int) == [f"{i}" for i in range(1, 300, 2)]
    assert values["1"] == b"new"


def test_names_tell_what_is_an_image(tmp_path: Path) -> None:
    values = {b"0001": PNG, b"n": b"3", b"a/b.jpg": b"x", b"\xff\x00": PNG}
    assert set(found(written(tmp_path / "a.lmdb", values))) == {"0001.png", "n", "a_b.jpg", "ff00.png"}


def test_databases_in_it_are_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "a.lmdb"), map_size=2**26, subdir=False, lock=False, max_dbs=2) as opened:
        inner = opened.open_db(b"inner")
        with opened.begin(write=True) as writing:
            writing.put(b"a", b"b", db=inner)
    with pytest.raises(ValueError, match="has databases in it"):
        found(tmp_path / "a.lmdb")


def test_damage_never_ends_in_anything_but_one_line(tmp_path: Path) -> None:
    """Of 300 copies with changed bytes in the pages of the tree, each is read or refused."""
    path = written(tmp_path / "a.lmdb", {f"{i:04}".encode(): os.urandom(50 * (i % 7)) for i in range(400)})
    content, rng, refused = path.read_bytes(), np.random.default_rng(0), list[str]()
    for _ in range(300):
        changed = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            page = int(place) // 4096 * 4096
            changed[page + int(rng.integers(0, 60))] = int(rng.integers(0, 256))
        path.write_bytes(changed)
        try:
            found(path)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all("a.lmdb cannot be read as an LMDB database" in line and "\n" not in line for line in refused)


def test_a_tree_that_goes_round_ends(tmp_path: Path) -> None:
    path = written(tmp_path / "a.lmdb", {f"{i:04}".encode(): bytes(100) for i in range(400)})
    content = bytearray(path.read_bytes())
    root = min(struct.unpack_from("<Q", content, page * 4096 + 16 + 24 + 48 + 40)[0] for page in (0, 1))
    first = struct.unpack_from("<H", content, root * 4096 + 16)[0]
    struct.pack_into("<HHH", content, root * 4096 + first, root, 0, 0)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cut off or damaged: page"):
        open_container(path)
