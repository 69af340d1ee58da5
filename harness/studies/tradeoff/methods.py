"""The pool of samples that `tradeoff` chooses from, and the methods that choose, each at all its settings."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ....generators.sampling.polarity import log_volumes, polarity_sample
from ....generators.sampling.selection import (
    calibrated,
    coins,
    discriminator_rejection,
    importance,
    metropolis_hastings,
    optimal_budgeted_rejection,
    top,
)
from ....generators.sampling.transport import steepness, transport
from ....generators.sampling.truncation import redrawn
from ...arrays.views import LENSES, SEEDS
from ...core.protocols import Cell, Discriminating, View
from ...core.registry import METRICS
from ...run import Study
from ..judged import Judged, judge

STEEP = 100
"""Pairs of samples by which the discriminator's steepness is measured, as in its release."""
STANDARD = 0.02
"""How far mean and deviation of all coordinates may be from 0 and 1, noise apart, in a standard normal space."""

Settings = Iterator[tuple[str, Judged | None]]
"""Settings of a method by name; None where the pool was spent before enough samples were accepted."""


class Pool:
    """The n generated samples of a study, and the reals that choices among them are compared with."""

    def __init__(self, study: Study, kept: int, through: str, k: int):
        self.study, self.kept, self.k = study, kept, k
        self.through = study.views.features if through == "features" else through
        self._by_chance: dict[int, Judged] = {}
        self.seeds = range(study.seed * SEEDS, study.seed * SEEDS + study.n)
        self.views = {"fake": View("fake", self.through), "real": View("real", self.through, n=kept)}

    @cached_property
    def fake(self) -> Tensor:
        return self.study.views.tensor(self.views["fake"], self.study.seed, self.study.n)

    @cached_property
    def real(self) -> Tensor:
        return self.study.views.tensor(self.views["real"], self.study.seed, self.study.n)

    def by_chance(self, index: int) -> Judged:
        """As many samples as all settings keep, drawn from the pool without any reason; a set for each index."""
        if index not in self._by_chance:
            order = np.random.default_rng([self.study.seed, index]).permutation(self.study.n)
            rows = torch.from_numpy(order[: self.kept])
            features = self.fake[rows.to(self.fake.device)]
            self._by_chance[index] = judge(features, self.real, self.k, rows, self.kept, with_frechet=index == 0)
        return self._by_chance[index]

    def judged(self, rows: Tensor, calls: int, features: Tensor | None = None) -> Judged:
        """features [m, D]: of the samples, where they are not those of the pool at `rows`."""
        features = self.fake[rows.to(self.fake.device)] if features is None else features
        return judge(features, self.real, self.k, rows, calls)

    def codes(self, space: str) -> Tensor:
        return self.study.views.tensor(View("fake", f"latent:{space}"), self.study.seed, self.study.n)

    def moved(self, codes: Tensor, space: str, calls: int | None = None) -> Judged:
        """The samples of other codes than the pool's; calls: one each, where not given."""
        features = self.study.views.seen(codes, space, self.through)
        return self.judged(torch.arange(self.kept), calls or self.kept, features.to(self.real))

    def accepted(self, acceptance: Tensor) -> Judged | None:
        """The first samples that are accepted, each with its probability; None when there are too few."""
        rows = (coins(self.seeds) < acceptance).nonzero().flatten()[: self.kept]
        return self.judged(rows, int(rows[-1]) + 1) if len(rows) == self.kept else None


def by_importance(
    pool: Pool, cell: Cell, scores: Tensor, quantiles: Sequence[float], weights: Sequence[float]
) -> Settings:
    for quantile, threshold in _thresholds(pool.study, cell, scores, quantiles).items():
        for weight in weights:
            yield f"tau {quantile:g} w {weight:g}", pool.accepted(importance(scores, threshold, weight))


def _thresholds(study: Study, cell: Cell, scores: Tensor, quantiles: Sequence[float]) -> dict[float, float]:
    """Scores at quantiles: of held-out reals where the metric sees samples through an extractor, else of the pool."""
    if cell.views["fake"].through.partition(":")[0] not in LENSES and study.views.data.count("test"):
        views = {**cell.views, "fake": dataclasses.replace(cell.views["fake"], of="holdout")}
        tensors = {name: study.views.tensor(view, study.seed, study.n) for name, view in views.items()}
        sign = -1 if METRICS[cell.metric].better == "lower" else 1
        scores = sign * METRICS[cell.metric].function(**tensors, **cell.params).double().cpu()
    scores = scores[scores.isfinite()]
    return {quantile: float(scores.quantile(quantile)) for quantile in quantiles}


def extremes(pool: Pool, scores: Tensor, shares: Sequence[float]) -> Settings:
    for share in shares:
        yield f"share {share:g}", pool.accepted(top(scores, share))


def truncated(pool: Pool, space: str, psis: Sequence[float]) -> Settings:
    codes = pool.codes(space)
    mean = codes.mean(0)
    for psi in psis:
        yield f"psi {psi:g}", pool.moved(mean + psi * (codes[: pool.kept] - mean), space)


def is_standard(codes: Tensor) -> bool:
    """Whether codes look standard normal in all coordinates together."""
    std, mean = torch.std_mean(codes)
    reach = STANDARD + 5 / math.sqrt(codes.numel())
    return bool(mean.abs() < reach and (std - 1).abs() < reach)


def with_redrawn(pool: Pool, space: str, thresholds: Sequence[float]) -> Settings:
    codes = pool.codes(space)[: pool.kept]
    for threshold in thresholds:
        yield f"threshold {threshold:g}", pool.moved(redrawn(codes, threshold, pool.seeds[: pool.kept]), space)


def by_polarity(pool: Pool, space: str, rhos: Sequence[float], volume: int) -> Settings:
    study, codes = pool.study, pool.codes(space)
    most = min(volume, codes[0].numel())
    # Forward mode: a pass a latent dimension, of which there are fewer than projections.
    volumes = log_volumes(lambda z: study.views.generator.decode(z, space), codes, most, forward=True, chunk=250).cpu()
    for rho in rhos:
        rows = polarity_sample(volumes, rho, pool.kept, study.seed)
        yield f"rho {rho:g}", pool.judged(rows, study.n)


class ByDiscriminator:
    """Choices by the logits of the generator's own discriminator, calibrated on held-out reals where there are any."""

    def __init__(self, pool: Pool):
        self.pool, self.study = pool, pool.study
        self.cell = self.study.cell("discriminator_logit")
        self.logits = self.study.oriented(self.cell)
        known = self.study.views.data.count("test")
        self.calibration = f"by {known} held-out images" if known else "no"
        self.views = {"holdout": View("holdout", "discriminator", n="all")} if known else {}

    @cached_property
    def real(self) -> Tensor:
        """Logits of the held-out reals."""
        return self.study.views.tensor(self.views["holdout"], self.study.seed, self.study.n)[:, 0].double().cpu()

    @cached_property
    def log_ratio(self) -> Tensor:
        return calibrated(self.logits, self.real, self.logits[self.logits.isfinite()]) if self.views else self.logits

    def rejection(self, percentiles: Sequence[float]) -> Settings:
        for quantile in percentiles:
            acceptance = discriminator_rejection(self.log_ratio, quantile=quantile)
            yield f"gamma {quantile:g}", self.pool.accepted(acceptance)

    def budgeted_rejection(self, rates: Sequence[float]) -> Settings:
        for rate in rates:
            yield f"rate {rate:g}", self.pool.accepted(optimal_budgeted_rejection(self.log_ratio, rate))

    def chains(self, lengths: Sequence[int]) -> Settings:
        """Metropolis-Hastings, from held-out reals where there are any."""
        pool = self.pool
        for length in lengths:
            start = None
            if self.views:
                dice = np.random.default_rng([self.study.seed, length])
                drawn = dice.integers(len(self.real), size=self.study.n // length)
                start = calibrated(self.real[torch.from_numpy(drawn)], self.real, self.logits)
            rows = metropolis_hastings(self.log_ratio, coins(pool.seeds), length, start)[: pool.kept]
            enough = len(rows) == pool.kept
            yield f"length {length}", pool.judged(rows, pool.kept * length) if enough else None


def transported(pool: Pool, steps: Sequence[int], step_sizes: Sequence[float]) -> Settings:
    generator, space = pool.study.views.generator, pool.study.views.generator.spaces[0]
    assert isinstance(generator, Discriminating)
    codes = pool.codes(space)

    def critic(z: Tensor) -> Tensor:
        return generator.discriminate(generator.decode(z, space))

    slope = steepness(critic, codes[: 2 * STEEP])
    for size in step_sizes:
        for count, z in zip(steps, transport(critic, codes[: pool.kept], slope, steps, size), strict=True):
            calls = pool.kept * (count + 1) + min(2 * STEEP, len(codes))
            yield f"steps {count} size {size:g}", pool.moved(z, space, calls)
