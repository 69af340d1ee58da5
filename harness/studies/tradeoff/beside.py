"""How a choice of samples stands beside chance, by its Fréchet distance, and beside truncation that recalls as much."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ...core.protocols import Estimate, Row
from ...stats.intervals import half_samples
from ..judged import Judged, without_interval
from .names import OVER_TRUNCATION, SAVED

BY_CHANCE = 5
"""Sets drawn by chance whose mean Fréchet distance the others are compared with."""


def beside(judged: Mapping[str, Judged], chance: Sequence[Judged], truncated: Sequence[Judged]) -> Iterator[Row]:
    """For each setting the share of chance's Fréchet distance that it saves, and its precision over truncation's."""
    by_chance = torch.stack([one.frechets() for one in chance[:BY_CHANCE]]).mean(0)
    others = [points(one) for one in truncated]
    for setting, one in judged.items():
        saved = 1 - one.frechets() / by_chance
        yield Row((setting, SAVED), half_samples(float(saved[0]), saved[1:], len(one.rows)))
        if others:
            yield Row((setting, OVER_TRUNCATION), over_truncation(points(one), others, len(one.rows)))


def points(one: Judged) -> Tensor:
    """Precision and recall [1 + H, 2] of a whole set and of its halves."""
    return torch.cat([torch.tensor([[one.precision, one.recall]], dtype=torch.float64), one.halves])


def over_truncation(point: Tensor, truncated: Sequence[Tensor], n: int = 0) -> Estimate:
    """Precision of a set less that of truncation at equal recall, from points [1 + H, 2] of it and of its halves.

    Truncation's is interpolated between its settings, ordered by recall, in every half. It is undefined where none of
    them recalls as much, or none as little; a half beyond their range is compared with the nearest.
    """
    precision, recall = (torch.stack(list(truncated), 1)[..., i].numpy() for i in (0, 1))
    if not recall[0].min() <= float(point[0, 1]) <= recall[0].max():
        return without_interval(math.nan, 0)
    found = []
    for p, r, here in zip(precision, recall, point.numpy(), strict=True):
        order = np.argsort(r, kind="stable")
        found.append(here[0] - np.interp(here[1], r[order], p[order]))
    differences = torch.tensor(np.array(found))
    return half_samples(float(differences[0]), differences[1:], n)
