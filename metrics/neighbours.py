"""Precision, recall, density, coverage, realism, rarity and authenticity, all computed from one pass over distances.

Notation: x_i is a real sample and y_j a generated one. NND_k(x) is the distance from x to its k-th nearest other point
in the same set, and B(x) is the ball around x with that radius. A ball includes its boundary, unless `strict=True`, as
in the `prdc` package. Every comparison has the result that exact float64 differences give.

Samples share balls, so they are not independent, and an interval for independent ones is too short. The intervals of
precision, recall, density, coverage and their relatives come from random halves of both sets (`kernels/halves.py`),
computed in the same pass. They hold for other generated and other real samples of the same number, and they are NaN
when a half has k samples or fewer.

Scores that need only nearest neighbours accept `backend="faiss"`, an approximate search for sets of millions. They then
return a mapping with the score and `search_recall`, the measured share of true neighbours that the search found.
"""

from typing import overload

import torch
from torch import Tensor

from ..harness.core.inputs import Array, require_neighbours, samples
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.approximate import approximate_nearest, check
from .kernels.balls import Balls, real_balls_clipped
from .kernels.balls import neighbour_pass as neighbour_pass
from .kernels.nearest import nearest_others
from .kernels.realism import realism_apart, realism_unpruned

FAKE = View("fake", "features")
REAL = View("real", "features")
PRECISION_RECALL = "arXiv:1904.06991"
DENSITY_COVERAGE = "arXiv:2002.09797"
Scores = Estimate | dict[str, Estimate]


@metric(better="higher", kind="set", source=PRECISION_RECALL, version=2, fake=FAKE, real=REAL)
def precision(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """Share of generated samples y_j [M, D] in at least one ball B(x_i) of the real ones [N, D], in [0, 1].

    The paper uses k = 3; the default is 5 so that all metrics of this file share one pass.
    """
    return intervals.share(*_precision(neighbour_pass(fake, real, k, strict)))


@metric(better="higher", kind="set", source=PRECISION_RECALL, version=2, fake=FAKE, real=REAL)
def recall(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """Share of real samples x_i [N, D] in at least one ball B(y_j) of the generated ones [M, D], in [0, 1].

    The paper uses k = 3. The value depends on M / N, so compare sets of equal sizes.
    """
    return intervals.share(*_recall(_both_passes(fake, real, k, strict)))


@metric(better="higher", kind="set", source=DENSITY_COVERAGE, version=2, fake=FAKE, real=REAL)
def density(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """1/(k M) sum_j #{ i : y_j in B(x_i) }, at least 0.

    About 1 for equal distributions. It can exceed 1, when generated samples concentrate where real ones are dense.
    The paper uses k = 5.
    """
    balls = neighbour_pass(fake, real, k, strict)
    halves = _half_means(balls.halves.real_balls.double() / k, balls.halves.fake) if balls.halves else None
    return intervals.bounded(float(balls.real_balls.double().mean() / k), halves, len(balls.real_balls), least=0)


@overload
def coverage(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate: ...
@overload
def coverage(fake: Array, real: Array, k: int = 5, strict: bool = False, backend: str = ...) -> Scores: ...
@metric(better="higher", kind="set", source=DENSITY_COVERAGE, version=2, fake=FAKE, real=REAL)
def coverage(fake: Array, real: Array, k: int = 5, strict: bool = False, backend: str = "exact") -> Scores:
    """Share of balls B(x_i) that contain a generated sample, in [0, 1]. k = 5 in the paper.

    The expected value for equal distributions is 1 - prod_{i=1..k} (N - i) / (N + M - i), about 1 - 2^-k for N = M.
    With backend="faiss", the interval is Wilson's, which is too short.
    """
    if backend == "exact":
        return intervals.share(*_coverage(neighbour_pass(fake, real, k, strict)))
    counts, search_recall = _approximate_fakes_held(fake, real, k, strict, backend)
    return {"coverage": intervals.proportion(counts > 0), "search_recall": search_recall}


@metric(better="higher", kind="sample", source="arXiv:1904.06991", version=2, fake=FAKE, real=REAL)
def realism(fake: Array, real: Array, k: int = 5, prune: bool = True) -> Tensor:
    """max_i NND_k(x_i) / |y_j - x_i| of each generated sample, float64 [M]; 1 on the boundary of a ball.

    `prune` keeps only the balls whose radius is at most the median, as in the paper. The paper uses k = 3, and its code
    returns the square of this value. A sample equal to the centre of a kept ball gets 1e6, the upper limit.
    """
    y, x = samples(fake=fake, real=real)
    require_neighbours("real", len(x), k, others=True)
    if not prune:
        return realism_unpruned(y, x, k).clone()
    balls = neighbour_pass(y, x, k)
    if balls.realism is not None:
        return balls.realism.clone()
    kept = balls.real_radius <= balls.real_radius.median()
    return realism_apart(y, x, balls.real_radius * kept, (balls.nearest_distance == 0) & kept[balls.nearest_real])


@metric(better="neither", kind="sample", source="arXiv:2206.08549", fake=FAKE, real=REAL)
def rarity(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Tensor:
    """Smallest radius of the balls B(x_i) that contain y_j, float64 [M]; NaN outside all balls.

    A high value means an uncommon sample, not a good one. The paper uses k = 3 and strict=True.
    """
    return neighbour_pass(fake, real, k, strict).smallest_ball.clone()


@overload
def authenticity(fake: Array, real: Array, k: int = 5) -> Estimate: ...
@overload
def authenticity(fake: Array, real: Array, k: int = 5, backend: str = ...) -> Scores: ...
@metric(better="neither", kind="set", source="arXiv:2102.08921", version=2, fake=FAKE, real=REAL)
def authenticity(fake: Array, real: Array, k: int = 5, backend: str = "exact") -> Scores:
    """Share of y_j that are farther from their nearest x_i than that x_i is from its nearest other real, in [0, 1].

    Copies of the training set score 0. A perfect model does not score 1: held-out real images score about 0.7. The
    published percentage (AuthPct) is 100 times this share. k has no effect on the value; it selects the shared pass.
    """
    y, x = samples(fake=fake, real=real)
    require_neighbours("real", len(x), 1, others=True)
    if backend == "exact":
        balls = neighbour_pass(y, x, min(k, len(x) - 1))
        halves = _half_means(balls.halves.authentic, balls.halves.fake) if balls.halves else None
        return intervals.share(balls.nearest_distance > nearest_others(x, 1).distances[balls.nearest_real, 0], halves)
    check(backend)
    across, within = approximate_nearest(y, x, 1), approximate_nearest(x, None, 1)
    authentic = across.distances > within.distances[across.indices[:, 0]]
    return {"authenticity": intervals.proportion(authentic), "search_recall": min(across.recall, within.recall)}


@metric(better="higher", kind="set", source="arXiv:2306.09618", version=2, fake=FAKE, real=REAL)
def symmetric_precision(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """Minimum of precision and the share of balls B(y_j) that contain a real sample, in [0, 1]."""
    balls = _both_passes(fake, real, k, strict)
    halves = _half_means(balls.halves.reals_held > 0, balls.halves.fake) if balls.halves else None
    return _smaller(_precision(balls), (balls.reals_held > 0, halves))


@metric(better="higher", kind="set", source="arXiv:2306.09618", version=2, fake=FAKE, real=REAL)
def symmetric_recall(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """Minimum of recall and coverage, in [0, 1]."""
    balls = _both_passes(fake, real, k, strict)
    return _smaller(_recall(balls), _coverage(balls))


@metric(
    better="higher",
    kind="set",
    source="https://proceedings.mlr.press/v206/cheema23a.html",
    version=2,
    fake=FAKE,
    real=REAL,
)
def precision_cover(fake: Array, real: Array, k: int = 3, factor: int = 3, strict: bool = False) -> Estimate:
    """Share of y_j whose ball contains at least k real samples, in [0, 1]; its radius is NND_(factor k)(y_j).

    This direction measures fidelity. Public implementations disagree on which direction is called precision.
    """
    balls = _both_passes(fake, real, factor * k, strict)
    halves = _half_means(balls.halves.reals_held >= k, balls.halves.fake) if balls.halves else None
    return intervals.share(balls.reals_held >= k, halves)


@metric(
    better="higher",
    kind="set",
    source="https://proceedings.mlr.press/v206/cheema23a.html",
    version=2,
    fake=FAKE,
    real=REAL,
)
def recall_cover(fake: Array, real: Array, k: int = 3, factor: int = 3, strict: bool = False) -> Estimate:
    """Share of x_i whose ball contains at least k generated samples, in [0, 1]; its radius is NND_(factor k)(x_i)."""
    balls = neighbour_pass(fake, real, factor * k, strict)
    halves = _half_means(balls.halves.fakes_held >= k, balls.halves.real) if balls.halves else None
    return intervals.share(balls.fakes_held >= k, halves)


@metric(better="higher", kind="set", source="arXiv:2507.01761", fake=FAKE, real=REAL)
def clipped_density(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate:
    """min(1, raw / raw_real), in [0, 1]; sets [M, D] and [N, D].

        raw = mean_j min(1, #{ i : |y_j - x_i| <= r_i } / k),   r_i = min(NND_k(x_i), median_i NND_k(x_i))

    raw_real is the same mean over the real samples, each excluded from its own count. The ball of a real outlier is
    therefore no larger than a typical one, and no generated sample contributes more than 1.
    Raises ValueError for bad input, or when no ball contains another real sample.
    """
    y, x = samples(fake=fake, real=real)
    balls = neighbour_pass(y, x, k, strict)
    raw = (balls.real_balls_clipped.double() / k).clamp(max=1).mean()
    raw_real = (real_balls_clipped(x, k, strict).double() / k).clamp(max=1).mean()
    if raw_real == 0:
        raise ValueError("real: no clipped ball contains another real sample, so raw_real is 0: set strict=False")
    half_ratios = None
    if balls.halves:
        counts = balls.halves
        half_raw = _half_means((counts.real_balls_clipped / k).clamp(max=1), counts.fake)
        half_ratios = half_raw / _half_means((counts.reals_clipped / k).clamp(max=1), counts.real)
    ratio = min(1.0, float(raw / raw_real))
    return intervals.bounded(ratio, half_ratios, len(y), least=0, most=1)


@overload
def clipped_coverage(fake: Array, real: Array, k: int = 5, strict: bool = False) -> Estimate: ...
@overload
def clipped_coverage(fake: Array, real: Array, k: int = 5, strict: bool = False, backend: str = ...) -> Scores: ...
@metric(better="higher", kind="set", source="arXiv:2507.01761", version=2, fake=FAKE, real=REAL)
def clipped_coverage(fake: Array, real: Array, k: int = 5, strict: bool = False, backend: str = "exact") -> Scores:
    """Share of perfect samples that would cover the real ones equally well, in [0, 1]; sets [M, D] and [N, D].

        c = mean_i min(k, #{ j : y_j in B(x_i) }) / k,   value = #{ m in 0..M : f(m) < c } / (M + 1)

    f(m) is the expected c of m samples from the real distribution. It is exact for every m; the source uses 0 for
    m < k. With backend="faiss", the interval is Student's t interval of c, mapped through f, which is too short.
    """
    if backend == "exact":
        balls = neighbour_pass(fake, real, k, strict)
        m, n = len(balls.real_balls), len(balls.fakes_held)
        value = _share_that_covers(balls.fakes_held.clamp(max=k).double().mean() / k, m, n, k)
        halves = _half_means(balls.halves.fakes_held.clamp(max=k) / k, balls.halves.real) if balls.halves else None
        mapped = None if halves is None else _share_that_covers(halves, m // 2, n // 2, k)
        return intervals.bounded(float(value), mapped, n, least=0, most=1)
    counts, search_recall = _approximate_fakes_held(fake, real, k, strict, backend)
    raw = intervals.mean(counts.clamp(max=k).double() / k)
    points = torch.tensor([raw.value, *raw.interval], dtype=torch.float64)
    value, low, high = _share_that_covers(points, len(samples(fake=fake)[0]), len(counts), k).tolist()
    return {"clipped_coverage": Estimate(value, (low, high), raw.n), "search_recall": search_recall}


def _share_that_covers(c: Tensor, m: int, n: int, k: int) -> Tensor:
    """#{ m' in 0..m : f(m') < c } / (m + 1); an f equal to c must not count as below it because of rounding."""
    expected = expected_coverage(m, n, k).to(c.device)
    return torch.searchsorted(expected, c.double() - 1e-12).double() / (m + 1)


def _both_passes(fake: Array, real: Array, k: int, strict: bool) -> Balls:
    """`neighbour_pass` where the balls of the generated samples are needed too."""
    y, x = samples(fake=fake, real=real)
    require_neighbours("fake", len(y), k, others=True)
    return neighbour_pass(y, x, k, strict)


Hits = tuple[Tensor, Tensor | None]
"""Which samples count, bool [n], and the share of those that count in each random half [H], if there are halves."""


def _precision(balls: Balls) -> Hits:
    return balls.real_balls > 0, _half_means(balls.halves.real_balls > 0, balls.halves.fake) if balls.halves else None


def _recall(balls: Balls) -> Hits:
    return balls.fake_balls > 0, _half_means(balls.halves.fake_balls > 0, balls.halves.real) if balls.halves else None


def _coverage(balls: Balls) -> Hits:
    return balls.fakes_held > 0, _half_means(balls.halves.fakes_held > 0, balls.halves.real) if balls.halves else None


def _half_means(terms: Tensor, members: Tensor) -> Tensor:
    """Means of terms [n, H] over the samples that are in each half, float64 [H]."""
    return (terms.double() * members).sum(0) / members.sum(0)


def _smaller(one: Hits, other: Hits) -> Estimate:
    """The smaller share, with the interval of the minimum."""
    smaller = min(one, other, key=lambda hits: float(hits[0].double().mean()))
    halves = None if one[1] is None or other[1] is None else torch.minimum(one[1], other[1])
    return intervals.share(smaller[0], halves)


def _approximate_fakes_held(fake: Array, real: Array, k: int, strict: bool, backend: str) -> tuple[Tensor, Estimate]:
    """Number of y_j in each B(x_i), at most k, int64 [N], and the recall of the search."""
    check(backend)
    y, x = samples(fake=fake, real=real)
    require_neighbours("real", len(x), k, others=True)
    require_neighbours("fake", len(y), k, others=True)
    within, across = approximate_nearest(x, None, k), approximate_nearest(x, y, k)
    radius = within.distances[:, -1:]
    inside = across.distances < radius if strict else across.distances <= radius
    return inside.sum(1), min(within.recall, across.recall)


def expected_coverage(m: int, n: int, k: int) -> Tensor:
    """f(0), ..., f(m) of `clipped_coverage`, float64 [m + 1], for n real samples.

    f(m) = (1/k) E min(J, k) with J ~ BetaBinomial(m; k, n - k), computed as the sum of P(J > j) / k over j < k.
    """
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
