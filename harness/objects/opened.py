"""Generators and data sets from whatever a caller has: names, paths, images in objects, networks, functions."""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import nn

from ...datasets.parts.splits import Arrays, Part, divided, image_fingerprint
from ..arrays.opened import Opened, open_dataset, open_generator
from ..core.protocols import Dataset, Generator, Split
from ..core.registry import DATASETS, GENERATORS, unknown
from ..formats.images import contents_of
from ..open_run import MADE
from .modules import Decoder, drawn, stored
from .names import named
from .paths import dataset_of, existing, generator_of
from .samples import Images, Range, images_of

SPLITS: tuple[Split, ...] = ("train", "test")
ON_HUB = re.compile(r"[\w.-]+/[\w.-]+")
"""What data sets of the Hugging Face hub are called."""


class Found(NamedTuple):
    """What an argument is: opened; by_name: whether a name or a path led to it, so that it is the same another day."""

    opened: Opened[Any]
    by_name: bool


def real_samples(given: Any) -> Found:
    """The data set that an argument names, leads to or holds.

    Beside what `images_of` takes: a name, with options or without; a path; an object that is a data set of assay; and
    {"train": ..., "test": ...}, or {label: one of these} for the label that records shall have.
    Raises ValueError, LookupError and FileNotFoundError, naming the argument.
    """
    if found := named(DATASETS, given):
        return Found(open_dataset(found.node), by_name=True)
    if at := _path("dataset", given, DATASETS.noun, list(DATASETS)):
        path, options = at
        name, option = dataset_of(path)
        return Found(open_dataset({name: {option: str(path), **options}}), by_name=True)
    if isinstance(given, Dataset):
        return Found(_opened(given.name, given), by_name=False)
    if isinstance(given, Mapping):
        if set(given) <= {*SPLITS, "validation"} and "train" in given:
            held = given.get("test", given.get("validation"))
            test = None if held is None else images_of("dataset['test']", held, labelled=True)
            return Found(_in_memory(images_of("dataset['train']", given["train"], labelled=True), test), by_name=False)
        if (labelled := _label(given)) and not named(DATASETS, given):
            name, it = labelled
            opened, by_name = real_samples(it)
            return Found(opened._replace(name=name), by_name)
    return Found(_in_memory(images_of("dataset", given, labelled=True), None), by_name=False)


def generated_samples(
    given: Any,
    data: Opened[Dataset],
    seed: int,
    n: int | Literal["all"] | None,
    latent: int | Sequence[int] | None = None,
    value_range: Range | None = None,
    who: str = "generator",
) -> Found:
    """The generator that an argument names, leads to or is; samples that it holds are stored samples.

    Beside what `images_of` takes: a name, with options or without; a path to samples or to a checkpoint; an object that
    is a generator of assay; a pipeline of diffusers; a module from latents to images, with `latent`, the size of one
    latent; a function from a list of seeds to images; and {label: one of these} for the label in records.
    Raises ValueError, LookupError and FileNotFoundError, naming the argument.
    """
    if found := named(GENERATORS, given):
        if data.it.name not in DATASETS and "data" in GENERATORS[found.name].options:
            raise ValueError(f"{who}: {found.name} opens the data set again, so give that by its name or its path")
        return Found(open_generator(data.it.name, found.node, data.options), by_name=True)
    if at := _path(who, given, GENERATORS.noun, list(GENERATORS)):
        path, options = at
        node = {generator_of(path): {"path": str(path), **options}}
        return Found(open_generator(data.it.name, node, data.options), by_name=True)
    if isinstance(given, Mapping) and (labelled := _label(given)):
        name, it = labelled
        opened, by_name = generated_samples(it, data, seed, n, latent, value_range, who)
        return Found(opened._replace(name=name), by_name)
    if isinstance(given, Generator) and not isinstance(given, type):
        return Found(_opened(type(given).__name__, given), by_name=False)
    pipe, options = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
    if any(base.__name__ == "DiffusionPipeline" for base in inspect.getmro(type(pipe))):
        return Found(_opened(type(pipe).__name__, _pipeline(pipe, options)), by_name=False)
    if isinstance(given, type):
        raise ValueError(f"{who} is the class {given.__name__}; make an object of it, {given.__name__}(...)")
    model: Generator
    if isinstance(given, nn.Module):
        name = type(given).__name__
        model = Decoder(given, _latent_size(name, latent), _made(n), seed, value_range)
    elif _is_function(given):
        name = str(getattr(given, "__name__", type(given).__name__)).strip("<>")
        model = stored(drawn(given, _made(n), seed, value_range))
    else:
        name, model = "images", stored(images_of(who, given, value_range, most=n if isinstance(n, int) else None))
    return Found(_opened(name, model), by_name=False)


def _opened(name: str, it: Any) -> Opened[Any]:
    """An object, named by its kind and by what it holds."""
    return Opened(f"{name}#{it.fingerprint[:8]}", it, {})


def _path(who: str, given: Any, noun: str, known: list[str]) -> tuple[Path, Mapping[str, Any]] | None:
    """A path that exists, and options beside it; None for an object that is no path.

    Raises LookupError for a text that is neither a name nor a path.
    """
    options: Mapping[str, Any] = {}
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping):
        given, options = given
    if not isinstance(given, (str, Path)):
        return None
    try:
        return existing(who, given), options
    except FileNotFoundError as missing:
        if who == "dataset" and isinstance(given, str) and ON_HUB.fullmatch(given):
            hub = f"hub(name={given!r}, download=true)"
            raise FileNotFoundError(f"{missing}; one of the Hugging Face hub is {hub}") from None
        if isinstance(given, Path) or "/" in given:
            raise
        raise LookupError(f"{who}: {unknown(noun, given, sorted(known))}, or give a path that exists") from None


def _label(given: Mapping[Any, Any]) -> tuple[str, Any] | None:
    """The label and the object in {label: object}."""
    if len(given) != 1:
        return None
    ((name, it),) = given.items()
    return (name, it) if isinstance(name, str) else None


def _in_memory(train: Images, test: Images | None) -> Opened[Dataset]:
    """A data set of images, in the order of their contents, as that of a file."""
    sides = [train] if test is None else [train, test]
    if len({side.pixels.shape[1:] for side in sides}) > 1:
        shapes = " and ".join(str(list(side.pixels.shape[1:])) for side in sides)
        raise ValueError(f"dataset: images of the two splits are {shapes} [C, H, W]; give both the same shape")
    contents = np.concatenate([contents_of(side.pixels) for side in sides])
    labelled = [side.labels for side in sides if side.labels is not None]
    labels = np.concatenate(labelled) if len(labelled) == len(sides) else None
    classes = train.classes if labels is not None else []
    splits: list[Split] = ["train" if row < len(train.pixels) else "test" for row in range(len(contents))]
    rows = divided("images", contents, labels, splits, 0.0)
    fingerprint = image_fingerprint(train.pixels.shape[1], contents, labels, classes, rows)
    counts: dict[Split, int] = {split: len(numbers) for split, numbers in rows.items()}
    order = {**rows, "test": rows["test"] - len(train.pixels)}
    parts: dict[Split, Part] = {}
    for split, side in zip(SPLITS, (train, test or train), strict=True):
        parts[split] = Part(side.pixels, None if labels is None else side.labels)
    return _opened("images", Arrays("images", fingerprint, classes, counts, parts.__getitem__, order))


def _pipeline(pipe: Any, options: Mapping[str, Any]) -> Generator:
    """A pipeline of diffusers that is in memory, as a generator."""
    try:
        family = importlib.import_module("...generators.diffusers_pipeline", __package__)
    except ModuleNotFoundError:
        raise ValueError("generator: a pipeline in memory cannot be opened; give a function seeds -> images") from None
    found: Generator = family.from_pipeline(pipe, **options)
    return found


def _made(n: int | Literal["all"] | None) -> int:
    """How many samples a network or a function makes."""
    if n == "all":
        raise ValueError(f"n=all: this generator makes its samples, so give a number of them; n={MADE} is usual")
    return MADE if n is None else n


def _latent_size(name: str, latent: int | Sequence[int] | None) -> tuple[int, ...]:
    size = (latent,) if isinstance(latent, int) else tuple(latent or ())
    if not size or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(
            f"generator is a module ({name}) and latent={latent!r} is no size of its input; give latent=64, or "
            "latent=(4, 32, 32), for normal latents of that size"
        )
    return size


def _is_function(given: Any) -> bool:
    holds = any(hasattr(given, name) for name in ("__getitem__", "__iter__", "__array__"))
    return isinstance(given, Callable) and not holds  # type: ignore[arg-type]
