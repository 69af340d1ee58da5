"""Mean and covariance in float64, computed block by block; the moments of batches and shards can be merged."""

from dataclasses import dataclass

import torch
from scipy.linalg.blas import dsyrk, ssyrk
from torch import Tensor

from ..core.inputs import CACHED, row_blocks
from ..core.precision import one_blas_thread
from ..core.protocols import Statistics

STRIP = 256
"""Number of columns per strip in which symmetric products are computed."""

FEW = 2
"""Threads up to which one thread of BLAS, which does half the work, is as fast as all of torch."""


@dataclass(frozen=True)
class Moments:
    """Count, mean [D] and scatter [D, D] = sum of (x - mean)(x - mean)', all float64."""

    n: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "Moments":
        """Of the rows of x [N, D]. Products are float64: float32 would give null directions a spurious variance."""
        mean = mean_of(x)
        scatter = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
        blocks = row_blocks(x)
        wide = torch.empty(blocks[0].shape, dtype=torch.float64, device=x.device)
        for block in blocks:
            add_gram(scatter, wide[: len(block)].copy_(block).sub_(mean))
        return cls(len(x), mean, mirrored(scatter))

    @property
    def covariance(self) -> Tensor:
        """Sample covariance [D, D], divided by n - 1. Raises ValueError for a single row, which has none."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 rows, and there is {self.n}: give more samples")
        return self.scatter / (self.n - 1)

    def statistics(self, rows: Tensor | None = None) -> Statistics:
        """Mean and covariance, with some of the rows [m, D] for an interval. Raises ValueError for a single row."""
        return Statistics(self.mean, self.covariance, self.n, rows)

    def to(self, device: torch.device) -> "Moments":
        return Moments(self.n, self.mean.to(device), self.scatter.to(device))

    def merge(self, other: "Moments") -> "Moments":
        """Moments of the union of both sets (Chan, Golub, LeVeque 1979); shards can be merged in any order.

        Raises ValueError for shards of different dimensions.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"moments of {len(self.mean)} and of {len(other.mean)} dimensions: use one feature space for all shards"
            )
        n = self.n + other.n
        shift = other.mean - self.mean
        scatter = (self.scatter + other.scatter).addr_(shift, shift, alpha=self.n * other.n / n)
        return Moments(n, self.mean + shift * (other.n / n), scatter)


def mean_of(x: Tensor) -> Tensor:
    """Mean of the rows, float64 [D], because a float32 mean loses digits when the features share an offset."""
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    for block in row_blocks(x, CACHED):
        total += block.sum(0, dtype=torch.float64)
    return total / len(x)


def strips(dimension: int) -> list[slice]:
    """Slices of columns; per slice, only entries on and below the diagonal block are computed."""
    return [slice(start, min(start + STRIP, dimension)) for start in range(0, dimension, STRIP)]


def add_symmetric(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Add a symmetric product a b to `total`, only on and below the diagonal, which takes half the work."""
    for strip in strips(len(total)):
        total[strip.start :, strip].addmm_(a[strip.start :], b[:, strip])
    return total


def add_gram(total: Tensor, x: Tensor) -> Tensor:
    """Add x' x of x [n, D] to `total` [D, D], only on and below the diagonal; both float32 or both float64."""
    if total.device.type != "cpu" or torch.get_num_threads() > FEW:
        return add_symmetric(total, x.T, x)
    if not len(x):  # BLAS would complain on the terminal
        return total
    # torch lacks the product of BLAS that does half the work. To Fortran, rows are columns and below is above.
    syrk = dsyrk if total.dtype == torch.float64 else ssyrk
    rows, transposed = (x.T, 1) if x.T.is_contiguous() else (x.contiguous(), 0)
    with one_blas_thread():
        syrk(1.0, rows.numpy().T, 1.0, total.numpy().T, trans=transposed, overwrite_c=1)
    return total


def mirrored(lower: Tensor) -> Tensor:
    """The symmetric matrix with this lower triangle, in place."""
    for strip in strips(len(lower)):
        corner = lower[strip, strip]
        corner.copy_(corner.tril() + corner.tril(-1).T)
        lower[strip, strip.stop :] = lower[strip.stop :, strip].T
    return lower
