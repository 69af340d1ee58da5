"""95 % intervals: of a mean, a proportion, a standard error, random halves, and resamples."""

import math

import torch
from scipy.special import stdtrit
from torch import Tensor

from ..core.protocols import Estimate

Z95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


def mean(terms: Tensor) -> Estimate:
    """Mean of independent terms [N] (one a sample, or one a disjoint block) with Student's t interval.

    Terms that are not finite have no value: they are left out and counted in `missing`. Fewer than two values have no
    interval, none has no mean: NaN.
    """
    terms = terms.double()
    values = terms[terms.isfinite()]
    n, missing = len(values), len(terms) - len(values)
    if n < 2:
        return Estimate(float(values.mean()) if n else math.nan, (math.nan, math.nan), n, missing)
    value = float(values.mean())
    half = float(stdtrit(n - 1, 0.975)) * float(values.std()) / math.sqrt(n)
    return Estimate(value, (value - half, value + half), n, missing)


def proportion(hits: Tensor) -> Estimate:
    """Share of true values among hits [N] with Wilson's score interval (Wilson 1927), which stays inside [0, 1]."""
    n = hits.numel()
    p = int(hits.sum()) / n
    z2 = Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
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
    return Estimate(value, (value - Z95 * standard_error, value + Z95 * standard_error), n)


def percentile_interval(resampled: Tensor, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """Percentile interval over the first axis."""
    tail = (1 - level) / 2
    return torch.quantile(resampled, tail, dim=0), torch.quantile(resampled, 1 - tail, dim=0)
