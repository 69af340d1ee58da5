"""Kernel distances between sets of features: KID and CMMD, two squared maximum mean discrepancies."""

import math
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from ..harness.core.inputs import Array, pool3, samples
from ..harness.core.options import Positive, Range, Seed
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.alone import drawn
from .kernels.distances import centred_norms, mean_of
from .kernels.memo import remember
from .kernels.scale import power_of_two, scaled
from .kernels.squared import squared_distances

Block = Annotated[int, Range(least=2)]
BLOCK, CACHED = 1024, 1 << 18
"""Maximum number of rows of a kernel matrix that are in memory at once, and of its entries on a CPU if rows allow."""

LINEAR = 0.1
"""A Gaussian kernel is linear to within 5 % while its exponents are below this."""


@metric(
    better="lower",
    kind="set",
    source="arXiv:1801.01401",
    fake=View("fake", "features"),
    real=View("real", "features"),
)
def kernel_distance(fake: Array, real: Array, block: Block = 1000, seed: Seed = 0) -> Estimate:
    """Unbiased squared MMD with kernel (a.b / D + 1)^3, lower is better; sets [M, D] and [N, D].

    Its expected value is 0 for equal distributions, so it may be negative. Published tables often print it times 1000.
    Both sets are shuffled with `seed` and cut into disjoint blocks of `block` rows. The value is the mean over pairs of
    blocks, with Student's t interval over them; the usual "std" is a spread over overlapping subsets, not a standard
    error. With fewer than two blocks, the value is computed once from all pairs of samples. It has the same expected
    value, and its interval is from the variance of the U-statistic. `n` of the result is the number of blocks, or in
    the second case the number of generated samples.
    Raises ValueError for bad input or fewer than 2 rows.
    """
    y, x = samples(2, fake=fake, real=real)
    cubic = cubic_kernel(mean_of(x))
    count = min(len(y), len(x)) // block
    if count < 2:
        return _of_means(_means(y, None, cubic), _cubic_means(x, drawn()), _means(y, x, cubic))
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.randperm(len(s), generator=generator)[: count * block].view(count, block).to(s.device) for s in (y, x)
    ]
    values = [_squared_mmd(y[j], x[i], cubic).value for j, i in zip(*parts, strict=True)]
    return intervals.mean(torch.tensor(values, dtype=torch.float64))


@metric(
    better="lower",
    kind="set",
    source="arXiv:1801.01401",
    fixed_features=True,
    fake=View("fake", "inception"),
    real=View("real", "inception"),
)
def kid(fake: Array, real: Array, block: Block = 1000, seed: Seed = 0) -> Estimate:
    """KID: `kernel_distance` of the Inception pool3 features of FID, [M, 2048] and [N, 2048]; lower is better.

    Raises ValueError for bad input, fewer than 2 rows, or arrays of another shape, such as images.
    """
    y, x = pool3(2, fake=fake, real=real)
    return kernel_distance(y, x, block, seed)


@metric(
    better="lower",
    kind="set",
    source="arXiv:2401.09603",
    fake=View("fake", "features"),
    real=View("real", "features"),
)
def cmmd(fake: Array, real: Array, bandwidth: Positive = 10.0, unbiased: bool = False) -> Estimate:
    """1000 times the squared MMD with kernel exp(-|a - b|^2 / (2 bandwidth^2)), lower is better; sets [M, D], [N, D].

    It is CMMD when the features are CLIP embeddings of length 1. Then |a - b|^2 <= 4, the kernel is nearly linear and
    the value is about 10 |mean(fake) - mean(real)|^2: distributions with equal means and different spreads look equal,
    and a warning is given. The published definition includes the pairs of a row with itself, which adds at most 20 / N
    for equal distributions; `unbiased` leaves them out. The interval is normal, from the variance of the U-statistic.
    Raises ValueError for bad input or fewer than 2 rows.
    """
    y, x = samples(2, fake=fake, real=real)
    power = power_of_two(y, x)
    y, x = scaled(y, power), scaled(x, power)
    width = max(bandwidth * power, sys.float_info.min)  # below that, only copies are near each other
    centre = mean_of(x)

    spread = float(centred_norms(y, centre).mean() + centred_norms(x, centre).mean())
    if 0.5 * spread / width / width < LINEAR:
        warnings.warn(
            f"cmmd: distances are far below the bandwidth {bandwidth:g}, so the kernel is nearly linear and the "
            "value compares means only: equal means with different spreads look equal; use a smaller bandwidth",
            stacklevel=4,  # past the checks of options and precision, to the caller
        )
    gaussian = gaussian_kernel(centre, width)
    yy, xx, yx = means = (_means(y, None, gaussian), _gaussian_means(x, width, drawn()), _means(y, x, gaussian))
    kept = (1.0, 1.0) if unbiased else (1 - 1 / len(y), 1 - 1 / len(x))  # the diagonal of expm1 is 0
    value = kept[0] * yy.mean + kept[1] * xx.mean - 2 * yx.mean
    return intervals.normal(1000 * value, 1000 * _standard_error(*means), len(y))


def cubic_kernel(centre: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """(a.b / D + 1)^3 of all pairs, [M, N] float64, without terms that depend on a alone or on b alone.

    These terms cancel in an unbiased MMD. Features that share an offset make them so large that their rounding would
    be all that is left. With a = c + a', b = c + b', s = 1 + c.c / D, p = c.a' / D, q = c.b' / D and r = a'.b' / D, the
    kernel is (s + p + q + r)^3, and (s + p)^3 + (s + q)^3 - s^3 is left out.
    """
    dimension = len(centre)
    s = 1 + float(centre @ centre) / dimension

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        a, b = a.double() - centre, b.double() - centre
        p, q = a @ centre / dimension, b @ centre / dimension
        r = (a @ b.T).div_(dimension)
        w = (s + p)[:, None] + q
        terms = torch.add(r, w, alpha=3).mul_(r).addcmul_(w, w, value=3).mul_(r)  # r (3 w^2 + r (3 w + r))
        return terms.addmm_(torch.stack([3 * p * (2 * s + p), 3 * p], 1), torch.stack([q, q.square()]))

    return kernel


def gaussian_kernel(centre: Tensor, width: float) -> Callable[[Tensor, Tensor], Tensor]:
    """exp(-|a - b|^2 / (2 width^2)) - 1 of all pairs, [M, N] float64.

    A constant cancels in an MMD, and without it no digits are lost beside 1. The width is divided by twice because its
    square need not be representable.
    """
    return lambda a, b: squared_distances(a, b, centre).mul_(-0.5 / width).div_(width).expm1_()


class _Means(NamedTuple):
    """Means of a kernel matrix: per row, per column, of all entries, and of their squares (NaN for `values_alone`).

    The diagonal is left out of the matrix of a set with itself.
    """

    rows: Tensor
    columns: Tensor
    mean: float
    square: float


def _means(a: Tensor, b: Tensor | None, kernel: Callable[[Tensor, Tensor], Tensor]) -> _Means:
    within, other = b is None, a if b is None else b
    m, n = len(a), len(other) - within
    rows, columns, square = (
        torch.zeros(size, dtype=torch.float64, device=a.device) for size in (m, len(other), ())
    )  # fmt: skip
    height = BLOCK if a.is_cuda else min(BLOCK, max(64, CACHED // len(other)))
    for start in range(0, m, height):
        stop = min(start + height, m)
        first, beyond = (start, stop - start) if within else (0, 0)  # within a set the matrix is symmetric
        values = kernel(a[start:stop], other[first:])
        if within:
            values.diagonal().fill_(0)
        rows[start:stop] += values.sum(1)
        if within:
            rows[stop:] += values[:, beyond:].sum(0)
        else:
            columns += values.sum(0)
        if drawn():
            square += values.square_().sum() + (values[:, beyond:].sum() if within else 0)
    by_row = rows / n
    squares = float(square) / (m * n) if drawn() else math.nan
    return _Means(by_row, by_row if within else columns / m, float(by_row.mean()), squares)


def _squared_mmd(y: Tensor, x: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> Estimate:
    """Unbiased squared MMD over all pairs."""
    return _of_means(_means(y, None, kernel), _means(x, None, kernel), _means(y, x, kernel))


def _of_means(yy: _Means, xx: _Means, yx: _Means) -> Estimate:
    return intervals.normal(yy.mean + xx.mean - 2 * yx.mean, _standard_error(yy, xx, yx), len(yx.rows))


@remember
def _cubic_means(x: Tensor, halves: int) -> _Means:
    """Of the pairs within a set, which is often compared with several."""
    return _means(x, None, cubic_kernel(mean_of(x)))


@remember
def _gaussian_means(x: Tensor, width: float, halves: int) -> _Means:
    return _means(x, None, gaussian_kernel(mean_of(x), width))


def _standard_error(yy: _Means, xx: _Means, yx: _Means) -> float:
    """Standard error of the unbiased squared MMD from its Hoeffding terms.

    With a(y) = E k(y, Y') - E k(y, X), b(x) likewise, and r the kernel without its row and column means,
    Var = 4 Var a / M + 4 Var b / N + 2 E r_yy^2 / M^2 + 2 E r_xx^2 / N^2 + 4 E r_yx^2 / (M N),
    where Var a and Var b are corrected for the noise of the averages from which they are estimated.
    """
    if not drawn():
        return math.nan
    m, n = len(yx.rows), len(yx.columns)
    first = 4 * float((yy.rows - yx.rows).var()) / m + 4 * float((xx.rows - yx.columns).var()) / n
    second = 2 * _residual(yy) / m**2 + 2 * _residual(xx) / n**2 + 4 * _residual(yx) / (m * n)
    variance = max(first - second, second, 0.0)
    if not math.isfinite(first + second):
        raise ValueError("the squares of the kernel's values overflow float64: scale the features down")
    return math.sqrt(variance)


def _residual(k: _Means) -> float:
    return k.square - float(k.rows.square().mean()) - float(k.columns.square().mean()) + k.mean * k.mean
