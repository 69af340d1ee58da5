"""Rank correlation of few items, against enumeration, closed forms and simulated populations."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from assay.harness.core.protocols import Estimate
from assay.harness.stats.few import copula_interval, exact_p, spearman, spearman_rows
from assay.harness.stats.intervals import mean_of_independent, normal


@pytest.mark.parametrize("ties", [False, True])
def test_the_correlation_and_its_p_are_those_of_all_orders(ties: bool) -> None:
    rng = np.random.default_rng(0)
    for n in (3, 5, 7):
        x, y = rng.standard_normal((2, n))
        if ties:
            x, y = np.round(x), np.round(y)
            x[:2], y[:2] = (0, 1), (0, 2)  # so that neither is constant
        found = spearman(x, y)
        assert found == pytest.approx(float(spearmanr(x, y).statistic), abs=1e-12)
        orders = np.array(list(itertools.permutations(y)))
        every = spearman_rows(np.broadcast_to(x, orders.shape), orders)
        assert exact_p(x, y) == pytest.approx((np.abs(every) >= abs(found) - 1e-9).mean(), abs=1e-12)


def test_a_perfect_order_is_one_of_two_in_all() -> None:
    for n in (4, 9, 13):
        assert exact_p(np.arange(n), np.exp(np.arange(n))) == pytest.approx(2 / math.factorial(n), rel=1e-9)
        assert exact_p(np.arange(n), -np.arange(n)) == pytest.approx(2 / math.factorial(n), rel=1e-9)


def test_what_has_no_order_has_no_p() -> None:
    assert math.isnan(spearman(np.ones(5), np.arange(5)))
    assert math.isnan(exact_p(np.ones(5), np.arange(5)))
    assert all(map(math.isnan, copula_interval(math.nan, 5)))
    with pytest.raises(ValueError, match="15 items; the exact distribution is computed of at most 14"):
        exact_p(np.arange(15), np.arange(15))


def test_the_interval_of_two_items_is_the_closed_form() -> None:
    """Two draws agree in order with probability 1/2 + asin(r)/pi, which is 2.5 % at r = -cos(pi/40)."""
    end = 6 / math.pi * math.asin(-math.cos(math.pi / 40) / 2)
    low, high = copula_interval(1.0, 2)
    assert (low, high) == pytest.approx((end, 1), abs=0.002)
    assert copula_interval(-1.0, 2) == pytest.approx((-1, -end), abs=0.002)


@pytest.mark.parametrize(("rho", "n"), [(0.0, 8), (0.8, 11), (0.97, 8), (0.99, 13)])
def test_the_interval_covers_in_ninety_five_of_a_hundred(rho: float, n: int) -> None:
    """Of 2,000 draws 95 % or more are covered (ranks are discrete); below 93 % in fewer than 1 of 10,000 runs."""
    rng = np.random.default_rng(n)
    x, noise = rng.standard_normal((2, 2000, n))
    found = spearman_rows(x, rho * x + math.sqrt(1 - rho**2) * noise)
    true = 6 / math.pi * math.asin(rho / 2)
    ends = {value: copula_interval(float(value), n) for value in np.unique(found)}
    covered = np.mean([ends[value][0] <= true <= ends[value][1] for value in found])
    assert covered > 0.93
    assert all(low <= value + 1e-9 and value <= high + 1e-9 for value, (low, high) in ends.items())


def test_the_mean_of_independent_numbers_has_the_normal_interval_where_theirs_are() -> None:
    terms = [normal(1.0, 0.3, 10), normal(3.0, 0.4, 20)]
    assert mean_of_independent(terms) == normal(2.0, 0.25, 30)
    skewed = mean_of_independent([Estimate(0.9, (0.6, 1.0), 8), Estimate(0.5, (0.1, 0.8), 9)])
    assert skewed.value == pytest.approx(0.7)
    assert skewed.interval == pytest.approx((0.7 - 0.5 / 2, 0.7 + math.hypot(0.1, 0.3) / 2))
