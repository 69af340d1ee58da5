"""Which balls around the samples of one set contain samples of the other? Several metrics share this one pass."""

from typing import NamedTuple

import torch
from torch import Tensor

from ...harness.core.inputs import Array, require_neighbours, samples
from .distances import (
    SPARE,
    Smallest,
    below,
    centred_norms,
    mean_of,
    nearest_others,
    paired_distances,
    settle,
    slack,
    squared_distance_tiles,
)
from .memo import remember

CAP = 1e6
"""Realism of a generated sample that equals a real one; the upper limit of realism."""


class Balls(NamedTuple):
    """Results of one pass over M generated samples y_j and N real samples x_i; counts and indices int64, rest float64.

    real_radius [N], fake_radius [M]: NND_k within the same set, the radii of the balls B.
    real_balls [M]: number of B(x_i) that contain y_j.
    real_balls_clipped [M]: the same count, with radii clipped at their median.
    fakes_held [N]: number of y_j in B(x_i).
    fake_balls [N]: number of B(y_j) that contain x_i.
    reals_held [M]: number of x_i in B(y_j).
    smallest_ball [M]: smallest radius of the B(x_i) that contain y_j; NaN if there is none.
    nearest_real [M], nearest_distance [M]: index of the x_i nearest to y_j, and its distance.
    realism [M]: max_i NND_k(x_i) / |y_j - x_i| over the balls whose radius is at most the median.
    realism_unpruned [M]: the same maximum over all balls.
    """

    real_radius: Tensor
    fake_radius: Tensor
    real_balls: Tensor
    real_balls_clipped: Tensor
    fakes_held: Tensor
    fake_balls: Tensor
    reals_held: Tensor
    smallest_ball: Tensor
    nearest_real: Tensor
    nearest_distance: Tensor
    realism: Tensor
    realism_unpruned: Tensor


def neighbour_pass(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Balls:
    """The pass over all distances that the neighbour metrics share; see `Balls`.

    The result is cached, so several metrics cost one pass. It is shared: do not modify it.
    Raises ValueError for bad input, or when a set does not have more than k rows.
    """
    y, x = samples(fake=fake, real=real)
    require_neighbours("real", len(x), k, others=True)
    require_neighbours("fake", len(y), k, others=True)
    return _neighbour_pass(y, x, k, strict)


@remember
def _neighbour_pass(y: Tensor, x: Tensor, k: int, strict: bool) -> Balls:
    real_radius = nearest_others(x, k).distances[:, -1]
    fake_radius = nearest_others(y, k).distances[:, -1]
    median = real_radius.median()
    centre = mean_of(x)
    reals, fakes = BallTest(x, real_radius, centre), BallTest(y, fake_radius, centre)
    real_balls, real_balls_clipped, reals_held = torch.zeros(3, len(y), dtype=torch.int64, device=x.device)
    fakes_held, fake_balls = torch.zeros(2, len(x), dtype=torch.int64, device=x.device)
    smallest_ball = real_radius.new_full((len(y),), torch.inf)
    closest = Smallest(len(y), min(1 + SPARE, len(x)), y)
    unpruned, pruned = Smallest(len(y), 2, y), Smallest(len(y), 2, y)
    for rows, columns, values, _ in squared_distance_tiles(x, y, centre=centre):
        i, j, squared = reals.candidates(rows, columns, values)
        inside = reals.contains(i, j, squared, y, reals.radius, strict)
        clipped = reals.contains(i, j, squared, y, reals.radius.clamp(max=median), strict)
        real_balls_clipped += torch.bincount(j[clipped], minlength=len(y))
        i, j = i[inside], j[inside]
        real_balls += torch.bincount(j, minlength=len(y))
        fakes_held += torch.bincount(i, minlength=len(x))
        smallest_ball.scatter_reduce_(0, j, real_radius[i], "amin")
        j, i, squared = fakes.candidates(columns, rows, values.T)
        inside = fakes.contains(j, i, squared, x, fakes.radius, strict)
        fake_balls += torch.bincount(i[inside], minlength=len(x))
        reals_held += torch.bincount(j[inside], minlength=len(y))
        closest.update(columns, rows, values.T)
        weight = values.new_ones(len(values))
        weight[: rows.stop - rows.start] = 1 / real_radius[rows].square()
        values *= weight.nan_to_num(posinf=1)[:, None]
        values[weight == torch.inf] = torch.inf
        unpruned.update(columns, rows, values.T)
        values[: rows.stop - rows.start][real_radius[rows] > median] = torch.inf
        pruned.update(columns, rows, values.T)
    nearest_distance, nearest_real = (found.squeeze(1) for found in settle(closest, y, x, 1, centre))
    copies = nearest_distance == 0
    return Balls(
        real_radius,
        fake_radius,
        real_balls,
        real_balls_clipped,
        fakes_held,
        fake_balls,
        reals_held,
        smallest_ball.where(smallest_ball < torch.inf, torch.nan),
        nearest_real,
        nearest_distance,
        _realism(pruned, y, x, real_radius, copies & (real_radius[nearest_real] <= median)),
        _realism(unpruned, y, x, real_radius, copies),
    )


class BallTest:
    """Tests which points of one set lie in balls around the rows of another set."""

    def __init__(self, centres: Tensor, radius: Tensor, middle: Tensor):
        self.centres, self.radius = centres, radius
        self.margin = slack(centres.dtype, centres.shape[1], centred_norms(centres, middle), radius)

    def candidates(self, rows: slice, columns: slice, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of a tile in which the ball may contain the point: indices of centre and point, squared distance."""
        values = values[: rows.stop - rows.start]
        limit = (self.radius.square() + self.margin)[rows].to(values.dtype)
        i, j = below(values, limit.nextafter(limit.new_tensor(torch.inf)))
        return i + rows.start, j + columns.start, values[i, j].double()

    def contains(self, i: Tensor, j: Tensor, squared: Tensor, points: Tensor, radius: Tensor, strict: bool) -> Tensor:
        """Whether |centre_i - point_j| <= radius_i (< if strict); doubtful pairs are computed again in float64."""
        limit, margin = radius[i].square(), self.margin[i]
        inside = squared < limit if strict else squared <= limit
        doubtful = ((squared - limit).abs() <= margin) & (margin > 0)
        exact, bound = paired_distances(self.centres, points, i[doubtful], j[doubtful]), radius[i[doubtful]]
        inside[doubtful] = exact < bound if strict else exact <= bound
        return inside


def _realism(found: Smallest, y: Tensor, x: Tensor, radius: Tensor, copies: Tensor) -> Tensor:
    rows = torch.arange(len(y), device=y.device).repeat_interleave(found.indices.shape[1])
    distance = paired_distances(y, x, rows, found.indices.flatten()).view_as(found.indices)
    ratio = torch.where(found.values < torch.inf, radius[found.indices] / distance, 0).amax(1)
    return torch.where(copies, CAP, ratio.clamp(max=CAP))


@remember
def real_balls_clipped(x: Tensor, k: int, strict: bool) -> Tensor:
    """Number of clipped balls around other real samples that contain x_i, int64 [N]."""
    near = nearest_others(x, min(k + 1, len(x) - 1))
    radius = near.distances[:, k - 1]
    radius = radius.clamp(max=radius.median())
    inside = near.distances < radius[:, None] if strict else near.distances <= radius[:, None]
    if not inside[:, k:].any():  # without ties at the boundary, a ball contains at most its k nearest
        return torch.bincount(near.indices[inside], minlength=len(x))
    centre = mean_of(x)
    balls = BallTest(x, radius, centre)
    held = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for rows, columns, values, mirrored in squared_distance_tiles(x, centre=centre):
        for first, second, tile in ((rows, columns, values), (columns, rows, values.T))[: 1 + mirrored]:
            i, j, squared = balls.candidates(first, second, tile)
            held += torch.bincount(j[balls.contains(i, j, squared, x, balls.radius, strict)], minlength=len(x))
    return held
