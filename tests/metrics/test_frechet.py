"""Fréchet distance: closed forms, both routes to the root, and its interval against a bootstrap and against truth."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

import assay
from assay.metrics import frechet
from assay.metrics.frechet import fid, frechet_distance, frechet_floor, frechet_infinity, frechet_of_moments
from assay.metrics.kernel import kid
from assay.metrics.kernels.moments import streamed


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def direct(fake: Tensor, real: Tensor) -> float:
    a, b = fake.double().numpy(), real.double().numpy()
    s, t = np.cov(a.T), np.cov(b.T)
    root = sqrtm(s @ t).real
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s + t - 2 * root))


@pytest.mark.parametrize("offset", [0, 500])
def test_it_is_the_formula(offset: float) -> None:
    fake, real = gauss(400, 20) @ gauss(20, 20, seed=1) + offset, gauss(300, 20, seed=2) + 0.3 + offset
    assert frechet_distance(fake, real).value == pytest.approx(direct(fake, real), rel=1e-6)


def test_diagonal_covariances_have_a_closed_form() -> None:
    x = gauss(500, 6).double()
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T)).T)  # exactly mean 0, covariance I
    s, t = torch.arange(1.0, 7).double(), torch.tensor([2.0, 1, 1, 3, 0.5, 4]).double()
    expected = (s - t).square().sum() + 6 * 0.25
    assert frechet_distance(x * s + 0.5, x * t).value == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize(("m", "n"), [(30, 500), (500, 30), (30, 40), (41, 41)])
def test_fewer_samples_than_dimensions_agree_with_the_full_covariance(
    m: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, real = gauss(m, 40), 1.2 * gauss(n, 40, seed=1) + 0.1
    few = frechet_distance(fake, real)
    monkeypatch.setattr(frechet, "centred_rows", lambda x: frechet.Gaussian.from_moments(frechet.moments(x)))
    full = frechet_distance(fake, real)
    assert few.value == pytest.approx(full.value, rel=1e-6)
    assert few.interval == pytest.approx(full.interval, rel=1e-4)


def test_small_directions_keep_their_digits() -> None:
    # Singular values of the rows' triangular factors square nothing; sqrtm and eigh of a product lose the small ones.
    mix = torch.arange(1, 301)[:, None] ** -1.5 * gauss(300, 300, seed=2)
    fake, real = (1.1 * gauss(700, 300) @ mix, gauss(800, 300, seed=1) @ mix)
    s, t = (x.double() - x.double().mean(0) for x in (fake, real))
    upper = [torch.linalg.qr(rows / (len(rows) - 1) ** 0.5).R for rows in (s, t)]
    traces = sum(float(factor.square().sum()) for factor in upper)
    shift = float((fake.double().mean(0) - real.double().mean(0)).square().sum())
    exact = shift + traces - 2 * float(torch.linalg.svdvals(upper[0] @ upper[1].T).sum())
    assert frechet_distance(fake, real).value == pytest.approx(exact, abs=1e-9 * traces)


def test_order_does_not_matter_and_sides_can_be_swapped() -> None:
    fake, real = gauss(100, 8), 2 * gauss(120, 8, seed=1)
    value = frechet_distance(fake, real).value
    assert frechet_distance(fake[torch.randperm(100)], real).value == pytest.approx(value, rel=1e-6)
    assert frechet_distance(real, fake).value == pytest.approx(value, rel=1e-6)


def test_equal_and_constant_sets() -> None:
    x = gauss(100, 8)
    assert frechet_distance(x, x.clone()).value == pytest.approx(0, abs=1e-6)
    assert frechet_distance(torch.ones(10, 3), torch.zeros(12, 3)) == (3, (3, 3), 10, 0)


@pytest.mark.parametrize(("m", "n", "d"), [(400, 300, 10), (100, 300, 30)])
def test_the_standard_error_is_the_bootstraps(m: int, n: int, d: int) -> None:
    # 300 resamples know their sd to 4 %; the bootstrap of few samples per dimension is itself wider: 20 % is allowed.
    stretch = torch.arange(1, d + 1) ** -0.5
    fake, real = gauss(m, d) * stretch * 1.5 + 0.5, gauss(n, d, seed=1) * stretch
    low, high = frechet_distance(fake, real).interval
    generator = torch.Generator().manual_seed(2)
    values = []
    for _ in range(300):
        i, j = (torch.randint(0, size, (size,), generator=generator) for size in (m, n))
        values.append(frechet_distance(fake[i], real[j]).value)
    assert (high - low) / (2 * 1.96) == pytest.approx(np.std(values), rel=0.2)


def test_the_interval_covers_its_own_spread() -> None:
    # sd over 200 fresh pairs is known to 5 %; the mean claimed standard error must be within 15 % of it.
    found = [frechet_distance(1.3 * gauss(300, 5, seed=2 * i) + 0.4, gauss(300, 5, seed=2 * i + 1)) for i in range(200)]
    claimed = np.mean([(e.interval[1] - e.interval[0]) / (2 * 1.96) for e in found])
    assert claimed == pytest.approx(np.std([e.value for e in found]), rel=0.15)


def power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > 1e-12 * values[-1]
    return (vectors[:, kept] * values[kept].pow(exponent)) @ vectors[:, kept].T


@pytest.mark.parametrize("case", ["full", "steep", "repeated", "dead", "few", "both few"])
def test_the_interval_is_the_delta_methods(case: str) -> None:
    fake, real = 1.1 * gauss(700, 300) + 0.1, gauss(800, 300, seed=1)
    if case == "steep":
        mix = torch.arange(1, 301)[:, None] ** -1.5 * gauss(300, 300, seed=2)
        fake, real = fake @ mix, real @ mix
    elif case == "repeated":
        fake, real = (torch.cat([s[:, :280], s[:, :20]], 1) for s in (fake, real))
    elif case == "dead":
        fake[:, 7], real[:, 7], real[:, 9] = 0, 0, 0
    elif case != "full":
        fake, real = fake[:100], real if case == "few" else real[:120]
    low, high = frechet_distance(fake, real).interval
    s, t = torch.cov(fake.double().T), torch.cov(real.double().T)
    variance = 0.0
    for rows, own, other, sign in ((fake, s, t, 1), (real, t, s, -1)):
        root = power(own, 0.5)
        carry = power(own, -0.5) @ power(root @ other @ root, 0.5) @ power(own, -0.5)  # own's Gaussian onto other's
        centred = rows.double() - rows.double().mean(0)
        shift = sign * (fake.double().mean(0) - real.double().mean(0))
        variance += float((2 * centred @ shift + (centred * (centred - centred @ carry)).sum(1)).var()) / len(rows)
    assert (high - low) / (2 * 1.959964) == pytest.approx(variance**0.5, rel=1e-4)


@pytest.mark.parametrize("n", [50, 500])
def test_sets_without_a_common_direction(n: int) -> None:
    """The product of their covariances is rounding alone, which may be negative: the traces are left."""
    mix = torch.linalg.qr(gauss(60, 60, seed=3).double()).Q
    fake, real = gauss(n, 30).double() @ mix[:30], 1e4 * gauss(n + 7, 30, seed=1).double() @ mix[30:]
    traces = sum(float(s.var(0).sum()) for s in (fake, real))
    shift = float((fake.mean(0) - real.mean(0)).square().sum())
    assert frechet_distance(fake, real).value == pytest.approx(traces + shift, rel=1e-6)


def test_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="fake has 1 rows; at least 2"):
        frechet_distance(gauss(1, 3), gauss(5, 3))


def test_extrapolation_is_repeatable_and_nearer_to_the_truth_of_equal_populations() -> None:
    fake, real = gauss(2000, 32), gauss(20000, 32, seed=1)
    plain, extrapolated = frechet_distance(fake, real), frechet_infinity(fake, real)
    assert extrapolated == frechet_infinity(fake, real)
    assert extrapolated != frechet_infinity(fake, real, seed=1)
    assert abs(extrapolated.value) < 0.4 * plain.value


def test_extrapolation_needs_more_rows_than_dimensions() -> None:
    with pytest.raises(ValueError, match="fake has 20 rows of 32 dimensions; extrapolation needs at least 42"):
        frechet_infinity(gauss(20, 32), gauss(100, 32))


def test_the_floor_is_the_distance_of_held_out_reals() -> None:
    holdout, real = gauss(100, 4), gauss(300, 4, seed=1)
    assert frechet_floor(holdout, real) == frechet_distance(holdout, real)


def test_streamed_moments_give_the_same_distance() -> None:
    fake, real = gauss(300, 6) + 1, 2 * gauss(500, 6, seed=1)
    found = frechet_of_moments(streamed(torch.split(fake, 70)), streamed(torch.split(real, 99)))
    assert found == pytest.approx(frechet_distance(fake, real).value, rel=1e-9)


def test_fid_and_kid_take_the_features_that_their_names_stand_for() -> None:
    images = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    refusal = r"fake has shape .*pool3 features \[N, 2048\].* choose frechet_distance"
    for function in (fid, kid):
        for bad in (images, images.flatten(1), torch.rand(20, 2, 32, 32)):
            with pytest.raises(ValueError, match=refusal):
                function(bad, bad)
            if bad is not images:  # these go through Inception
                with pytest.raises(ValueError, match=refusal):
                    assay.score(function.__name__, bad, bad)
    features = torch.rand(8, 2048, generator=torch.Generator().manual_seed(0))
    assert fid(features, features.view(8, 2048, 1, 1) + 1).value == pytest.approx(2048, rel=1e-6)
    assert fid(features, 2 * features) == frechet_distance(features, 2 * features)
