"""Discriminator optimal transport (arXiv:1910.06832): short moves of latents that increase the value of a critic."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...harness.core import inputs
from ...harness.core.inputs import Array

OFFSET = 0.001
"""Added to every coordinate of the move, as in the released code, because the norm has no gradient at 0."""


def steepness(critic: Callable[[Tensor], Tensor], latents: Array) -> float:
    """k_eff = max |D(G(z)) - D(G(z'))| / |z - z'| over P pairs of latents [2 P, ...], z from the first half.

    critic maps [N, ...] to D(G(z)) [N]. The released code uses 100 random pairs. Raises ValueError for fewer than 2
    latents, or if the critic is equal on all pairs.
    """
    z = inputs.latents(latents)
    half = len(z) // 2
    if not half:
        raise ValueError(f"{len(z)} latent makes no pair: give two or more")
    with torch.no_grad():
        values = critic(z).double()
    distance = (z[:half] - z[half : 2 * half]).double().flatten(1).norm(dim=1)
    slope = float(((values[:half] - values[half : 2 * half]).abs() / distance).max())
    if not 0 < slope < float("inf"):
        raise ValueError(f"the critic's steepness over {half} pairs is {slope}; it must be positive and finite")
    return slope


def transport(
    critic: Callable[[Tensor], Tensor],
    latents: Array,
    slope: float,
    steps: Sequence[int] = (10,),
    rate: float = 0.01,
    sphere: bool = True,
    chunk: int = 64,
) -> list[Tensor]:
    """Latents [N, ...] after each number of Adam steps in `steps` (betas 0 and 0.9), from z = z_0. They minimise

        -critic(z) / slope + |z - z_0 + 0.001|_2

    for each sample separately, independent of its batch. slope: from `steepness`. sphere: leave out the radial part of
    the gradient, as in the paper for normal latents. Costs max(steps) generator calls and backward passes per latent;
    `chunk` latents are in memory at a time.
    Raises ValueError for latents that are not finite floating [N, ...], options out of range, or a gradient that is not
    finite.
    """
    given = inputs.latents(latents)
    if not steps or min(steps) < 1 or not rate > 0 or not 0 < slope < float("inf") or chunk < 1:
        raise ValueError(f"steps={list(steps)}, rate={rate}, slope={slope}, chunk={chunk}: all must be positive")
    found: list[list[Tensor]] = [[] for _ in steps]
    for start in torch.split(given, chunk):
        z = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([z], lr=rate, betas=(0.0, 0.9))
        for step in range(1, max(steps) + 1):
            with torch.enable_grad():
                move = (z - start + OFFSET).flatten(1).norm(dim=1)
                (gradient,) = torch.autograd.grad((move - critic(z) / slope).sum(), z)
            if not bool(gradient.isfinite().all()):
                raise ValueError(f"the gradient is not finite after {step - 1} steps: choose a smaller rate")
            z.grad = _tangential(gradient, z.detach()) if sphere else gradient
            optimiser.step()
            for at, kept in zip(steps, found, strict=True):
                if at == step:
                    kept.append(z.detach().clone())
    return [torch.cat(parts) for parts in found]


def _tangential(gradient: Tensor, z: Tensor) -> Tensor:
    g, at = gradient.flatten(1), z.flatten(1)
    along = (g * at).sum(1, keepdim=True) / at.square().sum(1, keepdim=True).clamp(min=1e-12)
    return (g - along * at).view_as(z)
