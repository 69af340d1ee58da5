"""Scaling by exact powers of two, because squares of very small or very large float32 values are not representable."""

import math

import torch
from torch import Tensor

from ...harness.core.inputs import row_blocks

SAFE = 30
"""Values whose largest magnitude is between 2^-SAFE and 2^SAFE are left as they are."""


def power_of_two(*sets: Tensor) -> float:
    """The power of two by which the largest magnitude of all sets is between 1/2 and 1; 1.0 where it is safe as is."""
    largest = max(float(bound.abs()) for x in sets if x.numel() for bound in torch.aminmax(x))
    exponent = math.frexp(largest)[1]
    return 1.0 if abs(exponent) <= SAFE else math.ldexp(1.0, min(1000, -exponent))


def scaled(x: Tensor, power: float) -> Tensor:
    """x [N, ...] times a power of two, in its own type: exact, except for values 2^-126 times smaller than the largest.

    Without a change, x itself.
    """
    # The factor itself need not be representable in float32.
    return x if power == 1.0 else torch.cat([(block.double() * power).to(x.dtype) for block in row_blocks(x)])
