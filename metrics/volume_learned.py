"""A small network learns from few codes how much the decoder stretches, and tells it of others without the decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.inputs import Array, samples
from ..harness.core.options import Seed
from ..harness.core.precision import full_precision
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .volume import log_norm, not_negative

CODES = 4000
"""Codes of the generator that the network learns from."""
WIDTH, EPOCHS, BATCH, RATE, DECAY = 128, 60, 128, 3e-3, 0.3
HELD_OUT = 5
"""One code in so many is held out where the fit is judged."""

LEARNED_FROM = View("real", "latent", n=CODES, encode="prior")
STRETCH = View("real", "stretch", n=CODES, encode="prior")


@metric(
    better="lower",
    kind="sample",
    source="not published; what it learns: arXiv:2408.08307",
    fake=View("fake", "latent"),
    codes=LEARNED_FROM,
    stretch=STRETCH,
)
def amortised_volume(fake: Array, codes: Array, stretch: Array, seed: Seed = 0) -> Tensor:
    """`log_volume` (form=norm) of each code of fake [N, ...] as a network predicts it, float64 [N]; lower is better.

    It learns from codes [M, ...], 4,000 fresh draws of the generator, and stretch [M, K], their squared lengths, before
    any sample is made: no labels, images or features. Two hidden layers of 128 units (AdamW, 60 epochs, batches of 128,
    a rate that falls from 3e-3 along a cosine; `seed` determines it all) on codes that are standardised.
    Costs 24,000 derivatives once for a generator, then no generator call a sample. `amortised_volume_fit` says how much
    of the variance the network explains; where that is little, the score says little.
    Raises ValueError for bad input, fewer than 2 codes, other numbers of codes and lengths, or lengths that are all 0.
    """
    z, known = samples(fake=fake, codes=codes)
    return _fitted(known, _targets(known, stretch), seed).predict(z)


@metric(
    better="neither",
    kind="set",
    source="not published; what is learned: arXiv:2408.08307",
    codes=LEARNED_FROM,
    stretch=STRETCH,
)
def amortised_volume_fit(codes: Array, stretch: Array, seed: Seed = 0) -> Estimate:
    """R², at most 1, of the network of `amortised_volume` on a fifth of the codes, where it learns from the others.

    The targets are estimates of log ‖J‖ from the same directions at every code. The interval takes their variance as
    known. Raises ValueError as `amortised_volume` does, and for fewer than 10 codes.
    """
    (known,) = samples(2 * HELD_OUT, codes=codes)
    targets = _targets(known, stretch)
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed)).to(known.device)
    test, train = order[: len(known) // HELD_OUT], order[len(known) // HELD_OUT :]
    errors = _fitted(known[train], targets[train], seed).predict(known[test]) - targets[test]
    return intervals.mean(1 - errors.square() / targets[test].var(correction=0))


def _targets(codes: Tensor, stretch: Array) -> Tensor:
    """log ‖J‖ of each code, float64 [M]."""
    lengths = not_negative(stretch=stretch)
    if len(codes) != len(lengths):
        raise ValueError(f"codes has {len(codes)} rows, stretch has {len(lengths)}: give one of each per code")
    logs = log_norm(lengths)
    if not bool(logs.isfinite().all()):
        raise ValueError(f"stretch: {int(logs.isnan().sum())} of {len(logs)} rows are 0, which has no logarithm")
    return logs


class _Standardised(nn.Module):
    """A network of standardised codes, and of targets standardised in the same way."""

    def __init__(self, codes: Tensor, targets: Tensor):
        super().__init__()
        self.mean, self.scale = codes.double().mean(0), codes.double().std(0).clamp(min=1e-12)
        self.level, self.spread = targets.mean(), targets.std().clamp(min=1e-12)
        self.layers = nn.Sequential(
            nn.Linear(codes.shape[1], WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1)
        ).to(codes.device)

    def of(self, codes: Tensor) -> Tensor:
        return ((codes.double() - self.mean) / self.scale).float()

    @torch.no_grad()
    def predict(self, codes: Tensor) -> Tensor:
        """Targets of codes [N, D], float64 [N]."""
        with full_precision():
            found: Tensor = self.layers(self.of(codes)).squeeze(1).double()
        return self.level + self.spread * found


def _fitted(codes: Tensor, targets: Tensor, seed: int) -> _Standardised:
    samples(2, codes=codes)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Standardised(codes, targets)
    inputs, wanted = network.of(codes), ((targets - network.level) / network.spread).float()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    with torch.enable_grad(), full_precision():
        for _ in range(EPOCHS):
            for batch in torch.split(torch.randperm(len(codes), generator=generator), BATCH):
                rows = batch.to(codes.device)
                loss = F.mse_loss(network.layers(inputs[rows]).squeeze(1), wanted[rows])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            schedule.step()
    return network
