"""CIFAR-10 and CIFAR-100 as they are published: batches in pickles, of which nothing is executed."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.folders import Files, Folder
from .containers.open import open_container
from .pickles import Reader

TRAIN = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
LARGER = ("train", "test", "meta")
"""Files of CIFAR-100; those of CIFAR-10 are TRAIN, test_batch and batches.meta."""
SIDE = 32
LABELS = ("labels", "fine_labels")
CLASSES = ("label_names", "fine_label_names")


def is_cifar(path: Path) -> bool:
    """Whether a folder, or the folder in it, has the files of CIFAR-10 or CIFAR-100."""
    inner = [path, *sorted(path.glob("cifar-*-py*"))]
    return any((top / TRAIN[0]).is_file() or all((top / name).is_file() for name in LARGER) for top in inner)


def is_packed_cifar(path: Path) -> bool:
    """Whether a tar archive has these files; those of which the content is read are unpacked to the cache."""
    return "cifar" in path.name.lower() and bool(_sets(open_container(path).names))


def read_cifar(path: Path) -> Mapping[str, NDArray[Any]]:
    """`images` uint8 [N, 3, 32, 32], `labels` [N] as names of classes, or numbers where these have none, and
    `test_images` and `test_labels`.

    Raises ValueError, in one line, for a batch that is damaged or has something else in it.
    """
    files: Files = Folder(path) if path.is_dir() else open_container(path)
    names = _sets(files.names)
    arrays = dict[str, NDArray[Any]]()
    classes = _classes(files, names["meta"]) if "meta" in names else None
    for split, before in (("train", ""), ("test", "test_")):
        if split in names:
            images, labels = zip(*(_batch(files, name) for name in names[split]), strict=True)
            arrays[f"{before}images"] = np.concatenate(images)
            numbers = np.concatenate(labels)
            if classes is not None and numbers.max() >= len(classes):
                raise ValueError(f"{path}: label {numbers.max()} has no name; there are {len(classes)}")
            arrays[f"{before}labels"] = numbers if classes is None else classes[numbers]
    return arrays


def _sets(names: Sequence[str]) -> dict[str, list[str]]:
    """The files of each split and of the names of classes; none where it is no CIFAR."""
    paths = {PurePosixPath(name).name: name for name in names}
    if batches := [paths[name] for name in TRAIN if name in paths]:
        found = {"train": batches, "test": [paths["test_batch"]] if "test_batch" in paths else []}
        found["meta"] = [paths["batches.meta"]] if "batches.meta" in paths else []
    elif all(name in paths for name in LARGER):
        found = {name: [paths[name]] for name in LARGER}
    else:
        return {}
    return {kind: files for kind, files in found.items() if files}


def _batch(files: Files, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    about = _read(files, name)
    data, labels = about.get("data"), next((about[key] for key in LABELS if key in about), None)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * SIDE**2:
        raise ValueError(f"{files.top / name} has no `data` of uint8 [N, {3 * SIDE**2}]; get it again")
    sound = isinstance(labels, list) and len(labels) == len(data) and all(type(n) is int and n >= 0 for n in labels)
    if not sound:
        raise ValueError(f"{files.top / name} has no list of {len(data)} labels; get it again")
    return data.reshape(-1, 3, SIDE, SIDE), np.array(labels, np.int64)


def _classes(files: Files, names: list[str]) -> NDArray[np.str_] | None:
    about = _read(files, names[0])
    listed = next((about[key] for key in CLASSES if isinstance(about.get(key), list)), None)
    return None if listed is None else np.array([_word(word) for word in listed], np.str_)


def _read(files: Files, name: str) -> dict[str, Any]:
    """The dictionary in a pickle, by names as text: Python 2 wrote it."""
    try:
        with files.open(name) as file:
            content = file.read()
        found = Reader(4 * len(content) + 2**24).read(io.BytesIO(content))
    except Exception as error:  # whatever a damaged or hostile file leads to
        raise ValueError(f"{files.top / name} cannot be read as a pickle ({str(error)[:200]}); get it again") from None
    if not isinstance(found, dict):
        raise ValueError(f"{files.top / name} is no dictionary; get it again")
    return dict(_named(found.items()))


def _named(items: Any) -> Iterator[tuple[str, Any]]:
    return ((_word(key), value) for key, value in items)


def _word(text: Any) -> str:
    return text.decode("latin1") if isinstance(text, bytes) else text if isinstance(text, str) else ""
