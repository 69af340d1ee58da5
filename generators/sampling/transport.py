"""Discriminator optimal transport (arXiv:1910.06832): latents moved to where a critic likes them, and not far."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...harness.core import inputs
from ...harness.core.inputs import Array

OFFSET = 0.001
"""Added to every coordinate of the move before its norm is taken, as released: the norm has a gradient at 0."""


def steepness(critic: Callable[[Tensor], Tensor], latents: Array) -> float:
    """max |D(G(z)) - D(G(z'))| / |z - z'| over pairs of latents [2 P, ...], the first half beside the second: k_eff.

    critic maps [N, ...] to D(G(z)) [N]. The release takes 100 random pairs. Raises ValueError for fewer than 2 latents,
    or where the critic is the same everywhere.
    """
    z = inputs.latents(latents)
    half = len(z) // 2
    if not half:
        raise ValueError("1 latent makes no pair: give two or more")
    with torch.no_grad():
        values = critic(z).double()
    distance = (z[:half] - z[half : 2 * half]).double().flatten(1).norm(dim=1)
    slope = float(((values[:half] - values[half : 2 * half]).abs() / distance).max())
    if not 0 < slope < float("inf"):
        raise ValueError(f"the critic's steepness over {half} pairs is {slope}; it must tell some latents apart")
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
    """Latents [N, ...] after each of `steps` steps of Adam (betas 0 and 0.9), from z = z_0, that minimise for each z

        -critic(z) / slope + |z - z_0 + 0.001|_2

    The norm is that of one sample: the batch that it stands in does not matter. sphere: the radial part of the gradient
    is left out, for normal latents, as in the paper. slope is `steepness`. Costs max(steps) generator calls and
    backward passes a latent; `chunk` latents are in memory at a time.
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
