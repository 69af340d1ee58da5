"""Noise schedules and samplers of diffusion models: DDIM with eta = 0 (arXiv:2010.02502, eq. 12), and DDPM.

The input of a diffusion model is x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε with ε ~ N(0, I); ᾱ falls from about 1 to about 0 as t
grows.
"""

import math
from collections.abc import Callable, Iterator
from itertools import accumulate, repeat
from typing import NamedTuple

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, int, float], tuple[Tensor, Tensor]]
"""Maps (x_t [N, ...], t, ᾱ_t) to the predictions of a trained network: x_0 and ε, each [N, ...]."""


class Levels(NamedTuple):
    """The timesteps of sampling, noisiest first; signal: ᾱ at each of them, followed by ᾱ of the result."""

    times: list[int]
    signal: list[float]


def linear(steps: int = 1000) -> Tensor:
    """ᾱ [steps] of β that rises linearly from 1e-4 to 0.02, times 1000 / steps (arXiv:2006.11239)."""
    beta = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * 1000 / steps
    return (1 - beta).cumprod(0)


def cosine(steps: int = 1000) -> Tensor:
    """ᾱ [steps] that falls as a squared cosine, with β at most 0.999 (arXiv:2102.09672, eq. 17)."""
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2).square()
    return (f[1:] / f[:-1]).clamp(min=0.001).cumprod(0)


def respaced(signal: Tensor, steps: int) -> Levels:
    """`steps` timesteps, spread evenly over the T on which the network was trained, and 1 as ᾱ of the result.

    signal: ᾱ [T]. Raises ValueError unless 1 <= steps <= T.
    """
    _require_steps(signal, steps)
    times = [i * len(signal) // steps for i in reversed(range(steps))]
    return Levels(times, [*signal[times].tolist(), 1.0])


def strided(signal: Tensor, steps: int, most: int | None = None) -> Levels:
    """The timesteps 1, 1 + c, 1 + 2c, … with c = T // steps, at most `most`, as samplers of latents take them.

    signal: ᾱ [T]; its first is that of the result. Where `steps` does not divide T, there are more than `steps`: 31 for
    30 of 1000. Raises ValueError when a timestep would be T or larger, as from 501 steps of 1000.
    """
    _require_steps(signal, steps)
    times = [1 + i for i in range(0, len(signal), len(signal) // steps)][:most]
    if times[-1] >= len(signal):
        raise ValueError(f"steps={steps} begins at timestep {times[-1]} of {len(signal)}; give fewer steps")
    times = times[::-1]
    return Levels(times, [*signal[times].tolist(), float(signal[0])])


def _require_steps(signal: Tensor, steps: int) -> None:
    if not 1 <= steps <= len(signal):
        raise ValueError(f"steps={steps} must be between 1 and {len(signal)}, the steps this model was trained with")


def even_times(trained: int, steps: int) -> list[int]:
    """Timesteps of OpenAI's respacing "N", noisiest first: N from 0 to T - 1, at equal distances before rounding.

    Raises ValueError unless 1 <= steps <= T.
    """
    if not 1 <= steps <= trained:
        raise ValueError(f"steps={steps} must be between 1 and {trained}, the steps this model was trained with")
    stride = (trained - 1) / max(1, steps - 1)
    # The sum is rounded as in the public code, where halves go to the even number.
    return [round(time) for time in accumulate(repeat(stride, steps - 1), initial=0.0)][::-1]


def from_noise(x: Tensor, noise: Tensor, signal: float, clip: bool = False) -> tuple[Tensor, Tensor]:
    """x_0 and ε from a network that predicts ε; `clip` clamps x_0 to [-1, 1] and recomputes ε from it."""
    clean = (x - math.sqrt(1 - signal) * noise) / math.sqrt(signal)
    if not clip:
        return clean, noise
    clean = clean.clamp(-1, 1)
    return clean, (x - math.sqrt(signal) * clean) / math.sqrt(1 - signal)


def from_velocity(x: Tensor, velocity: Tensor, signal: float) -> tuple[Tensor, Tensor]:
    """x_0 and ε from a network that predicts v = √ᾱ ε − √(1 − ᾱ) x_0 (arXiv:2202.00512, appendix D)."""
    a, b = math.sqrt(signal), math.sqrt(1 - signal)
    return a * x - b * velocity, b * x + a * velocity


def batches(x: Tensor) -> tuple[Tensor, ...]:
    """x [N, ...] in batches of equal size; zeros pad the last one.

    The rounding of a network depends on the batch size, and over many steps the difference can become visible.
    """
    at_once = 4 if x.device.type == "cpu" else 16
    return torch.split(torch.cat([x, x.new_zeros(-len(x) % at_once, *x.shape[1:])]), at_once)


def predictions(denoise: Denoiser, x: Tensor, levels: Levels) -> Iterator[Tensor]:
    """x_0 [N, ...] as it is predicted at each step of sampling from noise x_T [N, ...], and at last the sample."""
    for t, here, there in zip(levels.times, levels.signal[:-1], levels.signal[1:], strict=True):
        clean, noise = denoise(x, t, here)
        yield clean
        x = math.sqrt(there) * clean + math.sqrt(1 - there) * noise
    yield x


def sample(denoise: Denoiser, x: Tensor, levels: Levels) -> Tensor:
    """x_0 [N, ...] from noise x_T [N, ...], differentiable in the noise."""
    for last in predictions(denoise, x, levels):  # a list of all of them would fill the memory
        x = last
    return x


def trajectory(denoise: Denoiser, x: Tensor, levels: Levels) -> Tensor:
    """How far the prediction of x_0 moves at each step of sampling from noise x_T [N, ...]: lengths [N, steps + 1].

    The first is the norm of the first prediction, the last that of the move to the sample itself. A length is a root
    mean square over the numbers of x_0.
    """
    lengths, before = [], torch.zeros_like(x)
    for clean in predictions(denoise, x, levels):
        lengths.append((clean - before).flatten(1).square().mean(1).sqrt())
        before = clean
    return torch.stack(lengths, 1)


def denoising_errors(denoise: Denoiser, clean: Tensor, levels: Levels, draws: int = 5) -> Tensor:
    """Mean squared errors [N, draws] of x_0 [N, ...] as predicted from a little noise, as in arXiv:2301.12334.

    The noise is that of the sampler's timestep nearest to 60, of the 1,000 of the training. Each draw is the same for
    all rows, so that rows do not depend on their batch.
    """
    t, signal = min(zip(levels.times, levels.signal, strict=False), key=lambda level: abs(level[0] - 60))
    errors = []
    for noise in torch.randn(draws, *clean.shape[1:], generator=torch.Generator().manual_seed(0)).to(clean):
        found, _ = denoise(math.sqrt(signal) * clean + math.sqrt(1 - signal) * noise, t, signal)
        errors.append((found - clean).flatten(1).square().mean(1))
    return torch.stack(errors, 1)


def ancestral(predict: Callable[[Tensor, int], tuple[Tensor, Tensor]], noise: Tensor, levels: Levels) -> Tensor:
    """x_0 [N, ...] by DDPM with learned variances (arXiv:2102.09672, eq. 15), from noise [N, steps, ...] for all steps.

    predict maps (x_t, t) to ε and to v: -1 for the smallest variance, 1 for the largest, β, and in between for their
    weighted geometric means. The last step adds no noise.
    """
    x = noise[:, 0]
    steps = list(zip(levels.times, levels.signal[:-1], levels.signal[1:], strict=True))
    for i, (t, here, there) in enumerate(steps):
        beta = 1 - here / there
        found, share = predict(x, t)
        clean, _ = from_noise(x, found, here)
        x = (math.sqrt(there) * beta * clean + math.sqrt(1 - beta) * (1 - there) * x) / (1 - here)
        if i < len(steps) - 1:
            least = beta * (1 - there) / (1 - here)
            log_variance = (share + 1) / 2 * math.log(beta) + (1 - share) / 2 * math.log(least)
            x = x + torch.exp(log_variance / 2) * noise[:, i + 1]
    return x


def invert(denoise: Denoiser, x: Tensor, levels: Levels, repeats: int = 1) -> Tensor:
    """x_T [N, ...] from which `sample` makes x_0 [N, ...], approximately; it inverts the steps from last to first.

    Inverting a step needs ε at its noisy end, which is unknown. The usual DDIM inversion uses ε at the clean end; more
    `repeats` improve the estimate by fixed-point iteration (arXiv:2309.04907). Costs repeats × steps evaluations.
    """
    steps = list(zip(levels.times, levels.signal[:-1], levels.signal[1:], strict=True))
    for t, there, here in reversed(steps):
        guess = x
        for _ in range(repeats):
            _, noise = denoise(guess, t, there)
            clean = (x - math.sqrt(1 - here) * noise) / math.sqrt(here)
            guess = math.sqrt(there) * clean + math.sqrt(1 - there) * noise
        x = guess
    return x
