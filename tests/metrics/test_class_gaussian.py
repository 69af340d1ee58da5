"""The Gaussian of each class: by its closed form, and what it tells that one Gaussian of all cannot."""

import pytest
import torch
from scipy.stats import multivariate_normal

from assay.harness.core.registry import METRICS
from assay.metrics.class_gaussian import class_gaussian_log_density
from assay.metrics.latent_density import gaussian_log_density


def test_it_is_the_density_of_the_nearest_of_two_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40_000) % 2
    codes = torch.randn(40_000, 2, generator=generator) * torch.tensor([1.0, 0.5]) + 4 * labels[:, None]
    z = torch.tensor([[0.0, 0.0], [4.0, 4.0], [2.0, 2.0], [5.0, 3.5]])
    classes = [multivariate_normal([shift, shift], [[1, 0], [0, 0.25]]) for shift in (0, 4)]
    expected = torch.tensor([max(each.logpdf(point.numpy()) for each in classes) for point in z])
    # Means and variances of 20,000 codes: the error of a log density at a distance of 4 is about 0.1.
    torch.testing.assert_close(class_gaussian_log_density(z, codes, labels), expected, atol=0.4, rtol=0)
    shuffled = torch.randperm(len(codes), generator=generator)
    torch.testing.assert_close(
        class_gaussian_log_density(z, codes[shuffled], labels[shuffled]), class_gaussian_log_density(z, codes, labels)
    )
    between = class_gaussian_log_density(z, codes, labels)
    assert between[2] < between[0]
    assert gaussian_log_density(z, codes)[2] > gaussian_log_density(z, codes)[0], "one Gaussian of all cannot tell"


def test_one_class_is_one_gaussian() -> None:
    codes, z = torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        class_gaussian_log_density(z, codes, torch.zeros(30)), gaussian_log_density(z, codes), rtol=1e-9, atol=0
    )


def test_codes_are_the_encoders_so_that_labels_are_theirs() -> None:
    """Codes of the prior stand in for "latent" where there is no encoder, and would have the labels of others."""
    views = METRICS["class_gaussian_log_density"].views
    assert (views["reference"].space, views["labels"].space) == ("reencoded", "labels")


def test_bad_input() -> None:
    z = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="labels has 2 entries; give one for each of the 3 references"):
        class_gaussian_log_density(z, torch.randn(3, 2), torch.zeros(2))
    for few in (1, 2):
        with pytest.raises(ValueError, match=f"class 1 has {few} codes; give 3 or more different ones"):
            class_gaussian_log_density(z, torch.randn(3 + few, 2), torch.tensor([0, 0, 0, 1, 1][: 3 + few]))
    with pytest.raises(ValueError, match="class 0 has 4 codes; give 3 or more different ones"):
        class_gaussian_log_density(z, torch.ones(4, 2), torch.zeros(4))
