"""The learned odds of being real: against a known ratio, honest where there is nothing to learn, for every form."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from assay.metrics.real_log_odds import real_log_odds


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_images_that_lack_what_real_ones_have_score_low() -> None:
    """Real ones have a bright corner; so has every second generated one, and these are like real ones."""
    fake, real = 0.5 * uniform(300, 1, 8, 8), 0.5 * uniform(400, 1, 8, 8, seed=1)
    real[:, :, :3, :3] += 0.5
    fake[::2, :, :3, :3] += 0.5
    odds = real_log_odds(fake, real)
    assert odds.dtype == torch.float64
    assert odds[::2].min() > odds[1::2].max()
    assert odds[1::2].max() < -1


def test_where_the_ratio_is_known_it_is_ranked() -> None:
    """Brightness of generated images is uniform, that of real ones has density 2 b, so the log ratio is log(2 b)."""
    fake = uniform(1000, 1) * torch.ones(64)
    real = uniform(1000, 1, seed=1).sqrt() * torch.ones(64)
    odds = real_log_odds(fake.view(-1, 1, 8, 8), real.view(-1, 1, 8, 8))
    assert spearmanr(odds, fake[:, 0]).statistic > 0.95
    middle = (fake[:, 0] - 0.5).abs() < 0.1
    assert float(odds[middle].mean()) == pytest.approx(0, abs=0.25), "both are as frequent there"


def test_equal_distributions_teach_nothing_and_no_sample_scores_itself() -> None:
    """A classifier that had seen the samples would score them below 0: it can learn 300 images of noise by heart."""
    fake, real = uniform(300, 1, 8, 8), uniform(300, 1, 8, 8, seed=1)
    odds = real_log_odds(fake, real)
    assert abs(float(odds.mean())) < 0.5


def test_it_is_repeatable_seeded_and_leaves_the_global_state_alone() -> None:
    fake, real = uniform(40, 1, 8, 8), uniform(30, 1, 8, 8, seed=1)
    state = torch.random.get_rng_state()
    assert torch.equal(real_log_odds(fake, real), real_log_odds(fake, real))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(real_log_odds(fake, real), real_log_odds(fake, real, seed=1))


def test_volumes_and_colours_have_scores() -> None:
    for shape in ((3, 9, 10), (1, 8, 8, 8)):
        odds = real_log_odds(uniform(12, *shape), uniform(10, *shape, seed=1), folds=2)
        assert odds.shape == (12,)
        assert odds.isfinite().all()


def test_features_have_the_log_ratio_of_two_normal_laws() -> None:
    """N(0, I) against N(1, I) in two dimensions: x . (1, 1) - 1."""
    generator = torch.Generator().manual_seed(0)
    y, x = (torch.randn(2000, 2, generator=generator) + shift for shift in (0, 1))
    odds, truth = real_log_odds(y, x, folds=2), y.double().sum(1) - 1
    assert torch.corrcoef(torch.stack([odds, truth]))[0, 1] > 0.9


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="holdout has 3 rows; at least 5"):
        real_log_odds(uniform(9, 1, 8, 8), uniform(3, 1, 8, 8))
    with pytest.raises(ValueError, match="folds=1 must be a whole number, at least 2"):
        real_log_odds(uniform(9, 1, 8, 8), uniform(9, 1, 8, 8), folds=1)
