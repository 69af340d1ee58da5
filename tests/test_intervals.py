"""Intervals against scipy and against their promised coverage."""

import pytest
import torch
from scipy import stats

from assay.metrics import intervals


def test_mean_is_students_t() -> None:
    x = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = stats.t.interval(0.95, 19, x.mean().item(), stats.sem(x.numpy()))
    assert intervals.mean(x).interval == pytest.approx(expected, rel=1e-12)


def test_missing_terms_are_counted_and_left_out() -> None:
    estimate = intervals.mean(torch.tensor([1.0, torch.nan, 3.0]))
    assert (estimate.value, estimate.n, estimate.missing) == (2, 2, 1)
    with pytest.raises(ValueError, match="1 of 2 terms"):
        intervals.mean(torch.tensor([1.0, torch.nan]))


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
