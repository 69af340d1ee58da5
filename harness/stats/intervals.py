"""95 % intervals in closed form: a mean of per-sample terms or of disjoint blocks, a proportion, a standard error."""

import math

import torch
from scipy.special import stdtrit
from torch import Tensor

from ..core.protocols import Estimate

NORMAL = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


def mean(terms: Tensor) -> Estimate:
    """Mean of independent terms [N] (one a sample, or one a disjoint block) with Student's t interval.

    NaN terms have no value: they are left out and counted in `missing`. ValueError with fewer than two values.
    """
    terms = terms.double()
    values = terms[~torch.isnan(terms)]
    n = len(values)
    if n < 2:
        raise ValueError(f"{n} of {len(terms)} terms have a value; an interval needs at least 2")
    value = float(values.mean())
    half = float(stdtrit(n - 1, 0.975)) * float(values.std()) / math.sqrt(n)
    return Estimate(value, (value - half, value + half), n, len(terms) - n)


def proportion(hits: Tensor) -> Estimate:
    """Share of true values among hits [N] with Wilson's score interval (Wilson 1927), which stays inside [0, 1]."""
    n = hits.numel()
    p = int(hits.sum()) / n
    z2 = NORMAL**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(p, (max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p))), n)


def half_samples(whole: float, halves: Tensor, n: int) -> Estimate:
    """A statistic of n samples with Student's t interval from its values [B] of random halves of them.

    The spread over halves without replacement is the standard error of the whole (the delete-half jackknife, Shao and
    Wu 1989, which also serves statistics that are no smooth function of the samples). For means it is exact; where
    balls reach to neighbours, as in precision and recall, it errs on the wide side. NaN where no half differs from
    another but all do from the whole: too few samples count.
    """
    spread = float(halves.double().std())
    if spread == 0 and float(halves[0]) != whole:
        return Estimate(whole, (math.nan, math.nan), n)
    half = float(stdtrit(len(halves) - 1, 0.975)) * spread
    return Estimate(whole, (whole - half, whole + half), n)


def normal(value: float, standard_error: float, n: int) -> Estimate:
    """value plus and minus 1.96 standard errors."""
    return Estimate(value, (value - NORMAL * standard_error, value + NORMAL * standard_error), n)
