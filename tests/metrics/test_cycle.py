"""Cycle consistency: minus a distance, pair by pair."""

from collections.abc import Callable

import pytest
import torch

from assay.metrics.cycle import cycle_consistency, reconstruction_error, reconstruction_residual


def test_it_is_minus_the_distance_of_each_pair() -> None:
    z = torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(0))
    again = z.clone()
    again[5, 0, 0] += 3
    again[5, 2, 3] -= 4
    found = cycle_consistency(z, again)
    assert found[5].item() == pytest.approx(-5, rel=1e-6)
    assert found.sum().item() == found[5].item()


def test_counts_must_be_equal() -> None:
    with pytest.raises(ValueError, match="fake has 5 rows, reencoded has 4"):
        cycle_consistency(torch.ones(5, 2), torch.ones(4, 2))


@pytest.mark.parametrize("score", [reconstruction_error, reconstruction_residual])
def test_an_error_is_one_number_that_is_not_negative(score: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(ValueError, match=r"residual has shape \[5, 3\]; give one number for each sample"):
        score(torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"residual has shape \[5\]; give \[N, 1\], for example residual\[:, None\]"):
        score(torch.ones(5))
    with pytest.raises(ValueError, match="residual: 5 errors are negative"):
        score(-torch.ones(5, 1))
