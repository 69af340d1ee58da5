"""Opens what a run works on: the data set, the generator and the feature space, by their names or already open."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from .arrays.opened import Opened, open_dataset, open_generator
from .arrays.store import Store, open_store
from .arrays.views import Views
from .core.files import canonical, require_writable
from .core.protocols import Dataset, Extractor, Generator, pick_device
from .core.registry import EXTRACTORS
from .formats.weights import ZOO
from .run import MetricSpec, Run, Unavailable

FEATURES = "efficientnet_lite"
"""The feature space of data sets for which no classifier of our own was trained."""
MADE = 5000
"""Samples of a generator that makes as many as are asked for."""
T = TypeVar("T")


def open_run(
    dataset: Mapping[str, Mapping[str, Any] | None],
    generator: Mapping[str, Mapping[str, Any] | None],
    folder: Path,
    store: str | Path | None = None,
    seed: int = 0,
    n: int | Literal["all"] | None = None,
    opened: dict[str, tuple[str, Any]] | None = None,
    **setting: Any,
) -> Run:
    """Open {name: options} of a data set and a generator; results go to `folder`, arrays to `store` (the cache folder).

    opened: what the run before opened, which is taken where it is asked for again. setting: of `run_on`.
    Raises LookupError for unknown names, ValueError for wrong options, OSError when `folder` cannot be written.
    """
    check_numbers(seed, n)
    opened = {} if opened is None else opened
    data = _again(opened, "dataset", dataset, partial(open_dataset, dataset))
    both = partial(open_generator, data.it.name, generator, data.options)
    model = _again(opened, "generator", (dataset, generator), both)
    kept = _again(opened, "extractors", (dataset, setting.get("extractors")), dict[str, Extractor])
    return run_on(data, model, folder, open_store(store), seed=seed, n=n, kept=kept, **setting)


def run_on(
    data: Opened[Dataset],
    model: Opened[Generator],
    folder: Path,
    store: Store,
    features: str = "auto",
    device: str = "auto",
    extractors: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    n: int | Literal["all"] | None = None,
    n_real: int | None = None,
    scores: Sequence[MetricSpec] = (),
    quality_signals: Sequence[MetricSpec] = (),
    classes: MetricSpec | None = "predicted_class",
    covariates: Mapping[str, MetricSpec | Sequence[MetricSpec]] | None = None,
    set_metrics: Sequence[MetricSpec] = (),
    floor: bool = True,
    unavailable: Unavailable = "fail",
    metric_options: Mapping[str, Mapping[str, Any]] | None = None,
    kept: dict[str, Extractor] | None = None,
) -> Run:
    """A run of what is open already.

    kept: extractors that are open already, to which others are added.
    n: None and "all" are all of stored samples; of a generator that makes its samples, None are MADE.
    Raises LookupError for an unknown feature space, ValueError for wrong numbers, OSError when `folder` cannot be
    written.
    """
    check_numbers(seed, n)
    if unavailable not in ("fail", "leave_out"):
        raise ValueError(f"unavailable={unavailable!r} must be fail or leave_out")
    features = default_features(data.it.name) if features == "auto" else features
    EXTRACTORS[features]
    require_writable(folder)
    torch.backends.cudnn.allow_tf32 = False  # features made on a GPU are compared with those made on a CPU
    views = Views(data.it, model.it, features, store, pick_device(device), extractors, kept)
    return Run(
        experiment=folder.name,
        generator=model.name,
        dataset=data.name,
        views=views,
        folder=folder,
        seed=seed,
        n=_number(n, views.total),
        n_real=n_real,
        scores=scores,
        quality_signals=quality_signals,
        classes=classes,
        covariates=covariates or {},
        set_metrics=set_metrics,
        floor=floor,
        unavailable=unavailable,
        data_options=data.options,
        metric_options=metric_options or {},
    )


def _again(opened: dict[str, tuple[str, Any]], what: str, asked: object, make: Callable[[], T]) -> T:
    """What was opened last where the same is asked for; else it is made, and kept in its place."""
    key = canonical(asked)
    if opened.get(what, ("",))[0] != key:
        opened.pop(what, None)
        opened[what] = (key, make())
    found: T = opened[what][1]
    return found


def default_features(data: str) -> str:
    """The feature space of a data set's name that the word "auto" stands for."""
    return "classifier" if (ZOO["extractor"] / f"classifier-{data}.safetensors").is_file() else FEATURES


def check_numbers(seed: int, n: int | str | None) -> None:
    """Raises ValueError for a seed or a number of samples that none can be."""
    if n not in (None, "all") and (not isinstance(n, int) or isinstance(n, bool) or n < 1):
        raise ValueError(f"n={n!r} must be a whole number of generated samples, 1 or more; or all, of stored ones")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed={seed!r} must be a whole number, 0 or more")


def _number(n: int | str | None, total: int | None) -> int:
    """How many generated samples there are to be, given how many are stored. Raises ValueError for more than these."""
    if total is None:
        if n == "all":
            raise ValueError(f"n=all: this generator makes its samples, so give a number of them; n={MADE} is usual")
        return MADE if n is None else int(n)
    if n is None or n == "all":
        return total
    if int(n) > total:
        raise ValueError(f"n={n}: there are {total:,} generated samples and no more; leave n out to use them all")
    return int(n)
