"""Labels in files beside the images, as WebDataset keeps them."""

from pathlib import Path

import numpy as np
import pytest

from assay.harness.core.folders import Folder
from assay.harness.core.texts import Texts
from assay.harness.formats.labels import stated_labels


def written(top: Path, files: dict[str, str]) -> Folder:
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(content)
    return Folder(top)


def told(files: Folder, names: Texts) -> tuple[list[str], list[int]]:
    classes, numbers = stated_labels(files, names) or ([], np.zeros(0, int))
    return classes, numbers.tolist()


def test_a_label_belongs_to_all_up_to_the_first_dot(tmp_path: Path) -> None:
    files = {"a/1.png": "", "a/1.cls": "2\n", "a/2.left.png": "", "a/2.right.png": "", "a/2.cls": "0", "b/1.cls": "7"}
    names = Texts.of(["a/1.png", "a/2.left.png", "a/2.right.png"])
    assert told(written(tmp_path, files), names) == (["0", "1", "2"], [2, 0, 0])
    assert stated_labels(written(tmp_path / "none", {"1.png": ""}), Texts.of(["1.png"])) is None


def test_names_of_classes_are_in_order(tmp_path: Path) -> None:
    files = written(tmp_path, {"1.png": "", "1.cls": "dog", "2.png": "", "2.cls": "cat"})
    assert told(files, Texts.of(["1.png", "2.png"])) == (["cat", "dog"], [1, 0])


def test_names_and_numbers_together_are_names(tmp_path: Path) -> None:
    files = written(tmp_path, {"1.png": "", "1.cls": "7", "2.png": "", "2.cls": "cat", "3.png": "", "3.cls": "7"})
    assert told(files, Texts.of(["1.png", "2.png", "3.png"])) == (["7", "cat"], [0, 1, 0])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"2.cls": "1"}, r"1\.png has no label: there is no 1\.cls beside it"),
        ({"1.cls": " "}, r"1\.cls is empty; write a class number or name into it"),
        ({"1.cls": "100000000"}, r"1\.png has the label 100000000, not a class number 0..999999"),
        ({"dataset.json": '{"labels": [["1.png", 1000000000000]]}'}, "labels must be a list of .name, class number"),
        ({"dataset.json": "[" * 100_000}, "is no JSON"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stated_labels(written(tmp_path, {"1.png": "", **files}), Texts.of(["1.png"]))
