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
    paired_distances,
    rounding,
    squared_distance_tiles,
    tiny,
)
from .halves import CLOSEST, HalfBalls, HalfCounts, drawn
from .memo import remember
from .nearest import Listed, nearest_others, settle
from .scale import power_of_two, scaled

CAP = 1e6
"""Realism of a generated sample that equals a real one; the upper limit of realism."""

AMBIGUOUS = 0.05
"""Where the rounding error exceeds the radius of more than this share of the balls, float64 products are faster."""


class Balls(NamedTuple):
    """Results of one pass over M generated samples y_j and N real samples x_i; counts and indices int64, rest float64.

    real_radius [N], fake_radius [M]: NND_k within the same set, the radii of the balls B. With k generated samples or
    fewer, fake_radius is NaN and the balls B(y_j) contain nothing.
    real_balls [M]: number of B(x_i) that contain y_j.
    real_balls_clipped [M]: the same count, with radii clipped at their median.
    fakes_held [N]: number of y_j in B(x_i).
    fake_balls [N]: number of B(y_j) that contain x_i.
    reals_held [M]: number of x_i in B(y_j).
    smallest_ball [M]: smallest radius of the B(x_i) that contain y_j; NaN if there is none.
    nearest_real [M], nearest_distance [M]: index of the x_i nearest to y_j, and its distance.
    realism [M]: max_i NND_k(x_i) / |y_j - x_i| over the balls whose radius is at most the median.
    halves: the counts in random halves of both sets; None if a half has k samples or fewer, and for `values_alone`.
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
    halves: HalfCounts | None


def neighbour_pass(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Balls:
    """The pass over all distances that the neighbour metrics share; see `Balls`.

    The result is cached, so several metrics cost one pass. It is shared: do not modify it.
    Raises ValueError for bad input, or when there are k real samples or fewer.
    """
    y, x = samples(fake=fake, real=real)
    require_neighbours("real", len(x), k, others=True)
    return _neighbour_pass(y, x, k, strict, drawn())


@remember
def _neighbour_pass(y: Tensor, x: Tensor, k: int, strict: bool, halves: int) -> Balls:
    real_radius, fake_radius = (_radius(s, k) for s in (x, y))
    # Of equally near reals, the one farthest from the other reals counts: y_j is authentic if it is beyond all of them.
    isolation = nearest_others(x, 1).distances[:, 0]
    half = HalfBalls.of(y, x, k)
    power = power_of_two(x, y)
    x, y = scaled(x, power), scaled(y, power)
    real_radius, fake_radius = real_radius * power, fake_radius * power
    centre, median = mean_of(x), real_radius.median()
    norms_x, norms_y = (centred_norms(s, centre.to(s.dtype)) for s in (x, y))
    if _ambiguous(x, real_radius, norms_x):
        x, y = x.double(), y.double()
        norms_x, norms_y = (centred_norms(s, centre) for s in (x, y))
    reals, fakes = BallTest(x, real_radius, y, norms_x, norms_y), BallTest(y, fake_radius, x, norms_y, norms_x)
    real_balls, real_balls_clipped, reals_held = torch.zeros(3, len(y), dtype=torch.int64, device=x.device)
    fakes_held, fake_balls = torch.zeros(2, len(x), dtype=torch.int64, device=x.device)
    smallest_ball = real_radius.new_full((len(y),), torch.inf)
    closest, ratios = Smallest(len(y), min(CLOSEST, len(x)), y), Smallest(len(y), min(1 + SPARE, len(x)), y)
    kept = real_radius * (real_radius <= median)
    for rows, columns, values, _ in squared_distance_tiles(x, y, centre=centre, lower=True, norms=(norms_x, norms_y)):
        i, j, squared = reals.candidates(rows, columns, values, half.real_limit if half else None)
        if half:
            half.add_real_balls(i, j, squared)
        inside = reals.contain(i, j, squared, reals.radius, strict)
        i, j, squared = i[inside], j[inside], squared[inside]
        clipped = real_radius[i] <= median
        clipped[~clipped] = reals.contain(
            i[~clipped], j[~clipped], squared[~clipped], median.expand_as(real_radius), strict
        )
        real_balls_clipped += torch.bincount(j[clipped], minlength=len(y))
        real_balls += torch.bincount(j, minlength=len(y))
        fakes_held += torch.bincount(i, minlength=len(x))
        smallest_ball.scatter_reduce_(0, j, real_radius[i], "amin")
        if len(y) > k:
            j, i, squared = fakes.candidates(columns, rows, values.T, half.fake_limit if half else None)
            if half:
                half.add_fake_balls(j, i, squared)
            inside = fakes.contain(j, i, squared, fakes.radius, strict)
            fake_balls += torch.bincount(i[inside], minlength=len(x))
            reals_held += torch.bincount(j[inside], minlength=len(y))
        closest.update(columns, rows, values.T)
        ratios.update(columns, rows, _over(values, kept[rows], columns).T)
    listed = Listed(closest.values, closest.indices)
    near = settle(listed, y, x, 1, prefer=lambda: -isolation)
    nearest_distance, nearest_real = near.distances.squeeze(1), near.indices.squeeze(1)
    copies = (nearest_distance == 0) & (real_radius <= median)[nearest_real]
    return Balls(
        real_radius / power,
        fake_radius / power,
        real_balls,
        real_balls_clipped,
        fakes_held,
        fake_balls,
        reals_held,
        smallest_ball.where(smallest_ball < torch.inf, torch.nan) / power,
        nearest_real,
        nearest_distance / power,
        _realism(ratios, y, x, kept, copies),
        half.finished(listed) if half else None,
    )


class BallTest:
    """Tests which points of one set [P, D] lie in balls around the rows of another [N, D].

    norms, point_norms: squared norms of both after centring, as the tiles have them.
    """

    def __init__(self, centres: Tensor, radius: Tensor, points: Tensor, norms: Tensor, point_norms: Tensor):
        self.centres, self.radius, self.points = centres, radius, points
        self.norms, self.point_norms = norms, point_norms
        self.error = 2 * rounding(centres.dtype, centres.shape[1])
        self.tiny = 2 * tiny(centres.dtype, centres.shape[1])

    def candidates(
        self, rows: slice, columns: slice, values: Tensor, limit: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of a tile of lower bounds in which the ball may contain the point: centre, point, bound.

        limit: squared radii that count too, where they are larger.
        """
        values = values[: rows.stop - rows.start]
        squared = self.radius[rows].square()
        squared = squared if limit is None else squared.maximum(limit[rows])
        within = squared.to(values.dtype)
        i, j = below(values, within.nextafter(within.new_tensor(torch.inf)))
        return i + rows.start, j + columns.start, values[i, j]

    def contain(self, i: Tensor, j: Tensor, bound: Tensor, radius: Tensor, strict: bool) -> Tensor:
        """Whether |centre_i - point_j| <= radius_i (< if strict); what the bounds leave open is computed exactly."""
        squared, limit = bound.double(), radius[i].square()
        inside = squared + self.error * (self.norms[i] + self.point_norms[j]) + self.tiny < limit
        open_pairs = ~inside & (squared <= limit)
        exact = paired_distances(self.centres, self.points, i[open_pairs], j[open_pairs])
        reach = radius[i[open_pairs]]
        inside[open_pairs] = exact < reach if strict else exact <= reach
        return inside


def _radius(x: Tensor, k: int) -> Tensor:
    if len(x) <= k:
        return torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
    return nearest_others(x, k).distances[:, -1]


def _ambiguous(x: Tensor, radius: Tensor, norms: Tensor) -> bool:
    """Whether float64 products are faster, since those of float32 leave too many balls open."""
    if x.dtype == torch.float64:
        return False
    error = 2 * rounding(x.dtype, x.shape[1]) * norms
    return float(((radius > 0) & (radius.square() < error)).double().mean()) > AMBIGUOUS


@remember
def realism_unpruned(y: Tensor, x: Tensor, k: int) -> Tensor:
    """`realism` over all balls, in a pass of its own, float64 [M]."""
    radius = _radius(x, k)
    power = power_of_two(x, y)
    x, y, radius = scaled(x, power), scaled(y, power), radius * power
    closest, ratios = (Smallest(len(y), min(1 + SPARE, len(x)), y) for _ in range(2))
    for rows, columns, values, _ in squared_distance_tiles(x, y, lower=True):
        closest.update(columns, rows, values.T)
        ratios.update(columns, rows, _over(values, radius[rows], columns).T)
    copies = settle(Listed(closest.values, closest.indices), y, x, 1).distances.squeeze(1) == 0
    return _realism(ratios, y, x, radius, copies)


def _over(values: Tensor, radius: Tensor, columns: slice) -> Tensor:
    """The tile with each row divided by its squared radius, in place; inf where that is 0, and in the padding."""
    largest = torch.finfo(values.dtype)
    weight = (1 / radius.square().clamp(min=largest.tiny)).to(values.dtype)
    valid = values[: len(radius), : columns.stop - columns.start]
    valid.mul_(weight[:, None]).clamp_(max=largest.max)
    valid[radius == 0] = torch.inf
    return values


def _realism(found: Smallest, y: Tensor, x: Tensor, radius: Tensor, copies: Tensor) -> Tensor:
    """max_i radius_i / |y_j - x_i|, where balls of radius 0 count for their copies alone."""
    near = settle(Listed(found.values, found.indices), y, x, 1, weight=radius)
    return torch.where(copies, CAP, (1 / near.distances.squeeze(1)).clamp(max=CAP))


@remember
def real_balls_clipped(x: Tensor, k: int, strict: bool) -> Tensor:
    """Number of clipped balls around other real samples that contain x_i, int64 [N]."""
    near = nearest_others(x, min(k + 1, len(x) - 1))
    radius = near.distances[:, k - 1]
    radius = radius.clamp(max=radius.median())
    inside = near.distances < radius[:, None] if strict else near.distances <= radius[:, None]
    if not inside[:, k:].any():  # without ties at the boundary, a ball contains at most its k nearest
        return torch.bincount(near.indices[inside], minlength=len(x))
    power = power_of_two(x)
    x, radius = scaled(x, power), radius * power
    centre = mean_of(x)
    norms = centred_norms(x, centre.to(x.dtype))
    balls = BallTest(x, radius, x, norms, norms)
    held = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for rows, columns, values, mirrored in squared_distance_tiles(x, centre=centre, lower=True):
        for first, second, tile in ((rows, columns, values), (columns, rows, values.T))[: 1 + mirrored]:
            i, j, squared = balls.candidates(first, second, tile)
            held += torch.bincount(j[balls.contain(i, j, squared, radius, strict)], minlength=len(x))
    return held
