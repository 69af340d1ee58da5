"""Density ratio: what a small classifier can tell about a latent code, codes of real images against those sampled."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.inputs import Array, samples
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
def density_ratio(fake: Array, reference: Array, folds: int = 2, seed: int = 0) -> Tensor:
    """log q(z) / p(z) of each sampled code z ~ p of fake [M, ...], float64 [M], learned; reference [N, ...] is from q.

    The logit of a classifier that tells references from sampled codes, both of equal weight: the score of noise
    contrastive priors. Cross-fitted: a code is scored by a classifier that did not see it.
    Two hidden layers of 64, 100 full-batch steps of AdamW, seeded; codes standardised by the references.
    Raises ValueError for bad input or fewer rows than folds.
    """
    z, codes = samples(fake=fake, reference=reference)
    samples(max(folds, 2), fake=z, reference=codes)
    if folds < 2:
        raise ValueError(f"folds is {folds}; a code must not score itself, so at least 2")
    mean, std = codes.double().mean(0), codes.double().std(0).clamp(min=1e-12)
    z, codes = (((s.double() - mean) / std).float() for s in (z, codes))
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randperm(len(s), generator=generator).chunk(folds) for s in (z, codes)]
    ratio = torch.empty(len(z), dtype=torch.float64, device=z.device)
    for held_z, held_codes in zip(*parts, strict=True):
        seen_z, seen_codes = (_without(s, held.to(s.device)) for s, held in ((z, held_z), (codes, held_codes)))
        network = _classifier(seen_z, seen_codes, seed)
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
