"""Logarithms of sums of exponentials, and mixtures of Gaussians, whose terms are exact wherever they count.

A matrix product computes the terms quickly, but |a|^2 + |b|^2 - 2 a.b cancels. Where its error bound is too large, the
terms that can matter beside the largest are computed again from the float64 differences.
"""

import math

import torch
from torch import Tensor

from ...harness.core.inputs import BLOCK_ELEMENTS, CACHED, GPU_ELEMENTS
from .distances import mean_of, sides

NEGLIGIBLE = 60.0
"""Terms smaller than the largest by this many nats are left out: a billion of them change the log by 1e-17."""

LIMIT = 1e-9
"""Largest error bound, in nats, with which a float64 matrix product is used as it is."""


def usual_rounding(dtype: torch.dtype, length: int) -> float:
    """Usual error of a product of this length relative to the sum of its terms' magnitudes.

    Errors accumulate like a random walk, as sqrt(length); 8 is a generous safety margin. Decisions between samples need
    the bound of `distances.rounding` instead; here a result is a little less accurate if the error is larger once.
    """
    return torch.finfo(dtype).eps * (math.sqrt(length) + 8)


class LogSum:
    """log sum exp over the columns of a matrix that arrives in parts; it accumulates in float64."""

    def __init__(self, rows: int, device: torch.device):
        self.peak = torch.full((rows,), -torch.inf, dtype=torch.float64, device=device)
        self.total = torch.zeros(rows, dtype=torch.float64, device=device)
        self.marked = torch.zeros(rows, dtype=torch.float64, device=device)

    def add(self, rows: slice | Tensor, values: Tensor, marks: Tensor | None = None) -> None:
        """Add terms [>= len(rows), n] of these rows; a tile may have more rows. `values` is overwritten.

        marks [n]: a number of each column, for `mean`.
        """
        old = self.peak[rows]
        values = values[: len(old)]
        peak = torch.maximum(old, values.amax(1))
        peak = peak.to(values.dtype).double()
        # Terms below exp(-80) are negligible beside the largest term, 1, and denormal numbers are slow on a CPU. So is
        # the exponential to the base e, beside that to the base 2.
        terms = values.sub_(peak.to(values.dtype)[:, None]).clamp_(min=-80).mul_(1 / math.log(2)).exp2_()
        kept = (old - peak).exp()
        self.total[rows] = self.total[rows] * kept + terms.sum(1).double()
        if marks is not None:
            self.marked[rows] = self.marked[rows] * kept + (terms @ marks).double()
        self.peak[rows] = peak

    def add_pairs(self, rows: Tensor, values: Tensor) -> None:
        """Add single terms [P], float64, each to the row of its index [P]."""
        rows, values = rows[values > -torch.inf], values[values > -torch.inf]
        peak = self.peak.scatter_reduce(0, rows, values, "amax")
        moved = torch.where(peak > self.peak, (self.peak - peak).exp(), 1)
        self.total = (self.total * moved).index_add_(0, rows, (values - peak[rows]).exp())
        self.peak = peak

    def log(self) -> Tensor:
        return self.peak + self.total.log()

    def mean(self) -> Tensor:
        """Mean of the marks, weighted by the terms."""
        return self.marked / self.total


def log_mixture(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """log (1/M) sum_i N(z; mean_i, diag exp(logvar_i)) of each row of z [N, D], float64 [N], in nats.

    mean [M, D]; logvar [M, D], or [M, 1] for Gaussians that are equally wide in all dimensions.
    Raises ValueError for rows whose density is outside the range that float64 can represent the logarithm of.
    """
    isotropic, dimension, middle = logvar.shape[1] == 1 < mean.shape[1], z.shape[1], mean_of(mean)
    total = LogSum(len(z), z.device)
    unit = usual_rounding(torch.float64, 2 * dimension)
    height, widest = sides(z)
    width = max(1, min(widest, (GPU_ELEMENTS if z.is_cuda else BLOCK_ELEMENTS) // dimension))
    for start in range(0, len(mean), width):
        centres, log = mean[start : start + width].double(), logvar[start : start + width].double()
        m, precision = centres - middle, (-log).exp()
        constant = -0.5 * ((log + math.log(2 * math.pi)) * (dimension if isotropic else 1)).sum(1)
        # -1/2 sum_j (z_j - m_j)^2 / s_j^2 is linear in (z^2, z, 1), so one matrix product computes it.
        right = torch.cat(
            [-0.5 * precision, m * precision, (constant - 0.5 * (m.square() * precision).sum(1))[:, None]], 1
        )
        sharpest, furthest = precision.amax(0), m.abs().amax(0)
        for first in range(0, len(z), height):
            rows = slice(first, min(first + height, len(z)))
            points = z[rows].double()
            block = points - middle
            square = block.square().sum(1, keepdim=True) if isotropic else block.square()
            values = torch.cat([square, block, block.new_ones(len(block), 1)], 1) @ right.T
            error = unit * 0.5 * (sharpest * (block.abs() + furthest).square()).sum(1)
            hard = ~(error <= LIMIT)
            if not hard.any():
                total.add(rows, values)
                continue
            easy = (~hard).nonzero().squeeze(1)
            if len(easy):
                total.add(easy + first, values[easy])
            doubtful = hard.nonzero().squeeze(1)
            i, j = _contenders(values[doubtful], error[doubtful], total.peak[doubtful + first])
            i = doubtful[i]
            total.add_pairs(i + first, constant[j] - 0.5 * _mahalanobis(points, centres, log, i, j))
    return finite(total.log() - math.log(len(mean)), "the log density")


def finite(values: Tensor, what: str) -> Tensor:
    """The values [..., N], if all are finite; raises ValueError otherwise."""
    bad = int((~values.isfinite()).any(0).sum() if values.ndim > 1 else (~values.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{what} of {bad} of {values.shape[-1]} rows is outside the range of float64: "
            "the kernels are far too narrow, or the values too large; use wider kernels or rescale the values"
        )
    return values


def _contenders(values: Tensor, error: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column indices of the terms that may matter beside the largest; all terms where the error is unknown."""
    largest = torch.maximum(peak, values.amax(1) - error)
    unlikely = values < (largest - error - NEGLIGIBLE)[:, None]
    i, j = (~unlikely).nonzero(as_tuple=True)
    return i, j


def _mahalanobis(z: Tensor, mean: Tensor, log: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """sum_d (z_i - mean_j)_d^2 exp(-log_jd) of pairs i, j [P], from the differences."""
    # The factor is applied in two halves, each of which is representable: 0 times an infinite factor is not a number.
    half = (-0.25 * log).clamp(max=700).exp()
    size = max(1, CACHED // z.shape[1])
    parts = []
    for p, q in zip(torch.split(i, size), torch.split(j, size), strict=True):
        factor = half[q]
        parts.append((z[p] - mean[q]).mul_(factor).mul_(factor).square_().sum(1))
    return torch.cat(parts)
