"""Eigenvalues of products with Cholesky factors have the digits that singular values have; vectors belong to them."""

import pytest
import torch
from torch import Tensor

from assay.metrics.kernels.spectrum import Spectrum


def factor(dimension: int, seed: int = 0) -> Tensor:
    """The Cholesky factor of a covariance of features whose variances fall steeply."""
    generator = torch.Generator().manual_seed(99)
    falling = torch.arange(1, dimension + 1)[:, None] ** -0.8
    mix = torch.randn(dimension, dimension, dtype=torch.float64, generator=generator) / dimension**0.5 * falling
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(8 * dimension, dimension, dtype=torch.float64, generator=generator) @ mix
    return torch.linalg.cholesky(rows.T.cov().view(dimension, dimension))


def test_small_eigenvalues_are_the_squares_of_singular_values() -> None:
    """Another solver (dsyevr, all vectors) is off by 1e-9 to 1e-8 here."""
    product = factor(256, 1).T @ factor(256, 2)
    roots = Spectrum((product @ product.T).tril()).values.clamp(min=0).sqrt()
    exact = torch.linalg.svdvals(product)
    assert float(roots.sum()) == pytest.approx(float(exact.sum()), abs=1e-12)


@pytest.mark.parametrize("dimension", [1, 2, 3, 40])
@pytest.mark.parametrize("start", [0, 1])
def test_vectors_belong_to_the_values(dimension: int, start: int) -> None:
    whole = factor(dimension) @ factor(dimension).T
    found = Spectrum(whole.tril())
    values, vectors = found.values[start:], found.vectors(start)
    assert vectors.shape == (dimension, dimension - start)
    assert torch.allclose(whole @ vectors, vectors * values, rtol=0, atol=1e-13)
    assert torch.allclose(vectors.T @ vectors, torch.eye(dimension - start, dtype=torch.float64), rtol=0, atol=1e-12)
