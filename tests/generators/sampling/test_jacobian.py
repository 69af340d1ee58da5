"""Jacobian scores of decoders whose singular values are known."""

import math

import pytest
import torch
from torch import Tensor

from assay.generators.sampling.jacobian import effective_rank, projected_log_volume, singular_values


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_linear_decoder_has_the_singular_values_of_its_matrix_everywhere() -> None:
    matrix = gauss(6, 20)
    values = singular_values(lambda z: (z @ matrix).view(-1, 5, 2, 2), gauss(9, 6, seed=1))
    expected = torch.linalg.svdvals(matrix).expand(9, 6)
    torch.testing.assert_close(values, expected)
    volume = projected_log_volume(lambda z: z @ matrix, gauss(9, 6, seed=1), k=6)
    assert volume.std().item() == pytest.approx(0, abs=1e-12)


def test_a_known_warp() -> None:
    z = gauss(50, 3)
    volume = projected_log_volume(torch.exp, z, k=3)  # the Jacobian is diag(exp z), so the volume is exp(sum z)
    torch.testing.assert_close(volume, z.sum(1))
    largest = projected_log_volume(torch.exp, z, k=1)
    torch.testing.assert_close(largest, z.amax(1))


def test_projection_keeps_a_jacobian_that_lies_within_few_dimensions_on_average() -> None:
    # |P J v|^2 averages |J v|^2 * 128 / 2000 for a fixed v; relative sd sqrt(2 / 128) = 12.5 % each, 5 sd allowed.
    matrix = gauss(1, 2000)
    values = singular_values(lambda z: z @ matrix, gauss(1, 1), projections=128)
    ratio = float(values.square().sum() / matrix.square().sum())
    assert ratio == pytest.approx(128 / 2000, rel=0.6)
    assert torch.equal(values, singular_values(lambda z: z @ matrix, gauss(1, 1), projections=128))


def test_effective_rank_counts_equal_directions() -> None:
    scale = torch.tensor([2.0, 2.0, 2.0, 0.0], dtype=torch.float64)
    assert effective_rank(lambda z: z * scale, gauss(5, 4)).tolist() == pytest.approx([3] * 5)
    uneven = torch.tensor([3.0, 1.0], dtype=torch.float64)
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(lambda z: z * uneven, gauss(5, 2)).tolist() == pytest.approx([expected] * 5)


def test_latents_are_left_alone_and_no_grad_does_not_stop_it() -> None:
    z = gauss(4, 3).float()
    with torch.no_grad():
        assert projected_log_volume(torch.sin, z, k=2).shape == (4,)
    assert z.grad is None
    assert not z.requires_grad


def test_bad_k_latents_and_decoders() -> None:
    def widen(z: Tensor) -> Tensor:
        return z.repeat(2, 1)

    with pytest.raises(ValueError, match="k is 30; the projected Jacobian has 3 singular values"):
        projected_log_volume(torch.exp, gauss(5, 3))
    with pytest.raises(ValueError, match="give finite floating"):
        projected_log_volume(torch.exp, torch.full((2, 3), torch.nan), k=1)
    with pytest.raises(ValueError, match="decode maps 4 codes to 8 outputs"):
        projected_log_volume(widen, gauss(4, 3), k=1)
