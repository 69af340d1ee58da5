"""Sets of generated samples judged against the same reals: precision, recall, Fréchet distance, and their bootstrap."""

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


class Judged(NamedTuple):
    """A set of m samples, judged; calls: of the generator, for all of them.

    rows [m]: positions of their seeds; hits [m]: which are in a real ball; held [N]: which reals are in one of theirs.
    """

    rows: Tensor
    hits: Tensor
    held: Tensor
    frechet: Estimate
    calls: int


def judge(features: Tensor, real: Tensor, k: int, rows: Tensor, calls: int, with_frechet: bool = True) -> Judged:
    """features [m, D] of samples against those of reals [N, D]; balls reach to the k-th neighbour."""
    balls = neighbour_pass(features, real, k)
    frechet = frechet_distance(features, real) if with_frechet else Estimate(math.nan, (math.nan, math.nan))
    return Judged(rows, (balls.real_balls > 0).cpu(), (balls.fake_balls > 0).cpu(), frechet, calls)


def resampled(judged: Sequence[Judged], n: int, resamples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Precision and recall [1 + resamples, S] of each of S sets; row 0 is the samples themselves.

    The others are bootstraps of the n seeds and of the reals, the same for all sets; what was chosen, and the balls
    round it, stay as they are.
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
    """values [1 + resamples]: the number itself, then its resamples, with their percentile interval."""
    low, high = percentile_interval(values[1:])
    return Estimate(float(values[0]), (float(low), float(high)), n)


def scores_of(run: Run, cell: Cell, latents: Tensor, space: str) -> Tensor:
    """Scores [N] float64 of a sample metric for the samples of these latents, stored 8 bits deep."""
    inputs = run.inputs(cell, lambda wanted: run.views.seen(latents, space, wanted))
    scores: Tensor = METRICS[cell.metric].function(**inputs, **cell.params)
    return scores.double().cpu()
