"""What is known of Jacobians, against linear decoders and against a trained one that is differenced in float64."""

import copy
import math

import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from assay.harness.core.registry import GENERATORS, discover
from assay.harness.stats.jacobians import derivative, orthonormal_rows, singular_values, squared_stretch

RARE = 1e-6
"""False-alarm rate of the test of randomness here; all seeds are fixed."""


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_a_linear_decoder_is_its_matrix_everywhere(shape: tuple[int, ...]) -> None:
    matrix, direction = gauss(6, 20), gauss(6, seed=2)

    def decode(z: Tensor) -> Tensor:
        return 3 + (z.flatten(1) @ matrix).view(-1, 5, 2, 2)

    codes = gauss(9, *shape, seed=1)
    torch.testing.assert_close(derivative(decode, codes, direction), (direction @ matrix).expand(9, 20))
    torch.testing.assert_close(
        singular_values(decode, codes), torch.linalg.svdvals(matrix).float().expand(9, 6), rtol=1e-6, atol=0
    )
    everything = squared_stretch(decode, codes, directions=6).mean(1)
    torch.testing.assert_close(everything, matrix.square().sum().float().expand(9), rtol=1e-6, atol=0)


def test_the_mean_over_directions_is_the_squared_norm() -> None:
    """Hutchinson's estimate has no bias, with one direction and with three orthonormal ones, which vary less."""
    matrix, draws, spread = gauss(8, 12) * torch.arange(1, 9)[:, None], 1000, {}
    for count in (1, 3):
        seeds = range(draws)
        found = torch.stack([squared_stretch(lambda z: z @ matrix, gauss(1, 8), count, s)[0] for s in seeds]).double()
        for column in (*found.T, found.mean(1)):
            error = (column.mean() - matrix.square().sum()) / (column.std() / math.sqrt(draws))
            assert abs(float(error)) < norm.isf(RARE / 12)  # two sides of six columns
        spread[count] = float(found.mean(1).std())
    assert spread[3] < spread[1] / math.sqrt(3)


def test_directions_are_orthonormal_and_seeded() -> None:
    rows = orthonormal_rows(40, 6, seed=3)
    torch.testing.assert_close(rows @ rows.T, torch.eye(6))
    assert torch.equal(rows, orthonormal_rows(40, 6, seed=3))
    assert not torch.equal(rows, orthonormal_rows(40, 6, seed=4))
    assert torch.equal(orthonormal_rows(4, 6), torch.eye(4))


@pytest.fixture(scope="module")
def vae() -> tuple[torch.nn.Module, Tensor]:
    """The decoder of the zoo's VAE of Fashion-MNIST, 16 dimensions and 784 pixels, and 20 of its codes."""
    discover("generators/*.py")
    generator = GENERATORS["vae"].function("fashion_mnist")
    decoder = torch.nn.Sequential(generator.network.decoder, torch.nn.Sigmoid()).requires_grad_(False)
    return decoder, generator.latents(range(20), "z")


def test_they_agree_with_the_whole_jacobian_of_a_trained_decoder_in_float64(
    vae: tuple[torch.nn.Module, Tensor],
) -> None:
    decoder, codes = vae
    exact = copy.deepcopy(decoder).double()
    z, step = codes.double(), 1e-5  # central differences, whose error is about the square of the step
    columns = [(exact(z + step * axis) - exact(z - step * axis)).flatten(1) / (2 * step) for axis in torch.eye(16)]
    jacobians = torch.stack(columns, 2)
    values = singular_values(decoder, codes)
    assert values.shape == (20, 16)
    torch.testing.assert_close(values.double(), torch.linalg.svdvals(jacobians), rtol=1e-4, atol=0)
    directions = orthonormal_rows(16, 6).double()
    wanted = 16 * (jacobians @ directions.T).square().sum(1)
    torch.testing.assert_close(squared_stretch(decoder, codes).double(), wanted, rtol=1e-4, atol=0)


def test_rotating_the_latent_space_changes_no_singular_value(vae: tuple[torch.nn.Module, Tensor]) -> None:
    decoder, codes = vae
    rotation = torch.linalg.qr(gauss(16, 16)).Q.float()
    turned = singular_values(lambda z: decoder(z @ rotation.T), codes @ rotation)
    torch.testing.assert_close(turned, singular_values(decoder, codes), rtol=1e-4, atol=0)
    norms = [
        squared_stretch(f, z, 16).mean(1)
        for f, z in ((decoder, codes), (lambda z: decoder(z @ rotation.T), codes @ rotation))
    ]
    torch.testing.assert_close(*norms, rtol=1e-4, atol=0)


def test_codes_that_change_nothing_have_no_length() -> None:
    codes = gauss(4, 3)
    for decode in (lambda z: torch.ones(len(z), 5), lambda z: 0 * z):
        assert squared_stretch(decode, codes).tolist() == [[0, 0, 0]] * 4
        assert singular_values(decode, codes).tolist() == [[0, 0, 0]] * 4


def test_more_dimensions_than_outputs() -> None:
    values = singular_values(lambda z: z[:, :2] * torch.tensor([3.0, 2.0]), gauss(5, 4).float())
    torch.testing.assert_close(values, torch.tensor([3.0, 2.0, 0.0, 0.0]).expand(5, 4))


def test_no_gradient_is_needed_and_none_is_left() -> None:
    codes = gauss(4, 3).float()
    with torch.no_grad():
        assert squared_stretch(torch.sin, codes).shape == (4, 3)
    assert not codes.requires_grad


def test_refusals() -> None:
    class Opaque(torch.autograd.Function):
        @staticmethod
        def forward(context: object, z: Tensor) -> Tensor:
            return z.clone()

    with pytest.raises(ValueError, match="decode maps 4 codes to 8 outputs"):
        squared_stretch(lambda z: z.repeat(2, 1), gauss(4, 3))
    with pytest.raises(ValueError, match="codes have 129 dimensions; all singular values are found for at most 128"):
        singular_values(torch.sin, gauss(4, 129))
    with pytest.raises(ValueError, match="decode has no forward derivative"):
        squared_stretch(Opaque.apply, gauss(4, 3))
