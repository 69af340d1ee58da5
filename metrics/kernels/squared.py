"""Squared distances in float64 that are accurate relative to their own size, by products where these suffice."""

import torch
from torch import Tensor

from ...harness.core.inputs import row_blocks
from .distances import paired_distances
from .log_sum import usual_rounding

ACCURACY = 1e-9
"""Largest relative error of a squared distance, by bound."""


def squared_distances(a: Tensor, b: Tensor, centre: Tensor) -> Tensor:
    """|a_i - b_j|^2, float64 [N, M], of rows of a [N, D] and b [M, D]; 0 for equal rows, and never negative.

    centre [D], float64, is subtracted from both sets before they are multiplied.
    """
    rows = a.double() - centre
    norms = rows.square().sum(1)
    unit = usual_rounding(torch.float64, a.shape[1])
    result = norms.new_empty(len(a), len(b))
    start = 0
    for block in row_blocks(b):
        columns = block.double() - centre
        other = columns.square().sum(1)
        values = result[:, start : start + len(block)]
        torch.mm(rows, columns.T, out=values) if len(block) == len(b) else values.copy_(rows @ columns.T)
        values.mul_(-2).add_(norms[:, None]).add_(other[None, :])
        sharpen(values, a, block, unit * (norms.sqrt() + other.max().sqrt()).square())
        start += len(block)
    return result


def sharpen(values: Tensor, a: Tensor, b: Tensor, error: Tensor, accuracy: float = ACCURACY) -> None:
    """Replace squared distances values [N, M] whose error bound [N] is not small beside them by exact ones."""
    # Not `values <= error`, which is false for NaN.
    i, j = torch.gt(values, (error / accuracy)[:, None].to(values.dtype)).logical_not_().nonzero(as_tuple=True)
    if len(i):
        values[i, j] = paired_distances(a, b, i, j).square().to(values.dtype)
