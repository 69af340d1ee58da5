"""Probabilistic precision and recall: soft balls of equal radius, so that no single outlier determines the result."""

import torch
from torch import Tensor

from ..harness.core.inputs import Array, require_neighbours, samples
from ..harness.core.options import Count, Positive
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.alone import drawn
from .kernels.distances import (
    below,
    centred_norms,
    mean_of,
    paired_distances,
    squared_distance_tiles,
)
from .kernels.halves import PAIRS, members, neighbours, radii
from .kernels.log_sum import usual_rounding
from .kernels.nearest import nearest_others
from .kernels.scale import power_of_two, scaled
from .kernels.squared import ACCURACY

ACCURACY_FLOAT32 = 2e-4
"""Largest relative error of a squared distance within the radius, by bound, of large float32 sets."""

SMALL = 1 << 22
"""Sets with fewer products than this are computed in float64, where it costs next to nothing."""
FAKE = View("fake", "features")
REAL = View("real", "features")


@metric(better="higher", kind="set", source="arXiv:2309.01590", version=2, fake=FAKE, real=REAL)
def probabilistic_precision(fake: Array, real: Array, k: Count = 4, scale: Positive = 1.2) -> Estimate:
    """P-precision, in [0, 1]; sets [M, D] and [N, D].

        mean_j [ 1 - prod_i min(1, |x_i - y_j| / R) ],   R = scale mean_i NND_k(x_i)

    NND_k is the distance to the k-th nearest other sample of the same set. The relative error of a factor is below
    1e-4 for large float32 sets, and 1e-9 otherwise. The interval is from random halves of both sets, in the same pass.
    Raises ValueError for bad input, k >= N, or R = 0 (every real sample has k copies).
    """
    y, x = samples(fake=fake, real=real)
    y, x = _representable(y, x)
    return _mean_membership(y, x, "real", k, scale)


@metric(better="higher", kind="set", source="arXiv:2309.01590", version=2, fake=FAKE, real=REAL)
def probabilistic_recall(fake: Array, real: Array, k: Count = 4, scale: Positive = 1.2) -> Estimate:
    """P-recall: P-precision with the roles of generated and real samples swapped, in [0, 1]."""
    y, x = samples(fake=fake, real=real)
    y, x = _representable(y, x)
    return _mean_membership(x, y, "fake", k, scale)


def _representable(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets in a unit in which squares are representable, in float64 if they are small; the scores have no unit."""
    power = power_of_two(y, x)
    y, x = scaled(y, power), scaled(x, power)
    return (y.double(), x.double()) if y.shape[0] * x.numel() <= SMALL else (y, x)


def _radius(name: str, x: Tensor, k: int, scale: float) -> float:
    require_neighbours(name, len(x), k, others=True)
    radius = scale * float(nearest_others(x, k).distances[:, -1].mean())
    if radius == 0:
        raise ValueError(
            f"{name}: each of its {len(x)} rows has {k} exact copies, so the radius is 0: remove duplicates"
        )
    return radius


def _mean_membership(points: Tensor, support: Tensor, name: str, k: int, scale: float) -> Estimate:
    """Mean over the points of 1 - prod_i min(1, |support_i - point| / R), with its interval."""
    radius = torch.tensor([_radius(name, support, k, scale)], dtype=torch.float64, device=support.device)
    inside = support.new_ones(len(support), 1, dtype=torch.bool)
    halved = drawn() and min(len(points), len(support)) // 2 > k
    if halved:  # beside the whole, in the first column, its halves
        reals = members(support, seed=0)
        half = radii(neighbours(support, k, 1.0), reals, k).double().clamp(min=0).sqrt()
        radius = torch.cat([radius, scale * (half * reals).sum(0) / reals.sum(0)])
        inside = torch.cat([inside, reals], 1)
    scores = _membership(points, support, radius, inside)
    values = None
    if halved:
        chosen = members(points, seed=1)
        values = (scores[:, 1:] * chosen).sum(0) / chosen.sum(0)
    return intervals.bounded(float(scores[:, 0].mean()), values, len(points), least=0, most=1)


def _membership(points: Tensor, support: Tensor, radius: Tensor, inside: Tensor) -> Tensor:
    """1 - prod_i min(1, |support_i - point| / radius_h) over the rows inside [N, H], float64 [len(points), H]."""
    centre = mean_of(support)
    reach = centred_norms(points, centre).sqrt() + centred_norms(support, centre).max().sqrt()
    error = usual_rounding(points.dtype, points.shape[1]) * reach.square()
    accuracy = ACCURACY_FLOAT32 if points.dtype == torch.float32 else ACCURACY
    log = torch.zeros(len(points), len(radius), dtype=torch.float64, device=points.device)
    for rows, columns, values, _ in squared_distance_tiles(points, support, centre=centre):
        values = values[: rows.stop - rows.start]
        i, j = below(values, (radius.max() ** 2 + error[rows]).to(values.dtype))
        squared = values[i, j].double()
        i, j = i + rows.start, j + columns.start
        near = ~(squared * accuracy > error[i])
        squared[near] = paired_distances(points, support, i[near], j[near]).square()
        for p, q, distance in zip(*(torch.split(t, PAIRS) for t in (i, j, squared.sqrt())), strict=True):
            log.index_add_(0, p, (distance[:, None] / radius).log().clamp(max=0).where(inside[q], 0))
    return -log.expm1()
