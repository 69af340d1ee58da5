"""Mean and covariance in float64, block by block; moments of shards can be merged."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ...harness.core.inputs import row_blocks
from .distances import mean_of
from .memo import remember

STRIP = 256
"""Width of the strips of columns in which symmetric products are computed."""


@dataclass(frozen=True)
class Moments:
    """Count, mean [D] and scatter [D, D] = sum of (x - mean)(x - mean)', all float64."""

    n: int
    mean: Tensor
    scatter: Tensor

    @property
    def covariance(self) -> Tensor:
        """Sample covariance [D, D], divided by n - 1."""
        return self.scatter / (self.n - 1)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets together (Chan, Golub, LeVeque 1979): shards can be counted anywhere, in any order."""
        n = self.n + other.n
        shift = other.mean - self.mean
        between = torch.outer(shift, shift) * (self.n * other.n / n)
        return Moments(n, self.mean + shift * (other.n / n), self.scatter + other.scatter + between)


@remember
def moments(x: Tensor) -> Moments:
    """Moments of the rows of x [N, D]. Float64 products: float32 ones would give null directions a false variance."""
    mean = mean_of(x)
    scatter = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for block in row_blocks(x):
        centred = block - mean
        add_symmetric(scatter, centred.T, centred)
    return Moments(len(x), mean, mirrored(scatter))


def streamed(batches: Iterable[Tensor]) -> Moments:
    """Moments of batches [n_i, D] that never lie in memory together."""
    return reduce(Moments.merge, (moments(batch) for batch in batches))


def gram(x: Tensor) -> Tensor:
    """x' x."""
    return mirrored(add_symmetric(x.new_zeros(x.shape[1], x.shape[1]), x.T, x))


def strips(dimension: int) -> list[slice]:
    """Columns of a triangle taken together: what lies on the other side of the diagonal is hardly computed."""
    return [slice(start, min(start + STRIP, dimension)) for start in range(0, dimension, STRIP)]


def add_symmetric(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """total += a b, a product known to be symmetric, on and below the diagonal alone: half the work of a product."""
    for strip in strips(len(total)):
        total[strip.start :, strip].addmm_(a[strip.start :], b[:, strip])
    return total


def mirrored(lower: Tensor) -> Tensor:
    """The symmetric matrix of that lower triangle, in place."""
    for strip in strips(len(lower)):
        corner = lower[strip, strip]
        corner.copy_(corner.tril() + corner.tril(-1).T)
        lower[strip, strip.stop :] = lower[strip.stop :, strip].T
    return lower
