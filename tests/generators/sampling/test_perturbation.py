"""Perturbation: the bound, closed forms on a linear score, and exact density beside the learned one."""

import math

import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from assay.generators.sampling.perturbation import perturb, random_signs
from assay.metrics.pseudo_density import DensityNetwork, pseudo_density


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [0.1, 0.2, 0.3, 1e-4])
def test_no_coordinate_ever_leaves_the_box(dtype: torch.dtype, epsilon: float) -> None:
    z = 5 * gauss(200, 3, 4).to(dtype)
    for sign in (True, False):
        moved = perturb(lambda z: z.sin().sum((1, 2)), z, epsilon, rate=epsilon, sign=sign).latents
        assert moved.dtype == dtype
        for other in (moved, random_signs(z, moved, epsilon)):
            distance = (other.double() - z.double()).abs()
            assert distance.max().item() <= epsilon  # exactly, in float64: no tolerance
            assert distance.max().item() > 0.999 * epsilon - 1e-6 * (dtype == torch.float32)


def test_a_linear_score_is_raised_and_lowered_by_its_l1_norm() -> None:
    weights, z = gauss(6, seed=1).double(), gauss(20, 6).double()
    up = perturb(lambda z: z @ weights, z, 0.2)
    down = perturb(lambda z: z @ weights, z, 0.2, direction="lower")
    torch.testing.assert_close(up.latents, z + 0.2 * weights.sign())
    torch.testing.assert_close(up.before, z @ weights)
    torch.testing.assert_close(up.after - up.before, (0.2 * weights.abs().sum()).expand(20))
    torch.testing.assert_close(down.after - down.before, (-0.2 * weights.abs().sum()).expand(20))


def test_the_raw_gradient_is_followed_as_printed() -> None:
    weights, z = torch.tensor([1.0, -0.01]).double(), gauss(5, 2).double()
    moved = perturb(lambda z: z @ weights, z, epsilon=0.1, steps=3, rate=0.05, sign=False).latents
    torch.testing.assert_close(moved - z, torch.tensor([0.1, -0.0015]).double().expand(5, 2))


def test_it_stops_at_a_maximum_inside_the_box() -> None:
    z = torch.full((1, 3), 0.06, dtype=torch.float64)
    near = perturb(lambda z: -z.square().sum(1), z, epsilon=0.1, steps=200, rate=0.1, sign=False).latents
    torch.testing.assert_close(near, torch.zeros(1, 3).double(), atol=1e-12, rtol=0)


def test_chunks_and_neighbours_change_nothing() -> None:
    z = gauss(10, 4)

    def score(z: Tensor) -> Tensor:
        return (3 * z).sin().sum(1)

    whole, parts = perturb(score, z, chunk=64), perturb(score, z, chunk=3)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    assert torch.equal(perturb(score, z[4:5]).latents, whole.latents[4:5])


def test_memory_is_bounded_by_the_chunk_and_no_grad_does_not_stop_it() -> None:
    seen = []

    def score(z: Tensor) -> Tensor:
        seen.append(len(z))
        return z.square().sum(1)

    z = gauss(100, 2)
    with torch.no_grad():
        moved = perturb(score, z, steps=2, chunk=16).latents
    assert max(seen) == 16
    assert sum(seen) == 3 * 100  # two steps and the score of the result
    assert not moved.requires_grad
    assert torch.equal(z, gauss(100, 2))


def test_the_control_moves_as_far_each_way() -> None:
    z = gauss(300, 50)
    moved = perturb(lambda z: z.sum(1), z, 0.1).latents
    control = random_signs(z, moved, 0.1, seed=3)
    torch.testing.assert_close((control - z).abs(), (moved - z).abs(), atol=1e-6, rtol=0)
    ups = int((control > z).sum())
    low, high = binom.interval(1 - 1e-6, 15000, 0.5)  # false alarm: 1 in 10^6
    assert low <= ups <= high
    assert torch.equal(control, random_signs(z, moved, 0.1, seed=3))
    assert not torch.equal(control, random_signs(z, moved, 0.1, seed=4))


def test_exact_density_moves_the_right_way_and_beats_the_control() -> None:
    """Through a learned density of a curved generator's features; seeds are fixed, so there is no false alarm."""
    mix = gauss(8, 16, seed=5)

    def generate(z: Tensor) -> Tensor:
        return (z @ mix / 3).tanh()

    real = generate(0.7 * gauss(1500, 8, seed=1))
    network = DensityNetwork.fit(real, epochs=40)
    z = gauss(200, 8, seed=2)

    def exact(z: Tensor) -> Tensor:
        return pseudo_density(generate(z), real)

    for direction, sense in (("higher", 1), ("lower", -1)):
        found = perturb(lambda z: network(generate(z)), z, 0.1, direction=direction)  # type: ignore[arg-type]
        gain = sense * (exact(found.latents) - exact(z))
        control = sense * (exact(random_signs(z, found.latents, 0.1)) - exact(z))
        assert (sense * (found.after - found.before) > 0).float().mean() > 0.95
        assert (gain > 0).float().mean() >= 0.9
        # Were steps no better than random signs, this many wins would come by chance less than once in 10^6.
        assert int((gain > control).sum()) > binom.ppf(1 - 1e-6, 200, 0.5)
        assert (control > 0).float().mean() < 0.65
        # The control's gain has mean near 0: within 4 standard errors of it, curvature aside.
        assert abs(control.mean()) < max(4 * float(control.std()) / math.sqrt(200), 0.2 * float(gain.mean()))


def test_bad_arguments() -> None:
    z = gauss(4, 2)
    with pytest.raises(ValueError, match="latents are torch"):
        perturb(lambda z: z.sum(1), torch.ones(2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="epsilon=0, steps=10, chunk=64: all must be positive"):
        perturb(lambda z: z.sum(1), z, 0)
    with pytest.raises(ValueError, match="rate=-1 must be positive"):
        perturb(lambda z: z.sum(1), z, rate=-1)
    with pytest.raises(ValueError, match="direction='up' must be"):
        perturb(lambda z: z.sum(1), z, direction="up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"score maps 4 latents to \[\]"):
        perturb(lambda z: z.sum(), z)
    with pytest.raises(ValueError, match="not differentiable"):
        perturb(lambda z: z.detach().sum(1), z)
    with pytest.raises(ValueError, match="the score is not finite at latent 3"):
        perturb(lambda z: torch.where(z[:, 0] == z[-1, 0], torch.inf, 0) + z.sum(1), z, chunk=4)
    with pytest.raises(ValueError, match="the gradient of the score is not finite at latent 2"):
        perturb(lambda z: torch.cat([z[:2], (z[2:] - z[2:].detach()).sqrt()]).sum(1), z)
    with pytest.raises(ValueError, match=r"latents are \[4, 2\], moved \[2, 2\]"):
        random_signs(z, z[:2], 0.1)
