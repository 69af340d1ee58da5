"""Gaussian kernels in feature space with fitted widths: FLD, and its score per sample."""

import math
from functools import partial

import torch
from torch import Tensor

from ..harness.core.inputs import Array, samples
from ..harness.core.options import Seed
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.distances import centred_norms, mean_of
from .kernels.halves import recomputed
from .kernels.log_sum import log_mixture
from .kernels.memo import remember
from .kernels.scale import power_of_two, scaled
from .kernels.squared import squared_distances

CENTRES = 5000
"""Maximum number of centres, and of the samples to which their widths are fitted."""

STEPS = 30
"""Steps of expectation maximisation."""

FLOOR = 1e-6
"""Lower limit of a kernel's variance, relative to that of the fitted samples: a centre with a copy needs it."""


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2302.04440",
    version=2,
    fake=View("fake", "features"),
    real=View("real", "features", n="all"),
)
def feature_density(fake: Array, real: Array, seed: Seed = 0) -> Tensor:
    """(1 / D) log mean_i N(y; c_i, s_i^2 I) of each y of fake [M, D], float64 [M], in nats per dimension.

    The quality per sample of FLD. It is a mean of Gaussian kernels like latent density, but in feature space,
    normalised, and with one width per centre. The real samples [N, D] are shuffled with `seed` and halved. One half are
    the centres, and the widths are fitted to the other half by maximum likelihood (at most 5,000 samples each). The fit
    is by expectation maximisation and starts, as in the source, from the squared distance to the nearest sample divided
    by D. The source uses Adam, and a second real set for the centres.
    Raises ValueError for bad input, fewer than 4 real samples, or real samples that are all equal.
    """
    y, x = samples(fake=fake, real=real)
    samples(4, real=x)
    centres, log_variance = fitted_mixture(x, seed)
    return mixture_log_density(y, centres, log_variance) / y.shape[1]


@metric(
    better="lower",
    kind="set",
    source="arXiv:2302.04440",
    version=2,
    fake=View("fake", "features"),
    real=View("real", "features", n="all"),
    holdout=View("holdout", "features", n="all"),
)
def feature_likelihood_distance(fake: Array, real: Array, holdout: Array, seed: Seed = 0) -> Estimate:
    """FLD: loss of held-out log-likelihood when kernels are at generated instead of real samples; lower is better.

        100 mean_t [ log p_real(t) - log p_fake(t) ] / D,   t held out [T, D]

    The centres of p_fake are the generated samples [M, D], and its widths are fitted to the real ones [N, D]. The
    centres of p_real are one half of the real samples, and its widths are fitted to the other half. At most 5,000
    samples are used for each. A perfect model scores about 0, a bad one about 100. Features are standardised by the
    held-out mean and standard deviation; a feature that is constant there is only centred. Copies of real samples score
    badly, because their fitted widths vanish. The interval is from random halves of all three sets.
    Raises ValueError for bad input, or fewer than 2 generated, 4 real or 2 held-out samples.
    """
    y, x, t = samples(2, fake=fake, real=real, holdout=holdout)
    samples(4, real=x)
    halves = recomputed(partial(_likelihood_distance, seed=seed), y, x, t) if min(map(len, (y, x, t))) >= 8 else None
    return intervals.bounded(_likelihood_distance(y, x, t, seed), halves, len(t))


def _likelihood_distance(y: Tensor, x: Tensor, t: Tensor, seed: int) -> float:
    mean, std = t.double().mean(0), t.double().std(0)
    std = torch.where(std > 0, std, 1)
    y, x, t = ((s.double() - mean) / std for s in (y, x, t))
    generator = torch.Generator().manual_seed(seed)
    centres, targets = (s[torch.randperm(len(s), generator=generator)[:CENTRES].to(s.device)] for s in (y, x))
    generated = mixture_log_density(t, centres, fitted_log_variances(centres, targets))
    return float((mixture_log_density(t, *fitted_mixture(x, seed)) - generated).mean()) * 100 / y.shape[1]


@remember
def fitted_mixture(x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Centres [C, D], half of the rows of x, and log-variances [C] that maximise the likelihood of the other half."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    half = min(len(x) // 2, CENTRES)
    centres, targets = x[order[:half]], x[order[half : 2 * half]]
    return centres, fitted_log_variances(centres, targets)


def fitted_log_variances(centres: Tensor, targets: Tensor) -> Tensor:
    """Log-variances [C] of equal-weight Gaussians at the centres [C, D] that maximise the likelihood of targets [T, D].

    The fit includes one more Gaussian at the mean of the targets, with distances multiplied by 0.9 as in the source. It
    explains targets that are far from every centre, which would otherwise inflate the width of the nearest centre.
    Raises ValueError when all targets are equal.
    """
    dimension, mean = targets.shape[1], mean_of(targets)
    power = power_of_two(targets, centres)
    targets, centres, mean = scaled(targets, power), scaled(centres, power), mean * power
    background = centred_norms(targets, mean)
    scale = float(background.mean()) / dimension
    if scale == 0:
        raise ValueError(
            f"real: {len(targets)} rows are all equal, so no width can be fitted: give samples that differ"
        )
    squared = torch.cat([squared_distances(targets, centres, mean), 0.81 * background[:, None]], 1)
    variance = (squared.amin(0) / dimension).clamp(min=FLOOR * scale)
    variance[-1] = scale
    for _ in range(STEPS):
        log = (squared * (-0.5 / variance)).sub_(0.5 * dimension * variance.log())
        shares = log.softmax(1)
        weight = shares.sum(0)
        step = shares.mul_(squared).sum(0) / (dimension * weight.clamp(min=1e-12))
        # A centre to which no target belongs keeps its width.
        variance = torch.where(weight > 1e-6, step.clamp(min=FLOOR * scale), variance)
    return variance[:-1].log() - 2 * math.log(power)


def mixture_log_density(y: Tensor, centres: Tensor, log_variance: Tensor) -> Tensor:
    """log mean_i N(y; centre_i, exp(log_variance_i) I) of each row of y [N, D], float64 [N]."""
    return log_mixture(y, centres, log_variance[:, None])
