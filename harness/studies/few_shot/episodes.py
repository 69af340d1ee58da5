"""Episodes of few-shot classification: which classes, and of each which rows are known and which are asked about."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Episodes(NamedTuple):
    """E episodes of W ways, K shots and Q queries a class.

    classes [E, W]: positions in the list of classes; support [E, W, K], query [E, W, Q]: rows of the features.
    """

    classes: Tensor
    support: Tensor
    query: Tensor

    def rows(self, rows: Tensor) -> "Episodes":
        """Some of the episodes."""
        return Episodes(self.classes[rows], self.support[rows], self.query[rows])


def draw_episodes(
    labels: Tensor,
    classes: Sequence[int],
    count: int,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    seed: int | Sequence[int] = 0,
) -> Episodes:
    """`count` episodes from the rows of `labels` [N] that are of the `classes`; episode e depends on seed and e alone.

    Classes without replacement; support and query of a class without replacement, so that no query is a shot.
    Raises ValueError when there are fewer classes than ways, or a class has fewer rows than shots + queries.
    """
    if min(count, ways, shots, queries) < 1:
        raise ValueError(
            f"{count} episodes of {ways} ways, {shots} shots and {queries} queries: give 1 or more of each"
        )
    if ways > len(classes):
        raise ValueError(f"{ways} ways need as many novel classes; there are {len(classes)}")
    rows = [(labels == label).nonzero().flatten().numpy() for label in classes]
    for label, of_class in zip(classes, rows, strict=True):
        if len(of_class) < shots + queries:
            raise ValueError(
                f"class {label} has {len(of_class)} features; {shots} shots and {queries} queries need "
                f"{shots + queries}: give more, or lower queries"
            )
    words = [seed] if isinstance(seed, int) else list(seed)
    chosen = np.empty((count, ways), np.int64)
    drawn = np.empty((count, ways, shots + queries), np.int64)
    for e in range(count):
        rng = np.random.default_rng([*words, e])
        chosen[e] = rng.permutation(len(classes))[:ways]
        for way, place in enumerate(chosen[e]):
            drawn[e, way] = rows[place][rng.choice(len(rows[place]), shots + queries, replace=False)]
    every = torch.from_numpy(drawn)
    return Episodes(torch.from_numpy(chosen), every[:, :, :shots], every[:, :, shots:])
