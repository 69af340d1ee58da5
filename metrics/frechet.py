"""Fréchet distance between Gaussians fitted to two sets of features (FID when the features are Inception's pool3)."""

import math

import torch
from torch import Tensor

from ..harness.protocols import Estimate, View
from ..harness.registry import metric
from . import intervals
from .distances import full_precision
from .inputs import Array, row_blocks, samples
from .moments import Moments, moments

TOLERANCE = 1e-6
"""Rounding can leave equal sets this share of the two traces below 0: such values are reported as 0."""


@metric(
    better="lower",
    kind="set",
    source="arXiv:1706.08500 eq. 6",
    fake=View("fake", "features"),
    real=View("real", "features", n="all"),
)
def frechet_distance(fake: Array, real: Array) -> Estimate:
    """Squared Fréchet distance of the fitted Gaussians, at least 0, lower is better; sets [M, D] and [N, D].

        |mu_g - mu_r|^2 + tr S_g + tr S_r - 2 tr (S_r S_g)^(1/2)

    S divides by n - 1. Accurate to about 1e-8 of the traces. Biased upward by about 1/M + 1/N: compare at equal sizes,
    see `frechet_infinity`. The interval (delta method, closed form) covers the spread of this estimate, not that bias.
    FID only with the original Inception features. Raises ValueError for bad input or fewer than 2 rows.
    """
    y, x = samples(2, fake=fake, real=real)
    return _frechet(y, x)


@metric(
    better="lower",
    kind="set",
    source="arXiv:1911.07023",
    fake=View("fake", "features"),
    real=View("real", "features", n="all"),
)
def frechet_infinity(fake: Array, real: Array, sizes: int = 15, seed: int = 0) -> Estimate:
    """Fréchet distance extrapolated to endlessly many generated samples; lower is better, may be below 0.

    The distance of `sizes` subsets of the M generated rows (drawn without replacement with `seed`) to all reals is
    fitted as a line in 1 / size; the value is its intercept. Sizes are evenly spaced up to M, from M / 10 or 5,000,
    whichever is less, but at least 2 D where M allows it, since below D the line bends. The real side's bias stays.
    The interval joins the spread of the distance at M and the standard error of the intercept.
    Raises ValueError for bad input, fewer than 3 sizes, or M < D + 10.
    """
    y, x = samples(2, fake=fake, real=real)
    m, dimension = y.shape
    if sizes < 3:
        raise ValueError(f"sizes is {sizes}; a line with an error needs at least 3")
    if m < dimension + 10:
        raise ValueError(f"fake has {m} rows of {dimension} dimensions; extrapolation needs at least {dimension + 10}")
    whole, reference = _frechet(y, x), Factor.of(x)
    start = max(min(5000, m // 10), min(2 * dimension, m // 2), 2)
    counts = torch.linspace(start, m, sizes, dtype=torch.float64).long()
    generator = torch.Generator().manual_seed(seed)
    values = []
    for count in counts.tolist():
        subset = y[torch.randperm(m, generator=generator)[:count].to(y.device)]
        values.append(_value(Factor.of(subset), reference))
    inverse, value = 1 / counts.double(), torch.tensor(values, dtype=torch.float64)
    centred = inverse - inverse.mean()
    slope = float(centred @ value / centred.square().sum())
    intercept = float(value.mean()) - slope * float(inverse.mean())
    residual = float((value - intercept - slope * inverse).square().sum()) / (sizes - 2)
    fit = residual * (1 / sizes + float(inverse.mean()) ** 2 / float(centred.square().sum()))
    sampling = (whole.interval[1] - whole.value) / intervals.NORMAL
    return intervals.normal(intercept, math.sqrt(fit + sampling**2), m)


@metric(
    better="neither",
    kind="set",
    source="arXiv:1706.08500 eq. 6",
    holdout=View("holdout", "features"),
    real=View("real", "features", n="all"),
)
def frechet_floor(holdout: Array, real: Array) -> Estimate:
    """Fréchet distance of held-out real samples to the reals: what a perfect generator would score."""
    y, x = samples(2, holdout=holdout, real=real)
    return _frechet(y, x)


class Factor:
    """Moments of a set and F [r, D] with F'F = covariance: its centred rows when fewer than D, else Cholesky's."""

    def __init__(self, n: int, mean: Tensor, rows: Tensor):
        self.n, self.mean, self.rows = n, mean, rows
        self.trace = float(rows.square().sum())

    @classmethod
    def of(cls, x: Tensor) -> "Factor":
        known = centred_rows(x) if len(x) < x.shape[1] else None
        return known or cls.from_moments(moments(x))

    @classmethod
    def from_moments(cls, known: Moments) -> "Factor":
        covariance = known.covariance
        lower, failed = torch.linalg.cholesky_ex(covariance)
        if not failed:
            return cls(known.n, known.mean, lower.T)
        values, vectors = torch.linalg.eigh(covariance)
        return cls(known.n, known.mean, values.clamp(min=0).sqrt()[:, None] * vectors.T)


def centred_rows(x: Tensor) -> Factor:
    rows = x.double()
    mean = rows.mean(0)
    return Factor(len(x), mean, (rows - mean) / math.sqrt(len(x) - 1))


def _frechet(y: Tensor, x: Tensor) -> Estimate:
    fake, real = Factor.of(y), Factor.of(x)
    shift = fake.mean - real.mean
    # tr (S_r S_g)^(1/2) is the nuclear norm of C = F_r F_g', found from C C' = U diag(s^2) U'.
    product = real.rows @ fake.rows.T
    tall = len(product) > product.shape[1]
    roots, vectors = torch.linalg.eigh(product.T @ product if tall else product @ product.T)
    roots = roots.clamp(min=0).sqrt()
    value = distance(fake, real, float(roots.sum()))
    kept = roots > TOLERANCE * roots[-1]
    roots, vectors = roots[kept], vectors[:, kept]
    mates = (product @ vectors if tall else product.T @ vectors) / roots
    left, right = (mates, vectors) if tall else (vectors, mates)
    # T_g = F_r' U diag(1/s) U' F_r carries the fakes' Gaussian onto the reals'; T_r, with F_g and V, carries back.
    variance = _influence(y, fake.mean, shift, real.rows.T @ (left / roots.sqrt())) / len(y)
    variance += _influence(x, real.mean, -shift, fake.rows.T @ (right / roots.sqrt())) / len(x)
    return non_negative(intervals.normal(value, math.sqrt(variance), len(y)))


def frechet_of_moments(fake: Moments, real: Moments) -> float:
    """The distance from moments alone, for sets that were streamed or merged from shards (`metrics.moments`)."""
    return _value(Factor.from_moments(fake), Factor.from_moments(real))


def _value(fake: Factor, real: Factor) -> float:
    product = real.rows @ fake.rows.T
    square = product.T @ product if len(product) > product.shape[1] else product @ product.T
    return distance(fake, real, float(torch.linalg.eigvalsh(square).clamp(min=0).sqrt().sum()))


def non_negative(estimate: Estimate) -> Estimate:
    low, high = estimate.interval
    return estimate._replace(interval=(max(0.0, low), high))


def distance(fake: Factor, real: Factor, nuclear: float) -> float:
    """The formula, given tr (S_r S_g)^(1/2); values below 0 by rounding alone become 0."""
    scale = fake.trace + real.trace
    raw = float((fake.mean - real.mean).square().sum()) + scale - 2 * nuclear
    if raw < -TOLERANCE * scale:
        raise ArithmeticError(f"the Fréchet distance came out as {raw:g} against traces {scale:g}: ill-scaled features")
    return max(0.0, raw)


def _influence(x: Tensor, mean: Tensor, shift: Tensor, root: Tensor) -> float:
    """Variance over rows of psi(x) = 2 shift.(x - mean) + (x - mean)'(I - T)(x - mean) with T = root root'."""
    middle, factor, twice = mean.to(x.dtype), root.to(x.dtype), 2 * shift.to(x.dtype)
    terms = []
    for block in row_blocks(x):
        centred = block - middle
        with full_precision():
            carried = torch.mm(centred, factor, out=x.new_empty(len(block), factor.shape[1]))
        terms.append((centred * (centred + twice)).sum(1).double() - carried.square_().sum(1).double())
    return float(torch.cat(terms).var())
