"""Precision, recall, density, coverage, realism, rarity, authenticity: thin faces of one pass over all distances.

Notation of the docstrings: x_i real, y_j generated, NND_k(x) the distance from x to its k-th nearest other point of its
own set, B(x) the ball round x with that radius. A ball holds its border (`strict=True`: it does not, as in the `prdc`
package). Every decision is the one float64 distances give.

Where a score needs nearest neighbours alone, `backend="faiss"` finds them approximately, for sets of millions: the
result is then a mapping of the score and `search_recall`, the measured share of true neighbours found.
"""

from typing import overload

import torch
from torch import Tensor

from ..harness.core.inputs import Array, require_neighbours, samples
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.approximate import approximate_nearest, check
from .kernels.balls import neighbour_pass as neighbour_pass
from .kernels.balls import real_balls_clipped
from .kernels.distances import nearest_others

FAKE = View("fake", "features")
REAL = View("real", "features")
PRECISION_RECALL = "arXiv:1904.06991"
DENSITY_COVERAGE = "arXiv:2002.09797"
Scores = Estimate | dict[str, Estimate]


@metric(better="higher", kind="set", source=PRECISION_RECALL, fake=FAKE, real=REAL)
def precision(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """Share of generated samples y_j [M, D] inside some ball B(x_i) of the reals [N, D], in [0, 1]; Wilson's interval.

    The paper takes k = 3; 5 is the default here so that the whole family shares one pass.
    """
    return intervals.proportion(neighbour_pass(fake, real, k, strict).real_balls > 0)


@metric(better="higher", kind="set", source=PRECISION_RECALL, fake=FAKE, real=REAL)
def recall(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """Share of real samples x_i [N, D] inside some ball B(y_j) of the generated [M, D], in [0, 1]; Wilson's interval.

    The paper takes k = 3. The value depends on M / N: compare at equal sizes.
    """
    return intervals.proportion(neighbour_pass(fake, real, k, strict).fake_balls > 0)


@metric(better="higher", kind="set", source=DENSITY_COVERAGE, fake=FAKE, real=REAL)
def density(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """1/(k M) sum_j #{ i : y_j in B(x_i) }, at least 0, with Student's t interval over the generated samples.

    About 1 for equal distributions, and not bounded by 1: piling samples where reals are dense scores more. k = 5 in
    the paper.
    """
    return intervals.mean(neighbour_pass(fake, real, k, strict).real_balls.double() / k)


@overload
def coverage(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate: ...
@overload
def coverage(fake: Array, real: Array, k: int = 5, strict: bool = False, backend: str = ...) -> Scores: ...
@metric(better="higher", kind="set", source=DENSITY_COVERAGE, fake=FAKE, real=REAL)
def coverage(fake: Array, real: Array, k: int = 5, strict: bool = False, backend: str = "exact") -> Scores:
    """Share of real balls B(x_i) that hold a generated sample, in [0, 1], with Wilson's interval; k = 5 in the paper.

    For equal distributions 1 - prod_{i=1..k} (N - i) / (N + M - i) is expected, about 1 - 2^-k for N = M.
    """
    held, search_recall = _fakes_held(fake, real, k, strict, backend)
    return _scores("coverage", intervals.proportion(held > 0), search_recall)


@metric(better="higher", kind="sample", source="arXiv:1904.06991", fake=FAKE, real=REAL)
def realism(fake: Array, real: Array, k: int = 5, prune: bool = True) -> Tensor:
    """max_i NND_k(x_i) / |y_j - x_i| of each generated sample, float64 [M], from plain distances; 1 is a ball's border.

    `prune` keeps the balls of at most the median radius, as in the paper (k = 3 there, whose code returns the square).
    A sample equal to a kept real has no finite value and gets 1e6, the largest there is.
    """
    balls = neighbour_pass(fake, real, k)
    return (balls.realism if prune else balls.realism_unpruned).clone()


@metric(better="neither", kind="sample", source="arXiv:2206.08549", fake=FAKE, real=REAL)
def rarity(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Tensor:
    """Least radius of the balls B(x_i) that hold y_j, float64 [M]; NaN outside all balls. High is uncommon, not good.

    The paper takes k = 3 and a strict test.
    """
    return neighbour_pass(fake, real, k, strict).smallest_ball.clone()


@overload
def authenticity(fake: Array, real: Array, k: int = 5) -> Estimate: ...
@overload
def authenticity(fake: Array, real: Array, k: int = 5, backend: str = ...) -> Scores: ...
@metric(better="neither", kind="set", source="arXiv:2102.08921", fake=FAKE, real=REAL)
def authenticity(fake: Array, real: Array, k: int = 5, backend: str = "exact") -> Scores:
    """Share of y_j farther from their nearest real x_i than x_i is from its nearest other real, in [0, 1].

    0 for copies of the training set. A perfect model does not score 1: held-out real images score about 0.7. Published
    percentages (AuthPct) are 100 times this. k does not enter; it names the pass to share.
    """
    check(backend)
    y, x = samples(fake=fake, real=real)
    if backend == "exact":
        balls = neighbour_pass(y, x, k)
        return intervals.proportion(balls.nearest_distance > nearest_others(x, 1).distances[balls.nearest_real, 0])
    require_neighbours("real", len(x), 1, others=True)
    near, own = approximate_nearest(y, x, 1), approximate_nearest(x, None, 1)
    authentic = near.distances > own.distances[near.indices[:, 0]]
    return _scores("authenticity", intervals.proportion(authentic), min(near.recall, own.recall))


@metric(better="higher", kind="set", source="arXiv:2306.09618", fake=FAKE, real=REAL)
def symmetric_precision(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """The smaller of precision and the share of y_j whose own ball B(y_j) holds a real, in [0, 1]."""
    reals_held = neighbour_pass(fake, real, k, strict).reals_held
    return min(precision(fake, real, k, strict), intervals.proportion(reals_held > 0))


@metric(better="higher", kind="set", source="arXiv:2306.09618", fake=FAKE, real=REAL)
def symmetric_recall(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """The smaller of recall and coverage, in [0, 1]."""
    return min(recall(fake, real, k, strict), coverage(fake, real, k, strict))


@metric(better="higher", kind="set", source="https://proceedings.mlr.press/v206/cheema23a.html", fake=FAKE, real=REAL)
def precision_cover(fake: Array, real: Array, k: int = 3, factor: int = 3, strict: bool = False) -> Estimate:
    """Share of y_j whose ball, of radius the distance to its (factor k)-th nearest other y, holds >= k reals.

    The fidelity direction; public code disagrees on which direction is called precision.
    """
    return intervals.proportion(neighbour_pass(fake, real, factor * k, strict).reals_held >= k)


@metric(better="higher", kind="set", source="https://proceedings.mlr.press/v206/cheema23a.html", fake=FAKE, real=REAL)
def recall_cover(fake: Array, real: Array, k: int = 3, factor: int = 3, strict: bool = False) -> Estimate:
    """Share of x_i whose ball, of radius the distance to its (factor k)-th nearest other x, holds >= k generated."""
    return intervals.proportion(neighbour_pass(fake, real, factor * k, strict).fakes_held >= k)


@metric(better="higher", kind="set", source="arXiv:2507.01761", fake=FAKE, real=REAL)
def clipped_density(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """min(1, raw / raw_real), in [0, 1]; sets [M, D] and [N, D].

        raw = mean_j min(1, #{ i : |y_j - x_i| <= r_i } / k),   r_i = min(NND_k(x_i), median_i NND_k(x_i))

    and raw_real the same of the reals, each left out of its own count. No real outlier's ball counts for more than a
    typical one, no generated sample for more than 1. Student's t interval of both means, joined as of a ratio.
    Raises ValueError for bad input, or when no ball of a real holds another real.
    """
    y, x = samples(fake=fake, real=real)
    found = intervals.mean((neighbour_pass(y, x, k, strict).real_balls_clipped.double() / k).clamp(max=1))
    own = intervals.mean((real_balls_clipped(x, k, strict).double() / k).clamp(max=1))
    if own.value == 0:
        raise ValueError("real: no clipped ball holds another real sample, so there is nothing to compare with: use <=")
    ratio = found.value / own.value
    half = _half(found) / own.value, ratio * _half(own) / own.value
    error = (half[0] ** 2 + half[1] ** 2) ** 0.5
    return Estimate(min(1.0, ratio), (min(1.0, max(0.0, ratio - error)), min(1.0, ratio + error)), found.n)


@overload
def clipped_coverage(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate: ...
@overload
def clipped_coverage(fake: Array, real: Array, k: int = 5, strict: bool = False, backend: str = ...) -> Scores: ...
@metric(better="higher", kind="set", source="arXiv:2507.01761", fake=FAKE, real=REAL)
def clipped_coverage(fake: Array, real: Array, k: int = 5, strict: bool = False, backend: str = "exact") -> Scores:
    """Share of good samples that would cover the reals as well, in [0, 1]; sets [M, D] and [N, D].

        c = mean_i min(k, #{ j : y_j in B(x_i) }) / k,   value = #{ m in 0..M : f(m) < c } / (M + 1)

    with f(m) the expected c of m good samples, exact where the source takes 0 for m < k. Student's t interval of c,
    carried through f.
    """
    held, search_recall = _fakes_held(fake, real, k, strict, backend)
    counts = held.clamp(max=k).double() / k
    m = len(samples(fake=fake)[0])
    expected = expected_coverage(m, len(counts), k)
    raw = intervals.mean(counts)
    points = torch.tensor([raw.value, *raw.interval], dtype=torch.float64)
    # Rounding must not count an expected value equal to c as below it.
    value, low, high = (torch.searchsorted(expected, points - 1e-12) / (m + 1)).tolist()
    return _scores("clipped_coverage", Estimate(value, (low, high), raw.n), search_recall)


def _fakes_held(fake: Array, real: Array, k: int, strict: bool, backend: str) -> tuple[Tensor, Estimate | None]:
    """How many y_j are in B(x_i), int64 [N]; by approximate search counted up to k, with the recall of that search."""
    check(backend)
    if backend == "exact":
        return neighbour_pass(fake, real, k, strict).fakes_held, None
    y, x = samples(fake=fake, real=real)
    require_neighbours("real", len(x), k, others=True)
    require_neighbours("fake", len(y), k, others=True)
    own, cross = approximate_nearest(x, None, k), approximate_nearest(x, y, k)
    radius = own.distances[:, -1:]
    inside = cross.distances < radius if strict else cross.distances <= radius
    return inside.sum(1), min(own.recall, cross.recall)


def _scores(name: str, score: Estimate, search_recall: Estimate | None) -> Scores:
    return {name: score, "search_recall": search_recall} if search_recall else score


def expected_coverage(m: int, n: int, k: int) -> Tensor:
    """f(0..m), float64 [m + 1]: (1/k) E min(J, k), J ~ BetaBinomial(count; k, n - k), by summing P(J > j) for j < k."""
    count = torch.arange(m + 1, dtype=torch.float64)
    below = torch.zeros(m + 1, dtype=torch.float64)
    total = torch.zeros(m + 1, dtype=torch.float64)
    for j in range(k):
        at_least = (count - j).clamp(min=0)
        log = torch.lgamma(count + 1) - torch.lgamma(at_least + 1) - torch.lgamma(count.new_tensor(j + 1.0))
        log += _log_beta(count.new_tensor(float(j + k)), at_least + n - k)
        log -= _log_beta(count.new_tensor(float(k)), count.new_tensor(float(n - k)))
        below += log.exp().where(count >= j, 0)
        total += 1 - below
    return (total / k).clamp(min=0)


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def _half(estimate: Estimate) -> float:
    return (estimate.interval[1] - estimate.interval[0]) / 2
