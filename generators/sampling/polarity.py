"""Polarity sampling (Humayun et al. 2022, arXiv:2203.01993): resampling by how a decoder stretches its latent space.

This file computes `jacobian.projected_log_volume` in chunks, by reverse or forward differentiation, and resamples by
it.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...harness.core import inputs
from ...harness.core.inputs import Array
from ...harness.stats.jacobians import derivative, orthonormal_rows
from .jacobian import projected_log_volume

NOISE = 0x907A41
"""Added to the seed of the random generator, so that the noise is independent of a pool drawn with the same seed."""


def log_volumes(
    decode: Callable[[Tensor], Tensor],
    latents: Array,
    k: int = 30,
    projections: int = 128,
    seed: int = 0,
    forward: bool = False,
    chunk: int = 64,
) -> Tensor:
    """`jacobian.projected_log_volume` of each code of latents [N, ...], float64 [N], `chunk` codes in memory at a time.

    Reverse mode costs one backward pass per projection. Forward mode costs one forward pass per latent dimension and
    stores no graph; use it for low-dimensional codes and large images. Both give the same volume, that of the projected
    output. The published recipe is k = 30 of 128 projections, in reverse mode.
    Raises ValueError when k exceeds the number of singular values, or latents are not finite floating [N, ...].
    """
    z = inputs.latents(latents)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} must be 1 or more")
    volume = _forward_log_volume if forward else projected_log_volume
    return torch.cat([volume(decode, part, k, projections, seed) for part in torch.split(z, chunk)])


def _forward_log_volume(decode: Callable[[Tensor], Tensor], z: Tensor, k: int, projections: int, seed: int) -> Tensor:
    with torch.no_grad():
        size = decode(z[:1]).flatten(1).shape[1]
    directions = orthonormal_rows(size, projections, seed).to(z).double()
    # P is a fixed matrix, so the Jacobian of P decode is P J; its columns are derivatives along the latent axes.
    columns = [derivative(decode, z, axis).double() @ directions.T for axis in torch.eye(z[0].numel())]
    values = torch.linalg.svdvals(torch.stack(columns, 2))
    if not 1 <= k <= values.shape[1]:
        raise ValueError(
            f"k is {k}; the projected Jacobian has {values.shape[1]} singular values: choose k from 1 to that number"
        )
    volume: Tensor = values[:, :k].log().sum(1)
    return volume


def polarity_weights(log_volume: Array, rho: float) -> Tensor:
    """Probabilities [N], float64, proportional to volume^rho, from log volumes [N]: softmax(rho log v).

    rho < 0 prefers modes (precision), rho > 0 anti-modes (diversity), 0 changes nothing. With uniform latents, rho = 1
    makes samples uniform on the generated manifold (MaGNET); with normal latents, the density of the latents remains.
    The paper clips volumes^rho to [1e-200, 1e200]; here the softmax cannot overflow and nothing is clipped.
    Raises ValueError for volumes that are not finite (k exceeds the rank); the message names the first.
    """
    return torch.softmax(_powers(log_volume, rho), 0)


def polarity_sample(log_volume: Array, rho: float, count: int, seed: int = 0) -> Tensor:
    """Positions [count] drawn from a pool of N without replacement, in the order of the draws, by `polarity_weights`.

    Each draw has probability proportional to the weight among the remaining samples. This is equivalent to taking the
    largest values of log weight + Gumbel noise (arXiv:1903.06059). The larger the share of the pool that is drawn, the
    less the weights matter; the paper uses pools of 200,000. Costs N generator calls and N Jacobians for any count.
    Raises ValueError as `polarity_weights` does, and unless 1 <= count <= N.
    """
    logs = _powers(log_volume, rho)
    if not 1 <= count <= len(logs):
        raise ValueError(f"count={count} must be 1 to {len(logs)}, the size of the pool")
    noise = torch.from_numpy(np.random.default_rng([seed, NOISE]).gumbel(size=len(logs))).to(logs)
    return torch.topk(logs + noise, count).indices


def _powers(log_volume: Array, rho: float) -> Tensor:
    """rho log v, after checking both arguments."""
    logs = torch.as_tensor(log_volume).detach().double()
    if logs.ndim != 1 or not len(logs):
        raise ValueError(f"log_volume has shape {list(logs.shape)}; give one number per sample, [N]")
    bad = ~logs.isfinite()
    if bool(bad.any()):
        raise ValueError(
            f"log_volume: {int(bad.sum())} of {len(logs)} are not finite, the first is number {int(bad.nonzero()[0])}: "
            "the decoder's rank is below k there; choose a smaller k"
        )
    if not math.isfinite(rho):
        raise ValueError(f"rho={rho} must be finite")
    return rho * logs
