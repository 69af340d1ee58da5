"""Fréchet distance between Gaussians fitted to two sets of features (FID when the features are Inception's pool3)."""

import functools
import math
from dataclasses import replace
from hashlib import blake2b
from typing import Annotated, overload

import numpy as np
import torch
from torch import Tensor

from ..harness.core.inputs import POOL3, Array, require_pool3, row_blocks, samples, samples_or_statistics
from ..harness.core.options import Range, Seed
from ..harness.core.precision import full_precision
from ..harness.core.protocols import Estimate, Statistics, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.alone import drawn
from .kernels.distances import mean_of
from .kernels.moments import STRIP, Moments, add_gram, gram, moments, strips
from .kernels.products import lower_product, product, solved
from .kernels.scale import power_of_two, scaled
from .kernels.spectrum import Spectrum, cholesky

TOLERANCE = 1e-6
"""Rounding can make the distance of equal sets negative, by this share of both traces at most; it is reported as 0."""


@metric(
    better="lower",
    kind="set",
    source="arXiv:1706.08500 eq. 6",
    moments=("fake", "real"),
    fake=View("fake", "features"),
    real=View("real", "features", n="all"),
)
def frechet_distance(fake: Array | Statistics, real: Array | Statistics) -> Estimate:
    """Squared Fréchet distance between fitted Gaussians, at least 0, lower is better; sets [M, D] and [N, D].

        |mu_g - mu_r|^2 + tr S_g + tr S_r - 2 tr (S_r S_g)^(1/2)

    The covariances S divide by n - 1. The value is accurate to about 1e-8 of the traces, and to 1e-6 where a covariance
    is singular. Its upward bias is proportional to about 1/M + 1/N, so compare sets of equal sizes, or use
    `frechet_infinity`. The interval (delta method, closed form) covers the spread of the estimate but not its bias.
    `fid` is this distance in the features of the original Inception network.

    A set may be given as `Statistics`, its mean and covariance. Without rows, the real set is taken as fixed: the
    interval is for other generated samples alone. Without rows of the generated set there is no interval (NaN).
    Raises ValueError for bad input or fewer than 2 rows.
    """
    return _frechet(*samples_or_statistics(2, fake=fake, real=real))


@metric(
    better="lower",
    kind="set",
    source="arXiv:1706.08500 eq. 6",
    fixed_features=True,
    moments=("fake", "real"),
    fake=View("fake", "inception"),
    real=View("real", "inception", n="all"),
)
def fid(fake: Array | Statistics, real: Array | Statistics) -> Estimate:
    """FID: `frechet_distance` of the Inception pool3 features that all published values use; lower is better.

    Features [M, 2048] and [N, 2048], or their `Statistics`. Papers use 50,000 generated samples (n=50000) and all
    training images. Raises ValueError for bad input, fewer than 2 rows, or arrays of another shape, such as images.
    """
    for name, given in (("fake", fake), ("real", real)):
        if not isinstance(given, Statistics):
            require_pool3(**{name: given})
        elif len(given.mean) != POOL3:
            raise ValueError(
                f"{name} has {len(given.mean)} dimensions; FID is of {POOL3} features of Inception: for others choose "
                "frechet_distance"
            )
    return _frechet(*samples_or_statistics(2, fake=fake, real=real))


@metric(
    better="lower",
    kind="set",
    source="arXiv:1911.07023",
    moments=("real",),
    fake=View("fake", "features"),
    real=View("real", "features", n="all"),
)
def frechet_infinity(
    fake: Array, real: Array | Statistics, sizes: Annotated[int, Range(least=3)] = 15, seed: Seed = 0
) -> Estimate:
    """Fréchet distance extrapolated to infinitely many generated samples; lower is better; it may be negative.

    `sizes` subsets of the M generated rows are drawn without replacement with `seed`. A line in 1 / size is fitted to
    their distances to all real samples, and the value is its intercept. Sizes are evenly spaced and end at M. They
    start at the smaller of M / 10 and 5,000, but at 2 D or more where M allows it, because the relation is not linear
    below D. The bias from the number of real samples remains. The interval combines the spread of the distance at M
    with the standard error of the intercept, which needs 3 sizes or more. The real set may be given as `Statistics`.
    Raises ValueError for bad input or M < D + 10.
    """
    samples(2, fake=fake)  # a generated set that is known by its moments has no subsets
    y, x = samples_or_statistics(2, fake=fake, real=real)
    assert isinstance(y, Tensor)
    m, dimension = y.shape
    if m < dimension + 10:
        raise ValueError(f"fake has {m} rows of {dimension} dimensions; extrapolation needs at least {dimension + 10}")
    power = _power(y, x)
    y, x = scaled(y, power), _scaled(x, power)
    whole, reference = _frechet(y, x), Gaussian.of(_in_order(x))
    start = max(min(5000, m // 10), min(2 * dimension, m // 2), 2)
    counts = torch.linspace(start, m, sizes, dtype=torch.float64).long()
    generator = torch.Generator().manual_seed(seed)
    values = []
    for count in counts.tolist():
        subset = y[torch.randperm(m, generator=generator)[:count].to(y.device)]
        values.append(_value(Gaussian.of(subset), reference))
    inverse, value = 1 / counts.double(), torch.tensor(values, dtype=torch.float64)
    centred = inverse - inverse.mean()
    slope = float(centred @ value / centred.square().sum())
    intercept = float(value.mean()) - slope * float(inverse.mean())
    residual = float((value - intercept - slope * inverse).square().sum()) / (sizes - 2)
    fit = residual * (1 / sizes + float(inverse.mean()) ** 2 / float(centred.square().sum()))
    sampling = (whole.interval[1] - whole.value) / intervals.Z95
    return _unscaled(intervals.normal(intercept, math.sqrt(fit + sampling**2), m), power)


@metric(
    better="neither",
    kind="set",
    source="arXiv:1706.08500 eq. 6",
    holdout=View("holdout", "features"),
    real=View("real", "features", n="all"),
)
def frechet_floor(holdout: Array, real: Array) -> Estimate:
    """Fréchet distance between held-out real samples and the real ones: the score of a perfect generator."""
    return _frechet(*samples(2, holdout=holdout, real=real))


class Gaussian:
    """Mean [D] and covariance S of a set, float64.

    `data` is S [D, D]. When there are no more samples than dimensions (`few`), `data` is instead n - 1 combinations of
    the centred samples, [n - 1, D], so that data' data = S.
    """

    def __init__(self, mean: Tensor, data: Tensor, *, few: bool = False):
        self.mean, self.data, self.few = mean, data, few
        # By rows first: torch shares one long sum out among its threads, and the last digits depend on how.
        self.trace = float(data.square().sum(1).sum() if few else data.trace())

    @classmethod
    def of(cls, x: Tensor | Statistics) -> "Gaussian":
        if isinstance(x, Statistics):
            return cls(x.mean, x.covariance)
        return centred_rows(x) if len(x) <= x.shape[1] else cls.from_moments(moments(x))

    @classmethod
    def from_moments(cls, known: Moments) -> "Gaussian":
        return cls(known.mean, known.covariance)

    @functools.cached_property
    def root(self) -> tuple[Tensor, bool]:
        """F [r, D] with F'F = S, and whether F is upper triangular with a numerically stable inverse."""
        if self.few:
            return self.data, False
        upper = cholesky(self.data)
        if upper is not None:
            pivots = upper.diagonal()
            return upper, bool(pivots.min() > TOLERANCE * pivots.max())
        spectrum = Spectrum(self.data)
        values, vectors = spectrum.values, spectrum.vectors()
        _require_no_negative(values, float(values.abs().max()))
        return values.clamp(min=0).sqrt()[:, None] * vectors.T, False

    def between(self, root: Tensor) -> Tensor:
        """Lower triangle of F S F' [r, r], for the root F [r, D] of another Gaussian."""
        if self.few:
            return gram(product(self.data, root.T))
        square = root.new_zeros(len(root), len(root))
        triangular = not bool(root.tril(-1).any())
        for strip in strips(len(root)):
            rest = slice(strip.start if triangular else 0, None)
            half = product(self.data[rest, rest], root[strip, rest].T)
            for rows in strips(len(root))[strip.start // STRIP :]:
                some = slice(rows.start if triangular else 0, None)
                square[rows, strip] = product(root[rows, some], half[some.start - rest.start :])
        return square

    def times(self, columns: Tensor) -> Tensor:
        """S columns."""
        return product(self.data.T, product(self.data, columns)) if self.few else product(self.data, columns)


def centred_rows(x: Tensor) -> Gaussian:
    """The mean, and rows R with R'R = S: the centred rows after a reflection that takes (1, ..., 1) to the first axis.

    The sum of centred rows is 0. So the first row of the reflected ones is, and is left out: kept, it would give the
    matrix of products an eigenvalue that is rounding alone, of which the distance has the square root. That is 1e-10 of
    the distance and depends on the order of the rows.
    """
    mean = mean_of(x)
    centred = (x - mean) / math.sqrt(len(x) - 1)
    return Gaussian(mean, centred[1:] - centred[0] / (math.sqrt(len(x)) + 1), few=True)


def _frechet(y: Tensor | Statistics, x: Tensor | Statistics) -> Estimate:
    power = _power(y, x)
    y, x = _in_order(_scaled(y, power)), _in_order(_scaled(x, power))
    sides = (Gaussian.of(x), *_rows(x)), (Gaussian.of(y), *_rows(y))
    (a, at, n), (b, bt, m) = sorted(sides, key=lambda side: len(side[0].data))
    root, invertible = a.root
    spectrum = Spectrum(b.between(root))
    value = _distance(a, b, spectrum)
    rows, count = _rows(y)
    if rows is None or not drawn():
        return _unscaled(Estimate(value, (math.nan, math.nan), count), power)
    # With F S_b F' = U diag(s^2) U', the map T_b = F'U diag(1/s) U'F transports b's Gaussian onto a's, and
    # T_a = F^-1 U diag(s) U'F^-T transports it back. Where F has no inverse, T_a = S_b F'U diag(1/s^3) U'F S_b, which
    # amplifies rounding and is therefore computed in float64.
    roots = spectrum.values.clamp(min=0).sqrt()
    null = int((roots <= TOLERANCE * roots[-1]).sum())
    kind = rows.dtype if invertible else torch.float64
    roots, root, vectors = roots[null:], root.to(kind), spectrum.vectors(null, kind)
    scale = roots.sqrt().to(kind)
    variance = 0.0
    with full_precision():
        onto = vectors / scale
        onto = lower_product(root.T, onto) if invertible else product(root.T, onto)
        if bt is not None:
            variance += _influence(bt, b.mean, b.mean - a.mean, onto) / m
        if at is not None:
            back = solved(root.T, vectors * scale) if invertible else b.times(onto) / roots
            variance += _influence(at, a.mean, a.mean - b.mean, back) / n
    return _unscaled(_non_negative(intervals.normal(value, math.sqrt(variance), count)), power)


@overload
def _in_order(x: Tensor) -> Tensor: ...
@overload
def _in_order(x: Tensor | Statistics) -> Tensor | Statistics: ...
def _in_order(x: Tensor | Statistics) -> Tensor | Statistics:
    """Few rows in an order that they themselves decide, so that no digit depends on the one they came in."""
    if not isinstance(x, Tensor) or len(x) > x.shape[1]:
        return x
    rows = x.contiguous().cpu().numpy()
    return x[sorted(range(len(x)), key=lambda row: blake2b(rows[row].tobytes()).digest())]


def _rows(x: Tensor | Statistics) -> tuple[Tensor | None, int]:
    """The rows from which the spread of a set is found, if there are two or more, and how many rows it has in all."""
    rows, n = (x, len(x)) if isinstance(x, Tensor) else (x.rows, x.n or 0)
    return (None, n) if rows is None or min(len(rows), n) < 2 else (rows, n)


def _power(*sets: Tensor | Statistics) -> float:
    """The power of two that brings sets, or the means and standard deviations that stand for them, into range."""
    sizes = [(x,) if isinstance(x, Tensor) else (x.mean, x.covariance.diagonal().clamp(min=0).sqrt()) for x in sets]
    return power_of_two(*(size for pair in sizes for size in pair))


@overload
def _scaled(x: Tensor, power: float) -> Tensor: ...
@overload
def _scaled(x: Tensor | Statistics, power: float) -> Tensor | Statistics: ...
def _scaled(x: Tensor | Statistics, power: float) -> Tensor | Statistics:
    if isinstance(x, Tensor):
        return scaled(x, power)
    rows = None if x.rows is None else scaled(x.rows, power)
    return replace(x, mean=x.mean * power, covariance=x.covariance * power * power, rows=rows)


def _unscaled(squared: Estimate, power: float) -> Estimate:
    """The squared distance of features that were multiplied by `power`, in their own unit."""
    value, low, high = (end / power / power for end in (squared.value, *squared.interval))
    return squared._replace(value=value, interval=(low, high))


def frechet_value(fake: Tensor, real: Tensor) -> float:
    """`frechet_distance` of sets [M, D] and [N, D] without its interval, which takes most of the time of small sets."""
    y, x = samples(2, fake=fake, real=real)
    power = _power(y, x)
    a, b = (Gaussian.of(_in_order(scaled(rows, power))) for rows in (y, x))
    return _value(a, b) / power / power


def frechet_of_moments(fake: Moments, real: Moments) -> float:
    """The distance computed from moments only, for streamed sets or merged shards; see `kernels.moments`."""
    return _value(Gaussian.from_moments(fake), Gaussian.from_moments(real))


def _value(fake: Gaussian, real: Gaussian) -> float:
    a, b = sorted((real, fake), key=lambda side: len(side.data))
    return _distance(a, b, Spectrum(b.between(a.root[0])))


def _non_negative(estimate: Estimate) -> Estimate:
    low, high = estimate.interval
    return estimate._replace(interval=(max(0.0, low), high))


def _distance(a: Gaussian, b: Gaussian, spectrum: Spectrum) -> float:
    """The formula, given that of F S_b F' with F'F = S_a: the eigenvalues of S_a S_b; negative values become 0.

    Raises ValueError when the value is more negative than rounding explains.
    """
    squares = spectrum.values
    _require_no_negative(squares, abs(a.trace * b.trace))
    nuclear = float(squares.clamp(min=0).sqrt().sum())
    scale = a.trace + b.trace
    raw = float((a.mean - b.mean).square().sum()) + scale - 2 * nuclear
    if raw < -TOLERANCE * scale:
        raise ValueError(
            f"the Fréchet distance is {raw:g} with traces {scale:g}: the features are badly scaled; standardise them"
        )
    return max(0.0, raw)


def _require_no_negative(values: Tensor, scale: float) -> None:
    """ValueError for ascending eigenvalues that are negative beyond rounding: they are of no covariance."""
    if (least := float(values[0])) < -TOLERANCE * scale:
        raise ValueError(f"a covariance has a negative eigenvalue ({least:g} at scale {scale:g}): it is of no samples")


def _influence(x: Tensor, mean: Tensor, shift: Tensor, root: Tensor) -> float:
    """Variance over rows of psi(x) = 2 shift.(x - mean) + (x - mean)'(I - T)(x - mean) with T = root root'."""
    factor, twice = root.to(x.dtype), 2 * shift.to(x.dtype)
    # z'(I - T)z equals z'Wz for every W with the same symmetric part. A triangular W needs half the products.
    weights = add_gram(x.new_zeros(x.shape[1], x.shape[1]), factor.T).tril_().mul_(-2)
    weights.diagonal().mul_(0.5).add_(1)
    terms = []
    blocks = row_blocks(x)
    wide = torch.empty(blocks[0].shape, dtype=torch.float64, device=x.device)
    buffers = torch.empty(2, *wide.shape, dtype=x.dtype, device=x.device)
    for block in blocks:
        centred, carried = buffers[:, : len(block)]
        # A mean in float32 would lose digits where features share an offset.
        centred.copy_(wide[: len(block)].copy_(block).sub_(mean))
        carried = lower_product(weights, carried.copy_(centred).T).T
        terms.append(carried.add_(twice).mul_(centred).sum(1).double())
    return float(np.var(torch.cat(terms).cpu().numpy(), ddof=1))
