"""Coordinates drawn again: the law, what stays, and that each latent has a seed of its own."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest, truncnorm

from assay.generators.sampling.truncation import redrawn


def test_coordinates_follow_the_truncated_normal() -> None:
    z = torch.randn(400, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for threshold in (0.3, 1.0, 2.0):
        found = redrawn(z, threshold, range(400))
        inside = z.abs() <= threshold
        assert found.abs().max() <= threshold
        assert torch.equal(found[inside], z[inside])
        # 10,000 independent draws against their law: seeds are fixed, false alarm 1 in 10^4.
        law = truncnorm(-threshold, threshold)
        assert kstest(found.flatten().numpy(), law.cdf).pvalue > 1e-4
        assert kstest(found[~inside].numpy(), law.cdf).pvalue > 1e-4, "those drawn again, too"


def test_each_latent_by_its_own_seed() -> None:
    z = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    found = redrawn(z, 0.5, range(6))
    assert found.dtype == torch.float32
    assert torch.equal(redrawn(z[4:], 0.5, [4, 5]), found[4:])
    assert not torch.equal(redrawn(z, 0.5, range(1, 7)), found)
    assert torch.equal(redrawn(z, 50.0, range(6)), z)
    assert np.isfinite(redrawn(z, 1e-3, range(6)).numpy()).all()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="threshold=0 must be positive"):
        redrawn(torch.zeros(2, 2), 0, [0, 1])
    with pytest.raises(ValueError, match="2 latents need as many seeds, not 3"):
        redrawn(torch.zeros(2, 2), 1, [0, 1, 2])
