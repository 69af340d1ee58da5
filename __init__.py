"""assay: how good are the samples of a generative model, and how good are the metrics that claim to tell?

The same three verbs as on the command line, for a notebook; `assay.metrics` has every formula as a plain function.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .harness.core import moved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .harness.core.protocols import Estimate, Generator, Part, Record, Row, Statistics, View
    from .harness.core.registry import dataset, extractor, generator, metric, study, trainer
    from .harness.direct.streaming import Metric
    from .harness.formats.statistics import read_statistics, write_statistics
    from .harness.run import Run

__version__ = "0.1.0"
__all__ = [
    "Estimate", "Metric", "Part", "Row", "Run", "Statistics", "View", "dataset", "evaluate", "extractor", "generator",
    "load", "metric", "read_statistics", "score", "study", "trainer", "write_statistics",
]  # fmt: skip
_HOMES = {
    "harness.core.protocols": ("Estimate", "Part", "Row", "Statistics", "View"),
    "harness.core.registry": ("dataset", "extractor", "generator", "metric", "study", "trainer"),
    "harness.formats.statistics": ("read_statistics", "write_statistics"),
    "harness.run": ("Run",),
    "harness.direct.streaming": ("Metric",),
}
"""What a plugin or a notebook imports from here, by the module that it is in: imported when it is asked for."""

moved.install()


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def score(metric: str, *arrays: Any, **options: Any) -> Any:
    """A metric by name on your own arrays, generated samples first: score("precision", fake, real, k=3)."""
    from .harness.core.registry import METRICS, discover

    discover()
    return METRICS[metric].function(*arrays, **options)


def evaluate(
    metric: str, generator: str, dataset: str, out: str | Path = "outputs/run", *, space: str | None = None,
    encode: str | None = None, options: Mapping[str, Any] | None = None, **setting: Any,
) -> Record:  # fmt: skip
    """One cell, as `assay run` does it: evaluate("precision", "vae", "digits", space="pixels", n=1000, seed=0).

    space, encode: as on the command line; options: of the metric. setting: of the run, n, seed, n_real, features, store
    and device. The record is written to `out` and computed again only where it is not valid.
    Raises LookupError for unknown names, ValueError for wrong options, OSError where `out` cannot be written.
    """
    from .harness.core.registry import discover
    from .harness.run import open_run

    discover()
    run = open_run({dataset: {}}, {generator: {}}, Path(out), **setting)
    return run.evaluate(run.cell(metric, space, encode, **(options or {})))


def load(path: str | Path, **options: Any) -> Generator:
    """The generator in a checkpoint file or folder; its family is recognised from the content."""
    from .harness.core.registry import discover
    from .harness.formats.checkpoint import read_checkpoint
    from .harness.formats.handed_on import opening
    from .harness.formats.recognise import opener

    discover()
    with opening(path):
        generator: Generator = opener(path, read_checkpoint(path)).function("", path=str(path), **options)
    return generator
