"""Samplers of Karras et al. (arXiv:2206.00364) for a denoiser D(x; σ) of x = image + σ ε, without added noise."""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Maps x [N, ...] at noise level σ (a scalar) to the expected image without noise [N, ...]."""
Solver = Literal["heun", "euler"]


def noise_levels(steps: int, lowest: float, highest: float, rho: float) -> Tensor:
    """σ [steps + 1] from `highest` to `lowest`, evenly spaced in σ^(1/ρ), then 0 (eq. 5); float64.

    steps is at least 2. Raises ValueError unless 0 < lowest < highest.
    """
    if not 0 < lowest < highest:
        raise ValueError(f"sigma_min={lowest:g} must be positive and below sigma_max={highest:g}")
    share = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    ends = highest ** (1 / rho), lowest ** (1 / rho)
    return torch.cat([(ends[0] + share * (ends[1] - ends[0])) ** rho, torch.zeros(1, dtype=torch.float64)])


def sample(denoise: Denoiser, x_T: Tensor, levels: Tensor, solver: Solver = "heun") -> Tensor:
    """Images [N, ...] from standard normal noise x_T by the probability flow dx/dσ = (x - D(x; σ)) / σ, in float64.

    "heun" is algorithm 1, which takes two evaluations of D a step and one in the last; "euler" takes one in each.
    """
    levels = levels.to(x_T.device)
    x = x_T.double() * levels[0]
    for here, there in pairwise(levels):
        slope = (x - denoise(x, here).double()) / here
        guess = x + (there - here) * slope
        if solver == "heun" and there > 0:
            slope = (slope + (guess - denoise(guess, there).double()) / there) / 2
            guess = x + (there - here) * slope
        x = guess
    return x.float()
