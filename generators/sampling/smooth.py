"""Arbitrary smooth functions of latent codes, to tell what any smooth score would do along an edit."""

import math

import numpy as np
import torch
from torch import Tensor

FREQUENCIES = 512
"""Of a function; the more, the nearer it is to a draw of a Gaussian process."""


def smooth_functions(
    codes: Tensor, direction: Tensor, at: Tensor, length: float, draws: int, seed: int, spread: Tensor
) -> Tensor:
    """Values [draws, P, T] float64 of random functions at points at[t] along `direction` from each of codes [P, D].

    A function is a sum of 512 random Fourier features (Rahimi and Recht 2007): a draw, nearly, of a stationary Gaussian
    process of variance 1, in which two points d apart along the direction (in units of `at`) have the correlation
    exp(-(d / length)^2 / 2). It knows nothing of data or generator. direction [D]: what a step of 1 in `at` adds.
    spread [D]: standard deviations of the codes, by which the coordinates are made comparable.
    Raises ValueError for a length that is not positive, or fewer than one draw.
    """
    if not 0 < length < math.inf or draws < 1:
        raise ValueError(f"length={length} must be positive and finite, and draws={draws} 1 or more")
    scale = torch.where(spread > 0, spread, 1).double().cpu()
    start, step = codes.double().cpu() / scale, direction.double().cpu() / scale
    found = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        frequencies = torch.from_numpy(rng.standard_normal((codes.shape[1], FREQUENCIES))) / (length * step.norm())
        phases = start @ frequencies + torch.from_numpy(rng.uniform(0, 2 * math.pi, FREQUENCIES))
        waves = torch.cos(phases[:, None] + at.double()[:, None] * (step @ frequencies))
        found.append(math.sqrt(2 / FREQUENCIES) * waves.sum(2))
    return torch.stack(found)
