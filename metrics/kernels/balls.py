"""Which balls around the samples of one set contain samples of the other? Several metrics share this one pass."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...harness.core.inputs import Array, require_neighbours, samples
from .alone import drawn
from .distances import (
    SPARE,
    Smallest,
    Tile,
    below,
    centred_norms,
    mean_of,
    paired_distances,
    rounding,
    squared_distance_tiles,
    tiny,
)
from .halves import CLOSEST, HalfBalls, HalfCounts
from .memo import remember
from .nearest import ALONE, Listed, Neighbours, nearest_others, radii_of, settle
from .realism import largest_ratios, over
from .scale import power_of_two, scaled

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
    halves: the counts in random halves of both sets; None if a half has k samples or fewer.
    For `values_alone` there are neither realism nor halves.
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
    realism: Tensor | None
    halves: HalfCounts | None


def neighbour_pass(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Balls:
    """The pass over all distances that the neighbour metrics share; see `Balls`.

    The result is cached, so several metrics cost one pass. It is shared: do not modify it.
    Raises ValueError for bad input, or when there are k real samples or fewer.
    """
    y, x = samples(fake=fake, real=real)
    require_neighbours("real", len(x), k, others=True)
    return _neighbour_pass(y, x, k, strict) if drawn() else _alone(y, x, k, strict)


@remember
def _neighbour_pass(y: Tensor, x: Tensor, k: int, strict: bool) -> Balls:
    real_radius, fake_radius = (radii_of(s, k) for s in (x, y))
    # Of equally near reals, the one farthest from the other reals counts: y_j is authentic if it is beyond all of them.
    isolation = nearest_others(x, 1).distances[:, 0]
    half = HalfBalls.of(y, x, k)
    sets = Scaled.of(y, x, real_radius)
    x, y, power = sets.x, sets.y, sets.power
    counts = _Counts(sets, real_radius * power, fake_radius * power, strict)
    closest, ratios = Smallest(len(y), min(CLOSEST, len(x)), y), Smallest(len(y), min(1 + SPARE, len(x)), y)
    kept = counts.reals.radius * counts.kept
    for rows, columns, values, _ in sets.tiles():
        i, j, squared = counts.reals.candidates(rows, columns, values, half.real_limit if half else None)
        if half:
            half.add_real_balls(i, j, squared)
        counts.add_real_balls(i, j, squared)
        if len(y) > k:
            j, i, squared = counts.fakes.candidates(columns, rows, values.T, half.fake_limit if half else None)
            if half:
                half.add_fake_balls(j, i, squared)
            counts.add_fake_balls(j, i, squared)
        closest.update(columns, rows, values.T)
        ratios.update(columns, rows, over(values, kept[rows], columns).T)
    listed = Listed(closest.values, closest.indices)
    near = settle(listed, y, x, 1, prefer=lambda: -isolation)
    found = counts.balls(power, near)
    copies = (found.nearest_distance == 0) & counts.kept[found.nearest_real]
    return found._replace(
        realism=largest_ratios(ratios, y, x, kept, copies), halves=half.finished(listed) if half else None
    )


@remember
def _alone(y: Tensor, x: Tensor, k: int, strict: bool) -> Balls:
    """Without halves and realism. Balls of few neighbours lie in those of more, so that one pass serves them all."""
    near = _candidates(y, x, max(k, ALONE - SPARE))
    power = near.sets.power
    counts = _Counts(near.sets, radii_of(x, k) * power, radii_of(y, k) * power, strict)
    counts.add_real_balls(*near.of_reals)
    if len(y) > k:
        counts.add_fake_balls(*near.of_fakes)
    return counts.balls(power, near.nearest)


class _Candidates(NamedTuple):
    """Pairs that balls of at most so many neighbours may hold: their centres, their points, and squared distances.

    nearest: the real sample nearest to each generated one.
    """

    sets: "Scaled"
    of_reals: tuple[Tensor, Tensor, Tensor]
    of_fakes: tuple[Tensor, Tensor, Tensor]
    nearest: Neighbours


@remember
def _candidates(y: Tensor, x: Tensor, k: int) -> _Candidates:
    real_radius, fake_radius = (radii_of(s, max(1, min(k, len(s) - 1))) for s in (x, y))
    isolation = nearest_others(x, 1).distances[:, 0]
    sets = Scaled.of(y, x, real_radius)
    reals, fakes = sets.tests(real_radius * sets.power, fake_radius * sets.power)
    closest = Smallest(len(y), min(1 + SPARE, len(x)), sets.y)
    of_reals, of_fakes = [], []
    for rows, columns, values, _ in sets.tiles():
        of_reals.append(reals.candidates(rows, columns, values))
        of_fakes.append(fakes.candidates(columns, rows, values.T))
        closest.update(columns, rows, values.T)
    near = settle(Listed(closest.values, closest.indices), sets.y, sets.x, 1, prefer=lambda: -isolation)
    first, second = (
        (torch.cat(i), torch.cat(j), torch.cat(d))
        for i, j, d in (zip(*of_reals, strict=True), zip(*of_fakes, strict=True))
    )
    return _Candidates(sets, first, second, near)


class Scaled(NamedTuple):
    """Both sets in a unit in which squares are representable, with their squared norms about the mean of the reals."""

    y: Tensor
    x: Tensor
    power: float
    centre: Tensor
    norms_y: Tensor
    norms_x: Tensor

    @classmethod
    def of(cls, y: Tensor, x: Tensor, radius: Tensor) -> "Scaled":
        """radius [N]: of the balls around real samples; where they are too small for float32, float64 is faster."""
        power = power_of_two(x, y)
        x, y = scaled(x, power), scaled(y, power)
        centre = mean_of(x)
        norms_x, norms_y = (centred_norms(s, centre.to(s.dtype)) for s in (x, y))
        if _ambiguous(x, radius * power, norms_x):
            x, y = x.double(), y.double()
            norms_x, norms_y = (centred_norms(s, centre) for s in (x, y))
        return cls(y, x, power, centre, norms_y, norms_x)

    def tiles(self) -> Iterator[Tile]:
        """Lower bounds of squared distances of real from generated samples."""
        norms = (self.norms_x, self.norms_y)
        return squared_distance_tiles(self.x, self.y, centre=self.centre, lower=True, norms=norms)

    def tests(self, real_radius: Tensor, fake_radius: Tensor) -> "tuple[BallTest, BallTest]":
        reals = BallTest(self.x, real_radius, self.y, self.norms_x, self.norms_y)
        return reals, BallTest(self.y, fake_radius, self.x, self.norms_y, self.norms_x)


class _Counts:
    """What `Balls` counts, from pairs that a ball may hold."""

    def __init__(self, sets: Scaled, real_radius: Tensor, fake_radius: Tensor, strict: bool):
        self.reals, self.fakes = sets.tests(real_radius, fake_radius)
        self.strict, self.median = strict, real_radius.median()
        self.kept = real_radius <= self.median
        m, n = len(sets.y), len(sets.x)
        self.real_balls, self.real_balls_clipped, self.reals_held = torch.zeros(
            3, m, dtype=torch.int64, device=sets.x.device
        )
        self.fakes_held, self.fake_balls = torch.zeros(2, n, dtype=torch.int64, device=sets.x.device)
        self.smallest_ball = real_radius.new_full((m,), torch.inf)

    def add_real_balls(self, i: Tensor, j: Tensor, squared: Tensor) -> None:
        """Pairs of a real sample i and a generated one j, with a lower bound of their squared distance."""
        radius, m, n = self.reals.radius, len(self.real_balls), len(self.fakes_held)
        inside = self.reals.contain(i, j, squared, radius, self.strict)
        i, j, squared = i[inside], j[inside], squared[inside]
        clipped = self.kept[i]
        median = self.median.expand_as(radius)
        clipped[~clipped] = self.reals.contain(i[~clipped], j[~clipped], squared[~clipped], median, self.strict)
        self.real_balls_clipped += torch.bincount(j[clipped], minlength=m)
        self.real_balls += torch.bincount(j, minlength=m)
        self.fakes_held += torch.bincount(i, minlength=n)
        self.smallest_ball.scatter_reduce_(0, j, radius[i], "amin")

    def add_fake_balls(self, j: Tensor, i: Tensor, squared: Tensor) -> None:
        """Pairs of a generated sample j and a real one i."""
        inside = self.fakes.contain(j, i, squared, self.fakes.radius, self.strict)
        self.fake_balls += torch.bincount(i[inside], minlength=len(self.fake_balls))
        self.reals_held += torch.bincount(j[inside], minlength=len(self.reals_held))

    def balls(self, power: float, near: Neighbours) -> Balls:
        """The counts, without realism and halves. near: the real sample nearest to each generated one."""
        return Balls(
            self.reals.radius / power,
            self.fakes.radius / power,
            self.real_balls,
            self.real_balls_clipped,
            self.fakes_held,
            self.fake_balls,
            self.reals_held,
            self.smallest_ball.where(self.smallest_ball < torch.inf, torch.nan) / power,
            near.indices.squeeze(1),
            near.distances.squeeze(1) / power,
            None,
            None,
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


def _ambiguous(x: Tensor, radius: Tensor, norms: Tensor) -> bool:
    """Whether float64 products are faster, since those of float32 leave too many balls open."""
    if x.dtype == torch.float64:
        return False
    error = 2 * rounding(x.dtype, x.shape[1]) * norms
    return float(((radius > 0) & (radius.square() < error)).double().mean()) > AMBIGUOUS


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
