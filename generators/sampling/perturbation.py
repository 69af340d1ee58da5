"""Perturbation: small moves of latents that raise or lower a score of their samples (arXiv:2407.08659, Algorithm 1)."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...harness.core import inputs
from ...harness.core.inputs import Array

SIGNS = 0x516125
"""Added to the seed of the random generator, so that the signs are independent of latents drawn with the same seed."""


class Perturbed(NamedTuple):
    """latents [N, ...]: at most epsilon from the given ones in every coordinate. before, after: the scores [N]."""

    latents: Tensor
    before: Tensor
    after: Tensor


def perturb(
    score: Callable[[Tensor], Tensor],
    latents: Array,
    epsilon: float = 0.1,
    steps: int = 10,
    rate: float | None = None,
    direction: Literal["higher", "lower"] = "higher",
    sign: bool = True,
    chunk: int = 64,
) -> Perturbed:
    """Projected gradient steps on each latent z of [N, ...] towards a higher or a lower score.

        z' <- clip(z' + rate * g, z - epsilon, z + epsilon)    in every coordinate, `steps` times, from z' = z

    g is the gradient of the score at z', negated for "lower", or its sign. The paper prints the gradient; the released
    code uses the sign. The defaults rate = epsilon / 4 and steps = 10 are the released ones, where epsilon is 0.1 or
    0.2. |z' - z| <= epsilon holds exactly, rounding included, if epsilon exceeds the spacing of numbers at z.

    score maps [N, ...] to [N], each value from its own latent alone; in the paper it is rho(F(G(z))). Such steps can
    fool a learned score, so report the exact score of the result too. `chunk` latents are in memory at a time.
    Costs steps + 1 calls of the generator and `steps` backward passes per latent.

    Raises ValueError for latents that are not finite floating numbers, for options out of range, and if the score or
    its gradient is not finite; the message names the first such row.
    """
    given = inputs.latents(latents)
    if not 0 < epsilon < float("inf") or steps < 1 or chunk < 1:
        raise ValueError(f"epsilon={epsilon}, steps={steps}, chunk={chunk}: all must be positive and finite")
    if direction not in ("higher", "lower"):
        raise ValueError(f"direction={direction!r} must be 'higher' or 'lower'")
    step = epsilon / 4 if rate is None else rate
    if not step > 0:
        raise ValueError(f"rate={rate} must be positive; use direction='lower' to lower the score")
    step = step if direction == "higher" else -step
    moved, before, after = [], [], []
    for index, start in enumerate(torch.split(given, chunk)):
        low, high = _box(start, epsilon)
        z = start.clone()
        for iteration in range(steps):
            value, gradient = _value_and_gradient(score, z, index * chunk)
            if iteration == 0:
                before.append(value)
            z = torch.clamp(z + step * (gradient.sign() if sign else gradient), low, high)
        moved.append(z)
        with torch.no_grad():
            after.append(_scores(score, z, index * chunk))
    return Perturbed(torch.cat(moved), torch.cat(before), torch.cat(after))


def random_signs(latents: Array, moved: Array, epsilon: float, seed: int = 0) -> Tensor:
    """The control of `perturb`: every coordinate moves as far as in `moved` [N, ...], with a random sign.

    Both signs have probability 1/2. So the move has no direction but the same length in every norm, and it stays within
    epsilon exactly. The released control draws new signs at each step and therefore ends closer to its start than the
    perturbation that it controls. Raises ValueError when the two arguments differ in shape.
    """
    z, other = inputs.latents(latents), inputs.latents(moved)
    if z.shape != other.shape:
        raise ValueError(f"latents are {list(z.shape)}, moved {list(other.shape)}: give both the same shape")
    zeros_and_ones = torch.from_numpy(np.random.default_rng([seed, SIGNS]).integers(0, 2, z.shape)).to(z)
    return torch.clamp(z + (other - z) * (2 * zeros_and_ones - 1), *_box(z, epsilon))


def _box(z: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The smallest and the largest numbers of z's dtype that are within epsilon of z."""
    wide = z.double()
    low, high = (wide - epsilon).to(z), (wide + epsilon).to(z)
    low = torch.where(wide - low.double() > epsilon, torch.nextafter(low, z), low)
    return low, torch.where(high.double() - wide > epsilon, torch.nextafter(high, z), high)


def _value_and_gradient(score: Callable[[Tensor], Tensor], z: Tensor, first: int) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = _scores(score, z, first)
        if not value.requires_grad:
            raise ValueError(
                "the score is not differentiable in the latents: compute it from them with torch functions"
            )
        (gradient,) = torch.autograd.grad(value.sum(), z)
    _require_finite("gradient of the score", gradient.flatten(1).isfinite().all(1), first)
    return value.detach(), gradient


def _scores(score: Callable[[Tensor], Tensor], z: Tensor, first: int) -> Tensor:
    value = score(z)
    if value.shape != (len(z),):
        raise ValueError(f"score maps {len(z)} latents to {list(value.shape)}; it must give one number per latent")
    _require_finite("score", value.isfinite(), first)
    return value


def _require_finite(what: str, finite: Tensor, first: int) -> None:
    if not bool(finite.all()):
        raise ValueError(f"the {what} is not finite at latent {first + int((~finite).nonzero()[0])}")
