"""Feature density: the mixture's formula, fitted widths, and what the score tells apart."""

import math

import pytest
import torch
from torch import Tensor

from assay.metrics.feature_density import (
    feature_density,
    feature_likelihood_distance,
    fitted_mixture,
    mixture_log_density,
)


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_mixture_is_a_mean_of_gaussians() -> None:
    y, centres, log_variance = gauss(30, 5), gauss(70, 5, seed=1), gauss(70, seed=2).double() - 1
    parts = torch.distributions.Normal(centres.double(), (0.5 * log_variance).exp()[:, None])
    expected = torch.logsumexp(parts.log_prob(y.double()[:, None]).sum(2), 1) - math.log(70)
    torch.testing.assert_close(mixture_log_density(y, centres, log_variance), expected, rtol=1e-5, atol=1e-5)


def test_widths_all_but_maximise_the_likelihood() -> None:
    x = gauss(400, 3)
    centres, log_variance = fitted_mixture(x, 0)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    targets = x[order[200:]]
    best = mixture_log_density(targets, centres, log_variance).mean()
    for seed in range(10):
        other = log_variance + 0.3 * gauss(200, seed=seed).double()
        assert mixture_log_density(targets, centres, other).mean() < best


def test_it_recovers_the_density_of_a_gaussian_on_average() -> None:
    # No density beats the entropy of fresh samples, 1.419 nats a dimension (standard error of 1,000: 0.016); as many
    # free widths as samples to fit them cost up to 0.2.
    score = feature_density(gauss(1000, 2, seed=1), gauss(3000, 2)).mean().item()
    assert -1.419 - 0.2 < score < -1.419 + 0.05


def test_far_samples_score_less_and_order_and_shift_do_not_matter() -> None:
    real, fake = gauss(500, 6).double(), gauss(100, 6, seed=1).double()
    near = feature_density(fake, real)
    assert (feature_density(fake + 5, real) < near.min()).float().mean() > 0.99
    torch.testing.assert_close(feature_density(fake + 100, real + 100), near, rtol=1e-6, atol=1e-6)


def test_copies_and_constant_reals() -> None:
    real = torch.cat([gauss(50, 3), torch.ones(50, 3)])
    assert torch.isfinite(feature_density(real, real)).all()
    with pytest.raises(ValueError, match="4 rows are all equal"):
        feature_density(gauss(5, 3), torch.ones(9, 3))
    with pytest.raises(ValueError, match="real has 3 rows; at least 4"):
        feature_density(gauss(5, 3), gauss(3, 3))


def test_fld_is_small_for_good_samples_and_large_for_bad_ones_and_for_copies() -> None:
    real, holdout = gauss(1000, 8), gauss(500, 8, seed=1)
    good = feature_likelihood_distance(gauss(500, 8, seed=2), real, holdout)
    shifted = feature_likelihood_distance(gauss(500, 8, seed=2) + 2, real, holdout)
    copies = feature_likelihood_distance(real[:500] + 0.001 * gauss(500, 8, seed=3), real, holdout)
    assert abs(good.value) < 10
    assert shifted.value > 50
    assert copies.value > 50
    assert feature_likelihood_distance(gauss(500, 8, seed=2), real, holdout) == good


def test_fld_bears_a_constant_feature() -> None:
    sets = [gauss(n, 4, seed=n) for n in (100, 200, 150)]
    for s in sets:
        s[:, 1] = 1
    assert abs(feature_likelihood_distance(*sets).value) < 50
