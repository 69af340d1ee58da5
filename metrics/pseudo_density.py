"""Pseudo density: the inverse mean distance to the nearest real samples, scaled to mean 1 over the real samples."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.inputs import Array, require_neighbours, samples
from ..harness.core.options import Count
from ..harness.core.precision import full_precision
from ..harness.core.protocols import View
from ..harness.core.registry import metric
from .kernels.memo import remember
from .kernels.nearest import nearest, nearest_others

FLOOR = 1e-3
"""Lower limit of the mean neighbour distance, relative to the references' median: copies get a finite density."""


class ReferenceDensity(NamedTuple):
    """Pseudo densities of the references, and the scale that they define.

    density:    float64 [M], with mean 1; no row is its own neighbour.
    normaliser: a sample with mean neighbour distance a has the density 1 / (a normaliser).
    floor:      lower limit of the mean neighbour distance.
    clipped:    number of references (near-duplicates) whose mean neighbour distance was raised to the floor.
    """

    density: Tensor
    normaliser: float
    floor: float
    clipped: int


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2407.08659",
    fake=View("fake", "features"),
    reference=View("real", "features", n="all"),
)
def pseudo_density(fake: Array, reference: Array, k: Count = 10) -> Tensor:
    """rho of each sample of fake [N, D], float64 [N], positive; 1 is the mean over the references [M, D].

        a(y) = mean distance of y to its k nearest references
        rho(y) = (1 / a(y)) / mean_i (1 / a(x_i)),   x_i excluded from its own neighbours

    Neighbours are exact. Except for the kind of mean this is KNN-GIQA (arXiv:2003.08932). The released code uses k = 20
    for LSUN-Church and k = 10 elsewhere. The smallest a is `FLOOR` times the median a of the references;
    `reference_density` counts the references below it.
    Raises ValueError for bad input, k >= M, or when most references have k exact copies.
    """
    y, real = samples(fake=fake, reference=reference)
    known = reference_density(real, k)
    distance = nearest(y, real, k).distances.mean(1).clamp_(min=known.floor)
    return 1 / (distance * known.normaliser)


def reference_density(reference: Array, k: int = 10) -> ReferenceDensity:
    """Pseudo density of the references themselves; the result is cached and shared. Errors as in `pseudo_density`."""
    (real,) = samples(reference=reference)
    require_neighbours("reference", len(real), k, others=True)
    return _reference_density(real, k)


@remember
def _reference_density(real: Tensor, k: int) -> ReferenceDensity:
    distance = nearest_others(real, k, alone=True).distances.mean(1)
    floor = FLOOR * float(distance.median())
    if floor == 0:
        raise ValueError(f"reference: more than half of its {len(real)} rows have {k} exact copies: remove duplicates")
    clipped = int((distance < floor).sum())
    inverse = 1 / distance.clamp(min=floor)
    return ReferenceDensity(inverse / inverse.mean(), float(inverse.mean()), floor, clipped)


class DensityNetwork(nn.Module):
    """Predicts pseudo density [N] from features [N, D]; layers D -> 512 -> 256 -> 128 -> 1 with ReLU between them.

    As released with arXiv:2407.08659: the output may be negative, and inputs are not standardised. It is a
    differentiable approximation of pseudo density: after optimising against it, report the exact value too.
    """

    held_out_error: float
    """Mean squared error against exact pseudo density on the held-out fifth of the references."""

    def __init__(self, dimension: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dimension, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
            nn.Linear(128, 1),
        )  # fmt: skip
        self.held_out_error = float("nan")

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features).squeeze(-1)  # type: ignore[no-any-return]

    @classmethod
    @full_precision()
    def fit(cls, reference: Array, k: int = 10, epochs: int = 100, seed: int = 0) -> "DensityNetwork":
        """Train on the exact pseudo densities of four fifths of the references [N, D] (Adam 1e-3, batch 64, MSE).

        The density of a held-out reference is computed among all references, so the error is somewhat optimistic, as in
        the released code. Raises ValueError for bad input, k >= N or fewer than 10 references.
        """
        (x,) = samples(10, reference=reference)
        x, rho = x.float(), reference_density(x, k).density.float()
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(x), generator=generator)
        train, test = order[: len(x) * 4 // 5], order[len(x) * 4 // 5 :]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = cls(x.shape[1]).to(x.device)
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        with torch.enable_grad():
            for _ in range(epochs):
                for batch in torch.split(train[torch.randperm(len(train), generator=generator)], 64):
                    rows = batch.to(x.device)
                    loss = F.mse_loss(network(x[rows]), rho[rows])
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
        with torch.no_grad():
            rows = test.to(x.device)
            network.held_out_error = float(F.mse_loss(network(x[rows]), rho[rows]))
        return network.eval()
