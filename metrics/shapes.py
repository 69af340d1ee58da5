"""Distances between shapes, Chamfer and earth mover's, and the metrics of sets of shapes that are based on them.

A set of shapes is an array of point clouds on their surfaces, [N, P, 3]. Distances between two sets are [N, M], in the
unit of the coordinates (Chamfer: in its square). They are computed from the differences of the coordinates, so they are
accurate relative to their own size, wherever the clouds are, and 0 for copies.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..harness.core.inputs import Array, clouds, stacks
from ..harness.core.options import Seed
from ..harness.core.precision import full_precision
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .frechet import frechet_distance
from .kernels.halves import recomputed
from .kernels.memo import remember
from .kernels.scale import power_of_two, scaled

Distance = Literal["chamfer", "earth_mover"]
FAKE = View("fake", "points")
REAL = View("holdout", "points")
FEWEST = 4
"""Smallest sets whose halves are compared."""
TILE = {"cpu": 1 << 17, "cuda": 1 << 26}
"""Number of point distances that are in memory at once, by device; on a CPU they fit its cache."""


@full_precision()
def chamfer(fake: Array, real: Array) -> Tensor:
    """Chamfer distance [N, M] between clouds [N, P, 3] and [M, P, 3], at least 0.

        CD(X, Y) = mean_x min_y |x - y|² + mean_y min_x |x - y|²

    Distances are squared, and both directions are added (arXiv:1906.12320); other definitions use the mean of both
    directions, or distances that are not squared. The result is float64; its relative error is below 1e-6 for float32
    clouds. `chamfer(x, x)` computes half of the pairs, by symmetry. Raises ValueError for bad input.
    """
    return _pairs(*clouds(fake=fake, real=real), "chamfer")


@full_precision()
def earth_mover(fake: Array, real: Array) -> Tensor:
    """Earth mover's distance [N, M] between clouds [N, P, 3] and [M, P, 3], at least 0, float64.

        EMD(X, Y) = 1/P min over bijections phi of sum_x |x - phi(x)|      (arXiv:1612.00603)

    Exact, by linear assignment: a pair takes about 2 ms with 256 points and 40 ms with 1,024. Published values are
    often approximate, and larger. Raises ValueError for bad input.
    """
    return _pairs(*clouds(fake=fake, real=real), "earth_mover")


@metric(better="lower", kind="set", modality="shape", source="arXiv:1707.02392", version=2, fake=FAKE, real=REAL)
def minimum_matching_distance(fake: Array, real: Array, distance: Distance = "chamfer") -> Estimate:
    """MMD: mean distance from a real shape to its nearest generated one, at least 0; clouds [N, P, 3], [M, P, 3].

    distance: "chamfer" or "earth_mover". MMD decreases with the number of generated shapes, so compare sets of equal
    sizes. Generated shapes that are nearest to no real shape have no effect. The interval is from random halves of both
    sets. Raises ValueError for bad input.
    """
    pairs = _pairs(*clouds(fake=fake, real=real), distance)

    def value(i: Tensor, j: Tensor) -> float:
        return float(pairs[i][:, j].amin(0).mean())

    rows = torch.arange(pairs.shape[0], device=pairs.device), torch.arange(pairs.shape[1], device=pairs.device)
    halves = recomputed(value, *rows) if min(pairs.shape) >= FEWEST else None
    return intervals.bounded(value(*rows), halves, len(rows[1]), least=0)


@metric(better="higher", kind="set", modality="shape", source="arXiv:1707.02392", version=2, fake=FAKE, real=REAL)
def shape_coverage(fake: Array, real: Array, distance: Distance = "chamfer") -> Estimate:
    """COV: share of real shapes that are nearest to at least one generated shape, in [0, 1]; Wilson's interval.

    Clouds [N, P, 3] and [M, P, 3]; distance: "chamfer" or "earth_mover". Equal distributions with N = M score far
    below 1, and the score increases with N. Compare sets of equal sizes, and with the score of held-out real shapes.
    Real shapes at the same distance are all nearest.
    """
    pairs = _pairs(*clouds(fake=fake, real=real), distance)
    return intervals.proportion((pairs == pairs.amin(1, keepdim=True)).any(0).cpu())


coverage = shape_coverage
"""The name in the literature. The registered metric `coverage` is the one of metrics/neighbours.py."""


@metric(better="lower", kind="set", modality="shape", source="arXiv:1610.06545", version=2, fake=FAKE, real=REAL)
def one_nn_accuracy(fake: Array, real: Array, distance: Distance = "chamfer", seed: Seed = 0) -> Estimate:
    """1-NNA: share of shapes in both sets whose nearest other shape belongs to the same set, in [0, 1].

    0.5 is ideal, 1 means that the sets are separable, and values below 0.5 mean that generated shapes copy real ones.
    Clouds [N, P, 3] and [M, P, 3]. Sizes must be equal, so min(N, M) shapes of the larger set are drawn with `seed`;
    `missing` counts the shapes that were not drawn. Shapes at the same distance count in equal shares.
    The interval is normal, and widened for mutual nearest neighbours, whose outcomes depend on each other. For two
    draws from one distribution it contained 0.5 in 91 to 95 of 100 trials.
    Raises ValueError for bad input or fewer than 2 shapes.
    """
    y, x = clouds(2, fake=fake, real=real)
    n = min(len(y), len(x))
    dropped = len(y) + len(x) - 2 * n
    generator = torch.Generator().manual_seed(seed)
    y, x = (s if len(s) == n else s[torch.randperm(len(s), generator=generator)[:n].to(s.device)] for s in (y, x))
    across = _pairs(y, x, distance)
    upper, lower = torch.cat([_pairs(y, y, distance), across], 1), torch.cat([across.T, _pairs(x, x, distance)], 1)
    pairs = torch.cat([upper, lower])
    pairs = pairs + torch.diag(pairs.new_full((2 * n,), math.inf))
    nearest = (pairs == pairs.amin(1, keepdim=True)).double()
    nearest /= nearest.sum(1, keepdim=True)
    correct = float(nearest[:n, :n].sum() + nearest[n:, n:].sum())
    mutual = float((nearest * nearest.T).sum()) / (2 * n)
    value, p = correct / (2 * n), (correct + 2) / (2 * n + 4)
    low, high = intervals.normal(value, math.sqrt(p * (1 - p) * (1 + mutual) / (2 * n)), 2 * n).interval
    return Estimate(value, (max(0.0, low), min(1.0, high)), 2 * n, dropped)


@metric(better="lower", kind="sample", modality="shape", source="arXiv:1612.00603", version=2, fake=FAKE, real=REAL)
def nearest_shape(fake: Array, real: Array, distance: Distance = "chamfer") -> Tensor:
    """Distance of each generated shape to the nearest real one, float64 [N], at least 0; clouds [N, P, 3], [M, P, 3].

    distance: "chamfer" or "earth_mover". Rare shapes are far from all others, so the score mixes quality and
    typicality. Raises ValueError for bad input.
    """
    return _pairs(*clouds(fake=fake, real=real), distance).amin(1).double()


@metric(
    better="lower",
    kind="set",
    modality="shape",
    source="arXiv:2206.12055",
    fake=View("fake", "shaded"),
    real=View("real", "shaded", n="all"),
)
def shading_distance(fake: Array, real: Array) -> Estimate:
    """Fréchet distance of shaded pictures, averaged over V views; at least 0; features [N, V, D] and [M, V, D].

    With 20 views and Inception features it is the shading FID of the paper; other feature spaces have other scales. The
    half width of the interval is the mean over the views, as if their errors were fully correlated.
    Raises ValueError for bad input or fewer than 2 shapes.
    """
    sets = stacks("the features of shaded views", 2, fake=fake, real=real)
    views = [frechet_distance(y, x) for y, x in zip(*(s.unbind(1) for s in sets), strict=True)]
    value = sum(view.value for view in views) / len(views)
    low, high = (sum(view.interval[side] for view in views) / len(views) for side in (0, 1))
    return Estimate(value, (low, high), views[0].n)


@remember
def _pairs(fake: Tensor, real: Tensor, distance: Distance) -> Tensor:
    """All distances [N, M], float64; half of them are computed when both sets are the same object."""
    one_to_all = DISTANCES[distance]
    power = power_of_two(fake, real)
    y = scaled(fake, power)
    x = y if fake is real else scaled(real, power)
    if x is not y:
        pairs = torch.stack([one_to_all(cloud, x) for cloud in y])
    else:
        rows = [one_to_all(cloud, x[i + 1 :]) for i, cloud in enumerate(y)]
        upper = torch.stack([torch.cat([row.new_zeros(i + 1), row]) for i, row in enumerate(rows)])
        pairs = upper + upper.T
    for _ in range(DEGREES[distance]):
        pairs = pairs / power
    return pairs


def _chamfer(cloud: Tensor, others: Tensor) -> Tensor:
    """Chamfer distance [M], float64, of a cloud [P, 3] to others [M, P, 3]."""
    if not len(others):
        return cloud.new_zeros(0, dtype=torch.float64)
    count = len(cloud)
    coordinates = others.permute(2, 0, 1).contiguous()
    tile = TILE.get(cloud.device.type, 1 << 20)
    rows = min(count, max(1, tile // count))
    together = max(1, tile // (rows * count))
    found = []
    for block in torch.split(coordinates, together, dim=1):
        to_cloud, to_other = [], []
        for part in torch.split(cloud, rows):
            squared = (block[0] - part[:, 0, None, None]).square_()
            for axis in (1, 2):
                difference = block[axis] - part[:, axis, None, None]
                squared.addcmul_(difference, difference)
            to_other.append(squared.amin(2))
            to_cloud.append(squared.amin(0))
        # Both means add in the same order, so that a pair has the same distance from either side, and ties stay ties.
        sides = torch.stack(to_cloud).amin(0), torch.cat(to_other).T.contiguous()
        found.append(sides[0].double().mean(1) + sides[1].double().mean(1))
    return torch.cat(found)


def _earth_mover(cloud: Tensor, others: Tensor) -> Tensor:
    """Earth mover's distance [M] of a cloud [P, 3] to others [M, P, 3]."""
    found = []
    for other in others.double():
        cost = torch.cdist(cloud.double(), other, compute_mode="donot_use_mm_for_euclid_dist").cpu().numpy()
        found.append(float(cost[linear_sum_assignment(cost)].mean()))
    return torch.tensor(found, dtype=torch.float64, device=cloud.device)


DISTANCES: Mapping[Distance, Callable[[Tensor, Tensor], Tensor]] = {"chamfer": _chamfer, "earth_mover": _earth_mover}
DEGREES: Mapping[Distance, int] = {"chamfer": 2, "earth_mover": 1}
"""The power of the coordinates' unit in which each distance is."""
