"""Integrated alpha-precision and beta-recall, which compare the typical samples of both sets at every level."""

from typing import Annotated

import torch
from torch import Tensor

from ..harness.core.inputs import Array, require_neighbours, row_blocks, samples
from ..harness.core.options import Range
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.alone import drawn
from .kernels.distances import mean_of
from .kernels.halves import CLOSEST, members, neighbours, radii, recomputed
from .kernels.nearest import Neighbours, listed_across, nearest, nearest_others
from .kernels.scale import power_of_two, scaled
from .kernels.ties import shared_places

Levels = Annotated[int, Range(least=2)]
FAKE = View("fake", "features")
REAL = View("real", "features")
FEWEST = 8
"""Smallest sets whose halves are compared."""


@metric(better="higher", kind="set", source="arXiv:2102.08921", version=2, fake=FAKE, real=REAL)
def alpha_precision(fake: Array, real: Array, levels: Levels = 30) -> Estimate:
    """Integrated alpha-precision, at most 1, about 0 for disjoint sets; sets [M, D] and [N, D].

        1 - 2 integral |P(a) - a| da,   P(a) = share of y_j with |y_j - c| <= the a-quantile of |x_i - c|

    c is the mean of the real samples. The integral is a sum over `levels` equally spaced levels from 0 to 1. The paper
    first embeds both sets by a trained one-class network, which is left out here. The interval is from random halves of
    both sets. Raises ValueError for bad input or fewer than 2 rows.
    """
    y, x = samples(2, fake=fake, real=real)
    power = power_of_two(y, x)
    y, x = scaled(y, power), scaled(x, power)
    centre = mean_of(x)

    def value(of_y: Tensor, of_x: Tensor) -> float:
        return _integrated((of_y[:, None] <= _quantiles(of_x, levels)).double())

    distances = _distances(y, centre), _distances(x, centre)
    halves = recomputed(value, *distances) if min(len(y), len(x)) >= FEWEST else None
    return intervals.bounded(value(*distances), halves, len(y), most=1)


@metric(better="higher", kind="set", source="arXiv:2102.08921", version=2, fake=FAKE, real=REAL)
def beta_recall(fake: Array, real: Array, levels: Levels = 30) -> Estimate:
    """Integrated beta-recall, at most 1; sets [M, D] and [N, D].

        1 - 2 integral |R(b) - b| db

    c is the mean of the generated samples, and y(x_i) is the generated sample nearest to x_i. R(b) is the share of x_i
    for which y(x_i) is no farther than the nearest other real sample, and |y(x_i) - c| <= the b-quantile of |y_j - c|;
    generated samples that are equally near to x_i count in equal shares.
    A perfect model scores about 0.5, because its sample is nearer than the nearest real one half of the time. The
    interval is from random halves of both sets.
    Raises ValueError for bad input or fewer than 2 rows.
    """
    y, x = samples(2, fake=fake, real=real)
    require_neighbours("real", len(x), 1, others=True)
    power = power_of_two(y, x)
    y, x = scaled(y, power), scaled(x, power)
    distance, radius = _distances(y, mean_of(y)), nearest_others(x, 1).distances
    found, share = _nearest_kinds(x, y)
    limit = _quantiles(distance, levels)
    typical = torch.zeros(len(x), levels, dtype=torch.float64, device=x.device)
    for column, index in enumerate(found.indices.T):
        typical += share[:, column, None] * (distance[index, None] <= limit)
    halves = _beta_recalls(y, x, distance, levels) if drawn() and min(len(y), len(x)) >= FEWEST else None
    return intervals.bounded(_integrated(typical * (found.distances[:, :1] <= radius)), halves, len(x), most=1)


def _nearest_kinds(x: Tensor, y: Tensor) -> tuple[Neighbours, Tensor]:
    """One of each kind of equal rows of y that are nearest to x_i, and the share of them that is of this kind."""
    found = nearest(x, y, min(2, len(y)))
    if not bool((found.distances[:, :1] == found.distances[:, 1:]).any()):
        return Neighbours(found.distances[:, :1], found.indices[:, :1]), found.distances.new_ones(len(x), 1)
    kinds, inverse, copies = torch.unique(y, dim=0, return_inverse=True, return_counts=True)
    one = torch.empty(len(kinds), dtype=torch.int64, device=y.device)
    one[inverse] = torch.arange(len(y), device=y.device)
    found, share = shared_places(lambda n: nearest(x, kinds, n), 1, len(kinds))
    share = share * copies[found.indices]
    return Neighbours(found.distances, one[found.indices]), share / share.sum(1, keepdim=True)


def _beta_recalls(y: Tensor, x: Tensor, distance: Tensor, levels: int) -> Tensor:
    """Beta-recall in random halves of both sets, [HALVES]; neighbours are those of the whole that are in the half."""
    fakes, reals = members(y, seed=1), members(x, seed=0)
    radius = radii(neighbours(x, 1, 1.0), reals, 1)
    closest = listed_across(x, y, CLOSEST)
    values = []
    for half, (fake, real) in enumerate(zip(fakes.T, reals.T, strict=True)):
        first = fake[closest.indices].int().argmax(1, keepdim=True)
        index, squared = (each.gather(1, first).squeeze(1) for each in (closest.indices, closest.bounds))
        typical = distance[index][:, None] <= _quantiles(distance[fake], levels)
        values.append(_integrated((typical & (squared <= radius[:, half])[:, None])[real].double()))
    return torch.tensor(values, dtype=torch.float64)


def _quantiles(values: Tensor, levels: int) -> Tensor:
    """The quantiles of values [N] at equally spaced levels from 0 to 1, interpolated linearly; [levels]."""
    ordered, steps = values.sort().values, levels - 1
    # In integers, because a position that is a whole number must give that value exactly.
    positions = torch.arange(levels, device=values.device) * (len(values) - 1)
    below = positions // steps
    above = (below + 1).clamp(max=len(values) - 1)
    return ordered[below] + (positions % steps).double() / steps * (ordered[above] - ordered[below])


def _distances(x: Tensor, centre: Tensor) -> Tensor:
    return torch.cat([(block.double() - centre).norm(dim=1) for block in row_blocks(x)])


def _integrated(inside: Tensor) -> float:
    """1 - 2 integral |mean over rows of inside [N, levels] - level|, over equally spaced levels from 0 to 1."""
    share = inside.mean(0)
    levels = torch.linspace(0, 1, len(share), dtype=torch.float64, device=share.device)
    return 1 - 2 * float((share - levels).abs().sum()) / (len(share) - 1)
