"""Topological precision and recall (TopP&R): which samples lie in the significant support of the other set?"""

import math
from typing import Annotated

import torch
from torch import Tensor

from ..harness.core.inputs import Array, require_neighbours, row_blocks, samples
from ..harness.core.options import Range, Seed
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.alone import drawn
from .kernels.distances import centred_norms, mean_of, squared_distance_tiles
from .kernels.halves import recomputed
from .kernels.log_sum import usual_rounding
from .kernels.memo import remember
from .kernels.nearest import nearest_others
from .kernels.scale import power_of_two, scaled
from .kernels.squared import sharpen

Alpha = Annotated[float, Range(above=0, below=1)]
DIMENSION = 32
"""Features with more dimensions are projected to this many."""

REPEATS = 10
"""Number of bootstrap samples for a confidence level."""
FAKE = View("fake", "features")
REAL = View("real", "features")


@metric(better="higher", kind="set", source="arXiv:2306.08013", version=2, fake=FAKE, real=REAL)
def topological_precision(fake: Array, real: Array, alpha: Alpha = 0.1, seed: Seed = 0) -> Estimate:
    """TopP: share of the significant generated samples that are also significant among real ones, in [0, 1].

        #{ y_j : p_g(y_j) > c_g and p_r(y_j) > c_r } / #{ y_j : p_g(y_j) > c_g }

    p is a kernel density estimate of a set [N, D], p(x) = mean_i cos(pi |x - x_i| / 2h) over |x - x_i| < h, where h is
    the median distance to the (5 D)-th nearest other point. c is the 1 - alpha quantile, over 10 bootstrap samples, of
    the largest change of p at the points of the set; a lower density may be noise. Features with more than 32
    dimensions are projected to 32 at random. `seed` determines the projection and the bootstrap. The package top-pr
    differs: its h considers later rows only. Equal distributions score about 1 in 16 dimensions or more; in fewer
    dimensions h is so narrow that few samples are significant. The interval is from random halves of both sets, and NaN
    where a half has too few rows; with heavy tails it is too short (results/benchmarks/coverage.md).
    Raises ValueError for bad input, 5 D rows or fewer (161 rows are needed for 32 dimensions or
    more), or when no sample is significant.
    """
    y, x = samples(fake=fake, real=real)
    value, _ = _shares(y, x, alpha, seed)
    _require_significant("fake", len(y), value)
    return intervals.bounded(value, _half_shares(y, x, alpha, seed, 0), len(y), least=0, most=1)


@metric(better="higher", kind="set", source="arXiv:2306.08013", version=2, fake=FAKE, real=REAL)
def topological_recall(fake: Array, real: Array, alpha: Alpha = 0.1, seed: Seed = 0) -> Estimate:
    """TopR: `topological_precision` with the roles of generated and real samples swapped, in [0, 1]."""
    y, x = samples(fake=fake, real=real)
    _, value = _shares(y, x, alpha, seed)
    _require_significant("real", len(x), value)
    return intervals.bounded(value, _half_shares(y, x, alpha, seed, 1), len(x), least=0, most=1)


def _require_significant(name: str, rows: int, share: float) -> None:
    if math.isnan(share):
        raise ValueError(f"{name}: none of its {rows} rows is significant at level alpha: give more rows")


def _half_shares(y: Tensor, x: Tensor, alpha: float, seed: int, which: int) -> Tensor | None:
    """Precision (0) or recall (1) in random halves, [HALVES]; NaN where it is undefined."""
    found = _both_half_shares(y, x, alpha, seed) if drawn() else None
    return None if found is None else found[:, which]


@remember
def _both_half_shares(y: Tensor, x: Tensor, alpha: float, seed: int) -> Tensor | None:
    """Both scores in random halves, [HALVES, 2]."""

    def shares(y: Tensor, x: Tensor) -> tuple[float, float]:
        try:
            return _shares(y, x, alpha, seed)
        except ValueError:  # too few rows
            return math.nan, math.nan

    return recomputed(shares, y, x)


def _shares(y: Tensor, x: Tensor, alpha: float, seed: int) -> tuple[float, float]:
    """Precision and recall; NaN where no sample is significant."""
    (fake_in_fake, fake_in_real), (real_in_fake, real_in_real) = _supported(y, x, alpha, seed)
    return float(fake_in_real[fake_in_fake].double().mean()), float(real_in_fake[real_in_real].double().mean())


@remember
def _supported(y: Tensor, x: Tensor, alpha: float, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Whether each generated, then each real sample lies in the support of the generated set and of the real set."""
    power = power_of_two(y, x)
    y, x = scaled(y, power), scaled(x, power)
    fake = _Support("fake", _projected(y, mean_of(x), seed), alpha, seed)
    real = _support_of_reals(x, alpha, seed)
    return (fake.own, real.contains(fake.x)), (fake.contains(real.x), real.own)


@remember
def _support_of_reals(x: Tensor, alpha: float, seed: int) -> "_Support":
    return _Support("real", _projected(x, mean_of(x), seed), alpha, seed)


def _projected(x: Tensor, centre: Tensor, seed: int) -> Tensor:
    """Centred rows in at most 32 dimensions, float64. The scale is arbitrary, since the bandwidth adapts to it."""
    if x.shape[1] <= DIMENSION:
        return x.double() - centre
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[1], DIMENSION, dtype=torch.float64, generator=generator).to(x.device)
    return torch.cat([(block.double() - centre) @ directions for block in row_blocks(x)])


class _Support:
    """The region where the density of a set exceeds its confidence level. own: which of its rows lie there."""

    def __init__(self, name: str, x: Tensor, alpha: float, seed: int):
        k = 5 * x.shape[1]
        require_neighbours(name, len(x), k, others=True)
        self.x, self.bandwidth = x, float(nearest_others(x, k).distances[:, -1].median())
        if self.bandwidth == 0:
            raise ValueError(f"{name}: half of its {len(x)} rows have {k} exact copies: remove duplicates")
        draws = torch.randint(len(x), (REPEATS, len(x)), generator=torch.Generator().manual_seed(seed)).to(x.device)
        counts = [torch.bincount(draw, minlength=len(x)).double() for draw in draws]
        density = self.density(x, torch.stack([torch.ones_like(counts[0]), *counts], 1))
        change = (density[:, 1:] - density[:, :1]).abs().amax(0)
        self.level = float(change.quantile(1 - alpha))
        self.own = density[:, 0] > self.level

    def density(self, points: Tensor, weights: Tensor) -> Tensor:
        """The kernel density at each point for weights [N, W] of the set's rows, float64 [len(points), W].

        The constant (pi / 4h)^D is left out, because it does not affect the comparison of densities.
        """
        total = weights.new_zeros(len(points), weights.shape[1])
        centre = mean_of(self.x)
        reach = centred_norms(points, centre).sqrt() + centred_norms(self.x, centre).max().sqrt()
        error = usual_rounding(torch.float64, points.shape[1]) * reach.square()
        for rows, columns, values, _ in squared_distance_tiles(points, self.x, centre=centre):
            valid = values[: rows.stop - rows.start, : columns.stop - columns.start]
            sharpen(valid, points[rows], self.x[columns], error[rows])
            inside = (valid < self.bandwidth**2).nonzero(as_tuple=True)
            near = valid[inside].clamp_(min=0).sqrt_().mul_(math.pi / (2 * self.bandwidth)).cos_()
            valid.zero_()
            valid[inside] = near
            total[rows] += valid @ weights[columns]
        return total / len(self.x)

    def contains(self, points: Tensor) -> Tensor:
        """Whether the density at each point exceeds the level, bool."""
        return self.density(points, self.x.new_ones(len(self.x), 1))[:, 0] > self.level
