"""A learned volume: a known one is learned, noise is not, and the fit says which of the two it was."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from assay.metrics.volume import log_volume
from assay.metrics.volume_learned import amortised_volume, amortised_volume_fit


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lengths(codes: Tensor) -> Tensor:
    """Squared lengths of a decoder that stretches more on one side, and more far out."""
    return (codes[:, :1] + 0.3 * codes.square().sum(1, keepdim=True)).exp().expand(-1, 6)


def test_it_learns_a_known_volume_and_says_how_well() -> None:
    codes, z = gauss(1500, 4), gauss(500, 4, seed=1)
    found, wanted = amortised_volume(z, codes, lengths(codes)), log_volume(lengths(z))
    assert spearmanr(found, wanted).statistic > 0.97
    # Held-out R² of other codes: that of a fifth of the 1,500, which learns from the others, is about as good.
    explained = 1 - float((found - wanted).square().mean() / wanted.var())
    fit = amortised_volume_fit(codes, lengths(codes))
    assert fit.value == pytest.approx(explained, abs=0.05)
    assert 0.9 < fit.interval[0] < fit.value < fit.interval[1] <= 1.1
    assert fit.n == 300


def test_what_codes_do_not_tell_is_not_learned() -> None:
    codes, noise = gauss(1000, 4), gauss(1000, 6, seed=1).exp()
    # A perfect predictor of noise has R² of 0 on average, with 200 held-out codes within ±0.02; overfitting lowers it.
    assert amortised_volume_fit(codes, noise).value < 0.05


def test_units_of_codes_and_lengths_do_not_matter() -> None:
    codes, z = gauss(300, 3), gauss(50, 3, seed=1)
    found = amortised_volume(z, codes, lengths(codes))
    other = amortised_volume(8 * z, 8 * codes, 4 * lengths(codes))
    torch.testing.assert_close(other, found + torch.tensor(2.0).log().double(), rtol=0, atol=1e-3)


def test_it_is_repeatable_and_seeded() -> None:
    codes, z = gauss(200, 3), gauss(50, 3, seed=1)
    state = torch.random.get_rng_state()
    found = amortised_volume(z, codes, lengths(codes))
    assert torch.equal(found, amortised_volume(z, codes, lengths(codes)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(found, amortised_volume(z, codes, lengths(codes), seed=1))


def test_refusals() -> None:
    codes = gauss(30, 3)
    with pytest.raises(ValueError, match="codes has 30 rows, stretch has 29: give one of each per code"):
        amortised_volume(codes, codes, lengths(codes[:29]))
    with pytest.raises(ValueError, match="stretch: 30 of 30 rows are 0"):
        amortised_volume(codes, codes, 0 * lengths(codes))
    with pytest.raises(ValueError, match="codes has 9 rows; at least 10 are needed"):
        amortised_volume_fit(codes[:9], lengths(codes[:9]))
