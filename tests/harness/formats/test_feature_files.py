"""Features in files: what is read, and the one line that says what is wrong with a file."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from assay.harness.formats.feature_files import read_feature_set

NAMES = ("finch", "dalmatian", "trifle", "vase", "lion")
SPLIT = ("base", "novel", "val", "base", "novel")


def content(**changed: Any) -> dict[str, Any]:
    """Six images of each of five classes in turn: feature j of image i is i + j / 10. None takes an array out."""
    rows = np.arange(30)
    arrays = {
        "features": (rows[:, None] + np.arange(4) / 10).astype(np.float32),
        "labels": rows % 5,
        "names": np.array(NAMES),
        "split": np.array(SPLIT),
        "semantics": np.eye(5, 3, dtype=np.float32),
        **changed,
    }
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """write(name, **changed): a .npz file, in the folder of the test."""

    def made(name: str = "mini.npz", **changed: Any) -> Path:
        np.savez(tmp_path / name, **content(**changed))
        return tmp_path / name

    return made


def test_one_file_of_all_classes_without_those_for_validation(write: Callable[..., Path]) -> None:
    found = read_feature_set(write())
    assert (found.name, found.names, list(found.novel)) == ("mini", ["finch", "dalmatian", "vase", "lion"], [1, 3])
    assert found.features.dtype == torch.float32
    assert found.features.shape == (24, 4)
    assert found.features[:, 0].int().tolist() == [i for i in range(30) if i % 5 != 2]
    assert [found.names[label] for label in found.labels[:4]] == ["finch", "dalmatian", "vase", "lion"]
    assert found.semantics.tolist() == np.eye(5, 3)[[0, 1, 3, 4]].tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_features_of_any_precision(write: Callable[..., Path], dtype: type) -> None:
    found = read_feature_set(write(features=content()["features"].astype(dtype)))
    assert found.features.dtype == torch.float32


def test_the_same_set_however_it_is_written(write: Callable[..., Path], tmp_path: Path) -> None:
    """Numbers or names as labels, train and test for base and novel, .safetensors, two files; the order of classes may
    differ between one file and two."""
    plain = read_feature_set(write())
    named = write("named.npz", labels=np.array(NAMES)[content()["labels"]])
    other = write("words.npz", split=np.array(["train", "test", "val", "train", "test"]))
    arrays = content(names=None, split=None)
    tensors = tmp_path / "file.safetensors"
    save_file(arrays, tensors, {"names": json.dumps(NAMES), "split": json.dumps(SPLIT)})
    for file in (named, other, tensors):
        found = read_feature_set(file)
        assert found.names == plain.names
        assert list(found.novel) == list(plain.novel)
        for part in ("features", "labels", "semantics"):
            assert torch.equal(getattr(found, part), getattr(plain, part)), (file, part)

    folder = tmp_path / "mini"
    folder.mkdir()
    for name, kept in (("train.npz", [0, 3]), ("test.npz", [1, 4]), ("val.npz", [2])):
        rows = np.isin(arrays["labels"], kept)
        np.savez(
            folder / name,
            features=arrays["features"][rows],
            labels=np.searchsorted(kept, arrays["labels"][rows]),
            names=np.array(NAMES)[kept],
            semantics=arrays["semantics"][kept],
        )
    found = read_feature_set(folder)
    assert found.name == "mini"
    assert found.names == ["finch", "vase", "dalmatian", "lion"]
    assert list(found.novel) == [2, 3]
    order = found.features[:, 0].argsort()
    assert torch.equal(found.features[order], plain.features)
    assert [found.names[label] for label in found.labels[order]] == [plain.names[label] for label in plain.labels]
    assert found.semantics.tolist() == np.eye(5, 3)[[0, 3, 1, 4]].tolist()


def test_labels_without_names_count_across_both_files(tmp_path: Path) -> None:
    features = np.random.default_rng(0).random((6, 2))
    np.savez(tmp_path / "base.npz", features=features, labels=np.arange(6) % 2)
    np.savez(tmp_path / "novel.npz", features=features, labels=80 + np.arange(6) % 3)
    found = read_feature_set(tmp_path)
    assert found.names == ["0", "1", "80", "81", "82"]
    assert list(found.novel) == [2, 3, 4]
    assert found.labels[6:].tolist() == [2, 3, 4] * 2
    assert found.semantics.shape == (5, 0)
    np.savez(tmp_path / "novel.npz", features=features, labels=np.arange(6) % 3)
    with pytest.raises(ValueError, match=r"class '0' is novel in .*base in .*\(2 such classes\).*`names`"):
        read_feature_set(tmp_path)


def test_the_fingerprint_is_that_of_the_content(write: Callable[..., Path]) -> None:
    first = read_feature_set(write()).fingerprint
    assert read_feature_set(write("copy.npz")).fingerprint == first
    assert read_feature_set(write(features=2 * content()["features"])).fingerprint != first


def bad_row(value: float) -> np.ndarray[Any, Any]:
    features: np.ndarray[Any, Any] = content()["features"].astype(np.float64)
    features[[7, 9], 2] = value
    return features


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": None}, "no array `features`; it has labels"),
        ({"labels": None}, "no array `labels`"),
        ({"features": np.zeros(30, np.float32)}, r"features: float32 of shape \(30,\); give floats in two dimensions"),
        ({"features": np.zeros((30, 0), np.float32)}, r"features: float32 of shape \(30, 0\)"),
        ({"features": np.zeros((30, 4), int)}, r"features: int64 of shape \(30, 4\)"),
        ({"features": bad_row(np.nan)}, r"features: row 7 of 30 holds nan \(2 such rows\); remove"),
        ({"features": bad_row(1e39)}, r"features: row 7 of 30 holds 1e\+39"),
        ({"labels": np.arange(29) % 5}, r"labels: int64 of shape \(29,\); give 30 integers"),
        ({"labels": np.arange(30) / 5}, "labels: float64"),
        ({"labels": np.arange(30) % 6}, "labels: row 5 is 5, which has no name; the file has 5 names, for labels 0..4"),
        ({"labels": np.arange(30) % 5 - 1}, "labels: row 0 is -1, which has no name"),
        ({"labels": np.array([*NAMES, "wolf"] * 5)}, "labels: row 5 is wolf, which has no name"),
        ({"labels": np.arange(30) % 4}, "class 'lion', number 4, has no images"),
        (
            {"names": np.array(["finch", "lion", "lion", "vase", "wolf"])},
            r"'lion' occurs at positions 1 and 2 \(as novel and val\)",
        ),
        ({"names": np.arange(5)}, r"names: int64 of shape \(5,\); give strings"),
        ({"split": None}, "does not say which classes are novel: add an array `split`"),
        ({"split": np.array(SPLIT[:4])}, r"split: <U5 of shape \(4,\); give 5 strings, one per class"),
        ({"split": np.array([*SPLIT[:4], "new"])}, "split: row 4 is 'new'; give one of base, train, val, novel, test"),
        ({"split": np.array(["base"] * 5)}, "split: no class is novel, all are base"),
        ({"split": np.array(["val", *["novel"] * 4])}, "split: no class is base, all are novel, val"),
        ({"semantics": np.zeros((4, 3))}, "semantics: 4 rows for 5 classes"),
        ({"semantics": np.full((5, 3), np.inf)}, "semantics: row 0 of 5 holds inf"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(write: Callable[..., Path], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_feature_set(write(**changed))
    assert "\n" not in str(error.value)
    assert "mini.npz" in str(error.value)


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.file,)


def test_objects_are_never_unpickled(tmp_path: Path, write: Callable[..., Path]) -> None:
    sprung = tmp_path / "sprung"
    trap = np.array([Trap(sprung)] * 5, dtype=object)
    with pytest.raises(ValueError, match=r"without pickles.*names as strings"):
        read_feature_set(write(names=trap))
    (tmp_path / "novel.plk.npz").write_bytes(pickle.dumps({"finch": Trap(sprung)}))
    with pytest.raises(ValueError, match=r"is a pickle; .*names as strings"):
        read_feature_set(tmp_path / "novel.plk.npz")
    assert not sprung.exists()


def test_files_that_are_not_there_or_no_such_files(tmp_path: Path, write: Callable[..., Path]) -> None:
    with pytest.raises(
        FileNotFoundError, match=re.escape("does not exist; give a file of features (.npz, .safetensors)")
    ):
        read_feature_set(tmp_path / "nothing.npz")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"not a readable \.safetensors file"):
        read_feature_set(tmp_path / "bad.safetensors")
    save_file({"features": np.zeros((2, 2), np.float32)}, tmp_path / "list.safetensors", {"names": '{"finch": 0}'})
    with pytest.raises(ValueError, match="metadata `names`: give a list of strings in JSON"):
        read_feature_set(tmp_path / "list.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"no files of its base classes; give exactly one of base\.npz, base\.safetensors, "
    ):
        read_feature_set(folder)
    for name in ("base", "train"):
        write(f"folder/{name}.npz")
    with pytest.raises(FileNotFoundError, match="2 files of its base classes"):
        read_feature_set(folder)


@pytest.mark.parametrize(
    ("base", "novel", "message"),
    [
        ({"split": np.array(SPLIT)}, {}, "base.npz has `split`"),
        ({}, {"features": np.zeros((30, 3), np.float32)}, "features have 4 columns in .* and 3 in"),
        ({}, {"semantics": None}, "semantics have 3 columns in .* and 0 in"),
        ({}, {"names": np.array(["a", "b", "c", "d", "finch"])}, "class 'finch' is novel in .*novel.npz and base in"),
    ],
)
def test_two_files_must_fit(
    write: Callable[..., Path], tmp_path: Path, base: dict[str, Any], novel: dict[str, Any], message: str
) -> None:
    write("base.npz", **{"split": None, **base})
    write("novel.npz", **{"split": None, "names": np.array(list("abcde")), **novel})
    with pytest.raises(ValueError, match=message):
        read_feature_set(tmp_path)
