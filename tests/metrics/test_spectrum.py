"""Vendi score: orthogonal and equal rows, both routes, all orders, and an interval that covers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.metrics.spectrum import vendi_score


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("order", [0.0, 0.5, 1.0, 2.0, math.inf])
def test_orthogonal_rows_count_as_many_and_copies_as_one(order: float) -> None:
    assert vendi_score(3 * torch.eye(7), order).value == pytest.approx(7)
    assert vendi_score(torch.ones(9, 4), order).value == pytest.approx(1)
    assert vendi_score(torch.eye(4).repeat(5, 1), order).value == pytest.approx(4)


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0, math.inf])
@pytest.mark.parametrize(("n", "d"), [(20, 50), (50, 20)])
def test_it_is_the_definition_on_the_similarity_matrix(order: float, n: int, d: int) -> None:
    y = gauss(n, d) + 0.5
    unit = (y / y.norm(dim=1, keepdim=True)).double().numpy()
    spectrum = np.linalg.eigvalsh(unit @ unit.T / n)
    spectrum = spectrum[spectrum > 1e-10]
    if order == 1:
        expected = np.exp(-(spectrum * np.log(spectrum)).sum())
    elif order == math.inf:
        expected = 1 / spectrum.max()
    else:
        expected = np.exp(np.log((spectrum**order).sum()) / (1 - order))
    assert vendi_score(y, order).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("n", "d", "order"),
    [(400, 5, 0.5), (400, 5, 1.0), (400, 5, 2.0), (400, 5, math.inf), (40, 60, 1.0), (40, 60, 2.0), (40, 60, math.inf)],
)
def test_the_standard_error_is_that_of_fresh_samples(n: int, d: int, order: float) -> None:
    # sd of 200 values is known to 5 %; the delta method is exact for large n only: 25 % is allowed.
    stretch = torch.arange(1, d + 1) ** -1.0
    found = [vendi_score(gauss(n, d, seed=i) * stretch + 0.3 * stretch, order) for i in range(200)]
    claimed = np.mean([(e.interval[1] - e.interval[0]) / (2 * 1.96) for e in found])
    assert claimed == pytest.approx(np.std([e.value for e in found]), rel=0.25)


def test_rows_without_direction_and_negative_orders_are_refused() -> None:
    y = gauss(5, 3)
    y[2] = 0
    with pytest.raises(ValueError, match="1 of 5 rows are zero, the first is row 2"):
        vendi_score(y)
    with pytest.raises(ValueError, match="order=-1 must be a number or infinity, at least 0"):
        vendi_score(gauss(5, 3), -1)


def test_orders_close_to_one_and_large_ones() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    limit = vendi_score(x)
    for order in (1 - 1e-15, 1 + 1e-15, 1 - 1e-9):
        found = vendi_score(x, order)
        assert found.value == pytest.approx(limit.value, rel=1e-8)
        assert found.interval == pytest.approx(limit.interval, rel=1e-6)
    assert vendi_score(x, 1e9).value == pytest.approx(vendi_score(x, float("inf")).value, rel=1e-6)
    # With one eigenvalue that dominates: (log sum lambda^q) / (1 - q) = q / (1 - q) log of the largest.
    largest = vendi_score(x, float("inf")).value
    assert vendi_score(x, 1000).value == pytest.approx(largest ** (1000 / 999), rel=1e-6)
