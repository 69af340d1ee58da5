"""Edits along a direction of latent space, and measures of how a score changes along them (arXiv:2407.15171).

The paper prints scores above edited faces: along an edit the score has one maximum, near the original sample, and falls
where artefacts appear. It does not say how the directions were found or how many images were examined.
"""

from typing import NamedTuple

import torch
from torch import Tensor

RIDGE = 1e-5
"""Ridge penalty relative to the mean variance of the latents; it keeps a direction finite when they do not span the
space."""


class Direction(NamedTuple):
    """unit [D]: unit vector. scale: standard deviation of the latents along it. fit: R^2 on the held-out half."""

    unit: Tensor
    scale: float
    fit: float


def attribute_direction(latents: Tensor, attribute: Tensor) -> Direction:
    """The direction in which a linear model of an attribute [N] on latents [N, D] rises fastest.

    Rows whose attribute is not finite are left out. `fit` is R^2 on odd rows of a model of the even rows; the direction
    uses all rows. Raises ValueError for fewer than 10 finite values, or a constant attribute.
    """
    known = attribute.isfinite()
    z, a = latents[known].double(), attribute[known].double().to(latents.device)
    if len(a) < 10 or float(a.std()) == 0:
        raise ValueError(f"the attribute has {len(a)} values; a direction needs 10 or more, not all the same")
    even = torch.arange(len(a), device=a.device) % 2 == 0
    slope = _ridge(z[even], a[even])
    predicted = (z[~even] - z[even].mean(0)) @ slope + a[even].mean()
    fit = 1 - float((a[~even] - predicted).square().sum() / (a[~even] - a[even].mean()).square().sum())
    whole = _ridge(z, a)
    unit = whole / whole.norm()
    return Direction(unit.to(latents.dtype), float((z @ unit).std()), fit)


def _ridge(z: Tensor, a: Tensor) -> Tensor:
    centred = z - z.mean(0)
    covariance = centred.T @ centred / len(z)
    penalty = RIDGE * covariance.diagonal().mean() * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    slope: Tensor = torch.linalg.solve(covariance + penalty, centred.T @ (a - a.mean()) / len(z))
    return slope


def one_maximum(curves: Tensor) -> Tensor:
    """Whether each curve of [P, T] has one maximum, bool [P]: it never rises after it has fallen.

    T values in random order have this property with probability 2^(T-1) / T!.
    """
    steps = curves.diff(dim=1)
    fell = (steps < 0).cummax(dim=1).values
    return ~((steps > 0) & fell).any(1)


def agreement(curves: Tensor, others: Tensor) -> Tensor:
    """Spearman correlation [P] of each curve of [P, T] with its counterpart in `others` [P, T].

    NaN where one of the two is constant or not finite.
    """
    from scipy.stats import rankdata  # here, because it loads for half a second

    ranks = [torch.from_numpy(rankdata(x.double().cpu().numpy(), axis=1)) for x in (curves, others)]
    a, b = (rank - rank.mean(1, keepdim=True) for rank in ranks)
    norms = a.norm(dim=1) * b.norm(dim=1)
    defined = (norms > 0) & (curves + others).isfinite().all(1).cpu()
    return torch.where(defined, (a * b).sum(1) / norms, torch.nan)


def stops(scores: Tensor, change: Tensor, target: float) -> Tensor:
    """The step at which each walk [P, T] stops, int64 [P]: the last one before its score falls too far below the start.

    All walks have the same allowed fall. It is chosen so that the mean `change` [P, T] at the stops, the change of the
    attribute that the edit targets, is as close as possible to `target`; scores can then be compared at equal mean
    change. A score that is not finite stops its walk.
    """
    fall = (scores[:, :1] - scores).nan_to_num(nan=torch.inf)[:, 1:].cummax(dim=1).values
    known = fall[fall.isfinite()]
    allowed = torch.quantile(known, torch.linspace(0, 1, 201, dtype=known.dtype)) if len(known) else known
    best, nearest = torch.zeros(len(scores), dtype=torch.int64), abs(float(change[:, 0].mean()) - target)
    for limit in allowed.tolist():
        reached = (fall <= limit).sum(1)
        deviation = abs(float(change.gather(1, reached[:, None]).mean()) - target)
        if deviation < nearest:
            best, nearest = reached, deviation
    return best
