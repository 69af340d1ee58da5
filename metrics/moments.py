"""Mean and covariance in float64, block by block; moments of shards can be merged."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from .distances import mean_of
from .inputs import row_blocks
from .memo import remember


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
        scatter += gram(block.double() - mean)
    return Moments(len(x), mean, scatter)


def streamed(batches: Iterable[Tensor]) -> Moments:
    """Moments of batches [n_i, D] that never lie in memory together."""
    return reduce(Moments.merge, (moments(batch) for batch in batches))


def gram(x: Tensor) -> Tensor:
    """x' x. On the CPU numpy notices the symmetry and computes half (BLAS syrk); torch computes all of it."""
    if x.device.type == "cpu":
        rows = x.numpy()
        return torch.from_numpy(rows.T @ rows)
    return x.T @ x
