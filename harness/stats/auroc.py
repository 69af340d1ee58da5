"""How well a score tells two groups of samples apart: the area under the ROC curve, with DeLong's interval."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.protocols import Estimate
from .intervals import Z95

FEWEST = 2
"""Samples of each group that a stratum must have to take part: fewer have no variance."""


class Separation(NamedTuple):
    """The area under a ROC curve, and what each sample adds to its error.

    value: NaN where no stratum has enough samples of both groups.
    influence [N] float64: its squares add up to DeLong's variance of the value; 0 for samples that take no part.
    positive, negative: how many of each group take part.
    """

    value: float
    influence: Tensor
    positive: int
    negative: int


def separation(scores: Tensor, positive: Tensor, strata: Tensor | None = None) -> Separation:
    """P(score of a positive > score of a negative), ties count half, of scores [N] and positive bool [N].

    strata [N]: only pairs of one stratum are compared, so that what is equal within strata cannot help; all pairs count
    alike. The variance is that of DeLong et al. 1988 (https://doi.org/10.2307/2531595) within each stratum, for strata
    of given sizes.
    """
    scores = scores.double()
    influence = torch.zeros_like(scores)
    groups = torch.zeros(len(scores)) if strata is None else strata
    parts = []
    for stratum in torch.unique(groups):
        ones, others = (((groups == stratum) & side).nonzero()[:, 0] for side in (positive, ~positive))
        if min(len(ones), len(others)) >= FEWEST:
            parts.append((ones, others, _below(scores[ones], scores[others]), _below(scores[others], scores[ones])))
    pairs = sum(len(ones) * len(others) for ones, others, _, _ in parts)
    value = 0.0
    for ones, others, beaten, beating in parts:
        weight = len(ones) * len(others) / pairs
        value += weight * float(beaten.mean())
        influence[ones] = weight * (beaten - beaten.mean()) / math.sqrt(len(ones) * (len(ones) - 1))
        influence[others] = weight * (beating.mean() - beating) / math.sqrt(len(others) * (len(others) - 1))
    counts = [sum(len(part[side]) for part in parts) for side in (0, 1)]
    return Separation(value if parts else math.nan, influence, *counts)


def area(found: Separation, missing: int = 0) -> Estimate:
    """A separation with its 95 % interval, in [0, 1]: normal for the log odds of the area.

    Where the groups do not overlap at all, DeLong's variance is 0; the interval is then what as many separate pairs as
    the smaller group has would leave, all of them in the same order.
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
    """How much more area one score has than another on the same samples, with its paired normal interval."""
    value, half = one.value - other.value, Z95 * float((one.influence - other.influence).norm())
    return Estimate(value, (value - half, value + half), one.positive + one.negative)


def _below(scores: Tensor, others: Tensor) -> Tensor:
    """For each score, the share of the others below it; equal ones count half."""
    ordered = others.sort().values
    left, right = (torch.searchsorted(ordered, scores, right=side) for side in (False, True))
    return (left + right).double() / (2 * len(others))
