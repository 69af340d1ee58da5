"""Files with features of labelled images: one file with all classes, or one with base and one with novel classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from ..core.files import digest, sha256_of
from ..core.protocols import FeatureSet
from .arrays import read_arrays
from .settings import parse_json
from .weights import read_safetensors

ROLES = {"base": "base", "train": "base", "val": "val", "novel": "novel", "test": "novel"}
"""The words that files use for the role of a class, and the role. Classes with role "val" are left out."""
ARRAYS = ("features", "labels", "names", "split", "semantics")
SUFFIXES = (".npz", ".safetensors")
FIX = "save features as floats, labels as integers, names as strings"


def read_feature_set(path: str | Path) -> FeatureSet:
    """Features from one .npz or .safetensors file, or from a folder with one file of base and one of novel classes.

    Arrays of a file with N images of C classes:

        features   [N, D] floats
        labels     [N] integers 0..C-1; in .npz also the names of the classes
        names      [C] strings, the classes in order; by default the distinct labels, as strings
        split      [C] strings: base, novel or val (train and test are synonyms of base and novel)
        semantics  [C, S] floats, a description of each class that does not use its images; optional ([C, 0] if absent)

    A .safetensors file has `names` and `split` as JSON lists in its metadata. The files in a folder are called base (or
    train) and novel (or test). They have no `split`. `names` identify their classes; without names, a label is a number
    that both files share. Classes with role val, and files of that name, are left out.

    Nothing is unpickled. Raises FileNotFoundError, and ValueError with the file, the array and the first bad row.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        return _joined(file.name, *(_part(_file_of(file, role)) for role in ("base", "novel")))
    if file.is_file():
        return _divided(_part(file))
    raise FileNotFoundError(f"{file} does not exist; give a file of features ({', '.join(SUFFIXES)}) or a folder")


@dataclass(frozen=True)
class _Part:
    """The checked arrays of one file. Without the array, `split` is None and `semantics` is [C, 0]."""

    file: Path
    features: Tensor
    labels: Tensor
    names: list[str]
    split: list[str] | None
    semantics: Tensor


def _part(file: Path) -> _Part:
    arrays = _arrays(file)
    for name in ("features", "labels"):
        if name not in arrays:
            raise ValueError(f"{file} has no array `{name}`; it has {', '.join(arrays) or 'none'}; {FIX}")
    features = _floats(file, "features", arrays["features"], "one row per image")
    labels, names = _classes(file, arrays, len(features))
    split = _strings(file, "split", arrays["split"], len(names)) if "split" in arrays else None
    for row, word in enumerate(split or ()):
        if word not in ROLES:
            raise ValueError(f"{file}, split: row {row} is {word!r}; give one of {', '.join(ROLES)}")
    semantics = torch.zeros(len(names), 0)
    if "semantics" in arrays:
        semantics = _floats(file, "semantics", arrays["semantics"], "one row per class")
        if len(semantics) != len(names):
            raise ValueError(f"{file}, semantics: {len(semantics)} rows for {len(names)} classes; give one per class")
    return _Part(file, features, labels, names, split, semantics)


def _arrays(file: Path) -> Mapping[str, NDArray[Any]]:
    if file.suffix != ".safetensors":
        try:
            arrays = read_arrays(file, "features")
            for name in ARRAYS:
                arrays.get(name)  # what cannot be read is refused here, with the fix
            return arrays
        except ValueError as error:
            raise ValueError(f"{error}; {FIX}") from None
    try:
        tensors, metadata = read_safetensors(file)
        lists = {
            name: parse_json(metadata[name], f"metadata `{name}`") for name in ("names", "split") if name in metadata
        }
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{file} is not a readable .safetensors file ({error}); {FIX}") from None
    for name, words in lists.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{file}, metadata `{name}`: give a list of strings in JSON")
    return {
        **{
            name: (tensor.float() if tensor.is_floating_point() else tensor).numpy() for name, tensor in tensors.items()
        },
        **{name: np.array(words, np.str_) for name, words in lists.items()},
    }


def _floats(file: Path, name: str, array: NDArray[Any], rows: str) -> Tensor:
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind != "f":
        raise ValueError(f"{file}, {name}: {array.dtype} of shape {array.shape}; give floats in two dimensions, {rows}")
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    finite = np.isfinite(values).all(1)
    if not finite.all():
        row = int(np.argmin(finite))
        value = array[row][~np.isfinite(values[row])][0]
        raise ValueError(
            f"{file}, {name}: row {row} of {len(values)} holds {value} ({int((~finite).sum())} such rows); "
            "remove or recompute them"
        )
    return torch.from_numpy(values)


def _strings(file: Path, name: str, array: NDArray[Any], count: int | None = None) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "US" or count not in (None, len(array)):
        expected = "strings" if count is None else f"{count} strings, one per class"
        raise ValueError(f"{file}, {name}: {array.dtype} of shape {array.shape}; give {expected}")
    return [str(word) for word in array.astype(np.str_)]


def _classes(file: Path, arrays: Mapping[str, NDArray[Any]], count: int) -> tuple[Tensor, list[str]]:
    """The class of each image [N] as an index into the class names, and the names [C]."""
    labels = arrays["labels"]
    if labels.shape != (count,) or labels.dtype.kind not in "iuUS":
        raise ValueError(
            f"{file}, labels: {labels.dtype} of shape {labels.shape}; give {count} integers or class names, one per "
            "row of features"
        )
    if "names" in arrays:
        names = _strings(file, "names", arrays["names"])
    else:
        names = [str(label) for label in np.unique(labels).astype(np.str_)]
        labels = labels.astype(np.str_)
    _check_unique(file, names, arrays.get("split"))
    if labels.dtype.kind in "US":
        places = {name: place for place, name in enumerate(names)}
        numbers = np.array([places.get(str(label), -1) for label in labels.astype(np.str_)])
    else:
        numbers = labels.astype(np.int64)
    unnamed = (numbers < 0) | (numbers >= len(names))
    if unnamed.any():
        row = int(np.argmax(unnamed))
        raise ValueError(
            f"{file}, labels: row {row} is {labels[row]}, which has no name; the file has {len(names)} names, "
            f"for labels 0..{len(names) - 1}"
        )
    for place in np.flatnonzero(np.bincount(numbers, minlength=len(names)) == 0):
        raise ValueError(
            f"{file}: class {names[place]!r}, number {place}, has no images; add some, or remove the class"
        )
    return torch.from_numpy(numbers), names


def _check_unique(file: Path, names: list[str], split: NDArray[Any] | None) -> None:
    for place, name in enumerate(names):
        first = names.index(name)
        if first < place:
            roles = f" (as {split[first]} and {split[place]})" if split is not None and place < len(split) else ""
            raise ValueError(
                f"{file}, names: class {name!r} occurs at positions {first} and {place}{roles}; give every class once"
            )


def _divided(part: _Part) -> FeatureSet:
    """The feature set in a single file, without its validation classes."""
    if part.split is None:
        raise ValueError(
            f"{part.file} does not say which classes are novel: add an array `split` with base, novel or val per class"
        )
    roles = [ROLES[word] for word in part.split]
    for role in ("base", "novel"):
        if role not in roles:
            raise ValueError(
                f"{part.file}, split: no class is {role}, all are {', '.join(sorted(set(roles)))}; mark some as {role}"
            )
    kept = [number for number, role in enumerate(roles) if role != "val"]
    place = torch.full((len(roles),), -1)
    place[kept] = torch.arange(len(kept))
    rows = place[part.labels] >= 0
    return FeatureSet(
        part.file.stem,
        part.features[rows],
        place[part.labels[rows]],
        [part.names[number] for number in kept],
        [place for place, number in enumerate(kept) if roles[number] == "novel"],
        part.semantics[kept],
        digest("feature file", 1, sha256_of(part.file)),
    )


def _file_of(folder: Path, role: str) -> Path:
    stems = [stem for stem, its_role in ROLES.items() if its_role == role]
    files = [folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
    found = [file for file in files if file.is_file()]
    if len(found) != 1:
        raise FileNotFoundError(
            f"{folder} has {len(found) or 'no'} files of its {role} classes; give exactly one of "
            f"{', '.join(file.name for file in files)}"
        )
    return found[0]


def _joined(name: str, base: _Part, novel: _Part) -> FeatureSet:
    """The feature set in a file of base classes and a file of novel classes."""
    for part in (base, novel):
        if part.split is not None:
            raise ValueError(f"{part.file} has `split`; give one file of all classes, or two files without `split`")
    both = [class_name for class_name in novel.names if class_name in base.names]
    if both:
        raise ValueError(
            f"class {both[0]!r} is novel in {novel.file} and base in {base.file} ({len(both)} such classes); remove it "
            "from one of them, or add `names` to both files if each numbers its classes from 0"
        )
    for what, in_base, in_novel in (
        ("features", base.features, novel.features),
        ("semantics", base.semantics, novel.semantics),
    ):
        if in_base.shape[1] != in_novel.shape[1]:
            raise ValueError(
                f"{what} have {in_base.shape[1]} columns in {base.file} and {in_novel.shape[1]} in {novel.file}; "
                "compute both in the same way"
            )
    first = len(base.names)
    return FeatureSet(
        name,
        torch.cat([base.features, novel.features]),
        torch.cat([base.labels, novel.labels + first]),
        base.names + novel.names,
        range(first, first + len(novel.names)),
        torch.cat([base.semantics, novel.semantics]),
        digest("feature folder", 1, sha256_of(base.file), sha256_of(novel.file)),
    )
