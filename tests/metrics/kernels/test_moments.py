"""Moments against numpy in float64; shards merge to the whole."""

import numpy as np
import pytest
import torch

from assay.metrics.kernels.moments import moments, streamed


@pytest.mark.parametrize("offset", [0, 1e4])
def test_moments_equal_numpy(offset: float) -> None:
    x = (
        torch.randn(5000, 20, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.logspace(-2, 1, 20))
        + offset
    )
    found = moments(x)
    wide = x.double().numpy()
    np.testing.assert_allclose(found.mean, wide.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(wide.T), rtol=1e-10, atol=1e-12 * np.cov(wide.T).max())


@pytest.mark.parametrize("sizes", [[1, 4999], [1000, 1500, 2500], [5000]])
def test_shards_merge_to_the_whole(sizes: list[int]) -> None:
    x = torch.randn(5000, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + torch.arange(8)
    x += torch.linspace(0, 5, 5000)[:, None]
    whole, parts = moments(x), streamed(torch.split(x, sizes))
    assert parts.n == 5000
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.covariance, whole.covariance, rtol=1e-11, atol=1e-11)
