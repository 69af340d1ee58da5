"""Polarity sampling: nothing on a linear decoder, the uniform law on a warped one, both modes of differentiation."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest
from torch import Tensor, nn

from assay.generators.sampling.jacobian import projected_log_volume
from assay.generators.sampling.polarity import log_volumes, polarity_sample, polarity_weights

RARE = 1e-6
"""False-alarm rate of each test of randomness here; all seeds are fixed."""


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("rho", [-5.0, -1.0, 0.0, 1.0, 50.0])
def test_on_a_linear_decoder_it_does_nothing(forward: bool, rho: float) -> None:
    matrix = gauss(6, 40)
    volumes = log_volumes(lambda z: 3 + z @ matrix, gauss(200, 6, seed=1), k=6, forward=forward)
    torch.testing.assert_close(volumes, torch.linalg.svdvals(matrix).log().sum().expand(200))
    torch.testing.assert_close(polarity_weights(volumes, rho), torch.full((200,), 1 / 200, dtype=torch.float64))
    plain, by_volume = (polarity_sample(v, rho, 50, seed=3) for v in (torch.zeros(200), volumes))
    assert torch.equal(plain, by_volume)  # the very draw of a pool without weights


@pytest.mark.parametrize("forward", [False, True])
def test_a_known_warp(forward: bool) -> None:
    z = gauss(50, 3)
    torch.testing.assert_close(log_volumes(torch.exp, z, k=3, forward=forward), z.sum(1))
    torch.testing.assert_close(log_volumes(torch.exp, z, k=1, forward=forward), z.amax(1))
    expected = (0.7 * z.sum(1)).exp()
    torch.testing.assert_close(polarity_weights(z.sum(1), 0.7), expected / expected.sum())


def test_both_modes_agree_on_a_network_with_and_without_projection() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Linear(5, 32), nn.SiLU(), nn.Unflatten(1, (2, 4, 4)), nn.ConvTranspose2d(2, 3, 4, 2, 1), nn.Sigmoid()
        ).double()
    network.requires_grad_(False)
    z = gauss(20, 5)
    for projections in (16, 1000):
        one = log_volumes(network, z, 5, projections, seed=2, chunk=7)
        torch.testing.assert_close(log_volumes(network, z, 5, projections, seed=2, forward=True, chunk=3), one)
        torch.testing.assert_close(projected_log_volume(network, z, 5, projections, seed=2), one)
    exact = [torch.autograd.functional.jacobian(lambda z: network(z[None]).flatten(), row) for row in z]
    expected = torch.stack([torch.linalg.svdvals(jacobian).log().sum() for jacobian in exact])
    torch.testing.assert_close(log_volumes(network, z, 5, 1000, forward=True), expected)


def test_a_decode_that_moves_its_network_keeps_its_weights() -> None:
    network = nn.Linear(3, 8).double().requires_grad_(False)
    before = network.weight.clone()

    def decode(z: Tensor) -> Tensor:
        moved: Tensor = network.to(z.device)(z).sin()
        return moved

    volumes = [log_volumes(decode, gauss(4, 3), k=3, forward=forward) for forward in (True, False)]
    torch.testing.assert_close(*volumes)
    assert type(network.weight) is nn.Parameter
    assert torch.equal(network.weight, before)
    torch.testing.assert_close(decode(gauss(4, 3)), (gauss(4, 3) @ before.T + network.bias).sin())


def test_a_decoder_that_ignores_its_code_has_no_volume() -> None:
    for forward in (True, False):
        volumes = log_volumes(lambda z: 0 * z[:, :1] + 1, gauss(4, 3), k=1, forward=forward)
        assert volumes.tolist() == [-math.inf] * 4


def test_memory_is_bounded_by_the_chunk() -> None:
    seen = []

    def decode(z: Tensor) -> Tensor:
        seen.append(len(z))
        return z.sin()

    for forward in (False, True):
        log_volumes(decode, gauss(50, 3), k=3, forward=forward, chunk=8)
    assert max(seen) == 8


def warp(z: Tensor) -> Tensor:
    return z + 0.3 * torch.sin(math.pi * z)  # from [-1, 1] onto itself, rising


def test_rho_one_makes_a_warped_uniform_uniform() -> None:
    z = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (100_000, 1)))
    volumes = log_volumes(warp, z, k=1, chunk=10**6)
    torch.testing.assert_close(volumes, (1 + 0.3 * math.pi * torch.cos(math.pi * z[:, 0])).log())
    uniform = "uniform", (-1, 2)
    drawn = warp(z[polarity_sample(volumes, 1, 3000)])[:, 0]
    assert kstest(drawn.numpy(), *uniform).pvalue > RARE
    assert kstest(warp(z)[:3000, 0].numpy(), *uniform).pvalue < RARE  # the test can tell


@pytest.mark.parametrize("rho", [-1.5, 2.0])
def test_modes_and_anti_modes_come_as_often_as_their_weights_say(rho: float) -> None:
    volumes = torch.tensor([0.0, 0.5]).repeat_interleave(50_000)
    wide = 1 / (1 + math.exp(-0.5 * rho))  # weight of the larger volume against the smaller
    hits = int((polarity_sample(volumes, rho, 1000, seed=1) >= 50_000).sum())
    # Of so large a pool draws are nearly independent: taking 1 % shifts the share by less than 0.01, allowed beside.
    least, most = binom.interval(1 - RARE, 1000, wide)
    assert least - 10 <= hits <= most + 10


def test_sampling_is_without_replacement_and_seeded() -> None:
    volumes = 200 * gauss(1000)
    for rho in (-10.0, 0.0, 10.0):
        drawn = polarity_sample(volumes, rho, 1000)
        assert sorted(drawn.tolist()) == list(range(1000))
        assert torch.equal(drawn[:10], polarity_sample(volumes, rho, 10))
    assert polarity_sample(volumes, 10, 1).item() == volumes.argmax().item()
    assert polarity_sample(volumes, -10, 1).item() == volumes.argmin().item()


def test_volumes_beyond_any_float_are_no_trouble() -> None:
    weights = polarity_weights(torch.tensor([-5000.0, -5001.0]), 1)
    assert weights.tolist() == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e)])
    assert polarity_weights(torch.tensor([9000.0, 0.0]), -1).tolist() == [0, 1]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"1 of 3 are not finite, the first is number 1: the decoder's rank"):
        polarity_weights(torch.tensor([0, -torch.inf, 1]), -1)
    with pytest.raises(ValueError, match=r"log_volume has shape \[2, 1\]"):
        polarity_weights(torch.zeros(2, 1), 1)
    with pytest.raises(ValueError, match="rho=nan must be finite"):
        polarity_weights(torch.zeros(2), math.nan)
    with pytest.raises(ValueError, match="count=3 must be 1 to 2"):
        polarity_sample(torch.zeros(2), 1, 3)
    for forward in (False, True):
        with pytest.raises(ValueError, match="k is 4; the projected Jacobian has 3 singular values"):
            log_volumes(torch.sin, gauss(5, 3), k=4, forward=forward)
    with pytest.raises(ValueError, match=r"latents are torch.float64 of shape \[3\]"):
        log_volumes(torch.sin, gauss(3))
    with pytest.raises(ValueError, match="chunk=0"):
        log_volumes(torch.sin, gauss(3, 3), k=1, chunk=0)
