"""Simulations of the numbers that studies give: differences, gains, frontiers and means over pools and splits.

Each function draws everything anew as often as `draws` says and gives the estimates. coverage.py runs them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from assay.harness.core.protocols import Cell, Estimate
from assay.harness.core.registry import METRICS, discover
from assay.harness.run import Run
from assay.harness.stats import intervals
from assay.harness.studies.few_shot.measure import by_pool, of_pools, ratio
from assay.harness.studies.fine_tune.measure import over_trainings
from assay.harness.studies.same_seeds import SameSeeds
from assay.harness.studies.tradeoff.measure import _rows as tradeoff_rows
from assay.harness.studies.tradeoff.methods import Pool, extremes

COMPARED = ("frechet_distance", "precision", "recall", "density", "coverage")
DIMENSIONS = 8
POOL = 4
"""How many samples there are for each that `tradeoff` keeps."""
DEALS = 3
PARTS = 20
"""Pools, and halves, as the studies have by default."""

Found = Mapping[str, list[Estimate]]


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def differences(scale: float, n: int, draws: int) -> Found:
    """`compare`: a generator less another one whose samples are `scale` times as wide, against the same n reals."""
    discover("metrics/*.py")
    found: dict[str, list[Estimate]] = {}
    for seed in range(draws):
        fake, other, real = normals(seed, 3, n, DIMENSIONS).float()
        run = SimpleNamespace(n=n, seed=seed, set_metrics=COMPARED, views=SimpleNamespace(features="x"), cells=cells)
        sides = [
            SimpleNamespace(
                generator=SimpleNamespace(fingerprint=name),
                tensor=lambda view, *_, fake=rows, real=real: fake if view.source == "fake" else real,
            )
            for name, rows in (("this", fake), ("other", scale * other))
        ]
        same = SameSeeds(cast("Run", run), ["features"], n, PARTS)
        for (metric, _), estimate in same.differences(*cast("Any", sides)).items():
            found.setdefault(f"compare, {metric}", []).append(estimate)
    return found


def cells(entries: list[dict[str, Any]]) -> list[Cell]:
    """Cells of metrics with their defaults."""
    return [
        Cell("", "", "", entry["metric"], entry["metric"], 0, 0, dict(METRICS[entry["metric"]].options), {
            role: replace(view, space=entry["space"]) for role, view in METRICS[entry["metric"]].views.items()
        })
        for entry in entries
    ]  # fmt: skip


def tradeoff(told: float, n: int, draws: int) -> Found:
    """`tradeoff`: the top and bottom of a pool by a score that shares `told` of its variance with the distance from
    the centre, n kept of POOL times n. The pool is wider than the reals, so that choosing raises precision.
    """
    found: dict[str, list[Estimate]] = {}
    for seed in range(draws):
        fake, real = 1.4 * normals(seed, POOL * n, DIMENSIONS), normals(draws + seed, n, DIMENSIONS)
        distance = -fake.square().sum(1).sqrt()
        distance = (distance - distance.mean()) / distance.std()
        scores = told**0.5 * distance + (1 - told) ** 0.5 * normals(2 * draws + seed, POOL * n)
        views = SimpleNamespace(features="x", total=None, seeds=lambda seed, n: [*range(seed * n, (seed + 1) * n)])
        pool = Pool(cast("Run", SimpleNamespace(n=POOL * n, seed=seed, views=views)), n, "features", 3, PARTS)
        pool.__dict__.update(fake=fake.float(), real=real.float())
        for (setting, quantity), estimate in tradeoff_rows(
            pool, partial(extremes, pool, 1, (0.5, 0.75)), lambda scores=scores: scores, DEALS
        ):
            if not torch.tensor(estimate.interval).isnan().any() and setting != "plain":
                found.setdefault(f"tradeoff, {quantity} of {setting}", []).append(estimate)
    return found


def episodes(draws: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Paired gains [count] of a selection, .01, and of the oracle, .05: each has noise of its pool and of its own."""
    for seed in range(draws):
        pools = 0.02 * normals(seed, PARTS, 2).repeat(count // PARTS, 1)
        noise = 0.1 * normals(draws + seed, count, 2)
        noise[:, 1] += noise[:, 0] / 2
        yield tuple((torch.tensor([0.01, 0.05]) + pools + noise).T)


def few_shot(n: int, draws: int) -> Found:
    """`few_shot`: gains over pools of generated features, their share of the oracle's, and means over five splits."""
    found: dict[str, list[Estimate]] = {"few_shot, gain": [], "few_shot, share of the oracle": []}
    for gain, oracle in episodes(draws, n // PARTS * PARTS):
        found["few_shot, gain"].append(by_pool(gain, PARTS))
        found["few_shot, share of the oracle"].append(ratio(of_pools(gain, PARTS), of_pools(oracle, PARTS)))
    splits = [0.01 + 0.01 * normals(seed, 5) for seed in range(draws)]
    found["few_shot, gain over 5 splits"] = [intervals.mean(each) for each in splits]
    return found


def fine_tune(plain: int, draws: int) -> Found:
    """`fine_tune`: a training less the plain one. Trainings deviate by 1, samples by .5; `plain` plain ones tell it."""
    found = []
    for seed in range(draws):
        trained, noise = normals(seed, plain + 1), 0.5 * normals(draws + seed, plain + 1)
        values = trained + noise
        difference = intervals.normal(float(values[0] - values[1]), 0.5 * 2**0.5, 1)
        found.append(over_trainings(difference, values[1:].tolist(), 2))
    return {f"fine_tune, difference, {plain} plain trainings": found}


def terms(n: int, draws: int) -> Found:
    """What a mean and a share are for studies of samples: skewed terms, and a rare event."""
    return {
        "mean of skewed terms": [intervals.mean(normals(seed, n).exp()) for seed in range(draws)],
        "share of a rare event": [intervals.proportion(normals(seed, n) > 2) for seed in range(draws)],
    }


CASES: Mapping[str, Callable[[int, int], Found]] = {
    "equal generators": partial(differences, 1.0),
    "one generator 0.8 times as wide": partial(differences, 0.8),
    "a score that tells nothing": partial(tradeoff, 0.0),
    "a score that tells half": partial(tradeoff, 0.5),
    "20 pools": few_shot,
    "deviation 1 of trainings": lambda n, draws: {**fine_tune(2, draws), **fine_tune(4, draws)},
    "independent terms": terms,
}
"""By setting: estimates by name, for n samples and so many draws."""
