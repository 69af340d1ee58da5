"""Alpha-precision and beta-recall: the formula in plain numpy, equal, far and collapsed sets."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.metrics.alpha_precision import alpha_precision, beta_recall
from assay.metrics.kernels.alone import values_alone


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def direct(fake: Any, real: Any) -> tuple[float, float]:
    """Level by level."""
    y, x, levels = fake.astype(float), real.astype(float), np.linspace(0, 1, 30)
    from_real = [np.linalg.norm(s - x.mean(0), axis=1) for s in (y, x)]
    precise = [(from_real[0] <= np.quantile(from_real[1], a)).mean() for a in levels]
    from_fake = np.linalg.norm(y - y.mean(0), axis=1)
    cross = np.linalg.norm(x[:, None] - y[None], axis=2)
    own = np.linalg.norm(x[:, None] - x[None], axis=2) + np.diag(np.full(len(x), np.inf))
    near = cross.min(1) <= own.min(1)
    recalled = [(near & (from_fake[cross.argmin(1)] <= np.quantile(from_fake, b))).mean() for b in levels]
    return tuple(1 - 2 * np.abs(np.array(p) - levels).sum() / 29 for p in (precise, recalled))


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("spread", [0.5, 1.2])
def test_they_are_the_formula(offset: float, spread: float) -> None:
    fake, real = spread * gauss(150, 5) + 0.3 + offset, gauss(200, 5, seed=1) + offset
    expected = direct(fake.numpy(), real.numpy())
    assert alpha_precision(fake, real).value == pytest.approx(expected[0], abs=1e-12)
    assert beta_recall(fake, real).value == pytest.approx(expected[1], abs=1e-12)


def test_equal_sets_score_one_and_equal_laws_one_and_a_half() -> None:
    # Beta-recall: of two equal samples the fake is the nearer one half of the time, so R(b) = b / 2 on a line, where
    # no point is near to many (with 8 dimensions it is more). Standard errors about 0.02; 4 of them are allowed.
    x, y = gauss(2000, 1), gauss(2000, 1, seed=1)
    assert alpha_precision(x.clone(), x).value == pytest.approx(1, abs=1e-3)
    assert beta_recall(x.clone(), x).value == pytest.approx(1, abs=1e-3)
    assert alpha_precision(y, x).value == pytest.approx(1, abs=0.08)
    assert beta_recall(y, x).value == pytest.approx(0.5, abs=0.08)


def test_far_sets_score_zero_and_collapsed_ones_lose_both() -> None:
    x = gauss(500, 4)
    # Outside at every level: 30 levels sum to 15, 1 - 2 * 15 / 29 = -1/29.
    assert alpha_precision(gauss(500, 4, seed=1) + 99, x).value == pytest.approx(-1 / 29, abs=1e-12)
    assert beta_recall(gauss(500, 4, seed=1) + 99, x).value == pytest.approx(-1 / 29, abs=1e-12)
    narrow = 0.05 * gauss(500, 4, seed=1)
    assert alpha_precision(narrow, x).value < 0.1
    assert beta_recall(narrow, x).value < 0.1


def test_refusals() -> None:
    with pytest.raises(ValueError, match="levels=1 must be a whole number, at least 2"):
        alpha_precision(gauss(5, 3), gauss(5, 3), levels=1)
    with pytest.raises(ValueError, match="real has 1 rows"):
        beta_recall(gauss(5, 3), gauss(1, 3))


def test_more_rows_than_torch_can_take_quantiles_of() -> None:
    x = torch.linspace(-1, 1, 2**24 + 2)[:, None]
    with values_alone():  # the halves of an interval have fewer rows
        assert alpha_precision(x[::4096], x).value == pytest.approx(1, abs=1e-3)


def test_ties_between_generated_samples_count_in_equal_shares() -> None:
    real = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    fake = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 9.0]])
    values = {beta_recall(fake[list(order)], real).value for order in itertools.permutations(range(3))}
    assert max(values) - min(values) < 1e-12
