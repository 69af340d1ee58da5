"""Integrated alpha-precision and beta-recall, which compare the typical samples of both sets at every level."""

from typing import Annotated

import torch
from torch import Tensor

from ..harness.core.inputs import Array, require_neighbours, row_blocks, samples
from ..harness.core.options import Range
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.distances import mean_of, nearest, nearest_others

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
    centre, alphas = mean_of(x), _levels(levels, x)
    inside = _distances(y, centre)[:, None] <= _distances(x, centre).quantile(alphas)
    return _integrated(inside, alphas)


@metric(better="higher", kind="set", source="arXiv:2102.08921", fake=FAKE, real=REAL)
def beta_recall(fake: Array, real: Array, levels: Levels = 30) -> Estimate:
    """Integrated beta-recall, at most 1; sets [M, D] and [N, D]; Student's t interval over real samples.

        1 - 2 integral |R(b) - b| db

    c is the mean of the generated samples, and y(x_i) is the generated sample nearest to x_i. R(b) is the share of x_i
    for which y(x_i) is no farther than the nearest other real sample, and |y(x_i) - c| <= the b-quantile of |y_j - c|.
    A perfect model scores about 0.5, because its sample is nearer than the nearest real one half of the time.
    Raises ValueError for bad input or fewer than 2 rows.
    """
    y, x = samples(2, fake=fake, real=real)
    require_neighbours("real", len(x), 1, others=True)
    centre, betas = mean_of(y), _levels(levels, y)
    found, radius = nearest(x, y, 1), nearest_others(x, 1).distances
    distance = _distances(y, centre)
    typical = distance[found.indices] <= distance.quantile(betas)
    return _integrated(typical & (found.distances <= radius), betas)


def _levels(count: Levels, like: Tensor) -> Tensor:
    return torch.linspace(0, 1, count, dtype=torch.float64, device=like.device)


def _distances(x: Tensor, centre: Tensor) -> Tensor:
    return torch.cat([(block.double() - centre).norm(dim=1) for block in row_blocks(x)])


def _integrated(inside: Tensor, levels: Tensor) -> Estimate:
    """1 - 2 integral |mean over rows of inside - level|; given the sign at each level, this is a mean over rows."""
    terms = inside.double() - levels
    sign = terms.mean(0).sign()
    return intervals.mean(1 - 2 * (terms * sign).sum(1) * (levels[1] - levels[0]))
