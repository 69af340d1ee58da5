"""Products whose bytes are the same on one thread and on two; those with a triangular matrix take half the work.

Torch shares the work of a product out among its threads, and the last digits depend on how. For few threads one thread
of BLAS is as fast, where it does half the work; see `add_gram`.
"""

import torch
from scipy.linalg.blas import dtrmm, dtrsm, strmm, strsm
from torch import Tensor

from ...harness.core.precision import one_blas_thread
from .moments import FEW, strips


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b, for matrices."""
    if not _few(a):
        return a @ b
    with one_blas_thread():
        return torch.from_numpy(a.numpy() @ b.numpy())


def lower_product(lower: Tensor, b: Tensor) -> Tensor:
    """L b for the lower triangular L [r, r] and b [r, k], which is overwritten; fastest where b.T is contiguous."""
    if not _few(b):
        # What a strip needs lies above it, so the last strip comes first.
        for strip in reversed(strips(len(lower))):
            b[strip] = lower[strip, : strip.stop] @ b[: strip.stop]
        return b
    if not b.numel():  # BLAS would complain on the terminal
        return b
    times = dtrmm if b.dtype == torch.float64 else strmm
    with one_blas_thread():
        # To Fortran, rows are columns and below is above.
        return torch.from_numpy(times(1.0, lower.numpy().T, b.numpy(), lower=0, trans_a=1, overwrite_b=1))


def solved(lower: Tensor, b: Tensor) -> Tensor:
    """x with L'x = b, for the lower triangular L [r, r] and b [r, k]."""
    if not _few(b):
        x: Tensor = torch.linalg.solve_triangular(lower.T, b, upper=True)
        return x
    if not b.numel():
        return b
    solve = dtrsm if b.dtype == torch.float64 else strsm
    with one_blas_thread():
        return torch.from_numpy(solve(1.0, lower.numpy().T, b.numpy(), lower=0))


def _few(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.get_num_threads() <= FEW
