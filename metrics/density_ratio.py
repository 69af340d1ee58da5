"""Density ratio: a classifier learns to separate the codes of real images from sampled codes."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.inputs import Array, samples
from ..harness.core.options import Seed
from ..harness.core.precision import full_precision
from ..harness.core.protocols import View
from ..harness.core.registry import metric
from .kernels.scale import power_of_two, scaled

WIDTH, STEPS, BATCH, RATE, DECAY = 256, 2500, 512, 2e-3, 0.1
HELD_OUT, CHECK, PATIENCE = 10, 50, 8
"""The network is the one that separated a tenth of the codes best, looked at after so many steps; it stops where so
many looks in a row found no better one."""


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2010.02917",
    version=3,
    fake=View("fake", "latent"),
    reference=View("real", "latent", n="all", encode="sample"),
    prior=View("real", "latent", n="all", encode="prior"),
)
def density_ratio(fake: Array, reference: Array, prior: Array, seed: Seed = 0) -> Tensor:
    """Learned log q(z) / p(z) of each code of fake [N, ...], float64 [N]; higher is more like the codes of real images.

    reference [M, ...] holds codes from q, prior [L, ...] fresh codes from p. The score is the logit of a classifier
    between both, with equal weights, as in noise contrastive priors; it has seen none of the codes that it scores. It
    is a network with two hidden layers of 256 units, trained by at most 2,500 steps of AdamW on 512 codes of each set,
    and stopped when it no longer separates a tenth of the codes, held out, better. `seed` determines it. Codes are
    standardised by the mean and standard deviation of the references. In many dimensions a learned ratio is flatter
    than the true one: ranks are what to trust.
    A generator without an encoder has no such references, unless they are inverted (encode=inversion).
    Raises ValueError for bad input, or fewer than 2 references or codes of the prior.
    """
    z, codes, drawn = samples(fake=fake, reference=reference, prior=prior)
    samples(2, reference=codes, prior=drawn)
    power = power_of_two(z, codes, drawn)
    z, codes, drawn = (scaled(s, power) for s in (z, codes, drawn))
    mean, std = codes.double().mean(0), codes.double().std(0).clamp(min=1e-12)
    z, codes, drawn = (((s.double() - mean) / std).float() for s in (z, codes, drawn))
    network = _classifier(drawn, codes, seed)
    with torch.no_grad(), full_precision():
        logits: Tensor = network(z).squeeze(1).double()
    return logits


def _classifier(fake: Tensor, real: Tensor, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(fake.shape[1], WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1)
        ).to(fake.device)
    generator = torch.Generator().manual_seed(seed)
    sets = [x[torch.randperm(len(x), generator=generator).to(x.device)] for x in (fake, real)]
    held, trained = (
        [x[part(x)] for x in sets] for part in (lambda x: slice(_tenth(x)), lambda x: slice(_tenth(x), None))
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    best, least, since = copy.deepcopy(network.state_dict()), torch.inf, 0
    with torch.enable_grad(), full_precision():
        for step in range(1, STEPS + 1):
            rows = [torch.randint(len(x), (min(BATCH, len(x)),), generator=generator).to(x.device) for x in trained]
            loss = _separation(network, *(x[at] for x, at in zip(trained, rows, strict=True)))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if step % CHECK:
                continue
            with torch.no_grad():
                now = float(_separation(network, *held))
            since = since + 1 if now >= least else 0
            if now < least:
                best, least = copy.deepcopy(network.state_dict()), now
            if since == PATIENCE:
                break
    network.load_state_dict(best)
    return network


def _tenth(x: Tensor) -> int:
    return max(1, len(x) // HELD_OUT)


def _separation(network: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
    """The logistic loss of a classifier, with equal weights of both sets."""
    return F.softplus(-network(real)).mean() + F.softplus(network(fake)).mean()
