"""The best, the middle and the worst samples by a score."""

import numpy as np
import torch
from torch import Tensor

EXTREMES = ("top", "middle", "bottom")


def labels(scores: Tensor, positions: Tensor, before: str = "") -> list[str]:
    """What the page says of each of these samples: the score, and the number of the sample."""
    return [f"{before}{scores[i]:.4g} (sample {i})" for i in positions.tolist()]


def extremes(scores: Tensor, size: int, seed: int) -> dict[str, Tensor]:
    """Positions of EXTREMES, the most extreme first (middle from the median outwards), and of a random group.

    Ties keep their order. Samples without a score are in the random group alone.
    """
    defined = scores.isfinite().nonzero().flatten()
    order = defined[torch.argsort(scores[defined], descending=True, stable=True)]
    size = min(size, len(order) // 3)
    from_median = (torch.arange(len(order)) - (len(order) - 1) / 2).abs().argsort(stable=True)
    random = torch.from_numpy(np.random.default_rng(seed).permutation(len(scores))[:size])
    return {"top": order[:size], "middle": order[from_median[:size]], "bottom": order.flip(0)[:size], "random": random}
