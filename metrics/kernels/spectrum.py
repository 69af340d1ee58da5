"""Eigenvalues of symmetric matrices to their last digits, and eigenvectors from the same tridiagonal matrix.

Where eigenvalues differ by many orders of magnitude, a solver of both returns the small ones with the rounding error of
the largest. The QR iteration for eigenvalues alone does not, if the large entries stand first, as those of a product
with Cholesky factors do. It needs a tridiagonal matrix, from which the vectors follow too, by relatively robust
representations: torch does not offer these, and two calls would find that matrix twice.
"""

from functools import cached_property

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from scipy.linalg.lapack import dormqr, dpotrf, dsterf, dsytrd, dsytrd_lwork, sormqr
from torch import Tensor

from ...harness.core.precision import one_blas_thread


class Spectrum:
    """Of the symmetric matrix [r, r], float64, with this lower triangle. Raises ValueError where LAPACK fails."""

    def __init__(self, lower: Tensor):
        self._lower, self._on_host = lower, lower.device.type == "cpu" and len(lower) > 1
        if self._on_host:
            with one_blas_thread():
                # By columns, as LAPACK has it, and to be overwritten.
                columns = lower.T.clone(memory_format=torch.contiguous_format).numpy().T
                work = int(dsytrd_lwork(len(lower), lower=1)[0])
                *self._tridiagonal, info = dsytrd(columns, lower=1, lwork=work, overwrite_a=1)
            _require_done(info)

    @cached_property
    def values(self) -> Tensor:
        """Ascending eigenvalues [r]."""
        if not self._on_host:
            on_device: Tensor = torch.linalg.eigvalsh(self._lower)
            return on_device
        _, diagonal, beside, _ = self._tridiagonal
        found, info = dsterf(diagonal, beside)
        _require_done(info)
        return torch.from_numpy(found)

    def vectors(self, start: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        """Eigenvectors [r, r - start] of all but the `start` smallest eigenvalues, by columns in memory.

        In float32, the half of the work that carries them from the tridiagonal matrix back is done in float32.
        """
        if not self._on_host:
            on_device: Tensor = torch.linalg.eigh(self._lower).eigenvectors
            return on_device[:, start:].to(dtype)
        reflectors, diagonal, beside, factors = self._tridiagonal
        kind, carry = (np.float64, dormqr) if dtype == torch.float64 else (np.float32, sormqr)
        with one_blas_thread():
            _, inner = eigh_tridiagonal(diagonal, beside, check_finite=False, lapack_driver="stemr")
            found, mirrors = (part.astype(kind, order="F") for part in (inner[:, start:], reflectors[1:, :-1]))
            work = int(carry("L", "N", mirrors, factors.astype(kind), found[1:], -1)[1][0])
            found[1:], _, info = carry("L", "N", mirrors, factors.astype(kind), found[1:], work)
        _require_done(info)
        return torch.from_numpy(found)


def cholesky(matrix: Tensor) -> Tensor | None:
    """The upper triangular F, by columns in memory, with F'F = this matrix; None if it is not positive definite."""
    if matrix.device.type != "cpu":
        lower, failed = torch.linalg.cholesky_ex(matrix)
        on_device: Tensor = lower.contiguous().T
        return None if failed else on_device
    with one_blas_thread():
        upper, failed = dpotrf(matrix.numpy().T)
    return None if failed else torch.from_numpy(upper)


def _require_done(info: int) -> None:
    if info:
        raise ValueError(f"LAPACK found no eigenvalues of the covariances (info {info}): give other samples")
