"""Discriminator optimal transport: closed forms, one sample at a time."""

import math

import pytest
import torch
from torch import Tensor

from assay.generators.sampling.transport import OFFSET, steepness, transport


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_steepness_of_a_linear_critic() -> None:
    slope, z = torch.tensor([3.0, 4.0]).double(), gauss(2000, 2)
    found = steepness(lambda z: z @ slope, z)
    assert found <= 5 + 1e-9
    assert found == pytest.approx(5, rel=1e-3), "some pair of 1,000 points along the slope"
    pair = torch.tensor([[0.0, 0.0], [2.0, 0.0]]).double()
    assert steepness(lambda z: z @ slope, pair) == pytest.approx(3)


def test_steps_are_those_of_the_objective() -> None:
    """Against Adam on each sample by itself, with the objective written out."""

    def critic(z: Tensor) -> Tensor:
        return (2 * z).sin().sum(1)

    z = gauss(7, 3)
    found = transport(critic, z, slope=0.5, steps=(1, 6), rate=0.05, sphere=False, chunk=3)
    for i, start in enumerate(z):
        one = start[None].clone().requires_grad_()
        optimiser = torch.optim.Adam([one], lr=0.05, betas=(0.0, 0.9))
        for step in range(6):
            optimiser.zero_grad()
            loss = -critic(one).sum() / 0.5 + torch.linalg.norm(one - start + OFFSET)
            loss.backward()
            optimiser.step()
            if step == 0:
                torch.testing.assert_close(found[0][i], one.detach()[0])
        torch.testing.assert_close(found[1][i], one.detach()[0])


def test_the_critic_rises_and_the_batch_does_not_matter() -> None:
    """The release takes one norm of the whole batch, so that each sample's move depends on the others'."""

    def critic(z: Tensor) -> Tensor:
        return -(z - 1).square().sum(1)

    z = gauss(64, 4)
    (together,) = transport(critic, z, slope=1.0, steps=(20,), rate=0.05)
    assert (critic(together) > critic(z)).double().mean() > 0.9
    (alone,) = transport(critic, z[5:6], slope=1.0, steps=(20,), rate=0.05)
    torch.testing.assert_close(alone[0], together[5])
    (other,) = transport(critic, torch.cat([z[5:6], 100 * z[6:9]]), slope=1.0, steps=(20,), rate=0.05)
    torch.testing.assert_close(other[0], together[5])


def test_a_radial_wish_moves_nothing_on_the_sphere() -> None:
    z = gauss(5, 8)
    outwards = transport(lambda z: 50 * z.square().sum(1), z, slope=1.0, steps=(1,), rate=0.01, sphere=False)[0]
    assert (outwards.norm(dim=1) > z.norm(dim=1)).all()
    # Left without its radial part the critic's wish is gone: what remains is the pull of the offset, of any size that
    # Adam turns into one step of the rate; the radius stays to second order.
    around = transport(lambda z: 50 * z.square().sum(1), z, slope=1.0, steps=(1,), rate=0.01)[0]
    assert (around - z).abs().max() <= 0.01 + 1e-9
    assert (around.norm(dim=1) - z.norm(dim=1)).abs().max() < 0.5 * (outwards.norm(dim=1) - z.norm(dim=1)).min()


def test_a_flat_critic_keeps_samples_near() -> None:
    z = gauss(5, 3)
    (moved,) = transport(lambda z: 0 * z.sum(1), z, slope=1.0, steps=(50,), rate=0.01, sphere=False)
    assert (moved - z).abs().max() < 0.05 < 50 * 0.01


def test_bad_arguments() -> None:
    z = gauss(4, 2)
    with pytest.raises(ValueError, match="1 latent makes no pair"):
        steepness(lambda z: z.sum(1), z[:1])
    with pytest.raises(ValueError, match=r"steepness over 2 pairs is 0\.0; it must be positive and finite"):
        steepness(lambda z: 0 * z.sum(1), z)
    with pytest.raises(ValueError, match=r"steps=\[\], rate=0.01"):
        transport(lambda z: z.sum(1), z, 1.0, steps=())
    with pytest.raises(ValueError, match="slope=0"):
        transport(lambda z: z.sum(1), z, 0)
    with pytest.raises(ValueError, match="latents are"):
        transport(lambda z: z.sum(1), torch.tensor([[math.nan, 1.0]]), 1.0)
    with pytest.raises(ValueError, match="not finite after 0 steps"):
        transport(lambda z: (z - z.detach()).sqrt().sum(1), z, 1.0)
