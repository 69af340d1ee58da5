"""The learned ratio against known ones, and its honesty where there is nothing to learn."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from assay.harness.arrays.views import Views
from assay.harness.run import Run
from assay.metrics.density_ratio import density_ratio


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_learns_the_ratio_of_two_gaussians() -> None:
    z, codes, prior = gauss(2000, 4), 0.6 * gauss(3000, 4, seed=1), gauss(3000, 4, seed=2)
    truth = 4 * math.log(1 / 0.6) - 0.5 * z.square().sum(1) * (1 / 0.36 - 1)
    found = density_ratio(z, codes, prior)
    assert spearmanr(found, truth).statistic > 0.97
    near = truth > -4  # where both sets have codes; further out a classifier need not tell how far
    assert float((found - truth)[near].var() / truth[near].var()) < 0.15


def test_fresh_codes_of_the_prior_show_the_holes_between_many_modes() -> None:
    """Version 2 saw the prior through the scored codes alone, and its network was held back: 0.62 of twice as many."""
    centres = 1.5 * gauss(12, 6, seed=3)
    modes = torch.arange(6000) % 12
    codes = centres[modes] + 0.4 * gauss(6000, 6, seed=1)
    z = gauss(1000, 6)
    density = torch.logsumexp(-0.5 * torch.cdist(z, centres).square() / 0.16, 1)
    truth = density + 0.5 * z.square().sum(1)
    found = density_ratio(z, codes, gauss(6000, 6, seed=2))
    assert spearmanr(found, truth).statistic > 0.8


def test_the_prior_does_not_stand_for_codes_of_real_samples(
    open_views: Callable[..., Views], plain: Any, tmp_path: Path
) -> None:
    """Their ratio would be that of the prior to itself."""
    run = Run("study", "plain", "squares", open_views(plain), tmp_path, seed=0, n=20)
    record = run.evaluate(run.cell("density_ratio"))
    assert record.status == "failed"
    assert "no encoder" in str(record.error)


def test_equal_distributions_teach_nothing() -> None:
    # The true ratio is 0 everywhere. Errors of the same sort at all codes leave a mean, which is small.
    found = density_ratio(gauss(2000, 4), gauss(2000, 4, seed=1), gauss(2000, 4, seed=2))
    assert abs(float(found.mean())) < 0.1
    assert float(found.std()) < 0.2


def test_it_is_repeatable_and_seeded() -> None:
    sets = gauss(60, 3), gauss(80, 3, seed=1), gauss(70, 3, seed=2)
    state = torch.random.get_rng_state()
    assert torch.equal(density_ratio(*sets), density_ratio(*sets))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(density_ratio(*sets), density_ratio(*sets, seed=1))


def test_a_score_does_not_depend_on_the_other_samples() -> None:
    z, codes, prior = gauss(60, 3), gauss(80, 3, seed=1), gauss(70, 3, seed=2)
    few, all_of_them = density_ratio(z[:10], codes, prior), density_ratio(z, codes, prior)
    torch.testing.assert_close(few.float(), all_of_them[:10].float())  # the network computes in float32


def test_refusals() -> None:
    codes = gauss(9, 3)
    with pytest.raises(ValueError, match="prior has 1 rows; at least 2 are needed"):
        density_ratio(gauss(9, 3), codes, codes[:1])
