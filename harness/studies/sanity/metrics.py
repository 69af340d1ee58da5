"""The metrics under test: what each is said to measure, and the options that arXiv:2505.22450 gives it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ...core.declarations import Metric
from ...core.registry import METRICS
from ...run import MetricSpec, label
from ..of_sets import check_reads, value_of
from .demands import Kind

KINDS: Mapping[str, str] = {
    "precision": "fidelity",
    "density": "fidelity",
    "alpha_precision": "fidelity",
    "precision_cover": "fidelity",
    "symmetric_precision": "fidelity",
    "probabilistic_precision": "fidelity",
    "clipped_density": "fidelity",
    "topological_precision": "fidelity",
    "realism": "unbounded fidelity",
    "recall": "diversity",
    "coverage": "diversity",
    "beta_recall": "diversity",
    "recall_cover": "diversity",
    "symmetric_recall": "diversity",
    "probabilistic_recall": "diversity",
    "clipped_coverage": "diversity",
    "topological_recall": "diversity",
    "rarity": "unbounded diversity",
    "vendi_score": "unbounded diversity",
    "frechet_distance": "distance",
    "kernel_distance": "distance",
    "cmmd": "distance",
    "sliced_distance": "distance",
}
"""What a metric measures. Where it has no fixed range, only the shapes of its curves are judged."""
SAID = ("diversity", "distance", "unbounded fidelity", "unbounded diversity")
USUAL: Mapping[str, Mapping[str, Any]] = {
    **{name: {"k": 3} for name in ("precision", "recall", "realism", "rarity")},
    "sliced_distance": {"projections": 128},
}
"""Neighbours, where the paper, or the source of a score, has others than our default of 5; and fewer projections."""
COVERS = ("precision_cover", "recall_cover")


class UnderTest(NamedTuple):
    """A metric with its options, and what it is said to measure."""

    metric: Metric
    options: Mapping[str, Any]
    said: str

    @property
    def kind(self) -> Kind:
        return self.said.split()[-1]  # type: ignore[return-value]

    @property
    def bounded(self) -> bool:
        return self.said in ("fidelity", "diversity")

    @property
    def described(self) -> str:
        """Options that differ from the defaults, in words; empty where none does."""
        return label("", self.metric.options, self.options).strip("()")

    def oriented(self, value: float) -> float:
        return -value if self.metric.better == "lower" else value

    def value(self, fake: Tensor, real: Tensor) -> float:
        """Its number for two sets [M, D] and [N, D]; of scores the mean of those that are defined."""
        options = dict(self.options)
        if self.metric.name in COVERS and "k" not in options:
            options["k"] = cover_k(len(real))
        return value_of(self.metric, {"fake": fake, "real": real}, options)


def cover_k(real: int) -> int:
    """k of precision and recall cover among N real samples: a third of about ln N + 6, as in the paper."""
    return int(int(math.log(real) + 7) / 3 + 1)


def under_test(entry: MetricSpec, kind: str = "") -> UnderTest:
    """The metric of an entry. kind: what it measures, where KINDS does not know it, or says something else.

    Raises ValueError where a metric reads more than two sets of features, and where nobody says what it measures.
    """
    options = {} if isinstance(entry, str) else dict(entry)
    name = entry if isinstance(entry, str) else str(options.pop("metric", ""))
    metric: Metric = METRICS[name]
    check_reads(metric, {"fake", "real"}, options)
    said = kind or KINDS.get(name, "distance" if metric.better == "lower" else "")
    if not said:
        raise ValueError(
            f"nothing says what {name} measures: give study.sanity.kind=fidelity, or one of {', '.join(SAID)}"
        )
    return UnderTest(metric, {**USUAL.get(name, {}), **options}, said)


def all_known() -> Sequence[str]:
    return list(KINDS)
