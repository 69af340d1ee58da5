"""Which features of a class are typical of it, by their Mahalanobis distance to its mean: what R-SVAE learns from.

Xu and Le, CVPR 2022 (github.com/cvlab-stonybrook/fsl-rsvae).
"""

import torch
from scipy.special import chdtrc
from torch import Tensor

from ....metrics.kernels.moments import moments
from ....metrics.latent_density import gaussian_log_density
from ...core.inputs import Array, samples


def chi_square_representatives(features: Array, labels: Tensor, p: float = 0.9) -> Tensor:
    """Which features [N, D] are kept, bool [N]: those whose p-value in their own class is over p, as published.

        d2 = (x - m)' C^-1 (x - m),   p-value = 1 - F(d2) with F of chi-square of D degrees of freedom

    m and C are mean and covariance (divided by n - 1) of the class, x itself among its n features. So d2 is no
    chi-square even for Gaussian features, but ((n - 1)^2 / n) Beta(D/2, (n - D - 1)/2): near n = D every d2 is near
    n - 1, and next to none pass. Heavy tails let more pass. Look at how many are kept.
    Raises ValueError when a class has D + 1 features or fewer, since C is then singular.
    """
    x, classes = _by_class(features, labels)
    if not 0 <= p < 1:
        raise ValueError(f"p={p} must be in [0, 1): features with a larger p-value are kept; published: 0.9")
    kept = torch.zeros(len(x), dtype=torch.bool)
    for label, rows in classes.items():
        n, dimension = len(rows), x.shape[1]
        if n <= dimension + 1:
            raise ValueError(
                f"class {label} has {n} features of {dimension} dimensions: its covariance needs more than "
                f"{dimension + 1}; keep a share of each class instead, or use a smaller feature space"
            )
        known = moments(x[rows])
        factor = torch.linalg.cholesky(known.scatter / (n - 1))
        white = torch.linalg.solve_triangular(factor, (x[rows].double() - known.mean).T, upper=False)
        kept[rows] = torch.from_numpy(chdtrc(dimension, white.square().sum(0).cpu().numpy()) > p)
    return kept


def nearest_representatives(features: Array, labels: Tensor, share: float = 0.25) -> Tensor:
    """Which features [N, D] are kept, bool [N]: of each class the round(share n) nearest to its mean, at least two.

    The same distance with the class's covariance shrunk to a multiple of I (`gaussian_log_density`), so that a class
    may have fewer features than dimensions. Ours, not published: the rule to use where the chi-square one keeps next to
    nothing, or everything.
    """
    x, classes = _by_class(features, labels)
    if not 0 < share <= 1:
        raise ValueError(f"share={share} must be in (0, 1]: the part of each class that is kept")
    kept = torch.zeros(len(x), dtype=torch.bool)
    for rows in classes.values():
        order = gaussian_log_density(x[rows], x[rows]).argsort(descending=True, stable=True).cpu()
        kept[rows[order[: max(2, round(share * len(rows)))]]] = True
    return kept


def _by_class(features: Array, labels: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
    """Features [N, D], and the rows of each class."""
    (x,) = samples(2, features=features)
    if labels.shape != (len(x),):
        raise ValueError(f"labels have shape {list(labels.shape)}; give one class for each of the {len(x)} features")
    return x, {int(label): (labels == label).nonzero().flatten().cpu() for label in torch.unique(labels)}
