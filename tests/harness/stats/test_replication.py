"""The model of networks and data sets against a dense one, its coverage, and what it says of known findings."""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from assay.harness.stats.replication import (
    PRIOR,
    Replication,
    decide,
    fisher_z,
    partial_conjunction,
    two_sided,
)

SAMPLING = 0.014**2


def dense(measured: dict[str, tuple[list[float], list[float]]], shared: float) -> tuple[float, float, float]:
    """Means of mu and of the first data set's networks, and the variance of a new one there, from joint normals."""
    names = [name for name, (y, _) in measured.items() for _ in y]
    y = np.concatenate([values for values, _ in measured.values()])
    v = np.concatenate([variances for _, variances in measured.values()])
    same = np.array([[a == b for b in names] for a in names], float)
    grid = (np.arange(60) + 0.5) / 60
    total = mean = first = second = 0.0
    for data_sd in grid:
        for seed_sd in grid:
            # mu with a variance of 100, beside y and the mean of the first data set
            around = 100 + same * (data_sd**2 + shared) + np.diag(v + seed_sd**2)
            with_first = 100 + data_sd**2 * (np.array(names) == names[0])
            solved = np.linalg.solve(around, np.column_stack([y, with_first, np.full(len(y), 100.0)]))
            weight = multivariate_normal.pdf(y, cov=around) * math.exp(-(data_sd**2 + seed_sd**2) / (2 * PRIOR**2))
            centre, rest = with_first @ solved[:, 0], 100 + data_sd**2 - with_first @ solved[:, 1]
            total += weight
            mean += weight * 100 * solved[:, 0].sum()
            first += weight * centre
            second += weight * (centre**2 + rest + seed_sd**2)
    return mean / total, first / total, second / total - (first / total) ** 2


def test_it_agrees_with_joint_normals_on_a_grid() -> None:
    measured = {"a": ([0.10, 0.18, 0.12], [0.001] * 3), "b": ([0.30, 0.21], [0.002, 0.004]), "c": ([-0.05], [0.001])}
    found = Replication(measured, shared=dict.fromkeys(measured, 0.003))
    mu, first, variance = dense(measured, 0.003)
    new = found.new_network("a")
    assert found.average.mean == pytest.approx(mu, abs=2e-4)
    assert new.mean == pytest.approx(first, abs=2e-4)
    assert float(new.weights @ (new.variances + new.means**2)) - new.mean**2 == pytest.approx(variance, rel=0.02)


def test_without_effects_of_data_and_seed_it_is_the_mean_weighted_by_precision() -> None:
    y, v = [0.1, 0.3, 0.2], [0.01, 0.02, 0.04]
    found = Replication({"a": (y[:2], v[:2]), "b": (y[2:], v[2:])}, prior=1e-5)
    weights = 1 / np.array(v)
    assert found.average.mean == pytest.approx(weights @ y / weights.sum(), abs=1e-6)
    half = 1.959964 / math.sqrt(weights.sum())
    assert found.average.interval == pytest.approx((found.average.mean - half, found.average.mean + half), abs=1e-6)


def test_intervals_hold_a_new_network_and_a_new_data_set() -> None:
    """300 simulated studies. If both intervals hold 95 %, a count is below 271 with probability 6e-4."""
    rng = np.random.default_rng(0)
    hits = np.zeros(2)
    for _ in range(300):
        mu, data_sd, seed_sd = rng.normal(0, 0.3), 0.2 * abs(rng.normal()), 0.2 * abs(rng.normal())
        means = mu + rng.normal(0, data_sd, 3)
        values = means[:, None] + rng.normal(0, seed_sd, (3, 5)) + rng.normal(0, SAMPLING**0.5, (3, 5))
        found = Replication({str(d): (list(y), [SAMPLING] * 5) for d, y in enumerate(values)})
        new = means[0] + rng.normal(0, seed_sd), mu + rng.normal(0, data_sd) + rng.normal(0, seed_sd)
        for at, (value, told) in enumerate(zip(new, (found.new_network("0"), found.new_data_set), strict=True)):
            low, high = told.interval
            hits[at] += low <= value <= high
    assert (hits >= 271).all(), hits / 300


def test_an_accident_of_one_network_is_refused() -> None:
    """Latent density on five VAEs of Fashion-MNIST: the first is clear of 0, and others have other signs."""
    one = Replication({"fashion_mnist": ([-0.06], [SAMPLING])})
    five = Replication({"fashion_mnist": ([-0.06, 0.07, -0.01, -0.03, 0.03], [SAMPLING] * 5)})
    assert decide(one, "fashion_mnist") == "undecided"
    low, high = five.new_network("fashion_mnist").interval
    assert low < -0.06
    assert high > 0.07
    assert decide(five, "fashion_mnist") == "does not hold"
    assert five.seeds_needed("fashion_mnist") == math.inf


def test_a_finding_that_all_networks_share_holds() -> None:
    found = Replication({"fashion_mnist": ([0.44, 0.49, 0.46, 0.47, 0.45], [SAMPLING] * 5)})
    assert decide(found, "fashion_mnist") == "holds"
    assert decide(found, "fashion_mnist", level=1e-12) == "undecided"
    assert 2 <= found.seeds_needed("fashion_mnist") <= 5


def test_reals_that_all_networks_share_are_not_averaged_away() -> None:
    many = ([0.1] * 50, [SAMPLING] * 50)
    alone, together = Replication({"a": many}), Replication({"a": many}, shared={"a": 0.05**2})
    widths = [high - low for low, high in (alone.average.interval, together.average.interval)]
    assert widths[1] > widths[0]
    assert two_sided(together.new_network("a")) > two_sided(alone.new_network("a"))


def test_that_some_of_several_hold() -> None:
    p = [0.04, 0.001, 0.3, 0.01]
    assert partial_conjunction(p, 1) == pytest.approx(0.004)
    assert partial_conjunction(p, 3) == pytest.approx(0.08)
    assert partial_conjunction(p, 4) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="at_least=5 must be between 1 and 4"):
        partial_conjunction(p, 5)


def test_the_variance_of_fishers_z_comes_back() -> None:
    """Of n normal samples it is 1 / (n - 3)."""
    low, high = (math.tanh(math.atanh(0.4) + sign * 1.959964 / math.sqrt(97)) for sign in (-1, 1))
    z, variance = fisher_z(0.4, (low, high))
    assert z == pytest.approx(math.atanh(0.4))
    assert variance == pytest.approx(1 / 97, rel=1e-6)


@pytest.mark.parametrize(
    ("measured", "why"),
    [
        ({}, "one or more data sets"),
        ({"a": ([], [])}, "one or more networks"),
        ({"a": ([0.1], [0.1, 0.2])}, "a: 1 values and 2 variances"),
        ({"a": ([math.nan], [0.1])}, "a: values and variances must be finite"),
        ({"a": ([0.1], [-0.1])}, "a: variances must be 0 or greater"),
    ],
)
def test_what_cannot_be_replicated_is_refused(measured: dict[str, tuple[list[float], list[float]]], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Replication(measured)
