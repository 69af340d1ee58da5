"""Truncation of normal latents, coordinate by coordinate (Brock et al. 2019, arXiv:1809.11096)."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from ...harness.core import inputs
from ...harness.core.inputs import Array

REDRAWN = 0x7A9C47
"""Added to the seed of the random generator, so that redrawn coordinates are independent of the latent."""


def redrawn(latents: Array, threshold: float, seeds: Sequence[int]) -> Tensor:
    """Standard normal latents [N, ...] with every coordinate beyond the threshold redrawn.

    Each coordinate then follows the normal distribution truncated to [-threshold, threshold]; coordinates within it do
    not change. The new values of item i depend on seeds[i] alone. Raises ValueError for bad latents, a threshold that
    is not positive, or a number of seeds other than N.
    """
    z = inputs.latents(latents)
    if not threshold > 0 or len(seeds) != len(z):
        raise ValueError(
            f"threshold={threshold} must be positive, and {len(z)} latents need as many seeds, not {len(seeds)}"
        )
    low, high = ndtr(-threshold), ndtr(threshold)
    fresh = [ndtri(np.random.default_rng([seed, REDRAWN]).uniform(low, high, z.shape[1:])) for seed in seeds]
    inside = torch.from_numpy(np.stack(fresh)).to(z).clamp(-threshold, threshold)
    return torch.where(z.abs() > threshold, inside, z)
