"""A classifier that learns to tell real samples from generated ones: what does a sample lack that real ones have?"""

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.inputs import Array, samples
from ..harness.core.options import Range, Seed
from ..harness.core.precision import full_precision
from ..harness.core.protocols import View
from ..harness.core.registry import metric
from .density_ratio import density_ratio

WIDTHS, HIDDEN = (16, 32), 32
BATCH, STEPS, RATE, DECAY = 64, 300, 2e-3, 0.05
"""Samples of each side in a step, steps, and the largest rate and the weight decay of AdamW."""


@metric(
    better="higher",
    kind="sample",
    source="arXiv:1610.06545",
    fake=View("fake", "images"),
    holdout=View("holdout", "images", n="all"),
)
def real_log_odds(fake: Array, holdout: Array, folds: Annotated[int, Range(least=2)] = 5, seed: Seed = 0) -> Tensor:
    """log p_real / p_generated of each generated sample by a classifier of both, float64 [N]; higher is more like real.

    fake [N, ...], holdout [M, ...]: held-out real samples. Both sides have equal weight. It is cross-fitted: both sides
    are split into `folds` parts, and the classifier that scores a sample was trained on the other parts alone. A
    perfect classifier would give the log of the density ratio; this one is small, and finds what is easy to find.
    Images [N, C, H, W] and volumes [N, C, D, H, W], these at half their resolution, are seen by two convolutions of
    stride 2 and a hidden layer, trained by 300 steps of AdamW whose rate falls to 0. Features [N, D] are seen by the
    classifier of `density_ratio`. `seed` determines the split, the first weights and the batches.
    Raises ValueError for bad input, or fewer rows than folds.
    """
    y, x = samples(folds, fake=fake, holdout=holdout)
    shape = tuple(np.shape(fake))[1:]
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randperm(len(s), generator=generator).chunk(folds) for s in (y, x)]
    odds = torch.empty(len(y), dtype=torch.float64, device=y.device)
    for held, others in zip(*parts, strict=True):
        scored, made, real = y[held.to(y.device)], _without(y, held), _without(x, others)
        if len(shape) not in (3, 4):
            odds[held.to(y.device)] = density_ratio(scored, real, made, seed=seed)
            continue
        network = _trained(made, real, shape, seed)
        with torch.no_grad(), full_precision():
            parts_of_it = torch.split(scored.reshape(-1, *shape), 250)
            odds[held.to(y.device)] = torch.cat([network(part).squeeze(1).double() for part in parts_of_it])
    return odds


def _without(x: Tensor, rows: Tensor) -> Tensor:
    kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
    kept[rows.to(x.device)] = False
    return x[kept]


def _network(shape: Sequence[int]) -> nn.Sequential:
    convolution = nn.Conv2d if len(shape) == 3 else nn.Conv3d
    layers: list[nn.Module] = [] if len(shape) == 3 else [nn.AvgPool3d(2)]
    for inner, outer in itertools.pairwise((shape[0], *WIDTHS)):
        layers += [convolution(inner, outer, 3, stride=2, padding=1), nn.SiLU()]
    sides = shape[1:] if len(shape) == 3 else [side // 2 for side in shape[1:]]
    flat = WIDTHS[-1] * math.prod((side + 3) // 4 for side in sides)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1))


def _trained(fake: Tensor, real: Tensor, shape: Sequence[int], seed: int) -> nn.Sequential:
    """A network whose logit is high for real samples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(shape).to(fake.device, fake.dtype)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    with torch.enable_grad(), full_precision():
        for step in range(STEPS):
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            made, there = (
                x[torch.randint(len(x), (BATCH,), generator=generator).to(x.device)].reshape(-1, *shape)
                for x in (fake, real)
            )
            loss = F.softplus(network(made)).mean() + F.softplus(-network(there)).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return network.eval()
