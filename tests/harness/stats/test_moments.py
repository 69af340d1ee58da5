"""Sums of products of features against those of NumPy, down to no rows at all."""

import numpy as np
import pytest
import torch

from assay.harness.stats.moments import add_gram


@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (5, 1), (7, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gram_matrix_is_added_below_the_diagonal(
    shape: tuple[int, int], dtype: torch.dtype, capfd: pytest.CaptureFixture[str]
) -> None:
    x = torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    total = torch.ones(shape[1], shape[1], dtype=dtype)
    expected = 1 + x.double().numpy().T @ x.double().numpy()
    for given in (x, x.T.contiguous().T):
        found = add_gram(total.clone(), given)
        assert np.tril(found.numpy()) == pytest.approx(np.tril(expected), rel=1e-5, abs=1e-5)
    assert capfd.readouterr() == ("", ""), "BLAS complains of what it is given by writing to the terminal"
