"""Realism: how far inside the balls around real samples a generated one lies."""

import torch
from torch import Tensor

from .distances import SPARE, Smallest, squared_distance_tiles
from .memo import remember
from .nearest import Listed, radii_of, settle
from .scale import power_of_two, scaled

CAP = 1e6
"""Realism of a generated sample that equals a real one; the upper limit of realism."""


@remember
def realism_unpruned(y: Tensor, x: Tensor, k: int) -> Tensor:
    """max_i NND_k(x_i) / |y_j - x_i| over all balls, in a pass of its own, float64 [M]."""
    power = power_of_two(x, y)
    x, y, radius = scaled(x, power), scaled(y, power), radii_of(x, k) * power
    closest, ratios = (Smallest(len(y), min(1 + SPARE, len(x)), y) for _ in range(2))
    for rows, columns, values, _ in squared_distance_tiles(x, y, lower=True):
        closest.update(columns, rows, values.T)
        ratios.update(columns, rows, over(values, radius[rows], columns).T)
    copies = settle(Listed(closest.values, closest.indices), y, x, 1).distances.squeeze(1) == 0
    return largest_ratios(ratios, y, x, radius, copies)


def realism_apart(y: Tensor, x: Tensor, radius: Tensor, copies: Tensor) -> Tensor:
    """The same with radii [N], 0 for balls that do not count, in a pass of its own; copies: bool [M], of real ones."""
    power = power_of_two(x, y)
    x, y, radius = scaled(x, power), scaled(y, power), radius * power
    ratios = Smallest(len(y), min(1 + SPARE, len(x)), y)
    for rows, columns, values, _ in squared_distance_tiles(x, y, lower=True):
        ratios.update(columns, rows, over(values, radius[rows], columns).T)
    return largest_ratios(ratios, y, x, radius, copies)


def over(values: Tensor, radius: Tensor, columns: slice) -> Tensor:
    """The tile with each row divided by its squared radius, in place; inf where that is 0, and in the padding."""
    largest = torch.finfo(values.dtype)
    weight = (1 / radius.square().clamp(min=largest.tiny)).to(values.dtype)
    valid = values[: len(radius), : columns.stop - columns.start]
    valid.mul_(weight[:, None]).clamp_(max=largest.max)
    valid[radius == 0] = torch.inf
    return values


def largest_ratios(found: Smallest, y: Tensor, x: Tensor, radius: Tensor, copies: Tensor) -> Tensor:
    """max_i radius_i / |y_j - x_i|, where balls of radius 0 count for their copies alone."""
    near = settle(Listed(found.values, found.indices), y, x, 1, weight=radius)
    return torch.where(copies, CAP, (1 / near.distances.squeeze(1)).clamp(max=CAP))
