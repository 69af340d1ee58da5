"""TopP&R: the formula in plain float64, equal, disjoint and collapsed sets, outliers, and refusals."""

import math

import pytest
import torch
from torch import Tensor

from assay.metrics.kernels import distances
from assay.metrics.topological import topological_precision, topological_recall


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def direct(y: Tensor, x: Tensor, alpha: float = 0.1, seed: int = 0) -> tuple[float, float]:
    """TopP and TopR from full matrices; the draws are those of the metric."""
    if y.shape[1] > 32:
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(y.shape[1], 32, dtype=torch.float64, generator=generator)
        y, x = y.double() @ directions, x.double() @ directions
    y, x = y.double(), x.double()
    inside = {}
    for name, s in (("fake", y), ("real", x)):
        own = (s[:, None] - s[None]).norm(dim=2)
        h = own.clone().fill_diagonal_(torch.inf).kthvalue(5 * s.shape[1]).values.median()

        def kernel(distance: Tensor, h: Tensor = h) -> Tensor:
            return torch.where(distance < h, (math.pi / 2 * distance / h).cos(), 0)

        p, changes = kernel(own).mean(1), []
        for draw in torch.randint(len(s), (10, len(s)), generator=torch.Generator().manual_seed(seed)):
            changes.append((kernel(own[:, draw]).mean(1) - p).abs().max())
        level = torch.stack(changes).quantile(1 - alpha)
        for other, points in (("fake", y), ("real", x)):
            inside[other, name] = kernel((points[:, None] - s[None]).norm(dim=2)).mean(1) > level
    both = [inside[s, "fake"] & inside[s, "real"] for s in ("fake", "real")]
    return tuple(int(b.sum()) / int(inside[s, s].sum()) for b, s in zip(both, ("fake", "real"), strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("dimension", [2, 5, 100])
@pytest.mark.parametrize("seed", [0, 3])
def test_they_are_the_definition(dimension: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "BLOCK", 64)
    monkeypatch.setattr(distances, "PANEL", 128)
    y, x = 1.1 * gauss(250, dimension) + 0.4, gauss(300, dimension, seed=1)
    expected = direct(y, x, seed=seed)
    assert 0 < expected[0] < 1 or dimension == 100
    found = [metric(y, x, seed=seed).value for metric in (topological_precision, topological_recall)]
    assert found == pytest.approx(expected, abs=1e-12)
    shifted = [metric(y + 1000, x + 1000, seed=seed).value for metric in (topological_precision, topological_recall)]
    assert shifted == pytest.approx(expected, abs=0.01)  # the shift rounds float32 inputs


def test_equal_sets_score_one_equal_laws_about_one_and_disjoint_sets_zero() -> None:
    x = gauss(1000, 64)
    for metric in (topological_precision, topological_recall):
        assert metric(x.clone(), x).value == 1
        assert metric(gauss(1000, 64, seed=1), x).value > 0.9
        assert metric(gauss(1000, 64, seed=1) + 50, x).value == 0


def test_a_dropped_mode_costs_recall_and_not_precision() -> None:
    mode = 30.0 * (torch.arange(2000) % 2)[:, None]
    real, fake = gauss(2000, 64) + mode, gauss(1000, 64, seed=1)
    assert topological_precision(fake, real).value > 0.8
    assert topological_recall(fake, real).value < 0.6


def test_a_few_real_outliers_make_no_support() -> None:
    real = torch.cat([gauss(1000, 16), 30 + 0.1 * gauss(5, 16, seed=1)])
    fake = torch.cat([gauss(500, 16, seed=2), 30 + gauss(500, 16, seed=3)])
    assert topological_precision(fake, real).value == pytest.approx(0.5, abs=0.1)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="fake has 40 rows; k=40 needs at least 41"):
        topological_precision(gauss(40, 8), gauss(100, 8))
    with pytest.raises(ValueError, match="real: half of its 30 rows have 15 exact copies"):
        topological_recall(gauss(30, 3), torch.ones(30, 3))
    with pytest.raises(ValueError, match=r"alpha=1\S* must be a finite number, above 0 and below 1"):
        topological_precision(gauss(30, 3), gauss(30, 3), alpha=1.0)
