"""Rank correlations, raw and partial, with bootstrap resamples that a seed determines."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCK = 5
"""Resamples that are drawn, and whose products are computed, at once."""

EXACT = 1 << 24
"""Whole numbers up to this are exact in float32."""


class Rankings(NamedTuple):
    """The orders of P columns. order [P N] has, column by column, the rows that sort it.

    before, after [P N]: for each row, how many places of `order`, counted with one more a column, hold the rows that
    come before it, or before it and those tied with it. tied [P]: whether a column has ties.
    """

    order: Tensor
    before: Tensor
    after: Tensor
    tied: Tensor


def rankings(columns: Tensor) -> Rankings:
    """Of columns [N, P]."""
    rows = columns.double().T.contiguous()
    ordered, order = rows.sort(dim=1)
    start = torch.arange(len(rows))[:, None] * (rows.shape[1] + 1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(1)
    after = torch.searchsorted(ordered[tied], rows[tied], right=True) + start[tied]
    return Rankings(order.flatten(), (torch.searchsorted(ordered, rows) + start).flatten(), after.flatten(), tied)


def weighted_ranks(known: Rankings, weights: Tensor) -> Tensor:
    """Twice the mid-ranks [P, N], whole numbers, of columns whose row i occurs weights[i] times."""
    total = weights.new_zeros(len(known.tied), len(weights) + 1)
    torch.cumsum(weights.index_select(0, known.order).view(-1, len(weights)), dim=1, out=total[:, 1:])
    total = total.flatten()
    below = total.index_select(0, known.before).view(-1, len(weights))
    above = below + weights
    above[known.tied] = total.index_select(0, known.after).view(-1, len(weights))
    return above.add_(below).add_(1)


def _resamples(n: int, resamples: int, seed: int) -> Iterator[Tensor]:
    """Blocks of bootstrap weights [B, N] with multinomial rows; the first block is a row of ones, the sample itself."""
    rng = np.random.default_rng(seed)
    yield torch.ones(1, n, dtype=torch.float64)
    for start in range(0, resamples, BLOCK):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(BLOCK, resamples - start))
        yield torch.from_numpy(counts).double()


class RankMoments(NamedTuple):
    """Moments of the ranks of P columns in the sample itself (index 0 of R) and in each bootstrap resample.

    The rows of each resample are ranked anew. All rank correlations, raw or partial, follow from these moments alone.
    second [R, P, P]: sums of products of ranks. sums [R, K, P], mass [R, K]: sums of ranks and row counts by class.
    """

    second: Tensor
    sums: Tensor
    mass: Tensor


def rank_moments(columns: Tensor, classes: Tensor, resamples: int = 1000, seed: int = 0) -> RankMoments:
    """Moments of columns [N, P] with `resamples` bootstrap resamples; classes [N] holds the class of each row.

    Raises ValueError for columns or classes that are not finite.
    """
    if not classes.double().isfinite().all():
        raise ValueError(f"the class of {int((~classes.isfinite()).sum())} of {len(classes)} rows is undefined")
    if not columns.isfinite().all():
        bad = int((~columns.isfinite().all(dim=0)).nonzero()[0])
        raise ValueError(f"column {bad} has missing or infinite entries; leave out those rows")
    known, n = rankings(columns), len(columns)
    whole = torch.float32 if 2 * n < EXACT else torch.float64
    indicators = (classes[:, None] == torch.unique(classes)[None, :]).double()
    second, sums, mass = [], [], []
    ranks, weighted = (torch.empty(BLOCK, columns.shape[1], n, dtype=torch.float64) for _ in range(2))
    for weights in _resamples(n, resamples, seed):
        block, products = ranks[: len(weights)], weighted[: len(weights)]
        for out, counts in zip(block, weights.to(whole), strict=True):
            out.copy_(weighted_ranks(known, counts)).div_(2 * n)
        torch.mul(block, weights[:, None, :], out=products)
        second.append(products @ block.transpose(1, 2))
        sums.append((products @ indicators).transpose(1, 2))
        mass.append(weights @ indicators)
    return RankMoments(torch.cat(second), torch.cat(sums), torch.cat(mass))


def rank_correlations(
    moments: RankMoments,
    rows: Sequence[int],
    columns: Sequence[int],
    covariates: Sequence[int] = (),
    stratify: bool = False,
) -> Tensor:
    """Spearman correlations [R, len(rows), len(columns)] in [-1, 1] between columns of `moments`, given by position.

    With `covariates` (positions too) or `stratify`, the partial correlation: that of the residuals of least squares on
    the ranks of the covariates and on indicators of the classes. Index 0 of R is the sample, the others are resamples.
    NaN where a column is constant or is itself a covariate.
    """
    sums, mass = moments.sums, moments.mass
    if not stratify:
        sums, mass = sums.sum(dim=1, keepdim=True), mass.sum(dim=1, keepdim=True)
    means = sums / mass.clamp(min=1)[:, :, None]
    within = moments.second - sums.transpose(1, 2) @ means
    both, fixed = [*rows, *columns], list(covariates)
    residual = within[:, both][:, :, both]
    if fixed:
        cross = within[:, both][:, :, fixed]
        inverse = torch.linalg.pinv(within[:, fixed][:, :, fixed], hermitian=True)
        residual = residual - cross @ inverse @ cross.transpose(1, 2)
    # The residual of a covariate is only rounding error, so its correlation is undefined.
    variance = residual.diagonal(dim1=1, dim2=2)
    variance = torch.where(variance > 1e-9 * moments.second.diagonal(dim1=1, dim2=2)[:, both], variance, torch.nan)
    n = len(rows)
    return residual[:, :n, n:] / (variance[:, :n, None] * variance[:, None, n:]).sqrt()
