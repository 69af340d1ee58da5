"""Labels that a folder or a container of images states, instead of class folders."""

import json
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.folders import Files
from ..core.texts import Texts

ABOUT = "dataset.json"
"""The file in which StyleGAN's data sets keep their labels."""
BESIDE = ".cls"
"""The suffix of the files in which WebDataset keeps the label of an image: a class number or name, as text."""
MAX_CLASSES = 1_000_000
LONGEST = 1000


def stated_labels(files: Files, names: Texts) -> tuple[list[str], NDArray[np.int64]] | None:
    """Class names, and the class number of each of the images `names`, which are in order; None where none is stated.

    Raises ValueError, in one line, where labels are damaged or missing for some.
    """
    if files.names.place(ABOUT) is not None:
        return _of_stylegan(files, names)
    if (own := getattr(files, "labels", None)) is not None:
        places = (files.names.place(name) for name in names)
        return _numbered(files.top, names, (own[place] for place in places), getattr(files, "classes", ()))
    if any(name.endswith(BESIDE) for name in files.names):
        return _numbered(files.top, names, (_beside(files, name) for name in names))
    return None


def is_label(name: str) -> bool:
    """Whether a file states the label of an image."""
    return name.endswith(BESIDE)


def _key(name: str) -> str:
    """What the files of one sample have in common: the name up to its first dot."""
    path = PurePosixPath(name)
    return str(path.parent / path.name.partition(".")[0])


def _beside(files: Files, image: str) -> int | str:
    """The label in the file beside an image."""
    name = _key(image) + BESIDE
    if files.names.place(name) is None:
        raise ValueError(f"{files.top / image} has no label: there is no {name} beside it; add it")
    try:
        with files.open(name) as file:
            text = file.read(LONGEST).decode().strip()
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{files.top / name} cannot be read as a label ({error}); mend it") from None
    if not text:
        raise ValueError(f"{files.top / name} is empty; write a class number or name into it")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _numbered(
    top: Path, names: Texts, labels: Iterable[int | str], classes: Sequence[str] = ()
) -> tuple[list[str], NDArray[np.int64]]:
    """Numbers as they are; names in their order."""
    known, codes = dict[int | str, int](), array("q")
    for label in labels:
        codes.append(known.setdefault(label if isinstance(label, str) else int(label), len(known)))
    numbers = np.array(codes, np.int64)
    if any(isinstance(label, str) for label in known):
        words = sorted(set(map(str, known)))
        place = {word: i for i, word in enumerate(words)}
        return words, np.array([place[str(label)] for label in known])[numbers]
    found = np.array([int(label) for label in known], object)
    if len(wrong := np.flatnonzero((found < 0) | (found >= MAX_CLASSES))):
        first = names[codes.index(int(wrong[0]))]
        raise ValueError(f"{top / first} has the label {found[wrong[0]]}, not a class number 0..{MAX_CLASSES - 1}")
    count = 1 + int(found.max())
    named = list(classes) if len(classes) >= count else [str(i) for i in range(count)]
    return named, found.astype(np.int64)[numbers]


def _of_stylegan(files: Files, names: Texts) -> tuple[list[str], NDArray[np.int64]] | None:
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
        return [], np.zeros(0, np.int64)
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
    numbers = np.fromiter((number[name] for name in names), np.int64, len(names))
    return [str(i) for i in range(1 + max(number.values()))], numbers
