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
    discriminator_rejection,
    importance,
    metropolis_hastings,
    optimal_budgeted_rejection,
    top,
    uniform_draws,
)
from ....generators.sampling.transport import steepness, transport
from ....generators.sampling.truncation import redrawn
from ...arrays.spaces import extracted
from ...core.abilities import Discriminating
from ...core.protocols import Cell, View
from ...core.registry import METRICS
from ...run import Run
from ..judged import Judged, judge

STEEP = 100
"""Pairs of samples by which the discriminator's steepness is measured, as in its release."""
STANDARD = 0.02
"""How far mean and deviation of all coordinates may be from 0 and 1, noise apart, in a standard normal space."""

Settings = Iterator[tuple[str, Judged | None]]
"""Settings of a method by name; None where the pool was spent before enough samples were accepted."""


class Pool:
    """The n generated samples of a run, and the reals that choices among them are compared with."""

    def __init__(self, run: Run, kept: int, judge_space: str, k: int, halves: int):
        self.run, self.kept, self.k, self.halves = run, kept, k, halves
        self.judge_space = run.views.features if judge_space == "features" else judge_space
        self._by_chance: dict[int, Judged] = {}
        self.seeds = run.views.seeds(run.seed, run.n)
        self.views = {"fake": View("fake", self.judge_space), "real": View("real", self.judge_space, n=kept)}

    @cached_property
    def fake(self) -> Tensor:
        return self.run.views.tensor(self.views["fake"], self.run.seed, self.run.n)

    @cached_property
    def real(self) -> Tensor:
        return self.run.views.tensor(self.views["real"], self.run.seed, self.run.n)

    def by_chance(self, index: int) -> Judged:
        """As many samples as all settings keep, drawn from the pool without any reason; a set for each index."""
        if index not in self._by_chance:
            order = np.random.default_rng([self.run.seed, index]).permutation(self.run.n)
            rows = torch.from_numpy(order[: self.kept])
            features = self.fake[rows.to(self.fake.device)]
            self._by_chance[index] = self._judged(features, rows, self.kept)
        return self._by_chance[index]

    def judged(self, rows: Tensor, calls: int, features: Tensor | None = None) -> Judged:
        """features [m, D]: of the samples, where they are not those of the pool at `rows`."""
        features = self.fake[rows.to(self.fake.device)] if features is None else features
        return self._judged(features, rows, calls)

    def _judged(self, features: Tensor, rows: Tensor, calls: int) -> Judged:
        return judge(features, self.real, self.k, rows, calls, self.halves, self.run.seed)

    @cached_property
    def as_they_come(self) -> Judged:
        """The first samples, of which truncation moves the codes: psi 1."""
        return self.judged(torch.arange(self.kept), self.kept)

    def dealt_out(self, scores: Tensor, deal: int) -> Tensor:
        """The same scores [n] at random among the samples: another order for each deal."""
        order = np.random.default_rng([self.run.seed, deal, 1]).permutation(len(scores))
        return scores[torch.from_numpy(order)]

    def codes(self, space: str) -> Tensor:
        return self.run.views.tensor(View("fake", f"latent:{space}"), self.run.seed, self.run.n)

    def moved(self, codes: Tensor, space: str, calls: int | None = None) -> Judged:
        """The samples of other codes than the pool's; calls: one each, where not given."""
        features = self.run.views.of_latents(codes, space, self.judge_space)
        return self.judged(torch.arange(self.kept), calls or self.kept, features.to(self.real))

    def accepted(self, acceptance: Tensor) -> Judged | None:
        """The first samples that are accepted, each with its probability; None when there are too few.

        Stored samples, which lie in an order of their own, come in one that the seed draws.
        """
        order = torch.arange(self.run.n)
        if self.run.views.total is not None:
            order = torch.from_numpy(np.random.default_rng(self.run.seed).permutation(self.run.n))
        places = (uniform_draws(self.seeds) < acceptance)[order].nonzero().flatten()[: self.kept]
        return self.judged(order[places], int(places[-1]) + 1) if len(places) == self.kept else None


def by_importance(
    pool: Pool, cell: Cell, quantiles: Sequence[float], weights: Sequence[float], scores: Tensor
) -> Settings:
    for quantile, threshold in thresholds(pool.run, cell, pool.run.oriented(cell), quantiles).items():
        for weight in weights:
            yield f"tau {quantile:g} w {weight:g}", pool.accepted(importance(scores, threshold, weight))


def thresholds(run: Run, cell: Cell, scores: Tensor, quantiles: Sequence[float]) -> dict[float, float]:
    """Scores at quantiles: of held-out reals where the metric sees samples through an extractor, else of the pool."""
    if extracted(cell.views["fake"].space) and run.views.data.count("test"):
        views = {**cell.views, "fake": dataclasses.replace(cell.views["fake"], source="holdout")}
        tensors = {name: run.views.tensor(view, run.seed, run.n) for name, view in views.items()}
        sign = -1 if METRICS[cell.metric].better == "lower" else 1
        scores = sign * METRICS[cell.metric].function(**tensors, **cell.params).double().cpu()
    scores = scores[scores.isfinite()]
    return {quantile: float(scores.quantile(quantile)) for quantile in quantiles}


def extremes(pool: Pool, sign: int, shares: Sequence[float], scores: Tensor) -> Settings:
    scores = sign * scores
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
    run, codes = pool.run, pool.codes(space)
    count = min(volume, codes[0].numel())
    # Forward mode: a pass a latent dimension, of which there are fewer than projections.
    volumes = log_volumes(lambda z: run.views.generator.decode(z, space), codes, count, forward=True, chunk=250).cpu()
    for rho in rhos:
        rows = polarity_sample(volumes, rho, pool.kept, run.seed)
        yield f"rho {rho:g}", pool.judged(rows, run.n)


class ByDiscriminator:
    """Choices by the logits of the generator's own discriminator, calibrated on held-out reals where there are any."""

    def __init__(self, pool: Pool):
        self.pool, self.run = pool, pool.run
        self.cell = self.run.cell("discriminator_logit")
        self.logits = self.run.oriented(self.cell)
        known = self.run.views.data.count("test")
        self.calibration = f"by {known} held-out images" if known else "no"
        self.views = {"holdout": View("holdout", "discriminator", n="all")} if known else {}

    @cached_property
    def real(self) -> Tensor:
        """Logits of the held-out reals."""
        return self.run.views.tensor(self.views["holdout"], self.run.seed, self.run.n)[:, 0].double().cpu()

    @cached_property
    def log_ratio(self) -> Tensor:
        return calibrated(self.logits, self.real, self.logits[self.logits.isfinite()]) if self.views else self.logits

    def rejection(self, percentiles: Sequence[float], log_ratio: Tensor) -> Settings:
        for quantile in percentiles:
            acceptance = discriminator_rejection(log_ratio, quantile=quantile)
            yield f"gamma {quantile:g}", self.pool.accepted(acceptance)

    def budgeted_rejection(self, rates: Sequence[float], log_ratio: Tensor) -> Settings:
        for rate in rates:
            yield f"rate {rate:g}", self.pool.accepted(optimal_budgeted_rejection(log_ratio, rate))

    def chains(self, lengths: Sequence[int], log_ratio: Tensor) -> Settings:
        """Metropolis-Hastings, from held-out reals where there are any."""
        pool = self.pool
        for length in lengths:
            start = None
            if self.views:
                rng = np.random.default_rng([self.run.seed, length])
                drawn = rng.integers(len(self.real), size=self.run.n // length)
                start = calibrated(self.real[torch.from_numpy(drawn)], self.real, self.logits)
            rows = metropolis_hastings(log_ratio, uniform_draws(pool.seeds), length, start)[: pool.kept]
            enough = len(rows) == pool.kept
            yield f"length {length}", pool.judged(rows, pool.kept * length) if enough else None


def transported(pool: Pool, steps: Sequence[int], step_sizes: Sequence[float]) -> Settings:
    generator, space = pool.run.views.generator, pool.run.views.generator.spaces[0]
    assert isinstance(generator, Discriminating)
    codes = pool.codes(space)

    def critic(z: Tensor) -> Tensor:
        return generator.discriminate(generator.decode(z, space))

    slope = steepness(critic, codes[: 2 * STEEP])
    for size in step_sizes:
        for count, z in zip(steps, transport(critic, codes[: pool.kept], slope, steps, size), strict=True):
            calls = pool.kept * (count + 1) + min(2 * STEEP, len(codes))
            yield f"steps {count} size {size:g}", pool.moved(z, space, calls)
