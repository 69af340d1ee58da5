"""Long rows in few coordinates, in which no two are farther apart than they are: this excludes most neighbours quickly.

A row x becomes (V'(x - c), |x - c - V V'(x - c)|) for an orthonormal V. The map never makes a distance longer, because
the part of a difference that V leaves out is at least the difference of the lengths of what it leaves out.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...harness.core.inputs import row_blocks
from ...harness.stats.moments import Moments
from .distances import centred_norms
from .memo import remember

ROWS = 10_000
"""Rows from which the directions are found; any would do, and those of the largest variance exclude most."""

SHARE = 8
"""Number of dimensions for each direction that is kept."""


class Projected(NamedTuple):
    """rows [N, d + 1] float32; lengths [N] float64, the distances of the rows from the centre.

    error: by how much a row may be off, as a share of its length.
    """

    rows: Tensor
    lengths: Tensor
    error: float

    def reach(self, other: "Projected", radius: Tensor) -> Tensor:
        """The squared distance of projected rows, float32 [N], within which all of `other` within radius [N] lie."""
        reach = radius + self.error * (self.lengths + other.lengths.max())
        largest = reach.square().to(self.rows.dtype)
        return largest.nextafter(largest.new_tensor(torch.inf)).nextafter(largest.new_tensor(torch.inf))


def rounding(dimension: int) -> float:
    """Bound of the error of a projected row as a share of its length.

    With u the unit roundoff of float64, coordinates err by D u each (Higham 2002, eq. 3.5), so the sum of their squares
    by 2 sqrt(d) D u, and the directions are orthonormal to less. The length of what is left out is the root of a
    difference, hence off by the root of that. Then follows the rounding to float32.
    """
    return math.sqrt(4 * dimension**1.5 * torch.finfo(torch.float64).eps / 2) + torch.finfo(torch.float32).eps


@remember
def directions(x: Tensor) -> tuple[Tensor, Tensor]:
    """Centre [D] and orthonormal directions [D, d] of large variance, float64, of the rows of x [N, D]."""
    step = max(1, len(x) // ROWS)
    known = Moments.of(x[::step])
    _, vectors = torch.linalg.eigh(known.scatter)
    return known.mean, vectors[:, -(x.shape[1] // SHARE) :].contiguous()


def projected(x: Tensor, centre: Tensor, vectors: Tensor) -> Projected:
    """The rows of x [N, D] in the coordinates of `directions`."""
    rows = x.new_empty(len(x), vectors.shape[1] + 1, dtype=torch.float32)
    blocks = row_blocks(x)
    for block, out in zip(blocks, torch.split(rows, len(blocks[0])), strict=True):
        centred = block.double() - centre
        kept = centred @ vectors
        out[:, :-1] = kept
        out[:, -1] = (centred.square().sum(1) - kept.square().sum(1)).clamp_(min=0).sqrt()
    return Projected(rows, centred_norms(x, centre).sqrt(), rounding(x.shape[1]))


projected_once = remember(projected)
