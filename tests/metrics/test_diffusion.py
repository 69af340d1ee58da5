"""Scores of a diffusion model's steps: of denoisers whose predictions are known, and what a cell of them reads."""

import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.generators.latent_diffusion import SIGNAL, LatentDiffusion, latent_diffusion
from assay.generators.networks import ddim
from assay.harness.arrays.views import Views
from assay.harness.run import Run
from assay.metrics.diffusion import denoising_error, first_prediction_norm, prediction_path_length

LEVELS = ddim.respaced(SIGNAL, 20)
WIDE = 0.7
"""Standard deviation of the normal whose denoiser is known."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_a_normal(x: Tensor, t: int, signal: float) -> tuple[Tensor, Tensor]:
    """The best predictions of x_0 ~ N(0, s² I) and of the noise."""
    a, b = math.sqrt(signal), math.sqrt(1 - signal)
    clean = a * WIDE**2 / (a**2 * WIDE**2 + b**2) * x
    return clean, (x - a * clean) / b


def test_a_model_of_one_sample_does_not_move() -> None:
    sample = normal(5)

    def always(x: Tensor, t: int, signal: float) -> tuple[Tensor, Tensor]:
        clean = sample.expand_as(x)
        return clean, (x - math.sqrt(signal) * clean) / math.sqrt(1 - signal)

    steps = ddim.trajectory(always, normal(4, 5, seed=1), LEVELS)
    assert steps.shape == (4, 21)
    torch.testing.assert_close(first_prediction_norm(steps), sample.square().mean().sqrt().expand(4))
    assert prediction_path_length(steps).abs().max() < 1e-12
    errors = ddim.denoising_errors(always, sample.expand(4, 5), LEVELS, 3)
    assert errors.shape == (4, 3)
    assert denoising_error(errors).max() == 0


def test_sampling_keeps_the_last_prediction_alone() -> None:
    """With all of them, images of 256 pixels in 250 steps would need 250 times their memory."""
    made: list[weakref.ref[Tensor]] = []

    def watched(x: Tensor, t: int, signal: float) -> tuple[Tensor, Tensor]:
        assert sum(reference() is not None for reference in made) <= 1
        clean, noise = of_a_normal(x, t, signal)
        made.append(weakref.ref(clean))
        return clean, noise

    ddim.sample(watched, normal(2, 3), LEVELS)
    assert len(made) == 20


def test_the_predictions_of_a_normal_move_along_a_line() -> None:
    """x_0 is predicted as a multiple of the noise that grows at every step: the path is as long as its ends are far."""
    noise = normal(6, 3)
    steps = ddim.trajectory(of_a_normal, noise, LEVELS)
    size = noise.square().mean(1).sqrt()
    signal = LEVELS.signal[0]
    first = math.sqrt(signal) * WIDE**2 / (signal * WIDE**2 + 1 - signal)
    torch.testing.assert_close(first_prediction_norm(steps), first * size)
    last = ddim.sample(of_a_normal, noise, LEVELS).square().mean(1).sqrt()
    torch.testing.assert_close(prediction_path_length(steps), last - first * size)


def test_the_error_of_the_best_denoiser_of_a_normal() -> None:
    """At t = 50, the nearest of these to 60: 20,000 draws lie within 4.5 standard errors but for 7 runs in a million.

    The noise is the same for all samples, so that its own mean square takes the place of 1 in s² b² / (a² s² + b²).
    """
    count, draws = 20_000, 2
    errors = ddim.denoising_errors(of_a_normal, WIDE * normal(count, 1), LEVELS, draws)
    a, b = math.sqrt(float(SIGNAL[50])), math.sqrt(1 - float(SIGNAL[50]))
    shrunk = a * WIDE**2 / (a**2 * WIDE**2 + b**2)
    noise = torch.randn(draws, 1, generator=torch.Generator().manual_seed(0)).double()
    wanted = (a * shrunk - 1) ** 2 * WIDE**2 + (shrunk * b) ** 2 * noise.square().mean()
    found = denoising_error(errors)
    assert abs(float(found.mean() - wanted)) < 4.5 * float(found.std()) / math.sqrt(count)


@pytest.fixture
def open_run(open_views: Callable[..., Views], tmp_path: Path) -> Callable[[Any], Run]:
    return lambda generator: Run("study", "plain", "squares", open_views(generator), tmp_path, seed=0, n=20)


def test_cells_of_latent_diffusion_read_its_own_steps(open_run: Callable[[Any], Run]) -> None:
    model = latent_diffusion("digits", steps=10)
    assert isinstance(model, LatentDiffusion)
    run = open_run(model)
    seeds = range(20)
    steps = model.trajectory(model.latents(seeds, "x_T"))
    assert steps.shape == (20, 11)
    errors = model.denoising_errors(model.latents(seeds, "z_0"))
    for name, wanted in (
        ("prediction_path_length", steps[:, 1:].double().sum(1)),
        ("first_prediction_norm", steps[:, 0].double()),
        ("denoising_error", errors.double().mean(1)),
    ):
        torch.testing.assert_close(run.sample_scores(run.cell(name)), wanted, rtol=1e-5, atol=1e-6)
    # The model's own samples are easier to denoise than noise is.
    assert errors.mean() < model.denoising_errors(3 * model.latents(seeds, "x_T")).mean()


def test_other_generators_have_no_steps(
    open_run: Callable[[Any], Run], plain: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(plain)
    assert run.sample_scores(run.cell("denoising_error")).isnan().all()
    assert "no diffusion model that shows its steps" in capsys.readouterr().err


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="1 rows are negative"):
        first_prediction_norm(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]))
    with pytest.raises(ValueError, match="one column"):
        prediction_path_length(torch.ones(3, 1))
