"""Edits along a direction of latent space, and what a score should do along them (arXiv:2407.15171).

The paper prints scores above edited faces: along an edit the score has one maximum, near the sample itself, and falls
where artefacts appear. How its directions were found, and for how many images this was looked at, is not published.
"""

from typing import NamedTuple

import torch
from scipy.stats import rankdata
from torch import Tensor

RIDGE = 1e-5
"""Of the variance of the latents: what keeps a direction finite where they span less than their space."""


class Direction(NamedTuple):
    """unit [D] and scale: one standard deviation of the latents along it; fit: R^2 on the half it was not found on."""

    unit: Tensor
    scale: float
    fit: float


def attribute_direction(latents: Tensor, attribute: Tensor) -> Direction:
    """Where a linear model of an attribute [N] rises fastest in latents [N, D]; rows without a value are left out.

    Raises ValueError for fewer than 10 rows with a value, or an attribute that is the same everywhere.
    """
    known = attribute.isfinite()
    z, a = latents[known].double(), attribute[known].double().to(latents.device)
    if len(a) < 10 or float(a.std()) == 0:
        raise ValueError(f"the attribute has {len(a)} values; a direction needs 10 or more, not all the same")
    half = torch.arange(len(a), device=a.device) % 2 == 0
    slope = _ridge(z[half], a[half])
    predicted = (z[~half] - z[half].mean(0)) @ slope + a[half].mean()
    fit = 1 - float((a[~half] - predicted).square().sum() / (a[~half] - a[half].mean()).square().sum())
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
    """Whether each of curves [P, T] never rises again once it fell: bool [P]. Of T random values 2^(T-1) / T! do so."""
    steps = curves.diff(dim=1)
    fell = (steps < 0).cummax(dim=1).values
    return ~((steps > 0) & fell).any(1)


def agreement(curves: Tensor, others: Tensor) -> Tensor:
    """Spearman correlation along each of two sets of curves [P, T]: [P], NaN where one is constant or has no value."""
    ranks = [torch.from_numpy(rankdata(x.double().cpu().numpy(), axis=1)) for x in (curves, others)]
    a, b = (rank - rank.mean(1, keepdim=True) for rank in ranks)
    norms = a.norm(dim=1) * b.norm(dim=1)
    defined = (norms > 0) & (curves + others).isfinite().all(1).cpu()
    return torch.where(defined, (a * b).sum(1) / norms, torch.nan)


def stops(scores: Tensor, change: Tensor, target: float) -> Tensor:
    """How far each walk [P, T] goes when it stops before its score falls too far below that of its start: int64 [P].

    The fall that is allowed is the same for all walks: the one at which their mean change [P, T], of an attribute that
    an edit is to change, comes nearest to `target`. Walks with equal mean change can then be compared. A score without
    a value stops a walk.
    """
    fall = (scores[:, :1] - scores).nan_to_num(nan=torch.inf)[:, 1:].cummax(dim=1).values
    known = fall[fall.isfinite()]
    allowed = torch.quantile(known, torch.linspace(0, 1, 201, dtype=known.dtype)) if len(known) else known
    best, nearest = torch.zeros(len(scores), dtype=torch.int64), abs(float(change[:, 0].mean()) - target)
    for limit in allowed.tolist():
        reached = (fall <= limit).sum(1)
        off = abs(float(change.gather(1, reached[:, None]).mean()) - target)
        if off < nearest:
            best, nearest = reached, off
    return best
