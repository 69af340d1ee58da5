"""KID: the double sum, disjoint blocks, seeds, and an interval that keeps its promise."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.metrics.kernel import cmmd, kernel_distance


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def direct(y: Tensor, x: Tensor) -> float:
    def mean_kernel(a: Tensor, b: Tensor, same: bool) -> float:
        terms = [
            (float(p @ q) / len(p) + 1) ** 3
            for i, p in enumerate(a.double())
            for j, q in enumerate(b.double())
            if not same or i != j
        ]
        return sum(terms) / len(terms)

    return mean_kernel(y, y, True) + mean_kernel(x, x, True) - 2 * mean_kernel(y, x, False)


def test_it_is_the_double_sum() -> None:
    y, x = gauss(20, 5) + 0.2, gauss(25, 5, seed=1)
    assert kernel_distance(y, x).value == pytest.approx(direct(y, x), rel=1e-10)


def test_blocks_are_disjoint_and_every_block_is_the_double_sum() -> None:
    y, x = gauss(65, 5) + 0.2, gauss(70, 5, seed=1)
    order = torch.Generator().manual_seed(3)
    rows = [torch.randperm(len(s), generator=order)[:60].view(3, 20) for s in (y, x)]
    values = [direct(y[j], x[i]) for j, i in zip(*rows, strict=True)]
    found = kernel_distance(y, x, block=20, seed=3)
    assert found.value == pytest.approx(np.mean(values), rel=1e-9)
    assert found.n == 3


def test_the_seed_decides() -> None:
    y, x = gauss(100, 5), gauss(100, 5, seed=1)
    assert kernel_distance(y, x, 20) == kernel_distance(y, x, 20)
    assert kernel_distance(y, x, 20) != kernel_distance(y, x, 20, seed=1)


@pytest.mark.parametrize(("block", "shift"), [(40, 0.0), (40, 0.4), (1000, 0.0), (1000, 0.4)])
def test_unbiased_with_an_honest_standard_error(block: int, shift: float) -> None:
    # 300 repeats: the mean is within 4.5 standard errors of the truth, the sd known to 4 %; 20 % is allowed.
    found = [
        kernel_distance(gauss(200, 6, seed=2 * i) + shift, gauss(150, 6, seed=2 * i + 1), block) for i in range(300)
    ]
    values = np.array([e.value for e in found])
    t, u = gauss(400_000, 6, seed=9991) + shift, gauss(400_000, 6, seed=9992) + shift
    v, w = gauss(400_000, 6, seed=9993), gauss(400_000, 6, seed=9994)
    cube = [((p * q).double().sum(1) / 6 + 1).pow(3).mean() for p, q in ((t, u), (v, w), (t, v))]
    truth = float(cube[0] + cube[1] - 2 * cube[2]) if shift else 0.0
    assert abs(values.mean() - truth) < 4.5 * values.std() / 300**0.5 + 0.01 * abs(truth)
    scale = 1.96 if block == 1000 else 4.303  # Student's t for 3 blocks
    claimed = np.mean([(e.interval[1] - e.interval[0]) / (2 * scale) for e in found])
    # The mean of a standard deviation from 3 blocks is 0.886 of the truth.
    assert claimed == pytest.approx(values.std() * (0.886 if block == 40 else 1), rel=0.2)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="block=1 must be a whole number, at least 2"):
        kernel_distance(gauss(5, 3), gauss(5, 3), block=1)
    with pytest.raises(ValueError, match="real has 1 rows"):
        kernel_distance(gauss(5, 3), gauss(1, 3))


UNIT = 1 / 16


def test_cmmd_is_the_v_statistic() -> None:
    y, x = gauss(40, 6) * 5 + 1, gauss(50, 6, seed=1) * 4

    def mean_kernel(a: Tensor, b: Tensor) -> float:
        return float((-torch.cdist(a.double(), b.double()).square() / 200).exp().mean())

    expected = 1000 * (mean_kernel(y, y) + mean_kernel(x, x) - 2 * mean_kernel(y, x))
    assert cmmd(y, x).value == pytest.approx(expected, rel=1e-9)


def test_cmmd_of_unit_vectors_is_a_distance_of_means_and_says_so() -> None:
    x = gauss(300, 64) * 0.125
    narrow = (x - x.mean(0)) * 0.1 + x.mean(0)
    with pytest.warns(UserWarning, match="nearly linear"):
        assert abs(cmmd(narrow, x).value) < 0.05  # ten times narrower, and all but equal
    with pytest.warns(UserWarning, match="nearly linear"):
        moved = cmmd(x + 0.2, x).value
    assert moved == pytest.approx(10 * 64 * 0.04, rel=0.02)


@pytest.mark.filterwarnings("ignore:cmmd")
def test_cmmd_of_equal_populations_is_lifted_unless_unbiased() -> None:
    # 100 pairs: published 20/n at most for unit vectors; unbiased mean 0 within 5 standard errors.
    pairs = [(gauss(100, 256, seed=2 * i) * UNIT, gauss(100, 256, seed=2 * i + 1) * UNIT) for i in range(100)]
    biased = np.array([cmmd(y, x).value for y, x in pairs])
    unbiased = np.array([cmmd(y, x, unbiased=True).value for y, x in pairs])
    assert 0.15 < biased.mean() < 0.21
    assert abs(unbiased.mean()) < 5 * unbiased.std() / 10
    with pytest.raises(ValueError, match="bandwidth=0 must be a finite number, above 0"):
        cmmd(*pairs[0], bandwidth=0)


def test_a_shared_offset_does_not_hide_the_difference() -> None:
    y, x = gauss(40, 5), gauss(50, 5, seed=1).double() + 0.5
    near, far = kernel_distance(y.double(), x), kernel_distance(y.double() + 2**20, x + 2**20)
    assert near.value > 0
    assert far.value == pytest.approx(_exact(y.double() + 2**20, x + 2**20), rel=1e-6)
    assert near.value == pytest.approx(_exact(y.double(), x), rel=1e-9)


def _exact(y: Tensor, x: Tensor) -> float:
    a, b = ([[Fraction(v) for v in row] for row in s.tolist()] for s in (y, x))

    def mean(p: list[list[Fraction]], q: list[list[Fraction]]) -> Fraction:
        values = [
            (sum((u * v for u, v in zip(r, s, strict=True)), Fraction(0)) / len(r) + 1) ** 3
            for i, r in enumerate(p)
            for j, s in enumerate(q)
            if p is not q or i != j
        ]
        return sum(values, Fraction(0)) / len(values)

    return float(mean(a, a) + mean(b, b) - 2 * mean(a, b))


def test_a_bandwidth_near_zero_sees_copies_alone() -> None:
    x = gauss(20, 4)
    assert cmmd(x, x.clone(), 1e-300).value == 0
    assert cmmd(x, x + 1, 1e-300).value == pytest.approx(1000 * 2 / 20)
    with pytest.raises(ValueError, match="bandwidth=inf must be a finite number, above 0"):
        cmmd(x, x, float("inf"))
