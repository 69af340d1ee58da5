"""Sliced distance: mean squared Wasserstein distance of one-dimensional projections (Monge Inception Distance)."""

import math
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from ..harness.core.inputs import Array, samples
from ..harness.core.options import Range, Seed
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.alone import drawn
from .kernels.distances import mean_of

CHUNK = 1 << 22
"""Maximum number of projected values in memory per set."""


@metric(
    better="lower", kind="set", source="arXiv:2605.06797", fake=View("fake", "features"), real=View("real", "features")
)
def sliced_distance(
    fake: Array, real: Array, projections: Annotated[int, Range(least=2)] = 1000, seed: Seed = 0
) -> Estimate:
    """MIND: 3 D times the mean over random directions u of W_2^2 of the projections, at least 0, lower is better.

        (3 D / (n P)) sum_u sum_j ( sort(Y u)_j - sort(X u)_j )^2,   sets [M, D] and [N, D], n = min(M, N)

    A pure shift t gives 3 ||t||^2 on average. `seed` draws n rows of the larger set, and the P directions; `missing`
    counts the rows that were not drawn. The paper uses n = 5,000 and Inception features. The interval (delta method)
    covers the spread of both sets and of the directions. Raises ValueError for bad input, or
    squared distances that overflow float64.
    """
    y, x = samples(2, fake=fake, real=real)
    generator = torch.Generator().manual_seed(seed)
    n, dimension = min(len(y), len(x)), y.shape[1]
    centre, dropped = mean_of(x), len(y) + len(x) - 2 * n
    y, x = (s[torch.randperm(len(s), generator=generator)[:n].to(s.device)] if len(s) > n else s for s in (y, x))
    directions = torch.randn(dimension, projections, dtype=torch.float64, generator=generator).to(y.device)
    directions /= directions.norm(dim=0)
    squared = []
    influence_y, influence_x = (torch.zeros(n, dtype=torch.float64, device=y.device) for _ in "yx")
    for chunk in torch.split(directions, max(1, CHUNK // n), dim=1):
        projected = ((s.double() - centre) @ chunk for s in (y, x))
        if not drawn():
            squared.append(torch.sub(*map(_ordered, projected)).square().mean(0))
            continue
        (ordered_y, rank_y), (ordered_x, rank_x) = (each.sort(dim=0) for each in projected)
        gap = ordered_y - ordered_x
        squared.append(gap.square().mean(0))
        influence_y.index_add_(0, rank_y.flatten(), _potential(ordered_y, gap).flatten())
        influence_x.index_add_(0, rank_x.flatten(), _potential(ordered_x, -gap).flatten())
    terms = 3 * dimension * torch.cat(squared)
    if not drawn():
        return Estimate(_finite(float(terms.mean())), (math.nan, math.nan), n, dropped)
    spread = float(influence_y.var() + influence_x.var()) * (3 * dimension / projections) ** 2 / n
    error = math.sqrt(spread + float(terms.var()) / projections)
    found = intervals.normal(float(terms.mean()), error, n)
    _finite(found.value + error)
    return found._replace(interval=(max(0.0, found.interval[0]), found.interval[1]), missing=dropped)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("the squared distances overflow float64: scale the features down")
    return value


def _ordered(projected: Tensor) -> Tensor:
    """Each column [n] in ascending order; numpy sorts faster than torch, which also gives the order."""
    if projected.is_cuda:
        return projected.sort(dim=0).values
    return torch.from_numpy(np.sort(projected.T.contiguous().numpy(), axis=1)).T


def _potential(ordered: Tensor, gap: Tensor) -> Tensor:
    """First-order effect of each sample on W_2^2 per column, centred: the integral of 2 gap between the samples."""
    steps = (ordered.diff(dim=0) * (gap[1:] + gap[:-1])).cumsum(0)
    potential = torch.cat([torch.zeros_like(gap[:1]), steps])
    return potential - potential.mean(0)
