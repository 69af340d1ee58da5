"""Random smooth functions of codes: how fast they change along an edit, by their closed form."""

import math

import pytest
import torch

from assay.generators.sampling.smooth import smooth_functions

AT = torch.linspace(-4, 4, 9, dtype=torch.float64)


def drawn(length: float, draws: int, codes: int = 40, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([1.0, 2.0, 0.5, 1.0]) * scale
    z = torch.randn(codes, 4, generator=generator) * spread
    return smooth_functions(z, spread * torch.tensor([0.5, 0.5, 0.5, 0.5]), AT, length, draws, 7, spread)


@pytest.mark.parametrize("length", [1.0, 3.0])
def test_two_points_correlate_as_far_as_they_are_apart(length: float) -> None:
    """exp(-(d / length)^2 / 2), from 1,500 functions at one code: standard error at most .026, and four of them; twelve
    comparisons, false alarm below 1 in 1,000."""
    values = drawn(length, 1500, codes=1)[:, 0]
    assert values.var(0, correction=0).mean() == pytest.approx(1, abs=0.1)
    for apart in range(1, 7):
        found = torch.corrcoef(torch.stack([values[:, 4 - apart // 2], values[:, 4 - apart // 2 + apart]]))[0, 1]
        assert found == pytest.approx(math.exp(-((apart / length) ** 2) / 2), abs=4 * 0.026)


def test_functions_depend_on_seed_and_draw_alone_and_not_on_the_unit_of_codes() -> None:
    torch.testing.assert_close(drawn(2.0, 3)[:2], drawn(2.0, 2))
    torch.testing.assert_close(drawn(2.0, 2, scale=10.0), drawn(2.0, 2), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(*drawn(2.0, 2))


def test_wrong_options() -> None:
    for length, draws in ((0.0, 1), (math.inf, 1), (1.0, 0)):
        with pytest.raises(ValueError, match=f"length={length} must be positive and finite, and draws={draws} 1 or"):
            drawn(length, draws)
