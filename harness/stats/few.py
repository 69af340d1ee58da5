"""Rank correlation of few items, ten or so: the exact permutation p, and an interval that holds near 1, too."""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

MOST = 14
"""Items of which the exact distribution is computed: it takes time and memory that double with each further one."""
DRAWS = 20_000
"""Samples of the copula at each correlation; a tail of 2.5 % is then known within 0.2 % (two standard errors)."""
STEPS = np.linspace(-4, 4, 81)
"""Fisher's z of the correlations at which the copula is sampled; between them, tails are interpolated."""
TAIL = 0.025
Numbers = NDArray[np.float64]


def spearman(x: Numbers, y: Numbers) -> float:
    """Rank correlation in [-1, 1] of x [N] and y [N]; ties take mean ranks. NaN where one of them is constant."""
    return float(spearman_rows(x[None], y[None])[0])


def spearman_rows(x: Numbers, y: Numbers) -> Numbers:
    """The same [B] of each row of x [B, N] and y [B, N]."""
    from scipy.stats import rankdata  # here, because it loads for half a second

    a, b = (rankdata(each, axis=1) for each in (x, y))
    a, b = (each - each.mean(1, keepdims=True) for each in (a, b))
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    found: Numbers = np.divide((a * b).sum(1), scale, out=np.full(len(a), math.nan), where=scale > 0)
    return found


def exact_p(x: Numbers, y: Numbers) -> float:
    """Two-sided p: the share of all N! orders of y whose rank correlation with x is as far from 0 as the one found.

    It is counted, not sampled: with mean ranks doubled, sums of products are whole numbers, and the orders that reach
    each sum are counted over the subsets of y that are used up. Ties stay as they are. NaN where x or y is constant.

    Raises ValueError for more than MOST items.
    """
    from scipy.stats import rankdata

    n = len(x)
    if n > MOST:
        raise ValueError(f"x has {n} items; the exact distribution is computed of at most {MOST}")
    a, b = ((2 * rankdata(each)).astype(np.int64) for each in (x, y))
    if len(set(a)) < 2 or len(set(b)) < 2:
        return math.nan
    largest = int(np.sort(a) @ np.sort(b))
    ways = {0: np.eye(1, largest + 1, dtype=np.int64)[0]}
    for place in range(n):
        longer: dict[int, NDArray[np.int64]] = {}
        for used, counts in ways.items():
            for item in range(n):
                if not used >> item & 1:
                    shift = int(a[place] * b[item])
                    into = longer.setdefault(used | 1 << item, np.zeros(largest + 1, np.int64))
                    into[shift:] += counts[: largest + 1 - shift]
        ways = longer
    (counts,) = ways.values()
    away = np.abs(n * np.arange(largest + 1) - int(a.sum() * b.sum()))
    found = abs(n * int(a @ b) - int(a.sum() * b.sum()))
    return float(counts[away >= found].sum()) / math.factorial(n)


def copula_interval(found: float, n: int) -> tuple[float, float]:
    """95 % interval of the rank correlation in the population from which n items were drawn, given that of the items.

    It holds the correlations at which neither tail beyond `found` has less than 2.5 %, where the population has the
    copula of a normal distribution. It is of use where a bootstrap is not: at 1, resamples of a perfect order agree.
    """
    if math.isnan(found):
        return math.nan, math.nan
    samples = _samples(n)
    above, below = ((side.mean(1)) for side in (samples >= found - 1e-9, samples <= found + 1e-9))
    low = -math.inf if above[0] > TAIL else float(np.interp(TAIL, np.maximum.accumulate(above), STEPS))
    high = math.inf if below[-1] > TAIL else float(np.interp(-TAIL, -np.minimum.accumulate(below), STEPS))
    return tuple(6 / math.pi * math.asin(math.tanh(end) / 2) for end in (low, high))  # type: ignore[return-value]


@cache
def _samples(n: int) -> Numbers:
    """Rank correlations [steps, DRAWS] of n draws of the normal copula, at the correlations tanh(STEPS)."""
    rng = np.random.default_rng(n)
    x, noise = rng.standard_normal((2, DRAWS, n))
    x.sort(axis=1)
    ranks = np.arange(n) - (n - 1) / 2
    found = []
    for step in STEPS:
        order = (math.tanh(step) * x + noise / math.cosh(step)).argsort(axis=1).argsort(axis=1)
        found.append((order - (n - 1) / 2) @ ranks / float(ranks @ ranks))
    return np.stack(found)
