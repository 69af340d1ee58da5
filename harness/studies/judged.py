"""Sets of generated samples judged against the same reals: precision, recall, Fréchet distance, and their bootstrap.

Precision and recall come from the pass that the metrics of these names share, so a study that judges declares
`uses=JUDGING`; that `frechet_distance` is used is noticed by its import.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...metrics.frechet import frechet_distance
from ...metrics.kernels.balls import neighbour_pass
from ..core.protocols import Cell, Estimate
from ..core.registry import METRICS
from ..run import Run
from ..stats.intervals import percentile_interval

JUDGING = ("precision", "recall")
"""Metrics whose values are computed here without a call of them."""


class Judged(NamedTuple):
    """A set of m samples, judged against N reals.

    rows [m]: positions of their seeds. hits [m]: which samples are in the ball of a real one, whose share is precision.
    held [N]: which reals are in the ball of a sample, whose share is recall. calls: of the generator, for all m.
    """

    rows: Tensor
    hits: Tensor
    held: Tensor
    frechet: Estimate
    calls: int


def judge(features: Tensor, real: Tensor, k: int, rows: Tensor, calls: int, with_frechet: bool = True) -> Judged:
    """Samples with features [m, D] against reals [N, D]; balls reach to the k-th neighbour."""
    balls = neighbour_pass(features, real, k)
    frechet = frechet_distance(features, real) if with_frechet else without_interval(math.nan, 0)
    return Judged(rows, (balls.real_balls > 0).cpu(), (balls.fake_balls > 0).cpu(), frechet, calls)


def resampled(judged: Sequence[Judged], n: int, resamples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Precision and recall, each [1 + resamples, S], of S sets; row 0 is of the samples themselves.

    The other rows are bootstraps of the n seeds and of the reals, the same for all sets. The sets, and the balls round
    their samples, stay as they are.
    """
    rng = np.random.default_rng(seed)

    def counts(size: int) -> Tensor:
        drawn = rng.multinomial(size, np.full(size, 1 / size), size=resamples)
        return torch.from_numpy(np.concatenate([np.ones((1, size)), drawn]))

    seeds, reals = counts(n), counts(len(judged[0].held))
    precision, recall = [], []
    for one in judged:
        present = seeds[:, one.rows]
        precision.append(present @ one.hits.double() / present.sum(1).clamp(min=1))
        recall.append(reals @ one.held.double() / reals.sum(1))
    return torch.stack(precision, 1), torch.stack(recall, 1)


def bootstrapped(values: Tensor, n: int) -> Estimate:
    """The first of values [1 + resamples], with the percentile interval of the others."""
    low, high = percentile_interval(values[1:])
    return Estimate(float(values[0]), (float(low), float(high)), n)


def without_interval(value: float, n: int) -> Estimate:
    return Estimate(value, (math.nan, math.nan), n)


def scores_of(run: Run, cell: Cell, latents: Tensor, space: str) -> Tensor:
    """Scores [N] float64 of a sample metric for the samples of these latents, stored 8 bits deep."""
    inputs = run.inputs(cell, lambda wanted: run.views.of_latents(latents, space, wanted))
    scores: Tensor = METRICS[cell.metric].function(**inputs, **cell.params)
    return scores.double().cpu()
