"""Sets of generated samples judged against the same reals: precision, recall and Fréchet distance, with halves.

Precision and recall come from the pass that the metrics of these names share, so a study that judges declares
`uses=JUDGING`; that `frechet_distance` is used is noticed by its import.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...metrics.frechet import frechet_distance, frechet_value
from ...metrics.kernels.balls import neighbour_pass
from ...metrics.kernels.memo import remember
from ..core.protocols import Cell, Estimate
from ..core.registry import METRICS
from ..run import Run
from ..stats.intervals import percentile_interval

JUDGING = ("precision", "recall")
"""Metrics whose values are computed here without a call of them."""


SMALL = 4000
"""Rows up to which the distances between all of them are kept, of which every half takes a part."""
LEAST = 10
"""Minimum number of samples in a set that is judged, whatever its balls."""


class Judged(NamedTuple):
    """A set of m samples, judged against N reals.

    rows [m]: positions of their seeds. hits [m]: which samples are in the ball of a real one, whose share is precision.
    held [N]: which reals are in the ball of a sample, whose share is recall. calls: of the generator, for all m.
    halves [H, 2] float64: precision and recall of random halves of the samples against random halves of the reals.
    frechet: called where the distance is asked for, since it is slow and most sets are compared without it.
    frechets: the same for the distance of the whole set and of each half, [1 + H] float64.
    """

    rows: Tensor
    hits: Tensor
    held: Tensor
    frechet: Callable[[], Estimate]
    calls: int
    halves: Tensor
    frechets: Callable[[], Tensor]

    @property
    def precision(self) -> float:
        return float(self.hits.double().mean())

    @property
    def recall(self) -> float:
        return float(self.held.double().mean())


def judge(
    features: Tensor,
    real: Tensor,
    k: int,
    rows: Tensor,
    calls: int,
    halves: int,
    seed: int,
) -> Judged:
    """Samples with features [m, D] against reals [N, D]; balls reach to the k-th neighbour.

    A half of reals is the same for all sets, and so is the order of seeds by whose first samples a set is halved, so
    that halves of sets with common samples have common samples. Balls are found anew in every half.
    """
    balls = neighbour_pass(features, real, k)
    frechet = cache(partial(frechet_distance, features, real))
    parts = partial(_parts, features, real, rows, halves, seed)
    spread = _halves(features, real, k, parts(), halves)

    @cache
    def frechets() -> Tensor:
        found = [frechet_value(features, real), *(frechet_value(features[y], real[x]) for y, x in parts())]
        return torch.tensor(found, dtype=torch.float64)

    hits, held = (balls.real_balls > 0).cpu(), (balls.fake_balls > 0).cpu()
    return Judged(rows, hits, held, frechet, calls, spread, frechets)


def _parts(features: Tensor, real: Tensor, rows: Tensor, halves: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Positions in both of each pair of halves; see `judge`."""
    last = int(rows.max()) + 1
    for half in range(halves):
        of_reals, of_seeds = (np.random.default_rng([seed, half, which]) for which in (0, 1))
        x = torch.from_numpy(np.sort(of_reals.permutation(len(real))[: len(real) // 2])).to(real.device)
        drawn = torch.from_numpy(of_seeds.random(last))[rows]
        y = drawn.argsort(stable=True)[: len(rows) // 2].sort().values.to(features.device)
        yield y, x


def _halves(features: Tensor, real: Tensor, k: int, parts: Iterable[tuple[Tensor, Tensor]], halves: int) -> Tensor:
    """Precision and recall [halves, 2] of halves of both; see `judge`."""
    found = []
    small = max(len(features), len(real)) <= SMALL
    if small:
        between, of_real, of_fake = _distances(features, real), _among(real), _distances(features, features)
    for y, x in parts:
        if small:
            apart = between[y][:, x]
            real_radius, fake_radius = (of[z][:, z].kthvalue(k + 1).values for of, z in ((of_real, x), (of_fake, y)))
            hits, held = (apart <= real_radius).any(1), (apart <= fake_radius[:, None]).any(0)
        else:
            part = neighbour_pass(features[y], real[x], k)
            hits, held = part.real_balls > 0, part.fake_balls > 0
        found.append([float(each.double().mean()) for each in (hits, held)])
    return torch.tensor(found, dtype=torch.float64).view(halves, 2)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Between rows, float64; a row is at 0 from itself."""
    apart = torch.cdist(a.flatten(1).double(), b.flatten(1).double())
    return apart.fill_diagonal_(0) if a is b else apart


_among = remember(lambda real: _distances(real, real), size=1)
"""The same among the reals, which are those of every set."""


def fewest(k: int) -> int:
    """Minimum number of samples in a set whose halves have balls of k neighbours."""
    return max(LEAST, 2 * (k + 2))


def bootstrapped(values: Tensor, n: int) -> Estimate:
    """The first of values [1 + resamples], with the percentile interval of the others."""
    low, high = percentile_interval(values[1:])
    return Estimate(float(values[0]), (float(low), float(high)), n)


def without_interval(value: float, n: int) -> Estimate:
    return Estimate(value, (math.nan, math.nan), n)


def scores_of(run: Run, cell: Cell, latents: Tensor, space: str) -> Tensor:
    """Scores [N] float64 of a sample metric for the samples of these latents, stored 8 bits deep."""
    inputs = run.inputs(cell, lambda wanted: run.views.of_latents(latents, space, wanted))
    scores: Tensor = METRICS[cell.metric].function(**inputs, **cell.params)
    return scores.double().cpu()
