"""Scores of a diffusion model's own steps: how far its predictions move, and how well it denoises its sample."""

from torch import Tensor

from ..harness.core.inputs import Array
from ..harness.core.protocols import View
from ..harness.core.registry import metric
from .volume import not_negative

TRAJECTORY = View("fake", "trajectory")


@metric(better="lower", kind="sample", source="not published as a score; the steps: arXiv:2010.02502", steps=TRAJECTORY)
def prediction_path_length(steps: Array) -> Tensor:
    """How far the prediction of x_0 moves from the first step of sampling to the last, float64 [N]; lower is better.

    steps: lengths [N, T + 1] in units of x_0; the first, from 0 to the first prediction, does not count. It is 0 where
    the model predicts the same sample at all steps. It costs no more than making the sample. Direction: on our latent
    diffusion of digits neither was decided.
    Raises ValueError for bad input, negative lengths, or fewer than 2 columns.
    """
    lengths = not_negative(steps=steps)
    if lengths.shape[1] < 2:
        raise ValueError("steps has one column; a path has the first prediction and at least one step")
    return lengths[:, 1:].double().sum(1)


@metric(better="lower", kind="sample", source="not published as a score; see arXiv:2505.23343", steps=TRAJECTORY)
def first_prediction_norm(steps: Array) -> Tensor:
    """How far the first prediction of x_0 lies from 0, float64 [N]; lower is more typical.

    steps: lengths [N, T + 1] in units of x_0, of which this is the first. For latent_diffusion 0 is the mean of the
    training codes. One call of the denoiser is enough for it; here all steps are made, as for
    `prediction_path_length`. The score of arXiv:2505.23343 adds up differences between predictions with and without a
    class over the first steps. A model without classes has none, and this is what is left of its first step.
    Raises ValueError for bad input or negative lengths.
    """
    return not_negative(steps=steps)[:, 0].double()


@metric(better="lower", kind="sample", source="arXiv:2301.12334", errors=View("fake", "denoising"))
def denoising_error(errors: Array) -> Tensor:
    """Mean squared error of x_0 as predicted from a little noise, float64 [N]; lower is more typical.

    errors [N, K]: in K draws of noise. This is the minority score with the squared error of x_0 itself in place of
    LPIPS. It was published to tell what is rare, not what is good. It costs K calls of the denoiser.
    Raises ValueError for bad input or negative errors.
    """
    return not_negative(errors=errors).double().mean(1)
