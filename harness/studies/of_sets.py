"""A metric of sets that a study makes itself."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..core.declarations import Metric
from ..core.registry import unknown
from ..evaluate import estimates


def value_of(metric: Metric, sets: Mapping[str, Tensor], options: Mapping[str, Any]) -> float:
    """The first number of a metric for sets of features [N, D] by source, such as fake; of scores their mean."""
    given = {name: sets[view.source] for name, view in metric.views.items()}
    found = estimates(metric.name, metric.function(**given, **options), len(sets["fake"]))
    return next(iter(found.values())).value


def check_reads(metric: Metric, sources: set[str], options: Mapping[str, Any]) -> None:
    """Raises ValueError for a metric that reads anything but features of these sources, and for an unknown option."""
    for option in options:
        if option not in metric.options:
            raise ValueError(unknown(f"option of metric {metric.name}:", option, sorted(metric.options)))
    reads = {f"{view.source} {view.space}" for view in metric.views.values()}
    if not reads <= {f"{source} features" for source in sources} or "fake features" not in reads:
        raise ValueError(
            f"metric {metric.name} reads {', '.join(sorted(reads))}; this study has features of "
            f"{', '.join(sorted(sources))} samples alone, so leave it out"
        )
