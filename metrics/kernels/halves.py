"""Random halves of both sets: how a statistic would differ with other samples.

For counts of neighbour balls, `HalfBalls` needs no distances of its own. The radii of a half follow from a list of the
nearest neighbours of each row: the k-th of the list that is in the half. These distances are lower bounds, not exact
ones, which makes no difference to a standard error.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from scipy.special import bdtr
from torch import Tensor

from .alone import drawn
from .memo import remember
from .nearest import Listed, listed_others
from .scale import power_of_two

MISSED = 1e-5
"""Probability that fewer than k of the listed neighbours are in a half; then the last of the list is used."""

CLOSEST = 12
"""Nearest rows of the other set that are listed; at least one of them is in all but 2^-12 of the halves."""

PAIRS = 1 << 17
"""Number of pairs that are counted at once."""


def recomputed(statistic: Callable[..., float | tuple[float, ...]], *sets: Tensor) -> Tensor | None:
    """The statistic of random halves of each set, float64 [HALVES, ...], where it is quick to compute it again.

    None for `values_alone`.
    """
    if not drawn():
        return None
    chosen = [members(x, seed) for seed, x in enumerate(sets)]
    halves = ([x[inside[:, half]] for x, inside in zip(sets, chosen, strict=True)] for half in range(drawn()))
    return torch.tensor([statistic(*half) for half in halves], dtype=torch.float64)


class HalfCounts(NamedTuple):
    """What `Balls` counts, in each of H random halves of M generated and N real samples, int32 or bool.

    fake [M, H], real [N, H]: which samples are in the halves. Counts of samples outside a half have no meaning.
    real_balls, real_balls_clipped, reals_held [M, H]; fakes_held, fake_balls [N, H]: as in `Balls`.
    reals_clipped [N, H]: number of clipped balls around other reals that contain x_i.
    authentic [M, H]: whether y_j is farther from its nearest real than that one is from its nearest other real.
    """

    fake: Tensor
    real: Tensor
    real_balls: Tensor
    real_balls_clipped: Tensor
    fakes_held: Tensor
    fake_balls: Tensor
    reals_held: Tensor
    reals_clipped: Tensor
    authentic: Tensor


class Halved(NamedTuple):
    """Halves of N samples and the balls around them; radii are squared distances.

    inside [N, H]: which samples are in the halves. indices, bounds [N, c]: the nearest others of all samples.
    radius [N, H]: to the k-th other of the same half. limit [N]: the largest of these.
    """

    inside: Tensor
    indices: Tensor
    bounds: Tensor
    radius: Tensor
    limit: Tensor

    @classmethod
    def of(cls, x: Tensor, k: int, seed: int, power: float) -> "Halved":
        inside, near = members(x, seed), neighbours(x, k, power)
        radius = radii(near, inside, k)
        return cls(inside, *near, radius, radius.amax(1))


class HalvedReals(NamedTuple):
    """What the halves of the real samples say of themselves, whatever they are compared with; arrays are [N, H].

    clipped: squared radii, at most their median. reals_clipped: as in `HalfCounts`. isolation: squared distances to the
    nearest other sample of the same half.
    """

    balls: Halved
    clipped: Tensor
    reals_clipped: Tensor
    isolation: Tensor

    @classmethod
    def of(cls, x: Tensor, k: int, power: float) -> "HalvedReals":
        balls = Halved.of(x, k, 0, power)
        clipped = torch.stack([half.clamp(max=half[half >= 0].median()) for half in balls.radius.T], 1)
        reals_clipped = torch.zeros_like(balls.inside, dtype=torch.int32)
        for half, (inside, limit) in enumerate(zip(balls.inside.T, clipped.T, strict=True)):
            held = balls.indices[(balls.bounds <= limit[:, None]) & inside[balls.indices]]
            reals_clipped[:, half] = torch.bincount(held, minlength=len(inside))
        isolation = radii((balls.indices, balls.bounds), balls.inside, 1)
        return cls(balls, clipped, reals_clipped, isolation)


@remember
def _halved_reals(x: Tensor, k: int, power: float, halves: int) -> HalvedReals:
    """Found once for all sets that are compared with the same real samples. halves: their number."""
    return HalvedReals.of(x, k, power)


class HalfBalls:
    """The balls of each half. `add_real_balls` and `add_fake_balls` count the pairs of a tile."""

    def __init__(self, y: Tensor, x: Tensor, k: int):
        power = power_of_two(x, y)
        self.reals, self.fakes = _halved_reals(x, k, power, drawn()), Halved.of(y, k, 1, power)
        self.real_limit, self.fake_limit = self.reals.balls.limit, self.fakes.limit
        self.real_balls, self.real_balls_clipped, self.reals_held = (
            torch.zeros_like(self.fakes.inside, dtype=torch.int32) for _ in range(3)
        )
        self.fakes_held, self.fake_balls = (
            torch.zeros_like(self.reals.balls.inside, dtype=torch.int32) for _ in range(2)
        )

    @classmethod
    def of(cls, y: Tensor, x: Tensor, k: int) -> "HalfBalls | None":
        """None if a half has too few samples for k neighbours, and for `values_alone`."""
        return cls(y, x, k) if drawn() and min(len(y), len(x)) // 2 > k else None

    def add_real_balls(self, i: Tensor, j: Tensor, squared: Tensor) -> None:
        """Pairs of a real sample i and a generated one j, with their squared distance."""
        for p, q, distance in _parts(i, j, squared):
            inside = (distance[:, None] <= self.reals.balls.radius[p]) & self.fakes.inside[q]
            self.fakes_held.index_add_(0, p, inside.int())
            self.real_balls.index_add_(0, q, inside.int())
            inside &= distance[:, None] <= self.reals.clipped[p]
            self.real_balls_clipped.index_add_(0, q, inside.int())

    def add_fake_balls(self, j: Tensor, i: Tensor, squared: Tensor) -> None:
        """Pairs of a generated sample j and a real one i, with their squared distance."""
        for q, p, distance in _parts(j, i, squared):
            inside = ((distance[:, None] <= self.fakes.radius[q]) & self.reals.balls.inside[p]).int()
            self.reals_held.index_add_(0, q, inside)
            self.fake_balls.index_add_(0, p, inside)

    def finished(self, closest: Listed) -> HalfCounts:
        """All counts. closest: the nearest reals of each generated sample."""
        real = self.reals.balls.inside
        authentic = torch.empty_like(self.fakes.inside)
        for half, inside in enumerate(real.T):
            first = inside[closest.indices].int().argmax(1, keepdim=True)
            nearest = closest.indices.gather(1, first).squeeze(1)
            distance = closest.bounds.gather(1, first).squeeze(1)
            authentic[:, half] = distance > self.reals.isolation[nearest, half]
        return HalfCounts(
            self.fakes.inside,
            real,
            self.real_balls,
            self.real_balls_clipped,
            self.fakes_held,
            self.fake_balls,
            self.reals_held,
            self.reals.reals_clipped,
            authentic,
        )


def enough(k: int) -> int:
    """How many neighbours must be listed so that k of them are in a half."""
    return next(count for count in range(2 * k, 20 * k + 64) if bdtr(k - 1, count, 0.5) < MISSED)


def members(x: Tensor, seed: int) -> Tensor:
    """Random halves of the rows, bool [N, HALVES]."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(len(x), drawn(), dtype=torch.bool)
    for half in range(drawn()):
        chosen[torch.randperm(len(x), generator=generator)[: len(x) // 2], half] = True
    return chosen.to(x.device)


def neighbours(x: Tensor, k: int, power: float) -> tuple[Tensor, Tensor]:
    """Indices of the nearest other rows, and their squared distances times power^2, each [N, c]."""
    near = listed_others(x, enough(k))
    return near.indices, near.bounds.clamp(min=0) * (power / power_of_two(x)) ** 2


def radii(near: tuple[Tensor, Tensor], chosen: Tensor, k: int) -> Tensor:
    """Squared distance to the k-th nearest other row of the same half, [N, H]; -inf for rows outside the half."""
    indices, bounds = near
    found = bounds.new_empty(chosen.shape)
    for half, inside in enumerate(chosen.T):
        reached = inside[indices].cumsum(1) >= k
        position = reached.int().argmax(1).where(reached[:, -1], reached.shape[1] - 1)
        found[:, half] = bounds.gather(1, position[:, None]).squeeze(1)
    return found.masked_fill_(~chosen, -torch.inf)


def _parts(i: Tensor, j: Tensor, squared: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    return zip(*(torch.split(t, PAIRS) for t in (i, j, squared)), strict=True)
