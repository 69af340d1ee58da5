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


def rank_moments(
    columns: Tensor,
    classes: Tensor,
    resamples: int = 1000,
    seed: int = 0,
    composites: Sequence[Sequence[int]] = (),
) -> RankMoments:
    """Moments of columns [N, P] with `resamples` bootstrap resamples; classes [N] holds the class of each row.

    composites: positions of columns; after the P columns comes one for each of these, the mean rank of its members,
    which is found and ranked anew in every resample.
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
    total = columns.shape[1] + len(composites)
    ranks, weighted = (torch.empty(BLOCK, total, n, dtype=torch.float64) for _ in range(2))
    for weights in _resamples(n, resamples, seed):
        block, products = ranks[: len(weights)], weighted[: len(weights)]
        for out, counts in zip(block, weights.to(whole), strict=True):
            single = weighted_ranks(known, counts)
            out[: len(single)].copy_(single)
            if composites:
                # Ranks are whole numbers, so their sums are exact and equal mean ranks are ties.
                means = torch.stack([single[list(members)].double().sum(0) for members in composites], 1)
                out[len(single) :].copy_(weighted_ranks(rankings(means), counts))
            out.div_(2 * n)
        torch.mul(block, weights[:, None, :], out=products)
        # One by one: the batched product of such wide matrices takes twice the time.
        second += [one @ other.T for one, other in zip(products, block, strict=True)]
        sums.append((products @ indicators).transpose(1, 2))
        mass.append(weights @ indicators)
    return RankMoments(torch.stack(second), torch.cat(sums), torch.cat(mass))


def rank_covariances(
    moments: RankMoments, columns: Sequence[int], covariates: Sequence[int] = (), stratify: bool = False
) -> Tensor:
    """Sums of products [R, P, P] of the ranks of `columns`, given by position, around their means.

    With `covariates` (positions too) or `stratify`, those of the residuals of least squares on the ranks of the
    covariates and on indicators of the classes; index 0 of R is the sample, the others are resamples. The row and
    column of a constant, or of a covariate itself, is NaN.
    """
    sums, mass = moments.sums, moments.mass
    if not stratify:
        sums, mass = sums.sum(dim=1, keepdim=True), mass.sum(dim=1, keepdim=True)
    means = sums / mass.clamp(min=1)[:, :, None]
    within = moments.second - sums.transpose(1, 2) @ means
    both, fixed = list(columns), list(covariates)
    residual = within[:, both][:, :, both]
    if fixed:
        cross = within[:, both][:, :, fixed]
        inverse = torch.linalg.pinv(within[:, fixed][:, :, fixed], hermitian=True)
        residual = residual - cross @ inverse @ cross.transpose(1, 2)
    # The residual of a covariate is only rounding error, so it is undefined.
    variance = residual.diagonal(dim1=1, dim2=2)
    defined = variance > 1e-9 * moments.second.diagonal(dim1=1, dim2=2)[:, both]
    return torch.where(defined[:, :, None] & defined[:, None, :], residual, torch.nan)


def rank_correlations(
    moments: RankMoments,
    rows: Sequence[int],
    columns: Sequence[int],
    covariates: Sequence[int] = (),
    stratify: bool = False,
) -> Tensor:
    """Spearman correlations [R, len(rows), len(columns)] in [-1, 1] between columns of `moments`, given by position.

    With `covariates` (positions too) or `stratify`, the partial correlation; see `rank_covariances`. Index 0 of R is
    the sample, the others are resamples. NaN where a column is constant or is itself a covariate.
    """
    residual = rank_covariances(moments, [*rows, *columns], covariates, stratify)
    variance, n = residual.diagonal(dim1=1, dim2=2), len(rows)
    return residual[:, :n, n:] / (variance[:, :n, None] * variance[:, None, n:]).sqrt()


def reliability(covariances: Tensor) -> Tensor:
    """Reliability [R] of the mean of K measures of one quantity, from their covariances [R, K, K], at most 1.

    It is Cronbach's alpha (Cronbach 1951, https://doi.org/10.1007/BF02310555, eq. 2),

        K / (K - 1) · (1 - sum_k var_k / sum_kl cov_kl),

    which for equal variances is the formula of Spearman and Brown, K r / (1 + (K - 1) r), of the mean correlation r. If
    the measures are the quantity plus errors that are uncorrelated, it is the squared correlation of their mean with
    the quantity where all measures follow that equally, and less where they do not. NaN for fewer than two measures,
    and where it is not above 0: then the measures share nothing.
    """
    k = covariances.shape[1]
    if k < 2:
        return covariances.new_full((len(covariances),), torch.nan)
    own, whole = covariances.diagonal(dim1=1, dim2=2).sum(1), covariances.sum((1, 2))
    alpha = k / (k - 1) * (1 - own / whole)
    return torch.where((alpha > 0) & (whole > 0), alpha, torch.nan)
