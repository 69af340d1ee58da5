"""The learned ratio against a known one, and its honesty where there is nothing to learn."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from assay.metrics.latent_density import density_ratio


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_learns_a_known_ratio() -> None:
    z, codes = gauss(2000, 4), 0.6 * gauss(3000, 4, seed=1)
    truth = -0.5 * z.square().sum(1) * (1 / 0.36 - 1)
    assert spearmanr(density_ratio(z, codes), truth).statistic > 0.95


def test_equal_distributions_teach_nothing_and_no_code_scores_itself() -> None:
    # The true ratio is 0; a classifier that had seen the codes would score them below 0 on average.
    z, codes = gauss(2000, 4), gauss(2000, 4, seed=1)
    assert abs(density_ratio(z, codes).mean().item()) < 0.2


def test_it_is_repeatable_and_seeded() -> None:
    z, codes = gauss(60, 3), gauss(80, 3, seed=1)
    state = torch.random.get_rng_state()
    assert torch.equal(density_ratio(z, codes), density_ratio(z, codes))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(density_ratio(z, codes), density_ratio(z, codes, seed=1))


def test_folds() -> None:
    with pytest.raises(ValueError, match="folds=1 must be a whole number, at least 2"):
        density_ratio(gauss(9, 3), gauss(9, 3), folds=1)
    with pytest.raises(ValueError, match="fake has 3 rows; at least 5"):
        density_ratio(gauss(3, 3), gauss(9, 3), folds=5)
