"""95 % confidence intervals: from independent terms, counts, a standard error, random halves, and resamples."""

import math
from collections.abc import Sequence

import torch
from scipy.special import stdtrit
from torch import Tensor

from ..core.protocols import Estimate

Z95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


def mean(terms: Tensor) -> Estimate:
    """Mean of independent terms [N] (one per sample or per disjoint block) with Student's t interval.

    Terms that are not finite are left out and counted in `missing`. The interval is NaN for fewer than two finite
    terms; the mean is NaN for none.
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
    """A statistic of n samples with Student's t interval from its values `halves` [B] on random halves of the samples.

    The standard deviation over halves drawn without replacement estimates the standard error of the whole (the
    delete-half jackknife, Shao and Wu 1989, which also holds for statistics that are not smooth functions of the
    samples). It is exact for means and conservative for statistics of neighbour balls, such as precision and recall.
    The interval is NaN if all halves agree with each other but not with the whole: then too few samples matter.
    """
    spread = float(halves.double().std())
    if spread == 0 and float(halves[0]) != whole:
        return Estimate(whole, (math.nan, math.nan), n)
    half = float(stdtrit(len(halves) - 1, 0.975)) * spread
    return Estimate(whole, (whole - half, whole + half), n)


def bounded(whole: float, halves: Tensor | None, n: int, least: float = -math.inf, most: float = math.inf) -> Estimate:
    """`half_samples` for a statistic within [least, most]; without halves the interval is NaN."""
    if halves is None:
        return Estimate(whole, (math.nan, math.nan), n)
    found = half_samples(whole, halves, n)
    low, high = found.interval
    return found if math.isnan(low) else found._replace(interval=(max(least, low), min(most, high)))


def share(hits: Tensor, halves: Tensor | None) -> Estimate:
    """Share of true values among hits [N], with the interval of its values in random halves [H].

    Nowhere is the interval within Wilson's, which is for independent hits and allows for shares near 0 and 1. It is NaN
    without halves, and where these agree with each other but not with the whole.
    """
    independent = proportion(hits)
    low, high = bounded(independent.value, halves, independent.n, least=0, most=1).interval
    interval = min(low, independent.interval[0]), max(high, independent.interval[1])
    return independent._replace(interval=(math.nan, math.nan) if math.isnan(low) else interval)


def normal(value: float, standard_error: float, n: int) -> Estimate:
    """A value with its normal interval, plus and minus 1.96 standard errors."""
    return Estimate(value, (value - Z95 * standard_error, value + Z95 * standard_error), n)


def percentile_interval(resampled: Tensor, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """Lower and upper end [...] of the percentile interval over the first axis of [R, ...]."""
    tail = (1 - level) / 2
    return torch.quantile(resampled, tail, dim=0), torch.quantile(resampled, 1 - tail, dim=0)


def pooled(seeds: Sequence[Estimate]) -> Estimate:
    """The mean of one number over seeds, with an interval that contains how seeds differ.

    Seeds may share real samples, and then err together, which their spread does not show. So each end is as far from
    the mean as the root of the summed squares of two distances: that of Student's t interval of the mean over seeds,
    and the mean distance within single seeds, which no number of seeds makes smaller. It is conservative where seeds
    share nothing. n and missing are sums. A single seed is returned as it is; undefined values are left out, and the
    interval is NaN where one of the others has none.
    """
    if len(seeds) == 1:
        return seeds[0]
    n, missing = sum(seed.n for seed in seeds), sum(seed.missing for seed in seeds)
    known = [seed for seed in seeds if not math.isnan(seed.value)]
    if len(known) < 2:
        return (
            known[0]._replace(n=n, missing=missing) if known else Estimate(math.nan, (math.nan, math.nan), n, missing)
        )
    count, value = len(known), math.fsum(seed.value for seed in known) / len(known)
    deviation = math.sqrt(math.fsum((seed.value - value) ** 2 for seed in known) / (count - 1))
    spread = float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count)
    below, above = (math.fsum(abs(seed.value - seed.interval[end]) for seed in known) / count for end in (0, 1))
    return Estimate(value, (value - math.hypot(spread, below), value + math.hypot(spread, above)), n, missing)


def mean_of_independent(terms: Sequence[Estimate]) -> Estimate:
    """The mean of independent numbers, with the interval that their own give, which need not be symmetric.

    Each end is as far from the mean as the root of the summed squares of the distances of their ends, over their number
    (Zou and Donner 2008, https://doi.org/10.1002/sim.3095).
    """
    count, value = len(terms), math.fsum(term.value for term in terms) / len(terms)
    below, above = (math.hypot(*(term.value - term.interval[end] for term in terms)) / count for end in (0, 1))
    return Estimate(value, (value - below, value + above), sum(term.n for term in terms))
