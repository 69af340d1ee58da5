"""Data sets and generators, opened by name and options, and what records call them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from ..core.escapes import for_json
from ..core.protocols import Dataset, Generator
from ..core.registry import DATASETS, GENERATORS
from ..formats.weights import NETWORKS

PATHS = ("path", "root", "latents", "args")
"""Options that name a file or a folder, wherever it lies."""
T = TypeVar("T")


class Opened(NamedTuple, Generic[T]):
    """A data set or a generator, and what records call it. options: those that a data set was opened with."""

    name: str
    it: T
    options: Mapping[str, Any]


def open_dataset(node: Mapping[str, Mapping[str, Any] | None]) -> Opened[Dataset]:
    """The data set {name: options}."""
    name, options = only(node, "dataset")
    data: Dataset = DATASETS[name].function(**options)
    known = DATASETS[name].options
    return Opened(label(name, known, _named(options, known, data)), data, options)


def open_generator(
    data: str, node: Mapping[str, Mapping[str, Any] | None], data_options: Mapping[str, Any] | None = None
) -> Opened[Generator]:
    """The generator {name: options} of a data set's name.

    data_options: of the data set, for a generator that opens it again (its option `data`).
    """
    name, options = only(node, "generator")
    known = GENERATORS[name].options
    handed = {"data": dict(data_options)} if data_options and "data" in known and options.get("data") is None else {}
    model: Generator = GENERATORS[name].function(data, **{**options, **handed})
    return Opened(label(name, known, _named(options, known, model)), model, options)


def label(name: str, defaults: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """A name with the options that differ from their defaults: "latent_density(bandwidth=0.5)"."""
    usual = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}
    differing = [f"{key}={value}" for key, value in options.items() if key not in usual or usual[key] != value]
    return for_json(f"{name}({', '.join(differing)})" if differing else name)


def _named(options: Mapping[str, Any], known: Mapping[str, Any], opened: Dataset | Generator) -> dict[str, Any]:
    """Options as they stand in records: a file or folder by its name and what it holds, never by where it lies.

    An option `name` beside a `path` is what its owner calls it, in place of the file's name. A network of a list is
    called by the list and its training seed, "latent_density/seed3"; no file's name has a slash.
    """
    named = dict(options)
    called = named.pop("name", "") if "path" in options else ""
    for key, value in named.items():
        if (
            isinstance(value, str)
            and value != known.get(key)
            and (key in PATHS or os.sep in value or Path(value).is_file())
        ):
            listed = value.removeprefix(NETWORKS) if value.startswith(NETWORKS) else ""
            name = (key == "path" and called) or listed or Path(value).expanduser().absolute().name
            named[key] = f"{name}#{opened.fingerprint[:8]}"
    return named


def only(node: Mapping[str, Mapping[str, Any] | None], group: str) -> tuple[str, dict[str, Any]]:
    """The one name in {name: options}, and its options."""
    if len(node) != 1:
        raise ValueError(f"choose one {group}, not {len(node)}: {group}=NAME (several in turn: -m {group}=A,B)")
    ((name, options),) = node.items()
    return name, dict(options or {})
