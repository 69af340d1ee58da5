"""How often do the 95 % intervals of metrics and studies contain the truth? Simulations, with their Monte Carlo error.

    python tests/benchmarks/coverage.py            # everything: more than an hour of CPU time
    python tests/benchmarks/coverage.py --smoke    # few draws, only to see that it runs
    python tests/benchmarks/coverage.py --metrics precision recall

Writes results/benchmarks/coverage.csv and coverage.md (or --out). Each draw has new generated and new real samples.
The truth is the mean of the estimates over all draws: what the metric gives on average for this many samples. So the
intervals are asked to cover the spread of the estimate, not its bias.

`coverage` is the share of intervals that contain the truth, `error` its Monte Carlo standard error. `width` is the mean
width over the width that intervals of exactly .95 would need, 3.92 standard deviations of the estimate. A coverage is
accepted from LEAST less twice the error on; an interval of width above 1.3 is safe but tells less than it could.
"""

import argparse
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from study_intervals import CASES
from torch import Tensor

from assay.harness.core.declarations import Metric
from assay.harness.core.progress import console, track
from assay.harness.core.protocols import Estimate
from assay.harness.core.registry import METRICS, discover
from assay.harness.evaluate import estimates
from assay.harness.stats.auroc import area, separation
from assay.harness.stats.correlations import Correlations

RESULTS = Path(__file__).parents[2] / "results" / "benchmarks"
SIZE, DRAWS = 500, 400
LARGE = 5000
LARGE_TOO = ("precision", "recall", "density", "coverage")
"""Metrics that are also measured at LARGE samples in a set, where intervals for independent samples failed most."""
LEAST = 0.92
"""Smallest coverage that is accepted, less twice the Monte Carlo error."""

Draw = Callable[[int, torch.Generator], Tensor]


def equal(n: int, rng: torch.Generator) -> Tensor:
    return torch.randn(n, 16, generator=rng)


def narrow(n: int, rng: torch.Generator) -> Tensor:
    return 0.8 * torch.randn(n, 16, generator=rng)


def clusters(n: int, rng: torch.Generator, kinds: int = 10) -> Tensor:
    centres = 3 * torch.randn(10, 16, generator=torch.Generator().manual_seed(9))
    return centres[torch.randint(kinds, (n,), generator=rng)] + torch.randn(n, 16, generator=rng)


def dropped(n: int, rng: torch.Generator) -> Tensor:
    return clusters(n, rng, kinds=7)


def tailed(n: int, rng: torch.Generator) -> Tensor:
    """Student's t with 5 degrees of freedom."""
    normal, others = torch.randn(n, 16, generator=rng), torch.randn(n, 5, generator=rng)
    return normal / others.square().mean(1, keepdim=True).sqrt()


SETTINGS: Mapping[str, tuple[Draw, Draw]] = {
    "equal": (equal, equal),
    "narrow": (narrow, equal),
    "7 of 10 clusters": (dropped, clusters),
    "heavy tails": (tailed, equal),
}
"""By name: how generated and how real samples are drawn."""


def clouds(fake: Tensor) -> Tensor:
    """Few small clouds of points from rows of features."""
    return fake[:60, :12].reshape(-1, 4, 3)


def set_metrics(names: list[str]) -> dict[str, Metric]:
    """Set metrics of the registry that compare features, or clouds of points, of generated and real samples."""
    discover("metrics/*.py", "metrics/extractors/*.py")
    found = {name: metric for name, metric in METRICS.items() if metric.kind == "set" and not metric.fixed_features}
    spaces = {name: {view.space for view in metric.views.values()} for name, metric in found.items()}
    return {
        name: metric
        for name, metric in sorted(found.items())
        if spaces[name] in ({"features"}, {"points"}) and (not names or name in names)
    }


def of_metrics(
    metrics: Mapping[str, Metric], setting: str, n: int, draws: int, advance: Callable[[int], None]
) -> dict[str, list[Estimate]]:
    """The estimates of each metric for each draw; all metrics see the same samples, and share what they compute."""
    fake, real = SETTINGS[setting]
    found: dict[str, list[Estimate]] = {name: [] for name in metrics}
    for seed in range(draws):
        rng = torch.Generator().manual_seed(seed)
        drawn = {"fake": fake(n, rng), "real": real(n, rng), "holdout": real(n, rng)}
        for name, metric in metrics.items():
            sets = {key: drawn[view.source] for key, view in metric.views.items()}
            spaces = {key: view.space for key, view in metric.views.items()}
            arguments = {key: clouds(x) if spaces[key] == "points" else x for key, x in sets.items()}
            try:
                found[name].append(next(iter(estimates(name, metric.function(**arguments), n).values())))
            except ValueError:  # undefined for this draw
                found[name].append(Estimate(math.nan, (math.nan, math.nan)))
        advance(1)
    return found


def correlation(partial: bool, n: int, draws: int) -> list[Estimate]:
    """Spearman of two columns that share a third; that one held fixed if partial."""
    found = []
    for seed in range(draws):
        x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        columns = {"a": x[:, 0] + x[:, 2], "b": 0.3 * x[:, 0] + x[:, 1] + x[:, 2], "c": x[:, 2]}
        table = Correlations(columns, torch.full((n,), torch.nan), resamples=400, seed=seed)
        found.append(table.of(["a"], ["b"], ["c"] if partial else [])["a", "b"])
    return found


def auroc(n: int, draws: int) -> list[Estimate]:
    found = []
    for seed in range(draws):
        rng = torch.Generator().manual_seed(seed)
        positive = torch.rand(n, generator=rng) < 0.3
        found.append(area(separation(torch.randn(n, generator=rng) + positive, positive)))
    return found


def of_studies(n: int, draws: int) -> list[dict[str, object]]:
    rows = []
    with track("intervals of studies", len(CASES), "cases") as advance:
        for setting, case in CASES.items():
            console.quiet = True
            found = case(n, draws)
            console.quiet = False
            rows += [summary(name, setting, n, each) for name, each in found.items()]
            advance(1)
    return rows


def summary(what: str, setting: str, n: int, found: list[Estimate]) -> dict[str, object]:
    values = np.array([estimate.value for estimate in found])
    low, high = np.array([estimate.interval for estimate in found]).T
    defined = np.isfinite(values) & np.isfinite(low) & np.isfinite(high)
    truth, spread = (values[defined].mean(), values[defined].std(ddof=1)) if defined.sum() > 1 else (math.nan,) * 2
    inside = ((low <= truth) & (truth <= high))[defined]
    share = inside.mean() if len(inside) else math.nan
    error = math.sqrt(max(share * (1 - share), 1 / max(1, len(inside))) / max(1, len(inside)))
    constant = not spread > 1e-12 * max(1, abs(truth))
    return {
        "metric": what,
        "setting": setting,
        "n": n,
        "value": truth,
        "nominal": 0.95,
        "coverage": share,
        "error": error,
        "width": math.nan if constant else (high - low)[defined].mean() / (3.92 * spread),
        "accepted": bool(constant or share >= LEAST - 2 * error),
        "draws": int(defined.sum()),
        "undefined": int((~defined).sum()),
    }


def write(table: pd.DataFrame, file: Path, draws: int) -> None:
    table = table.round(4)
    table.to_csv(file.with_suffix(".csv"), index=False)
    failing = table[~table.accepted]
    paragraphs = (__doc__ or "").split("\n\n")
    lines = [
        "# How often intervals contain the truth",
        "",
        f"    .venv/bin/python tests/benchmarks/coverage.py --draws {draws}",
        "",
        *paragraphs[2].strip().splitlines()[1:],
        "",
        *paragraphs[3].replace("LEAST", str(LEAST)).strip().splitlines(),
        "",
        f"Not accepted: {len(failing)} of {len(table)}"
        + (": " + "; ".join(f"{row.metric}, {row.setting}" for row in failing.itertuples()) if len(failing) else "")
        + ".",
        "",
        "| " + " | ".join(table.columns) + " |",
        "|" + "---|" * len(table.columns),
    ]
    for row in table.itertuples(index=False):
        lines.append("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row) + " |")
    file.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few draws")
    parser.add_argument("--metrics", nargs="*", default=[], help="these alone, by default all")
    parser.add_argument(
        "--draws", type=int, default=DRAWS, help=f"of each case (default {DRAWS}); large ones: a quarter"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message="cmmd")
    size, draws, large, few = (100, 3, 200, 2) if given.smoke else (SIZE, given.draws, LARGE, max(2, given.draws // 4))
    chosen = set_metrics(given.metrics)
    large_too = {name: metric for name, metric in chosen.items() if name in LARGE_TOO}
    rows = []
    with track("intervals", len(SETTINGS) * (draws + few * bool(large_too)), "draws") as advance:
        for setting in SETTINGS:
            for metrics, n, count in ((chosen, size, draws), (large_too, large, few)):
                if not metrics:
                    continue
                found = of_metrics(metrics, setting, n, count, advance)
                rows += [summary(name, setting, n, each) for name, each in found.items()]
                print(
                    pd.DataFrame(rows[-len(found) :]).to_string(float_format=lambda value: f"{value:.3f}"), flush=True
                )
    if not given.metrics:
        rows.append(summary("Spearman, raw", "shared cause", size, correlation(False, size, draws)))
        rows.append(summary("Spearman, partial", "shared cause", size, correlation(True, size, draws)))
        rows.append(summary("AUROC", "shift of 1", size, auroc(size, draws)))
        rows += of_studies(size, draws)
    table = pd.DataFrame(rows).sort_values(["metric", "n", "setting"], kind="stable")
    given.out.mkdir(parents=True, exist_ok=True)
    write(table, given.out / "coverage", draws)


if __name__ == "__main__":
    main()
