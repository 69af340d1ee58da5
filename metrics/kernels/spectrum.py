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
from scipy.linalg.lapack import dormqr, dsterf, dsytrd, dsytrd_lwork
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

    def vectors(self, start: int = 0) -> Tensor:
        """Eigenvectors [r, r - start] of all but the `start` smallest eigenvalues."""
        if not self._on_host:
            on_device: Tensor = torch.linalg.eigh(self._lower).eigenvectors
            return on_device[:, start:]
        reflectors, diagonal, beside, factors = self._tridiagonal
        with one_blas_thread():
            _, found = eigh_tridiagonal(diagonal, beside, check_finite=False, lapack_driver="stemr")
            found, reflectors = (np.asfortranarray(part) for part in (found[:, start:], reflectors[1:, :-1]))
            work = int(dormqr("L", "N", reflectors, factors, found[1:], -1)[1][0])
            found[1:], _, info = dormqr("L", "N", reflectors, factors, found[1:], work)
        _require_done(info)
        return torch.from_numpy(found)


def _require_done(info: int) -> None:
    if info:
        raise ValueError(f"LAPACK found no eigenvalues of the covariances (info {info}): give other samples")
