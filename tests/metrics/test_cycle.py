"""Cycle consistency: minus a distance, pair by pair."""

import pytest
import torch

from assay.metrics.cycle import cycle_consistency


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
