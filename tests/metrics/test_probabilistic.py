"""P-precision and P-recall against the formula, with copies, disjoint sets and borders."""

import pytest
import torch
from torch import Tensor

from assay.metrics.probabilistic import probabilistic_precision, probabilistic_recall


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def direct(points: Tensor, support: Tensor, k: int = 4, scale: float = 1.2) -> float:
    within = torch.cdist(support.double(), support.double()).fill_diagonal_(torch.inf)
    radius = scale * within.kthvalue(k).values.mean()
    cross = (support.double()[:, None] - points.double()[None]).norm(dim=2)
    return float((1 - (cross / radius).clamp(max=1).prod(0)).mean())


@pytest.mark.parametrize("offset", [0, 1000])
def test_they_are_the_formula(offset: float) -> None:
    fake, real = 1.2 * gauss(150, 5) + offset, gauss(200, 5, seed=1) + offset
    assert probabilistic_precision(fake, real).value == pytest.approx(direct(fake, real), rel=1e-6)
    assert probabilistic_recall(fake, real).value == pytest.approx(direct(real, fake), rel=1e-6)


def test_copies_score_one_and_far_sets_zero() -> None:
    real = gauss(100, 5)
    assert probabilistic_precision(real.clone(), real).value == 1
    assert probabilistic_precision(gauss(50, 5) + 100, real).value == 0


def test_a_collapsed_generator_keeps_precision_and_loses_recall() -> None:
    real, fake = gauss(1000, 2), 0.1 * gauss(1000, 2, seed=1)
    assert probabilistic_precision(fake, real).value > 0.9
    assert probabilistic_recall(fake, real).value < 0.1


def test_a_radius_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="real: each of its 20 rows has 4 exact copies"):
        probabilistic_precision(gauss(10, 3), torch.ones(20, 3))
