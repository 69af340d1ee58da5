"""What does each metric cost for 1,000 samples, beside what their features cost?

    python tests/benchmarks/metric_costs.py            # about three minutes of CPU time, on one thread

Writes results/benchmarks/metric_costs.csv and metric_costs.md (or --out); `assay board` and `assay list metrics
--evidence` read the first. 1,000 generated samples; real ones as the metric declares, as many, or 10,000 where it reads
all there are; 64 numbers each, normal, labels of 10 classes. Every call gets new tensors, since a metric may remember
what it found about others. `seconds` is the median CPU time of five calls, with the interval of the metric; `low` and
`high` are the least and the most. What takes over a second is called once and has none. Metrics that read other things
than rows of numbers, such as images or shapes, are left out.
"""

import math
import statistics
import time
import warnings

import pandas as pd
import torch
from tables import arguments, publish
from torch import Tensor

from assay.harness.core.declarations import Metric
from assay.harness.core.progress import console, track
from assay.harness.core.protocols import View
from assay.harness.core.registry import METRICS, discover

FAKE, REAL, DIMENSIONS, CALLS = 1000, 10_000, 64, 5
LONG = 1.0
"""Seconds of a call that is not repeated."""
OTHERS = ("images", "judge", "points", "signals", "shaded", "discriminator", "residual")
"""Spaces whose arrays are no rows of numbers."""
HEADER = "# What metrics cost for 1,000 samples\n\n    .venv/bin/python tests/benchmarks/metric_costs.py"


def array(view: View, rng: torch.Generator) -> Tensor:
    """New rows for a view."""
    n = REAL if view.source != "fake" and view.n == "all" else view.n if isinstance(view.n, int) else FAKE
    if view.space == "labels":
        return torch.randint(10, (n,), generator=rng)
    return torch.randn(n, DIMENSIONS, generator=rng) * (0.9 if view.source == "fake" else 1)


def seconds(metric: Metric, rng: torch.Generator) -> float:
    """CPU seconds of one call; NaN where the metric refuses such samples."""
    given = {name: array(view, rng) for name, view in metric.views.items()}
    begin = time.process_time()
    try:
        metric.function(**given)
    except ValueError as failure:
        print(f"{metric.name} is left out: {failure}")
        return math.nan
    return time.process_time() - begin


def measured(metric: Metric, rng: torch.Generator) -> list[dict[str, object]]:
    """The row of a metric; none where it refuses such samples."""
    calls = [seconds(metric, rng)]
    if math.isnan(calls[0]):
        return []
    if calls[0] < LONG:
        calls += [seconds(metric, rng) for _ in range(CALLS - 1)]
    ends = (min(calls), max(calls)) if len(calls) > 1 else (math.nan, math.nan)
    numbers = dict(zip(("seconds", "low", "high"), (statistics.median(calls), *ends), strict=True))
    return [{"metric": metric.name, **{name: round(value, 4) for name, value in numbers.items()}, "kind": metric.kind}]


def main() -> None:
    given = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    discover()
    metrics = [
        metric for name, metric in sorted(METRICS.items())
        if given.only in name and not any(view.space.partition(":")[0] in OTHERS for view in metric.views.values())
    ]  # fmt: skip
    rows: list[dict[str, object]] = []
    rng = torch.Generator().manual_seed(0)
    with track("metrics", len(metrics), "metrics") as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for metric in metrics:
            console.quiet = True
            rows += measured(metric, rng)
            console.quiet = False
            advance(1)
    paragraphs = (__doc__ or "").split("\n\n")
    publish(pd.DataFrame(rows), given.out, "metric_costs", f"{HEADER}\n\n{paragraphs[2].strip()}")


if __name__ == "__main__":
    main()
