"""Clipped density and coverage: the definitions, the law of expected coverage, and their linear fall."""

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.metrics.kernels.balls import real_balls_clipped
from assay.metrics.neighbours import clipped_coverage, clipped_density, expected_coverage


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_density_is_the_definition(shift: float) -> None:
    k, y, x = 5, gauss(150, 6) + shift, gauss(200, 6, seed=1)
    within = torch.cdist(x.double(), x.double()).fill_diagonal_(torch.inf)
    radius = within.kthvalue(k).values
    radius = radius.clamp(max=radius.median())
    raw = (torch.cdist(x.double(), y.double()) <= radius[:, None]).sum(0).div(k).clamp(max=1).mean()
    own = (within <= radius[:, None]).sum(0).div(k).clamp(max=1).mean()
    assert clipped_density(y, x).value == pytest.approx(min(1, float(raw / own)), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(50, 80), (200, 100)])
def test_expected_coverage_is_that_of_good_samples(n: int, m: int) -> None:
    # 2,000 uniform draws on a circle-free law: J counts how many of m fresh points precede the k-th of n - 1 others.
    k, generator = 5, np.random.default_rng(0)
    mass = generator.beta(k, n - k, 200_000)
    simulated = np.minimum(generator.binomial(m, mass), k).mean() / k
    assert float(expected_coverage(m, n, k)[-1]) == pytest.approx(simulated, abs=0.004)  # 6 standard errors


def test_expected_coverage_starts_at_zero_and_rises_by_one_over_n_at_first() -> None:
    f = expected_coverage(300, 200, 5)
    torch.testing.assert_close(f[:6], torch.arange(6).double() / 200, rtol=1e-9, atol=1e-12)
    assert (f.diff() > 0).all()


def test_both_are_near_one_for_good_samples_and_fall_linearly_with_bad_ones() -> None:
    # n = 2000: standard errors about 0.01; 5 of them are allowed.
    n, x = 2000, gauss(2000, 8, seed=1)
    for bad in (0.0, 0.3, 0.6, 1.0):
        y = gauss(n, 8, seed=2)
        y[: int(bad * n)] += 100
        assert clipped_density(y, x).value == pytest.approx(1 - bad, abs=0.05)
        assert clipped_coverage(y, x).value == pytest.approx(1 - bad, abs=0.05)


def test_an_outlier_does_not_lift_clipped_density() -> None:
    x = torch.cat([gauss(300, 4), torch.full((1, 4), 50.0)])
    y = gauss(300, 4, seed=1) + 25
    assert clipped_density(y, x).value == 0


def test_copies_under_a_strict_test_leave_nothing_to_compare_with() -> None:
    with pytest.raises(ValueError, match="no clipped ball contains another real"):
        clipped_density(torch.ones(20, 3), torch.ones(20, 3), strict=True)
    assert clipped_density(torch.ones(20, 3), torch.ones(20, 3)).value == 1


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("k", [1, 5, 29])
@pytest.mark.parametrize("kind", ["plain", "ties", "copies"])
def test_clipped_balls_of_the_reals_with_and_without_ties(kind: str, k: int, strict: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = {
        "plain": gauss(30, 3),
        "ties": torch.randint(0, 3, (30, 2), generator=generator).float(),
        "copies": gauss(15, 3).repeat(2, 1),
    }[kind]
    within = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    radius = within.kthvalue(k).values
    radius = radius.clamp(max=radius.median())[:, None]
    expected = (within < radius if strict else within <= radius).sum(0)
    assert torch.equal(real_balls_clipped(x, k, strict), expected)
