"""The mixture of codes against closed forms."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from assay.metrics.latent_mixture import mixture_log_density


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_one_component_is_the_gaussian_of_greatest_likelihood(scale: float) -> None:
    z, codes = (
        scale * gauss(50, 3),
        scale * (gauss(400, 3, seed=1) @ torch.tensor([[1.0, 0.3, 0], [0, 1, 0], [0, 0, 4]])),
    )
    expected = multivariate_normal(codes.double().mean(0), np.cov(codes.double().T, bias=True)).logpdf(z.double())
    assert mixture_log_density(z, codes, components=1).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_two_distant_clusters_are_two_components() -> None:
    """Of weights 1/4 and 3/4: in the middle of each, the density of its Gaussian times the weight."""
    codes = torch.cat([gauss(500, 2) - 20, gauss(1500, 2, seed=1) + 20])
    near, far, between = mixture_log_density(
        torch.tensor([[20.0, 20], [-20, -20], [0, 0]]), codes, components=2
    ).tolist()
    assert near == pytest.approx(np.log(0.75 / (2 * np.pi)), abs=0.15)
    assert far == pytest.approx(np.log(0.25 / (2 * np.pi)), abs=0.25)
    assert between < -100


def test_it_is_repeatable_and_needs_enough_references() -> None:
    z, codes = gauss(20, 3), gauss(90, 3, seed=1)
    assert torch.equal(mixture_log_density(z, codes, components=4), mixture_log_density(z, codes, components=4))
    with pytest.raises(ValueError, match="reference has 39 rows; at least 40"):
        mixture_log_density(z, codes[:39])
