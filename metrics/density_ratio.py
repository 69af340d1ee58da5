"""Density ratio: two classifiers learn to separate the codes of real images from sampled codes."""

from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ..harness.core.inputs import Array, samples
from ..harness.core.options import Range, Seed
from ..harness.core.precision import full_precision
from ..harness.core.protocols import View
from ..harness.core.registry import metric
from .kernels.scale import power_of_two, scaled

WIDTH, STEPS, RATE, DECAY = 64, 100, 1e-2, 1.0

TREES, SHRINKAGE = 300, 0.05
"""Maximum number of trees, and the factor of each."""


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2010.02917",
    version=2,
    fake=View("fake", "latent"),
    reference=View("real", "latent", n="all", encode="sample"),
)
def density_ratio(fake: Array, reference: Array, folds: Annotated[int, Range(least=2)] = 5, seed: Seed = 0) -> Tensor:
    """Learned log q(z) / p(z) of each sampled code, float64 [M]; higher is more like the codes of real images.

    fake [M, ...] holds codes z ~ p, reference [N, ...] codes from q. The score is the logit of a classifier between
    both sets, with equal weights, as in noise contrastive priors. It is cross-fitted: the classifier that scores a code
    was not trained on it. The logit is the mean of two, because each finds structure that the other misses: a network
    with two hidden layers of 64 units, trained by 100 full-batch steps of AdamW, and gradient-boosted trees
    (scikit-learn; at most 300, stopped early on a tenth of the codes). `seed` determines both. Codes are standardised
    by the mean and standard deviation of the references.
    Raises ValueError for bad input, or fewer rows than folds.
    """
    z, codes = samples(fake=fake, reference=reference)
    samples(folds, fake=z, reference=codes)
    power = power_of_two(z, codes)
    z, codes = scaled(z, power), scaled(codes, power)
    mean, std = codes.double().mean(0), codes.double().std(0).clamp(min=1e-12)
    z, codes = (((s.double() - mean) / std).float() for s in (z, codes))
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randperm(len(s), generator=generator).chunk(folds) for s in (z, codes)]
    ratio = torch.empty(len(z), dtype=torch.float64, device=z.device)
    for held_z, held_codes in zip(*parts, strict=True):
        train_z, train_codes = (_without(s, rows.to(s.device)) for s, rows in ((z, held_z), (codes, held_codes)))
        network = _classifier(train_z, train_codes, seed)
        held = z[held_z.to(z.device)]
        with torch.no_grad(), full_precision():
            smooth = network(held).squeeze(1).double()
        stepwise = _boosted(train_z, train_codes, held, seed).to(z.device)
        ratio[held_z.to(z.device)] = (smooth + stepwise) / 2
    return ratio


def _without(x: Tensor, rows: Tensor) -> Tensor:
    kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
    kept[rows] = False
    return x[kept]


def _classifier(fake: Tensor, real: Tensor, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(fake.shape[1], WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1)
        ).to(fake.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    with torch.enable_grad(), full_precision():
        for step in range(STEPS):
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            loss = F.softplus(-network(real)).mean() + F.softplus(network(fake)).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return network


def _boosted(fake: Tensor, real: Tensor, held: Tensor, seed: int) -> Tensor:
    """Logits [len(held)] of gradient-boosted trees, float64."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # here, because it loads for a second

    labels = np.repeat([0, 1], [len(fake), len(real)])
    weights = np.repeat([0.5 / len(fake), 0.5 / len(real)], [len(fake), len(real)]) * len(labels)
    model = HistGradientBoostingClassifier(
        learning_rate=SHRINKAGE, max_iter=TREES, early_stopping=len(labels) >= 100, random_state=seed
    )
    with threadpool_limits(1):  # with one thread, because sums in another order are other trees
        model.fit(torch.cat([fake, real]).cpu().numpy(), labels, sample_weight=weights)
        return torch.from_numpy(model.decision_function(held.cpu().numpy()))
