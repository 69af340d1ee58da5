"""Mean and covariance in float64, computed block by block; the moments of shards can be merged."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...harness.core.inputs import Array, row_blocks, samples
from .distances import mean_of
from .memo import remember

STRIP = 256
"""Number of columns per strip in which symmetric products are computed."""


@dataclass(frozen=True)
class Moments:
    """Count, mean [D] and scatter [D, D] = sum of (x - mean)(x - mean)', all float64."""

    n: int
    mean: Tensor
    scatter: Tensor

    @property
    def covariance(self) -> Tensor:
        """Sample covariance [D, D], divided by n - 1. Raises ValueError for a single row, which has none."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 rows, and there is {self.n}: give more samples")
        return self.scatter / (self.n - 1)

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
        between = torch.outer(shift, shift) * (self.n * other.n / n)
        return Moments(n, self.mean + shift * (other.n / n), self.scatter + other.scatter + between)


def moments(x: Array) -> Moments:
    """Moments of the rows of x [N, D]. Products are float64: float32 would give null directions a spurious variance.

    Raises ValueError for bad input.
    """
    return _moments(*samples(x=x))


@remember
def _moments(x: Tensor) -> Moments:
    mean = mean_of(x)
    scatter = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for block in row_blocks(x):
        centred = block - mean
        add_symmetric(scatter, centred.T, centred)
    return Moments(len(x), mean, mirrored(scatter))


def streamed(batches: Iterable[Array]) -> Moments:
    """Moments of batches [n_i, D] that need not fit in memory together.

    Raises ValueError, naming the batch, for bad input, and when there is no batch.
    """
    found: Moments | None = None
    for i, batch in enumerate(batches):
        (x,) = samples(**{f"batch {i}": batch})
        if found is not None and x.shape[1] != len(found.mean):
            raise ValueError(
                f"batch {i} has {x.shape[1]} dimensions, those before it have {len(found.mean)}: use one feature space"
            )
        found = _moments(x) if found is None else found.merge(_moments(x))
    if found is None:
        raise ValueError("batches is empty: give at least one batch of samples [n, D]")
    return found


def gram(x: Tensor) -> Tensor:
    """x' x [D, D] for x [N, D]."""
    return mirrored(add_symmetric(x.new_zeros(x.shape[1], x.shape[1]), x.T, x))


def strips(dimension: int) -> list[slice]:
    """Slices of columns; per slice, only entries on and below the diagonal block are computed."""
    return [slice(start, min(start + STRIP, dimension)) for start in range(0, dimension, STRIP)]


def add_symmetric(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Add a symmetric product a b to `total`, only on and below the diagonal, which takes half the work."""
    for strip in strips(len(total)):
        total[strip.start :, strip].addmm_(a[strip.start :], b[:, strip])
    return total


def mirrored(lower: Tensor) -> Tensor:
    """The symmetric matrix with this lower triangle, in place."""
    for strip in strips(len(lower)):
        corner = lower[strip, strip]
        corner.copy_(corner.tril() + corner.tril(-1).T)
        lower[strip, strip.stop :] = lower[strip.stop :, strip].T
    return lower
