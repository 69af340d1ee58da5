"""Integrated alpha-precision and beta-recall, which compare the typical samples of both sets at every level."""

from typing import Annotated

import torch
from torch import Tensor

from ..harness.core.inputs import Array, require_neighbours, row_blocks, samples
from ..harness.core.options import Range
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.distances import mean_of
from .kernels.nearest import nearest, nearest_others
from .kernels.scale import power_of_two, scaled
from .kernels.ties import shared_places

Levels = Annotated[int, Range(least=2)]
FAKE = View("fake", "features")
REAL = View("real", "features")


@metric(better="higher", kind="set", source="arXiv:2102.08921", fake=FAKE, real=REAL)
def alpha_precision(fake: Array, real: Array, levels: Levels = 30) -> Estimate:
    """Integrated alpha-precision, at most 1, about 0 for disjoint sets; sets [M, D] and [N, D]; Student's t interval.

        1 - 2 integral |P(a) - a| da,   P(a) = share of y_j with |y_j - c| <= the a-quantile of |x_i - c|

    c is the mean of the real samples. The integral is a sum over `levels` equally spaced levels from 0 to 1. The paper
    first embeds both sets by a trained one-class network, which is left out here. The interval treats the quantiles as
    known. Raises ValueError for bad input or fewer than 2 rows.
    """
    y, x = samples(2, fake=fake, real=real)
    power = power_of_two(y, x)
    y, x = scaled(y, power), scaled(x, power)
    centre, alphas = mean_of(x), _levels(levels, x)
    inside = _distances(y, centre)[:, None] <= _quantiles(_distances(x, centre), levels)
    return _integrated(inside.double(), alphas)


@metric(better="higher", kind="set", source="arXiv:2102.08921", version=2, fake=FAKE, real=REAL)
def beta_recall(fake: Array, real: Array, levels: Levels = 30) -> Estimate:
    """Integrated beta-recall, at most 1; sets [M, D] and [N, D]; Student's t interval over real samples.

        1 - 2 integral |R(b) - b| db

    c is the mean of the generated samples, and y(x_i) is the generated sample nearest to x_i. R(b) is the share of x_i
    for which y(x_i) is no farther than the nearest other real sample, and |y(x_i) - c| <= the b-quantile of |y_j - c|;
    generated samples that are equally near to x_i count in equal shares.
    A perfect model scores about 0.5, because its sample is nearer than the nearest real one half of the time.
    Raises ValueError for bad input or fewer than 2 rows.
    """
    y, x = samples(2, fake=fake, real=real)
    require_neighbours("real", len(x), 1, others=True)
    power = power_of_two(y, x)
    y, x = scaled(y, power), scaled(x, power)
    centre, betas = mean_of(y), _levels(levels, y)
    distance, radius = _distances(y, centre), nearest_others(x, 1).distances
    near = nearest(x, y, 1).distances <= radius
    index, share = shared_places(lambda n: nearest(x, y, n), 1, len(y))
    limit = _quantiles(distance, levels)
    typical = torch.zeros(len(x), levels, dtype=torch.float64, device=x.device)
    for column in range(index.shape[1]):
        typical += share[:, column, None] * (distance[index[:, column], None] <= limit)
    return _integrated(typical * near, betas)


def _levels(count: Levels, like: Tensor) -> Tensor:
    return torch.linspace(0, 1, count, dtype=torch.float64, device=like.device)


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


def _integrated(inside: Tensor, levels: Tensor) -> Estimate:
    """1 - 2 integral |mean over rows of inside - level|; given the sign at each level, this is a mean over rows."""
    terms = inside - levels
    sign = terms.mean(0).sign()
    return intervals.mean(1 - 2 * (terms * sign).sum(1) * (levels[1] - levels[0]))
