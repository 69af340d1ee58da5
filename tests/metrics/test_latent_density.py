"""Latent density: closed forms, invariances, float32 against float64; the baselines against their formulas."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from assay.metrics.kernels import distances
from assay.metrics.latent_density import (
    active_latent_density,
    aggregate_posterior,
    aggregate_posterior_ratio,
    gaussian_log_density,
    hubness,
    latent_density,
    latent_density_profile,
    latent_knn,
    median_distance,
    negative_distance_to_mean,
    negative_norm,
)


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def direct(z: Tensor, codes: Tensor, sigma: float) -> Tensor:
    squared = (z.double()[:, None] - codes.double()[None]).square().sum(2)
    return torch.logsumexp(-squared / (2 * sigma**2), 1) - math.log(len(codes))


def test_a_code_that_is_the_only_reference_has_density_one() -> None:
    z = gauss(1, 4, 8, 8)
    assert latent_density(z, z.clone(), relative=False).item() == 0


def test_it_is_the_formula() -> None:
    z, codes = gauss(40, 6), gauss(300, 6, seed=1)
    for sigma in (0.05, 0.3, 2.0, 50.0):
        torch.testing.assert_close(
            latent_density(z, codes, sigma, relative=False), direct(z, codes, sigma), rtol=1e-5, atol=1e-6
        )


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    z, codes = gauss(70, 6), gauss(300, 6, seed=1)
    codes[-1] = z[-1]  # the largest term arrives last
    whole = latent_density(z, codes, 0.05)
    monkeypatch.setattr(distances, "BLOCK", 32)
    monkeypatch.setattr(distances, "PANEL", 64)
    torch.testing.assert_close(latent_density(z, codes, 0.05), whole, rtol=1e-6, atol=1e-6)


def test_it_ignores_order_shift_and_rotation_and_follows_scale() -> None:
    z, codes = gauss(30, 5).double(), gauss(100, 5, seed=1).double()
    rotation = torch.linalg.qr(gauss(5, 5, seed=2).double()).Q
    value = latent_density(z, codes, 0.7, relative=False)
    for other in (
        latent_density(z, codes[torch.randperm(100)], 0.7, relative=False),
        latent_density(z @ rotation + 3, codes @ rotation + 3, 0.7, relative=False),
        latent_density(5 * z, 5 * codes, 3.5, relative=False),
    ):
        torch.testing.assert_close(other, value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(latent_density(5 * z, 5 * codes), latent_density(z, codes), rtol=1e-10, atol=1e-10)


def test_it_grows_with_the_bandwidth() -> None:
    profile = latent_density_profile(gauss(50, 8), gauss(200, 8, seed=1), [0.05, 0.1, 0.2, 0.5, 1, 2])
    assert (profile.diff(dim=0) > 0).all()
    assert (profile <= 0).all()
    torch.testing.assert_close(profile[2], latent_density(gauss(50, 8), gauss(200, 8, seed=1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stretch", [[1.0, 1.0, 1.0], [2.0, 1.0, 0.3]])
def test_gaussian_references_give_the_closed_form(stretch: list[float]) -> None:
    # D(z) = |I + S/s^2|^(-1/2) exp(-z'(S + s^2 I)^-1 z / 2); D/M has a relative sd of about 1/sqrt(M D) < 1.2 %.
    s = torch.tensor(stretch, dtype=torch.float64)
    codes = gauss(200_000, 3) * s.float()
    z, sigma = gauss(20, 3, seed=1).double().clamp(-1.5, 1.5) * s, 0.8
    log = -0.5 * (1 + s.square() / sigma**2).log().sum() - 0.5 * (z.square() / (s.square() + sigma**2)).sum(1)
    error = latent_density(z.float(), codes, sigma, relative=False).exp() / log.exp() - 1
    assert error.abs().max() < 0.06


@pytest.mark.parametrize("dimension", [8, 64, 512])
def test_in_an_isotropic_latent_space_it_is_the_norm(dimension: int) -> None:
    codes, z = gauss(2000, dimension), gauss(500, dimension, seed=1)
    norm, to_mean = negative_norm(z), negative_distance_to_mean(z, codes)
    wide = latent_density(z, codes, 1.0)
    assert spearmanr(wide, to_mean).statistic > 0.999
    assert spearmanr(wide, norm).statistic > 0.97


def test_wide_kernels_see_the_distance_to_the_mean_even_of_stretched_codes() -> None:
    codes = gauss(3000, 16) * torch.arange(1, 17) ** -0.7 + 5
    z = gauss(400, 16, seed=1) * torch.arange(1, 17) ** -0.7 + 5
    assert spearmanr(latent_density(z, codes, 20.0), negative_distance_to_mean(z, codes)).statistic > 0.9999


def test_narrow_kernels_see_the_nearest_reference() -> None:
    codes, z = gauss(500, 4), gauss(200, 4, seed=1)
    assert spearmanr(latent_density(z, codes, 0.002), latent_knn(z, codes, k=1)).statistic > 0.9999


def test_12288_dimensions_do_not_underflow() -> None:
    z, codes = gauss(4, 3, 64, 64), gauss(50, 3, 64, 64, seed=1)
    log = latent_density(z, codes, 1.0, relative=False)
    torch.testing.assert_close(log, direct(z.flatten(1), codes.flatten(1), 1.0), rtol=1e-6, atol=0)
    assert (log < -5000).all()


def test_float32_is_close_to_float64_with_structure_and_offset() -> None:
    spectrum = torch.arange(1, 129) ** -0.8
    z, codes = gauss(100, 128) * spectrum + 100, gauss(3000, 128, seed=1) * spectrum + 100
    for c in (0.1, 0.5, 1.0):
        narrow, wide = latent_density(z, codes, c), latent_density(z.double(), codes.double(), c)
        torch.testing.assert_close(narrow, wide, rtol=1e-5, atol=0)


def test_median_distance() -> None:
    codes = gauss(100, 3)
    pairs = torch.pdist(codes.double())
    assert median_distance(codes) == pytest.approx(pairs.sort().values[(len(pairs) - 1) // 2].item(), rel=1e-12)
    many = gauss(5000, 3)
    assert median_distance(many) == median_distance(many.clone())
    assert median_distance(many) == pytest.approx(2.18, rel=0.05)


def test_bad_bandwidths_and_coinciding_references() -> None:
    z = gauss(5, 3)
    for bandwidth in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"bandwidth=.* must be a finite number, above 0"):
            latent_density(z, z, bandwidth)
    with pytest.raises(ValueError, match="half of the pairs coincide"):
        latent_density(z, torch.ones(10, 3))
    with pytest.raises(ValueError, match="half of the pairs coincide"):
        latent_density(z, torch.full((10, 3), 0.1) + 1000)
    with pytest.raises(ValueError, match="relative=False"):
        latent_density(z, z[:1])


def test_gaussian_log_density_is_ledoit_and_wolfs() -> None:
    codes = gauss(60, 40) @ gauss(40, 40, seed=1) + 3
    z = gauss(10, 40, seed=2)
    shrunk, _ = ledoit_wolf(codes.double().numpy())
    expected = torch.distributions.MultivariateNormal(codes.double().mean(0), torch.from_numpy(shrunk)).log_prob(
        z.double()
    )
    torch.testing.assert_close(gaussian_log_density(z, codes), expected, rtol=1e-6, atol=0)


def test_gaussian_log_density_of_fewer_codes_than_dimensions_and_of_equal_codes() -> None:
    assert torch.isfinite(gaussian_log_density(gauss(5, 50), gauss(10, 50, seed=1))).all()
    with pytest.raises(ValueError, match="all 6 rows are equal"):
        gaussian_log_density(gauss(5, 3), torch.ones(6, 3))


def test_latent_knn_is_minus_a_mean_distance() -> None:
    z, codes = gauss(20, 5), gauss(90, 5, seed=1)
    expected = -torch.cdist(z.double(), codes.double()).topk(7, largest=False).values.mean(1)
    torch.testing.assert_close(latent_knn(z, codes, k=7), expected, rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match="reference has 5 rows; k=6 needs at least 6"):
        latent_knn(z, codes[:5], k=6)


def test_hubness_counts_lists() -> None:
    z = gauss(200, 4)
    ranks = torch.cdist(z.double(), z.double()).fill_diagonal_(torch.inf).topk(5, largest=False).indices
    expected = torch.bincount(ranks.flatten(), minlength=200)
    assert torch.equal(hubness(z), expected.double())
    assert hubness(z).mean() == 5


def test_aggregate_posterior_is_the_mixture() -> None:
    mean, logvar, z = gauss(300, 6), gauss(300, 6, seed=1) - 3, gauss(25, 6, seed=2)
    parts = torch.distributions.Normal(mean.double(), (0.5 * logvar.double()).exp())
    expected = torch.logsumexp(parts.log_prob(z.double()[:, None]).sum(2), 1) - math.log(300)
    torch.testing.assert_close(aggregate_posterior(z, mean, logvar), expected, rtol=1e-10, atol=0)
    prior = torch.distributions.Normal(0, 1).log_prob(z.double()).sum(1)
    torch.testing.assert_close(aggregate_posterior_ratio(z, mean, logvar), expected - prior, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="mean has 300 rows, logvar has 299"):
        aggregate_posterior(z, mean, logvar[1:])


def test_equal_posterior_widths_reduce_it_to_latent_density() -> None:
    mean, z, sigma = gauss(200, 4), gauss(30, 4, seed=1), 0.3
    logvar = torch.full_like(mean, 2 * math.log(sigma))
    normaliser = 4 * 0.5 * math.log(2 * math.pi * sigma**2)
    density = latent_density(z, mean, sigma, relative=False) - normaliser
    torch.testing.assert_close(aggregate_posterior(z, mean, logvar), density, rtol=1e-5, atol=1e-5)


def test_a_prior_equal_to_the_posterior_has_ratio_zero() -> None:
    zero = torch.zeros(10, 5)
    torch.testing.assert_close(
        aggregate_posterior_ratio(gauss(20, 5), zero, zero), torch.zeros(20).double(), atol=1e-12, rtol=0
    )


def test_active_latent_density_ignores_collapsed_dimensions() -> None:
    generator = torch.Generator().manual_seed(5)
    means = torch.randn(400, 3, generator=generator)
    noise = torch.randn(400, 2, generator=generator)
    fake, junk = torch.randn(50, 3, generator=generator), 3 * torch.randn(50, 2, generator=generator)
    found = active_latent_density(
        torch.cat([fake, junk], 1), torch.cat([means, noise], 1), torch.cat([means, 0.01 * noise], 1), 0.3
    )
    torch.testing.assert_close(found, latent_density(fake, means, 0.3))
    with pytest.raises(ValueError, match="none is left"):
        active_latent_density(fake, means, 0.01 * means)


def test_a_narrow_absolute_bandwidth_stays_at_most_zero_in_float32() -> None:
    x = torch.from_numpy(np.random.RandomState(100).randn(1000, 1)).float()
    found = latent_density(x, x, 1e-5, relative=False)
    torch.testing.assert_close(found, direct(x, x, 1e-5), rtol=0, atol=1e-9)
    assert -6.39 < found.max().item() < -6.37


@pytest.mark.parametrize("bandwidth", [0.01, 0.05, 0.1, 0.2, 1.0])
@pytest.mark.parametrize("scale", [1.0, 2.0**-73, 2.0**73])
def test_every_way_gives_the_differences(bandwidth: float, scale: float) -> None:
    z, codes = gauss(300, 64), gauss(1000, 64, seed=1)
    z[0] = 100
    found = latent_density(z * scale, codes * scale, bandwidth)
    expected = direct(z, codes, bandwidth * median_distance(codes))
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-4)


@pytest.mark.parametrize("relative", [True, False])
def test_a_bandwidth_beyond_float64_is_refused(relative: bool) -> None:
    z = gauss(5, 3)
    with pytest.raises(ValueError, match="outside the range of float64"):
        latent_density(z + 1, z, 1e-300, relative)


@pytest.mark.parametrize("dimension", [16, 4096])
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("level", [-1000.0, -30.0, 0.0, 1000.0])
def test_aggregate_posterior_does_not_cancel(dimension: int, offset: float, level: float) -> None:
    mean = 3 * gauss(20, dimension).double() + offset
    logvar = torch.full_like(mean, level)
    z = mean + (math.exp(level / 2) * gauss(20, dimension, seed=1).double() if level < 500 else 0)
    half = (-logvar / 2).exp()
    terms = -0.5 * (((z[:, None] - mean) * half).square() + logvar + math.log(2 * math.pi)).sum(2)
    expected = terms.logsumexp(1) - math.log(20)
    torch.testing.assert_close(aggregate_posterior(z, mean, logvar), expected, rtol=1e-14, atol=1e-9)


def test_a_density_beyond_float64_is_refused() -> None:
    mean = gauss(20, 4).double()
    with pytest.raises(ValueError, match="20 of 20 rows is outside the range of float64"):
        aggregate_posterior(mean + 1, mean, torch.full_like(mean, -1000))


def test_hubness_does_not_depend_on_the_order_of_copies() -> None:
    z = gauss(30, 3).round().repeat(2, 1)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(hubness(z[order]), hubness(z)[order], rtol=0, atol=1e-12)
    assert hubness(z).mean().item() == pytest.approx(5)


def test_autocast_changes_nothing() -> None:
    z, codes = gauss(300, 64), gauss(1000, 64, seed=1)
    before = latent_density(z, codes), median_distance(codes.clone())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(latent_density(z.clone(), codes.clone()), before[0])
        assert median_distance(codes.clone()) == before[1]


def test_a_covariance_that_is_singular_to_rounding_is_refused() -> None:
    pair = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])  # all deviations are equal, so nothing is shrunk
    with pytest.raises(ValueError, match="singular to rounding"):
        gaussian_log_density(pair, pair)


@pytest.mark.parametrize("constant", [False, True])
def test_float32_products_of_long_codes_keep_the_stated_accuracy(constant: bool) -> None:
    z, codes = 0.1 * gauss(12, 512), 0.1 * gauss(1000, 512, seed=1)
    if constant:  # sums of equal terms, whose rounding errors do not cancel
        z, codes = z * 0.2 + 0.1, codes * 0.2 + 0.1 * gauss(1000, 1, seed=2).sign()
    codes[0] = 100  # one far code spoils no other
    found = latent_density(z, codes, 0.3, relative=False)
    expected = torch.cat([direct(row, codes, 0.3) for row in z.split(4)])
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-4)
