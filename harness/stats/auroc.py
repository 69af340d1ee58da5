"""How well a score separates two groups of samples: the area under the ROC curve, with DeLong's interval."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.protocols import Estimate
from .intervals import Z95

FEWEST = 2
"""Minimum number of samples of each group in a stratum; a smaller stratum has no variance and is left out."""


class Separation(NamedTuple):
    """The area under a ROC curve, and the contribution of each sample to its error.

    value: in [0, 1]; NaN when no stratum has enough samples of both groups.
    influence [N] float64: the sum of its squares is DeLong's variance of the value; 0 for samples that are left out.
    positive, negative: the numbers of samples of each group that are used.
    """

    value: float
    influence: Tensor
    positive: int
    negative: int


def separation(scores: Tensor, positive: Tensor, strata: Tensor | None = None) -> Separation:
    """P(score of a positive > score of a negative) for scores [N] and positive bool [N]; a tie counts half.

    strata [N]: only pairs within a stratum are compared, so a quantity that is constant within strata cannot help; all
    pairs have equal weight. The variance is that of DeLong et al. 1988 (https://doi.org/10.2307/2531595) within each
    stratum, conditional on the sizes of the strata.
    """
    scores = scores.double()
    influence = torch.zeros_like(scores)
    groups = torch.zeros(len(scores)) if strata is None else strata
    parts = []
    for stratum in torch.unique(groups):
        a, b = (((groups == stratum) & side).nonzero()[:, 0] for side in (positive, ~positive))
        if min(len(a), len(b)) >= FEWEST:
            parts.append((a, b, _share_below(scores[a], scores[b]), _share_below(scores[b], scores[a])))
    pairs = sum(len(a) * len(b) for a, b, _, _ in parts)
    value = 0.0
    for a, b, below_a, below_b in parts:
        weight = len(a) * len(b) / pairs
        value += weight * float(below_a.mean())
        influence[a] = weight * (below_a - below_a.mean()) / math.sqrt(len(a) * (len(a) - 1))
        influence[b] = weight * (below_b.mean() - below_b) / math.sqrt(len(b) * (len(b) - 1))
    counts = [sum(len(part[side]) for part in parts) for side in (0, 1)]
    return Separation(value if parts else math.nan, influence, *counts)


def area(found: Separation, missing: int = 0) -> Estimate:
    """The area of a separation with its 95 % interval, in [0, 1]; the interval is normal for the log odds of the area.

    If the groups do not overlap, DeLong's variance is 0. The interval is then the exact binomial one for as many
    independent pairs as the smaller group has samples, all of them in the same order.
    """
    value, n = found.value, found.positive + found.negative
    if math.isnan(value):
        return Estimate(value, (math.nan, math.nan), n, missing)
    if value in (0.0, 1.0):
        bound = 0.025 ** (1 / min(found.positive, found.negative))
        return Estimate(value, (bound, 1.0) if value else (0.0, 1 - bound), n, missing)
    odds, error = math.log(value / (1 - value)), float(found.influence.norm()) / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-odds - side * Z95 * error)) for side in (-1, 1))
    return Estimate(value, (low, high), n, missing)


def difference(one: Separation, other: Separation) -> Estimate:
    """The area of one score minus that of another on the same samples, with a paired normal interval."""
    value, half = one.value - other.value, Z95 * float((one.influence - other.influence).norm())
    return Estimate(value, (value - half, value + half), one.positive + one.negative)


def _share_below(scores: Tensor, others: Tensor) -> Tensor:
    """For each score, the share of `others` below it; a tie counts half."""
    ordered = others.sort().values
    left, right = (torch.searchsorted(ordered, scores, right=side) for side in (False, True))
    return (left + right).double() / (2 * len(others))
