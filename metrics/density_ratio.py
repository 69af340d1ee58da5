"""Density ratio: a small classifier learns to separate the codes of real images from sampled codes."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.inputs import Array, samples
from ..harness.core.options import Range, Seed
from ..harness.core.protocols import View
from ..harness.core.registry import metric

WIDTH, STEPS, RATE, DECAY = 64, 100, 1e-2, 1.0


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2010.02917",
    fake=View("fake", "latent"),
    reference=View("real", "latent", n="all", encode="sample"),
)
def density_ratio(fake: Array, reference: Array, folds: Annotated[int, Range(least=2)] = 2, seed: Seed = 0) -> Tensor:
    """Learned log q(z) / p(z) of each sampled code, float64 [M]; higher is more like the codes of real images.

    fake [M, ...] holds codes z ~ p, reference [N, ...] codes from q. The score is the logit of a classifier between
    both sets, with equal weights, as in noise contrastive priors. It is cross-fitted: the classifier that scores a code
    was not trained on it, so there are at least 2 folds. The network has two hidden layers of 64 units and is trained
    by 100 full-batch steps of AdamW with `seed`. Codes are standardised by the mean and standard deviation of the
    references.
    Raises ValueError for bad input, or fewer rows than folds.
    """
    z, codes = samples(fake=fake, reference=reference)
    samples(folds, fake=z, reference=codes)
    mean, std = codes.double().mean(0), codes.double().std(0).clamp(min=1e-12)
    z, codes = (((s.double() - mean) / std).float() for s in (z, codes))
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randperm(len(s), generator=generator).chunk(folds) for s in (z, codes)]
    ratio = torch.empty(len(z), dtype=torch.float64, device=z.device)
    for held_z, held_codes in zip(*parts, strict=True):
        train_z, train_codes = (_without(s, rows.to(s.device)) for s, rows in ((z, held_z), (codes, held_codes)))
        network = _classifier(train_z, train_codes, seed)
        with torch.no_grad():
            ratio[held_z.to(z.device)] = network(z[held_z.to(z.device)]).squeeze(1).double()
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
    with torch.enable_grad():
        for step in range(STEPS):
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            loss = F.softplus(-network(real)).mean() + F.softplus(network(fake)).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return network
