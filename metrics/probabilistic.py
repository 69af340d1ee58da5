"""Probabilistic precision and recall: soft balls of equal radius, so that no single outlier determines the result."""

import torch
from torch import Tensor

from ..harness.core.inputs import Array, require_neighbours, samples
from ..harness.core.options import Count, Positive
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.distances import (
    below,
    centred_norms,
    mean_of,
    nearest_others,
    paired_distances,
    slack,
    squared_distance_tiles,
)
from .kernels.memo import remember


@metric(
    better="higher", kind="set", source="arXiv:2309.01590", fake=View("fake", "features"), real=View("real", "features")
)
def probabilistic_precision(fake: Array, real: Array, k: Count = 4, scale: Positive = 1.2) -> Estimate:
    """P-precision, in [0, 1]; sets [M, D] and [N, D]; Student's t interval.

        mean_j [ 1 - prod_i min(1, |x_i - y_j| / R) ],   R = scale mean_i NND_k(x_i)

    NND_k is the distance to the k-th nearest other sample of the same set.
    Raises ValueError for bad input, k >= N, or R = 0 (every real sample has k copies).
    """
    y, x = samples(fake=fake, real=real)
    return intervals.mean(_membership(y, x, _radius("real", x, k, scale)))


@metric(
    better="higher", kind="set", source="arXiv:2309.01590", fake=View("fake", "features"), real=View("real", "features")
)
def probabilistic_recall(fake: Array, real: Array, k: Count = 4, scale: Positive = 1.2) -> Estimate:
    """P-recall: P-precision with the roles of generated and real samples swapped, in [0, 1]."""
    y, x = samples(fake=fake, real=real)
    return intervals.mean(_membership(x, y, _radius("fake", y, k, scale)))


def _radius(name: str, x: Tensor, k: int, scale: float) -> float:
    require_neighbours(name, len(x), k, others=True)
    radius = scale * float(nearest_others(x, k).distances[:, -1].mean())
    if radius == 0:
        raise ValueError(
            f"{name}: each of its {len(x)} rows has {k} exact copies, so the radius is 0: remove duplicates"
        )
    return radius


@remember
def _membership(points: Tensor, support: Tensor, radius: float) -> Tensor:
    """1 - prod_i min(1, |support_i - point| / radius) of each point, float64."""
    centre = mean_of(support)
    norms = centred_norms(points, centre)
    margin = slack(points.dtype, points.shape[1], norms, torch.full_like(norms, radius))
    log = torch.zeros(len(points), dtype=torch.float64, device=points.device)
    for rows, columns, values, _ in squared_distance_tiles(points, support, centre=centre):
        values = values[: rows.stop - rows.start]
        i, j = below(values, values.new_full((len(values),), radius**2))
        squared = values[i, j].double()
        i, j = i + rows.start, j + columns.start
        near = squared < 1e4 * margin[i]  # here float32 is accurate to fewer than four digits
        squared[near] = paired_distances(points, support, i[near], j[near]).square()
        log.index_add_(0, i, 0.5 * (squared / radius**2).log().clamp(max=0))
    return -log.expm1()
