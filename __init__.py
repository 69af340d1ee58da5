"""assay: how good are the samples of a generative model, and how good are the metrics that claim to tell?

What a notebook calls: `evaluate`, `score`, `compare`, `select` and `load`, which take the objects that are there;
`assay.metrics` has every formula as a plain function.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .harness.core import moved

if TYPE_CHECKING:
    from .harness.core.protocols import Dataset, Estimate, Extractor, Generator, Part, Record, Row, Statistics, View
    from .harness.core.registry import dataset, extractor, generator, metric, sink, study, trainer
    from .harness.formats.statistics import read_statistics, write_statistics
    from .harness.objects.log_to import log_to
    from .harness.objects.streaming import Metric
    from .harness.objects.verbs import Selection, compare, evaluate, load, score, select
    from .harness.run import Run

__version__ = "0.1.0"
__all__ = [
    "Dataset", "Estimate", "Extractor", "Generator", "Metric", "Part", "Record", "Row", "Run", "Selection",
    "Statistics", "View", "compare", "dataset", "evaluate", "extractor", "generator", "load", "log_to",
    "metric", "read_statistics", "score", "select", "sink", "study", "trainer", "write_statistics",
]  # fmt: skip
_HOMES = {
    "harness.core.protocols": (
        "Dataset",
        "Estimate",
        "Extractor",
        "Generator",
        "Part",
        "Record",
        "Row",
        "Statistics",
        "View",
    ),
    "harness.core.registry": ("dataset", "extractor", "generator", "metric", "sink", "study", "trainer"),
    "harness.formats.statistics": ("read_statistics", "write_statistics"),
    "harness.objects.log_to": ("log_to",),
    "harness.objects.streaming": ("Metric",),
    "harness.objects.verbs": ("Selection", "compare", "evaluate", "load", "score", "select"),
    "harness.run": ("Run",),
}
"""What a plugin or a notebook imports from here, by the module that it is in: imported when it is asked for."""

moved.install()


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
