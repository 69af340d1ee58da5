"""NumPy files give back what was saved, read late and mapped where that can be; damaged ones are refused."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from assay.harness.formats.arrays import read_arrays

ARRAYS = {
    "flat": np.arange(7),
    "grid": np.arange(24.0).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    "words": np.array(["cat", "dög"]),
    "empty": np.zeros((0, 3)),
    "one": np.array(5),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_come_back(tmp_path: Path, save: object) -> None:
    assert callable(save)
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_arrays(tmp_path / "a.npz", "x")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert np.array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert isinstance(found["grid"], np.memmap) == (save is np.savez)
    assert "absent" not in found
    assert found.get("absent") is None


@pytest.mark.parametrize("name", ARRAYS)
def test_files_come_back(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "a.npy", ARRAYS[name])
    assert np.array_equal(read_arrays(tmp_path / "a.npy", "x")["x"], ARRAYS[name])


def test_an_array_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", good=ARRAYS["grid"], objects=np.array([{}], object))
    found = read_arrays(tmp_path / "a.npz", "x")
    assert np.array_equal(found["good"], ARRAYS["grid"])
    with pytest.raises(ValueError, match=r"a\.npz: array objects cannot be read \(not without pickles"):
        found["objects"]


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, grid=ARRAYS["grid"])
    whole = path.read_bytes()
    entry = whole.rfind(b"PK\x01\x02")
    encrypted, unknown = bytearray(whole), bytearray(whole)
    encrypted[6] |= 1
    encrypted[entry + 8] |= 1
    unknown[8:10] = unknown[entry + 10 : entry + 12] = struct.pack("<H", 99)
    flipped = bytearray(whole)
    flipped[70] ^= 255
    for content in (encrypted, unknown, flipped):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz: array grid cannot be read"):
            read_arrays(path, "x")["grid"]
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"a\.npz is "):
        read_arrays(path, "x")


@pytest.mark.parametrize("shape", [(10**18, 8, 8), (-5, 8, 8), (2, -8, -8), (101,)])
def test_shapes_that_cannot_be_true(tmp_path: Path, shape: tuple[int, ...]) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + bytes(100))
    with pytest.raises(ValueError, match=r"a\.npy is not a readable .*cut off or damaged"):
        read_arrays(tmp_path / "a.npy", "x")


@pytest.mark.parametrize("order", "<>")
def test_text_of_characters_that_do_not_exist(tmp_path: Path, order: str) -> None:
    words = np.array(["cat", "dog"], f"{order}U3")
    words.view(f"{order}u4")[4] = 0x110000
    np.savez(tmp_path / "a.npz", words=words)
    np.savez_compressed(tmp_path / "b.npz", words=words)
    np.save(tmp_path / "c.npy", words)
    for name in ("a.npz", "b.npz", "c.npy"):
        with pytest.raises(ValueError, match=rf"{name}.*a character that does not exist"):
            read_arrays(tmp_path / name, "words")["words"]


def test_archives_of_other_things(tmp_path: Path) -> None:
    for name, message in (
        ("0.png", "a zip archive with 0.png in it; unpack it"),
        ("x/data.pkl", "cannot be read as a torch"),
    ):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr(name, b"")
        with pytest.raises(ValueError, match=message):
            read_arrays(tmp_path / "a.npz", "x")
    with pytest.raises(ValueError, match="is a directory"):
        read_arrays(tmp_path, "x")
