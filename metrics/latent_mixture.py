"""A mixture of Gaussians fitted to the codes of training data: a density with several modes and no bandwidth."""

import math

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from ..harness.core.inputs import Array, samples
from ..harness.core.options import Count, Seed
from ..harness.core.protocols import View
from ..harness.core.registry import metric
from .kernels.scale import power_of_two, scaled

RIDGE = 1e-6
"""Added to each variance of standardised codes, so that a component of a few codes has a density."""


@metric(
    better="higher",
    kind="sample",
    source="https://doi.org/10.1111/j.2517-6161.1977.tb01600.x",
    fake=View("fake", "latent"),
    reference=View("real", "latent", n="all"),
)
def mixture_log_density(fake: Array, reference: Array, components: Count = 20, seed: Seed = 0) -> Tensor:
    """log density of each code of fake [N, ...], float64 [N], in nats, under a Gaussian mixture; higher is denser.

    The mixture has full covariances and is fitted to the reference codes [M, ...] by expectation maximisation
    (Dempster, Laird and Rubin 1977; scikit-learn) from a start by k-means that `seed` determines. It is a local
    maximum of the likelihood. Codes are standardised for the fit; latents are flattened.
    Raises ValueError for bad input, or fewer references than twice the components.
    """
    from sklearn.mixture import GaussianMixture  # here, because it loads for a second

    z, codes = samples(fake=fake, reference=reference)
    samples(2 * components, reference=codes)
    device = z.device
    power = power_of_two(z, codes)
    z, codes = (scaled(x, power).double().cpu() for x in (z, codes))
    mean, scale = codes.mean(0), codes.std(0).clamp(min=1e-12)
    model = GaussianMixture(components, reg_covar=RIDGE, random_state=seed)
    with threadpool_limits(1):  # with one thread, because sums in another order are other mixtures
        model.fit(((codes - mean) / scale).numpy())
        density = torch.from_numpy(model.score_samples(((z - mean) / scale).numpy()))
    found: Tensor = density - float(scale.log().sum()) + z.shape[1] * math.log(power)
    return found.to(device)
