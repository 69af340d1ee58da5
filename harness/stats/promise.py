"""Keep samples by a score so that few of them are bad: a threshold with a promise that holds for any distribution.

Thresholds are tested one after the other (Learn then Test, arXiv:2110.01052), each exactly, by the binomial law.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.special import bdtr
from torch import Tensor

STARTS = (0.1, 0.25, 0.5, 0.75)
"""Shares kept, at which walks to looser thresholds begin; each walk may err with its part of delta."""
STEP = 0.01
"""By how much of the samples one threshold of a walk is looser than the one before."""


@dataclass(frozen=True)
class Promise:
    """With confidence 1 - delta, at most a share alpha of the samples that score `threshold` or more are bad.

    threshold: NaN where nothing can be promised; then no sample is kept. share: of the samples without labels, how
    many are kept, in [0, 1]. labelled, bad: labels among the kept, and those that say bad.
    needed: number of labels with which a promise may be expected, at the shares seen here; NaN where no number of
            labels helps, since too many of the kept are bad at every start.
    """

    alpha: float
    delta: float
    threshold: float
    share: float
    labelled: int
    bad: int
    needed: float

    @property
    def abstains(self) -> bool:
        return math.isnan(self.threshold)


def promise(
    labelled: Tensor, bad: Tensor, unlabelled: Tensor, alpha: float, delta: float, starts: Sequence[float] = STARTS
) -> Promise:
    """The loosest threshold that can be promised.

    labelled [M]: scores, higher is better, of samples that were drawn at random like the others; bad bool [M]: their
    labels. unlabelled [N]: scores of other samples, from whose quantiles thresholds are chosen. A sample whose score is
    not finite is never kept.

    From each start a walk goes towards keeping more, while P(Binomial(k, alpha) <= d) <= delta / starts for the k
    labelled samples that are kept and the d bad ones among them. Each test errs with that chance at most, a walk errs
    first where it passes the first threshold that breaks the promise, and so all walks together err with delta at most.
    Raises ValueError for alpha or delta outside (0, 1), for columns of unequal length, and without unlabelled samples.
    """
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value} must lie between 0 and 1")
    if labelled.shape != bad.shape:
        raise ValueError(f"labelled has {len(labelled)} scores and bad has {len(bad)} labels; give one for each sample")
    if not len(unlabelled):
        raise ValueError("unlabelled is empty: thresholds are chosen from samples without a label; label fewer of them")
    descending = labelled.double().nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf).sort(descending=True)
    falling = (-descending.values).tolist()
    bad_among = [0, *bad[descending.indices].cumsum(0).tolist()]
    ranked = (-unlabelled.double().nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)).sort().values.tolist()

    def counts(threshold: float) -> tuple[int, int]:
        """How many labelled samples score so much or more, and how many of them are bad."""
        k = bisect_right(falling, -threshold)
        return k, bad_among[k]

    level, best, needed = delta / len(starts), math.inf, math.nan
    for start in starts:
        for step in range(math.ceil((1 - start) / STEP - 1e-9) + 1):
            threshold = _reached_by(ranked, min(1.0, start + step * STEP))
            k, d = counts(threshold)
            if step == 0:
                needed = _least(needed, labels_needed(k / max(len(falling), 1), d / max(k, 1), alpha, level))
            if math.isinf(threshold) or k == 0 or bdtr(d, k, alpha) > level:
                break
            best = min(best, threshold)
    if math.isinf(best):
        return Promise(alpha, delta, math.nan, 0.0, 0, 0, needed)
    return Promise(alpha, delta, best, bisect_right(ranked, -best) / len(ranked), *counts(best), needed)


def labels_needed(kept: float, bad: float, alpha: float, level: float) -> float:
    """Labels with which a threshold passes its test, if a share `kept` of them is kept and of these `bad` are bad.

    NaN where that is never so, since bad >= alpha or nothing is kept.
    """
    if bad >= alpha or kept <= 0:
        return math.nan

    def passes(k: int) -> bool:
        return bool(bdtr(math.ceil(bad * k), k, alpha) <= level)

    high = 1
    while not passes(high):
        high *= 2
    low = high // 2
    while high - low > 1:  # the test is not quite monotone in k, since counts are whole: a number close to the least
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return math.ceil(high / kept)


def _reached_by(negated: Sequence[float], share: float) -> float:
    """The score that this share of the samples reaches; negated: their scores times -1, ascending."""
    return -negated[max(0, round(share * len(negated)) - 1)]


def _least(one: float, other: float) -> float:
    return other if math.isnan(one) else one if math.isnan(other) else min(one, other)


def draw_labelled(n: int, count: int, generator: torch.Generator) -> Tensor:
    """Which of n samples get a label, bool [n]: `count` of them, at random."""
    chosen = torch.zeros(n, dtype=torch.bool)
    chosen[torch.randperm(n, generator=generator)[:count]] = True
    return chosen
