"""Topological precision and recall (TopP&R): samples in each other's supports, after what is not significant is cut."""

import math

import torch
from torch import Tensor

from ..harness.core.inputs import Array, require_neighbours, row_blocks, samples
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.distances import mean_of, nearest_others, squared_distance_tiles
from .kernels.memo import remember

DIMENSION = 32
"""Features of more dimensions are projected to this many."""

REPEATS = 10
"""Bootstrap samples behind a confidence level."""


@metric(
    better="higher", kind="set", source="arXiv:2306.08013", fake=View("fake", "features"), real=View("real", "features")
)
def topological_precision(fake: Array, real: Array, alpha: float = 0.1, seed: int = 0) -> Estimate:
    """TopP: share of the significant generated samples that are significant among reals, in [0, 1]; Wilson's interval.

        #{ y_j : p_g(y_j) > c_g and p_r(y_j) > c_r } / #{ y_j : p_g(y_j) > c_g }

    p is a kernel density estimate of a set [N, D], p(x) = mean_i cos(pi |x - x_i| / 2h) over |x - x_i| < h, with h the
    median distance to the (5 D)-th nearest other point; c is the 1 - alpha quantile over 10 bootstrap samples of the
    largest change of p at the set's own points: a lower density may be noise. Features of more than 32 dimensions are
    projected to 32 at random; `seed` draws the projection and the bootstrap. Release top-pr differs: its h looks at
    later rows only. Equal laws score about 1 in 16 dimensions or more; in few dimensions h is so narrow that little is
    significant. The interval takes p and c as known. Raises ValueError for bad input, alpha outside (0, 1), at most
    5 D rows (161 are needed from 32 dimensions on), or when no sample is significant.
    """
    y, x = samples(fake=fake, real=real)
    (in_fake, in_real), _ = _supported(y, x, alpha, seed)
    return intervals.proportion(in_real[_significant("fake", in_fake)])


@metric(
    better="higher", kind="set", source="arXiv:2306.08013", fake=View("fake", "features"), real=View("real", "features")
)
def topological_recall(fake: Array, real: Array, alpha: float = 0.1, seed: int = 0) -> Estimate:
    """TopR: share of the significant real samples that are significant among the generated; see TopP, roles swapped."""
    y, x = samples(fake=fake, real=real)
    _, (in_fake, in_real) = _supported(y, x, alpha, seed)
    return intervals.proportion(in_fake[_significant("real", in_real)])


def _significant(name: str, inside: Tensor) -> Tensor:
    if not inside.any():
        raise ValueError(f"{name}: none of its {len(inside)} rows is denser than the bootstrap's noise: give more rows")
    return inside


@remember
def _supported(y: Tensor, x: Tensor, alpha: float, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """For the generated, then for the real samples: whether each is in the support of the generated, of the reals."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must be between 0 and 1")
    centre = mean_of(x)
    y, x = (_projected(s, centre, seed) for s in (y, x))
    of_fake, of_real = _Support("fake", y, alpha, seed), _Support("real", x, alpha, seed)
    return (of_fake.holds(y), of_real.holds(y)), (of_fake.holds(x), of_real.holds(x))


def _projected(x: Tensor, centre: Tensor, seed: int) -> Tensor:
    """Centred rows in at most 32 dimensions, float64. Their scale does not matter: the bandwidth follows it."""
    if x.shape[1] <= DIMENSION:
        return x.double() - centre
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[1], DIMENSION, dtype=torch.float64, generator=generator).to(x.device)
    return torch.cat([(block.double() - centre) @ directions for block in row_blocks(x)])


class _Support:
    """Where the density of a set exceeds its confidence level."""

    def __init__(self, name: str, x: Tensor, alpha: float, seed: int):
        k = 5 * x.shape[1]
        require_neighbours(name, len(x), k, others=True)
        self.x, self.bandwidth = x, float(nearest_others(x, k).distances[:, -1].median())
        if self.bandwidth == 0:
            raise ValueError(f"{name}: half of its {len(x)} rows have {k} exact copies: remove duplicates")
        draws = torch.randint(len(x), (REPEATS, len(x)), generator=torch.Generator().manual_seed(seed)).to(x.device)
        drawn = [torch.bincount(draw, minlength=len(x)).double() for draw in draws]
        density = self.density(x, torch.stack([torch.ones_like(drawn[0]), *drawn], 1))
        change = (density[:, 1:] - density[:, :1]).abs().amax(0)
        self.level = float(change.quantile(1 - alpha))

    def density(self, points: Tensor, weights: Tensor) -> Tensor:
        """The kernel density at each point under weights [N, W] of the set's rows, float64 [len(points), W].

        Without its constant (pi / 4h)^D, which a comparison of densities does not feel.
        """
        total = weights.new_zeros(len(points), weights.shape[1])
        for rows, columns, values, _ in squared_distance_tiles(points, self.x):
            valid = values[: rows.stop - rows.start, : columns.stop - columns.start]
            inside = valid < self.bandwidth**2
            kernel = valid.clamp_(min=0).sqrt_().mul_(math.pi / (2 * self.bandwidth)).cos_().mul_(inside)
            total[rows] += kernel @ weights[columns]
        return total / len(self.x)

    def holds(self, points: Tensor) -> Tensor:
        """Whether the density at each point exceeds the level, bool."""
        return self.density(points, self.x.new_ones(len(self.x), 1))[:, 0] > self.level
