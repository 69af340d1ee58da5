"""Sliced distance: zero on equal sets, the shift law, the direct formula, and an honest interval."""

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.metrics.sliced import sliced_distance


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_equal_sets_are_at_zero() -> None:
    x = gauss(50, 6)
    assert sliced_distance(x[torch.randperm(50)], x).value == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("offset", [0, 1e4])
def test_a_shift_costs_three_times_its_square(offset: float) -> None:
    # mean over 1,000 directions of 3 d (t.u)^2: relative sd sqrt(2/1000) = 4.5 %; 5 sd allowed.
    x = gauss(50, 8).double() + offset
    shift = torch.linspace(0, 1, 8).double()
    assert sliced_distance(x + shift, x).value == pytest.approx(3 * float(shift.square().sum()), rel=0.22)


def test_it_is_the_formula() -> None:
    y, x = gauss(40, 5) + 0.2, gauss(60, 5, seed=1)
    order = torch.Generator().manual_seed(4)
    x_cut = x[torch.randperm(60, generator=order)[:40]]
    directions = torch.randn(5, 7, dtype=torch.float64, generator=order)
    directions /= directions.norm(dim=0)
    gaps = (y.double() @ directions).sort(dim=0).values - (x_cut.double() @ directions).sort(dim=0).values
    expected = 3 * 5 / (40 * 7) * float(gaps.square().sum())
    assert sliced_distance(y, x, projections=7, seed=4).value == pytest.approx(expected, rel=1e-9)


def test_the_standard_error_is_that_of_fresh_samples() -> None:
    # sd of 200 values is known to 5 %: 20 % is allowed.
    found = [
        sliced_distance(1.5 * gauss(200, 4, seed=2 * i) + 0.5, gauss(200, 4, seed=2 * i + 1), 100, seed=i)
        for i in range(200)
    ]
    claimed = np.mean([(e.interval[1] - e.interval[0]) / (2 * 1.96) for e in found])
    assert claimed == pytest.approx(np.std([e.value for e in found]), rel=0.2)


def test_one_direction_is_too_few() -> None:
    with pytest.raises(ValueError, match="projections=1 must be a whole number, at least 2"):
        sliced_distance(gauss(5, 3), gauss(5, 3), projections=1)
