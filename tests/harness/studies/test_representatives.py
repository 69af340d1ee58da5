"""Representative features: the chi-square rule with its trap, and the share nearest to the mean."""

import numpy as np
import pytest
import torch
from scipy.stats import beta, chi2
from sklearn.covariance import LedoitWolf

from assay.harness.studies.few_shot.representatives import chi_square_representatives, nearest_representatives

N, D, CLASSES = 60, 20, 40
LABELS = torch.arange(N * CLASSES) % CLASSES


def gaussian() -> torch.Tensor:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(CLASSES, D, D))
    x = np.einsum("ncd,cde->nce", rng.normal(size=(N, CLASSES, D)), mix) + rng.normal(size=(CLASSES, D))
    return torch.from_numpy(x.reshape(-1, D)).float()


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_the_chi_square_rule_keeps_what_the_beta_law_says(p: float) -> None:
    """d2 of Gaussian features is (n - 1)^2 / n Beta(D/2, (n - D - 1)/2): fewer pass at 0.9 than the 10 % of chi-square.

    2,400 features; the standard deviation of the share is at most 0.0105, 5 of which are allowed: 6 in 10^7.
    """
    kept = chi_square_representatives(gaussian(), LABELS, p)
    expected = beta.cdf(chi2.isf(p, D) * N / (N - 1) ** 2, D / 2, (N - D - 1) / 2)
    assert kept.double().mean().item() == pytest.approx(expected, abs=0.052)
    if p == 0.9:
        assert expected < 0.07


def test_the_chi_square_rule_is_the_formula() -> None:
    x = gaussian()
    kept = chi_square_representatives(x, LABELS, 0.5)
    rows = (LABELS == 3).nonzero().flatten()
    own = x[rows].double().numpy()
    off = own - own.mean(0)
    distance = np.einsum("nd,de,ne->n", off, np.linalg.inv(np.cov(own.T)), off)
    assert kept[rows].tolist() == (1 - chi2.cdf(distance, D) > 0.5).tolist()


def test_a_class_with_too_few_features_has_no_covariance() -> None:
    x = gaussian()
    few = (LABELS != 2) | (torch.arange(len(LABELS)) < CLASSES * (D + 1))
    with pytest.raises(ValueError, match="class 2 has 21 features of 20 dimensions: its covariance needs more than 21"):
        chi_square_representatives(x[few], LABELS[few])
    assert nearest_representatives(x[few], LABELS[few], 0.5)[LABELS[few] == 2].sum() == 10


def test_the_nearest_share_is_that_of_the_shrunk_mahalanobis_distance() -> None:
    x = gaussian()
    kept = nearest_representatives(x, LABELS, 0.25)
    for label in (0, 7):
        own = x[label == LABELS].double().numpy()
        order = np.argsort(LedoitWolf().fit(own).mahalanobis(own))
        assert set(np.flatnonzero(kept[label == LABELS])) == set(order[:15])
    assert nearest_representatives(x, LABELS, 1).all()
    assert torch.bincount(LABELS[nearest_representatives(x, LABELS, 0.001)]).tolist() == [2] * CLASSES


def test_bad_options() -> None:
    x = gaussian()
    with pytest.raises(ValueError, match=r"share=0 must be in \(0, 1\]"):
        nearest_representatives(x, LABELS, 0)
    with pytest.raises(ValueError, match=r"p=1 must be in \[0, 1\)"):
        chi_square_representatives(x, LABELS, 1)
    with pytest.raises(ValueError, match=r"labels have shape \[5\]; give one class for each of the 2400 features"):
        nearest_representatives(x, LABELS[:5])
