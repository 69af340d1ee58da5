"""Arrays of HDF5 files: by rows, from the file alone, and no more than it can have."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from assay.datasets.array import array
from assay.generators.replay import replay
from assay.harness.formats import hdf5
from assay.harness.formats.arrays import read_arrays

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)


def test_large_arrays_are_read_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, chunks=(3, 6, 5, 3), compression="gzip")
    at_once = array(str(tmp_path / "a.h5"))
    monkeypatch.setattr(hdf5, "SMALL", 10)
    found = read_arrays(tmp_path / "a.h5", "x")["images"]
    assert isinstance(found, h5py.Dataset)
    by_rows = array(str(tmp_path / "a.h5"))
    assert by_rows.fingerprint == at_once.fingerprint
    assert np.array_equal(by_rows.take("train", 3, 9).images, at_once.take("train", 3, 9).images)


def test_labels_may_be_names(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = IMAGES
        file["labels"] = [("cat", "dog")[i % 2] for i in range(20)]
    assert list(array(str(tmp_path / "a.h5")).classes) == ["cat", "dog"]


def test_other_files_are_not_read_through_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = IMAGES
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "images")
    with pytest.raises(ValueError, match="has no array `images`"):
        replay("any", str(tmp_path / "a.h5"))
    (tmp_path / "secret").write_bytes(IMAGES.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", IMAGES.shape, np.uint8, external=[(str(tmp_path / "secret"), 0, IMAGES.size)])
    with pytest.raises(ValueError, match="images has its values in other files; copy them into one"):
        replay("any", str(tmp_path / "a.h5"))
    layout = h5py.VirtualLayout(IMAGES.shape, np.uint8)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "images", IMAGES.shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("images", layout)
    with pytest.raises(ValueError, match="images has its values in other files"):
        replay("any", str(tmp_path / "a.h5"))


def test_sizes_that_the_file_cannot_have_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (10**9, 64, 64, 3), np.uint8, chunks=(1, 64, 64, 3))
    with pytest.raises(ValueError, match="says it is far larger than the file"):
        replay("any", str(tmp_path / "a.h5"))


def test_what_is_no_array_of_numbers_is_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        lists = file.create_dataset("images", (2,), h5py.vlen_dtype(np.uint8))
        lists[0] = lists[1] = np.arange(5, dtype=np.uint8)
    with pytest.raises(ValueError, match="images holds lists of any length; give decoded images of one size"):
        replay("any", str(tmp_path / "a.h5"))


def test_a_damaged_chunk_is_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, chunks=(5, 6, 5, 3), compression="gzip", fletcher32=True)
        place = file["images"].id.get_chunk_info(2).byte_offset
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[place + 20 : place + 60] = bytes(40)
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.h5.*cut off or damaged") as caught:
        replay("any", str(tmp_path / "a.h5"))
    assert "\n" not in str(caught.value)


def test_without_h5py_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(hdf5.MAGIC + bytes(100))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"is an HDF5 file, which h5py reads: pip install 'assay\[files\]'"):
        replay("any", str(tmp_path / "a.h5"))
