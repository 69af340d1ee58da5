"""CIFAR as it is published, in batches that Python 2 pickled, and what is none."""

import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from assay.datasets.array import array
from assay.generators.replay import replay
from assay.harness.formats.arrays import read_arrays
from assay.harness.formats.cifar import is_cifar

RNG = np.random.default_rng(0)
ROWS = RNG.integers(0, 256, (12, 3072), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 12).tolist()
NAMES = ["cat", "dog", "frog"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))


def text(value: str) -> bytes:
    """A string of Python 2."""
    return b"U" + bytes([len(value)]) + value.encode()


def numbers(values: list[int]) -> bytes:
    return b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"


def rows(values: np.ndarray) -> bytes:
    """An array as numpy pickled it with protocol 2 in Python 2."""
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    shape = b"M" + struct.pack("<H", len(values)) + b"M" + struct.pack("<H", values.shape[1]) + b"\x86"
    content = values.tobytes()
    return empty + b"(K\x01" + shape + kind + b"\x89T" + struct.pack("<i", len(content)) + content + b"tb"


def batch(values: np.ndarray, labels: list[int], name: str = "labels") -> bytes:
    return b"\x80\x02}(" + text(name) + numbers(labels) + text("data") + rows(values) + b"u."


def ten(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i in range(5):
        (folder / f"data_batch_{i + 1}").write_bytes(batch(ROWS[2 * i : 2 * i + 2], LABELS[2 * i : 2 * i + 2]))
    (folder / "test_batch").write_bytes(batch(ROWS[10:], LABELS[10:]))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}, 2))
    (folder / "readme.html").write_text("x")
    return folder


def packed(path: Path, folder: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


def test_batches_of_python_2_are_what_python_reads(tmp_path: Path) -> None:
    """The pickle that is written here by hand, against Python's own reader."""
    about = pickle.load(io.BytesIO(batch(ROWS, LABELS)), encoding="latin1")
    assert np.array_equal(about["data"], ROWS)
    assert about["labels"] == LABELS


def test_images_labels_and_splits(tmp_path: Path) -> None:
    inner = ten(tmp_path / "cifar-10-batches-py")
    archive = packed(tmp_path / "cifar-10-python.tar.gz", inner)
    for path in (inner, tmp_path, archive):
        found = read_arrays(path, "images")
        assert np.array_equal(found["images"], ROWS[:10].reshape(-1, 3, 32, 32))
        assert np.array_equal(found["test_images"], ROWS[10:].reshape(-1, 3, 32, 32))
        assert found["labels"].tolist() == [NAMES[label] for label in LABELS[:10]]
        data = array(str(path))
        assert (data.count("train"), data.count("test")) == (10, 2)
        images = data.take("train", 0, 10).images
        assert {image.numpy().tobytes() for image in images} == {row.tobytes() for row in ROWS[:10]}
        assert replay("any", str(path)).fingerprint == replay("any", str(inner)).fingerprint


def test_the_hundred_classes(tmp_path: Path) -> None:
    for name, part in (("train", slice(0, 10)), ("test", slice(10, 12))):
        (tmp_path / name).write_bytes(batch(ROWS[part], LABELS[part], "fine_labels"))
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": [name.encode() for name in NAMES]}, 2))
    assert is_cifar(tmp_path)
    assert list(array(str(tmp_path)).classes) == [NAMES[i] for i in sorted(set(LABELS[:10] + LABELS[10:]))]


def test_a_batch_runs_nothing_and_damage_is_named(tmp_path: Path) -> None:
    folder, marker = ten(tmp_path / "a"), tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    for content, message in (
        (pickle.dumps({"data": Hostile(), "labels": [1]}, 2), "has no `data` of uint8"),
        (pickle.dumps(Hostile(), 2), "is no dictionary"),
        (batch(ROWS[:, :3000], LABELS), r"has no `data` of uint8 \[N, 3072\]"),
        (batch(ROWS, LABELS[:-1]), "has no list of 12 labels"),
        (batch(ROWS, LABELS)[:-2000], "cannot be read as a pickle"),
        (b"", "cannot be read as a pickle"),
        (batch(ROWS, [9] * 12), "label 9 has no name; there are 3"),
    ):
        (folder / "data_batch_3").write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            array(str(folder))
        assert "\n" not in str(caught.value)
    assert not marker.exists()
