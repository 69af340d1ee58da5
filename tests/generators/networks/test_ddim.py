"""Noise schedules and DDIM: closed forms, and the map from noise to data that is known for normal data."""

import math

import pytest
import torch
from torch import Tensor

from assay.generators.networks import ddim

SCHEDULES = {"linear": ddim.linear, "cosine": ddim.cosine}
MEAN, DEVIATION = 0.7, 0.25


def normal_data(x: Tensor, t: int, signal: float) -> tuple[Tensor, Tensor]:
    """The best possible denoiser of data N(0.7, 0.25²): ε = √(1 - ᾱ) (x - √ᾱ μ) / (ᾱ s² + 1 - ᾱ)."""
    noise = math.sqrt(1 - signal) * (x - math.sqrt(signal) * MEAN) / (signal * DEVIATION**2 + 1 - signal)
    return ddim.from_noise(x, noise, signal)


def known_map(x: Tensor, signal: float) -> Tensor:
    """Where the probability flow takes x: the quantile stays the same."""
    return MEAN + DEVIATION * (x - math.sqrt(signal) * MEAN) / math.sqrt(signal * DEVIATION**2 + 1 - signal)


@pytest.mark.parametrize("steps", [10, 1000, 4000])
def test_linear_schedule(steps: int) -> None:
    signal, product = ddim.linear(steps), 1.0
    for t in range(steps):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / (steps - 1)) * 1000 / steps
        assert signal[t].item() == pytest.approx(product, rel=1e-9)


@pytest.mark.parametrize("steps", [10, 1000, 4000])
def test_cosine_schedule(steps: int) -> None:
    signal = ddim.cosine(steps)
    f = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(steps + 1)]
    for t in range(steps - 1):
        assert signal[t].item() == pytest.approx(f[t + 1] / f[0], rel=1e-9)
    assert signal[-1] == pytest.approx(signal[-2] * 0.001)


def test_timesteps_are_spread_evenly() -> None:
    signal = ddim.linear(1000)
    levels = ddim.respaced(signal, 4)
    assert levels.times == [750, 500, 250, 0]
    assert levels.signal == [*signal[[750, 500, 250, 0]].tolist(), 1.0]
    assert ddim.respaced(signal, 3).times == [666, 333, 0]
    assert ddim.respaced(signal, 1000).times == list(range(999, -1, -1))


def test_timesteps_of_latents() -> None:
    """1 + i · (T // steps): all that fit, as in latent-diffusion, or `steps` of them, as in diffusers."""
    signal = ddim.linear(1000)
    levels = ddim.strided(signal, 4)
    assert levels.times == [751, 501, 251, 1]
    assert levels.signal == [*signal[[751, 501, 251, 1]].tolist(), float(signal[0])]
    with pytest.raises(ValueError, match="steps=3 begins at timestep 1000 of 1000"):
        ddim.strided(signal, 3)
    assert ddim.strided(signal, 3, most=3).times == [667, 334, 1]
    every = ddim.strided(signal, 30).times
    assert (len(every), every[0], every[-1]) == (31, 991, 1)
    assert ddim.strided(signal, 30, most=30).times == every[1:]
    assert ddim.strided(signal, 500).times[0] == 999
    for steps in (501, 1000):
        with pytest.raises(ValueError, match=f"steps={steps} begins at timestep 1000 of 1000; give fewer steps"):
            ddim.strided(signal, steps)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps(steps: int) -> None:
    with pytest.raises(ValueError, match=rf"steps={steps} must be between 1 and 1000"):
        ddim.respaced(ddim.linear(1000), steps)
    with pytest.raises(ValueError, match=rf"steps={steps} must be between 1 and 1000"):
        ddim.strided(ddim.linear(1000), steps)


def test_noise_and_velocity_say_the_same() -> None:
    draw = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 100, generator=draw, dtype=torch.float64)
    for signal in (0.999, 0.5, 1e-3):
        a, b = math.sqrt(signal), math.sqrt(1 - signal)
        x = a * clean + b * noise
        for said in (ddim.from_noise(x, noise, signal), ddim.from_velocity(x, a * noise - b * clean, signal)):
            torch.testing.assert_close(said, (clean, noise))


def test_clipping_keeps_what_was_seen() -> None:
    x, noise, signal = torch.tensor([3.0, 0.1, -3.0]), torch.tensor([0.1, 0.2, -0.1]), 0.5
    clean, left = ddim.from_noise(x, noise, signal, clip=True)
    assert clean.tolist() == [1.0, pytest.approx((0.1 - math.sqrt(0.5) * 0.2) / math.sqrt(0.5)), -1.0]
    torch.testing.assert_close(math.sqrt(0.5) * clean + math.sqrt(0.5) * left, x)


def test_one_step_is_equation_12() -> None:
    """x' = √ᾱ' (x - √(1 - ᾱ) ε) / √ᾱ + √(1 - ᾱ') ε."""
    x, noise, here, there = 1.3, -0.4, 0.3, 0.6
    levels = ddim.Levels([7], [here, there])

    def denoise(x: Tensor, t: int, signal: float) -> tuple[Tensor, Tensor]:
        assert (t, signal) == (7, here)
        return ddim.from_noise(x, torch.full_like(x, noise), signal)

    after = ddim.sample(denoise, torch.tensor([x], dtype=torch.float64), levels)
    expected = math.sqrt(there) * (x - math.sqrt(1 - here) * noise) / math.sqrt(here) + math.sqrt(1 - there) * noise
    assert after.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_normal_data_come_out_of_normal_noise(name: str) -> None:
    """The error falls like 1 / steps towards the known map, and the slope is its slope."""
    signal = SCHEDULES[name](1000)
    x = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    errors = []
    for steps in (10, 100, 1000):
        levels = ddim.respaced(signal, steps)
        errors.append((ddim.sample(normal_data, x, levels) - known_map(x, levels.signal[0])).abs().max().item())
    assert errors[2] < 8e-3
    assert 5 < errors[0] / errors[1] < 20
    assert 5 < errors[1] / errors[2] < 20
    (slope,) = torch.autograd.grad(ddim.sample(normal_data, x, ddim.respaced(signal, 1000)).sum(), x)
    torch.testing.assert_close(slope, torch.full_like(slope, DEVIATION), rtol=0.01, atol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_inversion_undoes_sampling(name: str) -> None:
    levels = ddim.respaced(SCHEDULES[name](1000), 50)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)
    clean = ddim.sample(normal_data, x, levels)
    errors = [(ddim.invert(normal_data, clean, levels, repeats) - x).abs().max().item() for repeats in (1, 2, 40)]
    assert errors[0] > 5 * errors[1] > 0
    assert errors[2] < 1e-9


def test_inversion_counts_its_evaluations() -> None:
    asked: list[int] = []

    def denoise(x: Tensor, t: int, signal: float) -> tuple[Tensor, Tensor]:
        asked.append(t)
        return x, x

    ddim.invert(denoise, torch.ones(1), ddim.respaced(ddim.linear(1000), 2), repeats=3)
    assert asked == [0, 0, 0, 500, 500, 500]
