"""Labels that a folder or a container of images states, instead of class folders."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..core.folders import Files

ABOUT = "dataset.json"
"""The file in which StyleGAN's data sets keep their labels."""
BESIDE = ".cls"
"""The suffix of the files in which WebDataset keeps the label of an image: a class number or name, as text."""
MAX_CLASSES = 1_000_000
LONGEST = 1000


def stated_labels(files: Files, names: Sequence[str]) -> tuple[list[str], dict[str, int]] | None:
    """Class names, and the class number of each of the images `names`; None where nothing is stated.

    Raises ValueError, in one line, where labels are damaged or missing for some.
    """
    if ABOUT in files.names:
        return _of_stylegan(files, names)
    own: Mapping[str, int | str] = getattr(files, "labels", {})
    if own:
        return _numbered(files.top, own, names, getattr(files, "classes", ()))
    if beside := {name.removesuffix(BESIDE): name for name in files.names if name.endswith(BESIDE)}:
        labels = dict[str, int | str]()
        for name in names:
            if (file := beside.get(_key(name))) is None:
                raise ValueError(f"{files.top / name} has no label: there is no {_key(name)}{BESIDE} beside it; add it")
            labels[name] = _text(files, file)
        return _numbered(files.top, labels, names)
    return None


def is_label(name: str) -> bool:
    """Whether a file states the label of an image."""
    return name.endswith(BESIDE)


def _key(name: str) -> str:
    """What the files of one sample have in common: the name up to its first dot."""
    path = PurePosixPath(name)
    return str(path.parent / path.name.partition(".")[0])


def _text(files: Files, name: str) -> int | str:
    try:
        with files.open(name) as file:
            text = file.read(LONGEST).decode().strip()
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{files.top / name} cannot be read as a label ({error}); mend it") from None
    if not text:
        raise ValueError(f"{files.top / name} is empty; write a class number or name into it")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _numbered(
    top: Path, labels: Mapping[str, int | str], names: Sequence[str], classes: Sequence[str] = ()
) -> tuple[list[str], dict[str, int]]:
    """Numbers as they are; names in their order."""
    found = {name: labels[name] for name in names}
    if any(isinstance(label, str) for label in found.values()):
        words = sorted({str(label) for label in found.values()})
        place = {word: i for i, word in enumerate(words)}
        return words, {name: place[str(label)] for name, label in found.items()}
    numbers = {name: int(label) for name, label in found.items()}
    if wrong := next((name for name, number in numbers.items() if not 0 <= number < MAX_CLASSES), None):
        raise ValueError(f"{top / wrong} has the label {numbers[wrong]}, not a class number 0..{MAX_CLASSES - 1}")
    count = 1 + max(numbers.values())
    return list(classes) if len(classes) >= count else [str(i) for i in range(count)], numbers


def _of_stylegan(files: Files, names: Sequence[str]) -> tuple[list[str], dict[str, int]] | None:
    """From the `labels` of dataset.json: null, or a list of [name, label] with numbers, or vectors that are 1 at one
    place and 0 at all others.
    """
    file = files.top / ABOUT
    try:
        with files.open(ABOUT) as opened:
            about = json.load(opened)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON ({error}); mend or remove it") from None
    if not isinstance(about, dict) or "labels" not in about:
        return None
    stated: Any = about["labels"]
    if stated is None:
        return [], {}
    try:
        pairs = dict(stated)
        number = {name: label.index(1) if isinstance(label, list) else label for name, label in pairs.items()}
        sound = all(type(label) is int and 0 <= label < MAX_CLASSES for label in number.values())
        one_hot = all(not isinstance(label, list) or sum(map(bool, label)) == 1 for label in pairs.values())
    except (TypeError, ValueError, AttributeError):
        sound = one_hot = False
    if not sound or not one_hot:
        raise ValueError(f"{file}: labels must be a list of [name, class number]; mend it, or remove it")
    if absent := [name for name in names if name not in number]:
        raise ValueError(f"{file} has no label of {absent[0]} and of {len(absent) - 1} more; add them, or remove it")
    return [str(i) for i in range(1 + max(number.values()))], {name: number[name] for name in names}
