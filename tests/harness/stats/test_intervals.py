"""Intervals against scipy and against their promised coverage."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from assay.harness.stats import intervals


def test_mean_is_students_t() -> None:
    x = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = stats.t.interval(0.95, 19, x.mean().item(), stats.sem(x.numpy()))
    assert intervals.mean(x).interval == pytest.approx(expected, rel=1e-12)


def test_missing_terms_are_counted_and_left_out() -> None:
    estimate = intervals.mean(torch.tensor([1.0, torch.nan, 3.0]))
    assert (estimate.value, estimate.n, estimate.missing) == (2, 2, 1)
    alone = intervals.mean(torch.tensor([1.0, torch.nan]))
    assert (alone.value, alone.n, alone.missing) == (1, 1, 1)
    assert math.isnan(alone.interval[0])


@pytest.mark.parametrize("hits", [0, 3, 50])
def test_proportion_is_wilsons(hits: int) -> None:
    x = torch.arange(50) < hits
    expected = stats.binomtest(hits, 50).proportion_ci(method="wilson")
    estimate = intervals.proportion(x)
    assert estimate.value == hits / 50
    assert estimate.interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_normal() -> None:
    assert intervals.normal(1.0, 0.5, 7).interval == pytest.approx(stats.norm.interval(0.95, 1, 0.5))


def test_the_interval_of_a_mean_covers_in_95_of_100_cases() -> None:
    # 4,000 draws at 95 %: the count leaves 3,800 +- 69 (5 sd) with a chance below 1e-6.
    x = torch.randn(4000, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    covered = sum(low <= 0 <= high for low, high in (intervals.mean(row).interval for row in x))
    assert abs(covered - 3800) < 69


def test_halves_of_a_mean_give_its_standard_error() -> None:
    """5,000 halves of 40 numbers: their spread is known to 1 %, and to 5 sd of that it is the standard error."""
    rng = torch.Generator().manual_seed(2)
    x = torch.randn(40, dtype=torch.float64, generator=rng)
    halves = torch.stack([x[torch.randperm(40, generator=rng)[:20]].mean() for _ in range(5000)])
    estimate = intervals.half_samples(float(x.mean()), halves, 40)
    assert (estimate.value, estimate.n) == (x.mean(), 40)
    low, high = stats.t.interval(0.95, 4999, estimate.value, stats.sem(x.numpy()))
    assert estimate.interval == pytest.approx((low, high), abs=0.05 * (high - low) / 2)


def test_halves_tell_when_too_few_samples_count() -> None:
    none = torch.zeros(5, dtype=torch.float64)
    assert intervals.half_samples(0.0, none, 50).interval == (0, 0)
    assert math.isnan(intervals.half_samples(0.1, none, 50).interval[0])


def precision(fake: Tensor, real: Tensor) -> float:
    """Share of fakes in balls round the reals that reach to their fifth neighbour."""
    radius = torch.cdist(real, real).kthvalue(6).values
    return float((torch.cdist(fake, real) <= radius).any(1).double().mean())


def recall(fake: Tensor, real: Tensor) -> float:
    return precision(real, fake)


def distance_of_mean_norms(fake: Tensor, real: Tensor) -> float:
    return float(fake.norm(dim=1).mean() - real.norm(dim=1).mean()) ** 2


@pytest.mark.parametrize("metric", [precision, recall, distance_of_mean_norms])
def test_halves_of_a_difference_seldom_raise_a_false_alarm(metric: Callable[[Tensor, Tensor], float]) -> None:
    """Two generators of one distribution against the same reals, 200 times: of 5 % at most 20 by chance.

    More than 20 of 200 at 5 % have a chance below 0.001, none at all one of 0.00004. Where balls reach to neighbours
    the intervals are wide, so that fewer are no fault there.
    """
    rng, alarms = torch.Generator().manual_seed(3), 0
    for _ in range(200):
        real, one, other = torch.randn(3, 100, 3, generator=rng)
        one, other = 1.2 * one, 1.2 * other
        halves = []
        for _ in range(10):
            x, y = (torch.randperm(100, generator=rng)[:50] for _ in range(2))
            halves.append(metric(one[y], real[x]) - metric(other[y], real[x]))
        whole = metric(one, real) - metric(other, real)
        low, high = intervals.half_samples(whole, torch.tensor(halves), 100).interval
        alarms += low > 0 or high < 0
    assert (metric is distance_of_mean_norms) <= alarms <= 20
