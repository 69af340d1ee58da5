"""Rank correlations, raw and partial, with bootstrap resamples that a seed determines."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Ranking(NamedTuple):
    """The order of a column. order [N] sorts it; the rows tied with row i are order[first[i]:last[i]].

    tied: whether any rows are.
    """

    order: Tensor
    first: Tensor
    last: Tensor
    tied: bool


def _ranking(column: Tensor) -> Ranking:
    ordered, order = column.sort()
    tied = bool((ordered[1:] == ordered[:-1]).any())
    return Ranking(order, torch.searchsorted(ordered, column), torch.searchsorted(ordered, column, right=True), tied)


def weighted_ranks(ranking: Ranking, weights: Tensor) -> Tensor:
    """Mid-ranks [B, N] of a column whose row i occurs weights[b, i] times in resample b."""
    total = weights.new_zeros(len(weights), weights.shape[1] + 1)
    torch.cumsum(_columns(weights, ranking.order), dim=1, out=total[:, 1:])
    below = _columns(total, ranking.first)
    above = _columns(total, ranking.last) if ranking.tied else below + weights
    return above.add_(below).add_(1).div_(2)


def _columns(x: Tensor, index: Tensor) -> Tensor:
    """x[:, index] of x [B, N], in a third of the time."""
    return x.gather(1, index.expand(len(x), -1))


def _resamples(n: int, resamples: int, seed: int, block: int = 5) -> Iterator[Tensor]:
    """Blocks of bootstrap weights [B, N] with multinomial rows; the first block is a row of ones, the sample itself."""
    rng = np.random.default_rng(seed)
    yield torch.ones(1, n, dtype=torch.float64)
    for start in range(0, resamples, block):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(block, resamples - start))
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
    rankings = [_ranking(column) for column in columns.double().T.contiguous()]
    indicators = (classes[:, None] == torch.unique(classes)[None, :]).double()
    second, sums, mass = [], [], []
    for weights in _resamples(len(columns), resamples, seed):
        single = [weighted_ranks(ranking, weights) for ranking in rankings]
        # Mid-ranks are multiples of 1/2, so their sums are exact and equal mean ranks are ties.
        single += [_ranks_of(torch.stack([single[i] for i in members]).sum(0), weights) for members in composites]
        ranks = torch.stack(single, dim=1).div_(len(columns))
        weighted = ranks * weights[:, None, :]  # [B, P, N]
        second.append(weighted @ ranks.transpose(1, 2))
        sums.append((weighted @ indicators).transpose(1, 2))
        mass.append(weights @ indicators)
    return RankMoments(torch.cat(second), torch.cat(sums), torch.cat(mass))


def _ranks_of(values: Tensor, weights: Tensor) -> Tensor:
    """Mid-ranks [B, N] of values [B, N], which differ between resamples, where row i occurs weights[b, i] times."""
    ordered, order = values.sort(dim=1)
    total = weights.new_zeros(len(weights), weights.shape[1] + 1)
    torch.cumsum(weights.gather(1, order), dim=1, out=total[:, 1:])
    below = total.gather(1, torch.searchsorted(ordered, values))
    above = total.gather(1, torch.searchsorted(ordered, values, right=True))
    return (below + above + 1) / 2


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
