"""Moments against numpy in float64; shards merge to the whole."""

from typing import Any

import numpy as np
import pytest
import torch

from assay.metrics.kernels.moments import add_gram, moments, streamed


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


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([np.ones((5, 4)), np.ones((5, 1))], "batch 1 has 1 dimensions, those before it have 4"),
        ([np.ones((5, 4)), np.full((3, 4), np.nan)], "batch 1: 3 of 3 rows are not finite"),
        ([np.ones((5, 4)), np.ones((0, 4))], "batch 1 has 0 rows"),
        (np.ones((5, 4)), r"batch 0 has shape \[4\]; samples are \[N, D\]"),
        ([], "batches is empty"),
    ],
)
def test_what_is_streamed_is_checked_as_any_input(batches: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        streamed(batches)


def test_numpy_is_streamed_and_a_single_row_has_no_covariance() -> None:
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(">f4")
    np.testing.assert_allclose(streamed([x[:1], x[1:]]).covariance, np.cov(x.astype("f8").T), rtol=1e-12)
    one = streamed([x[:1]])
    np.testing.assert_array_equal(one.mean, x[0])
    with pytest.raises(ValueError, match="at least 2 rows, and there is 1"):
        _ = one.covariance
    with pytest.raises(ValueError, match="moments of 3 and of 2 dimensions"):
        one.merge(moments(np.ones((4, 2))))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_product_of_blas_adds_the_lower_triangle_alone(kind: torch.dtype) -> None:
    x = torch.randn(40, 7, generator=torch.Generator().manual_seed(0), dtype=kind)
    for rows in (x, x.T.contiguous().T, torch.cat([x, x], 1)[:, 3:10]):
        total = torch.ones(7, 7, dtype=kind)
        add_gram(total, rows)
        torch.testing.assert_close(total, (rows.T @ rows).tril() + 1)
