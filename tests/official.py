"""Random weights that a test and the authors' own code can both make: each tensor is drawn from its name alone.

`official_*.npz` beside the tests hold what the authors' code gave for these weights: "NAME/names" is the digest of the
names and shapes of its tensors, the other arrays are outputs. That code is not here; who has it loads `drawn` into its
networks and finds the same numbers.
"""

import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from assay.harness.core.protocols import Generator

KEPT = ("resample_filter", "u")
"""Last parts of names of tensors whose numbers are not drawn: they are given by formulas."""


def noise(name: str, *shape: int) -> Tensor:
    """Standard normals, float32, the same in every version of numpy."""
    return torch.from_numpy(np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32))


def drawn(shapes: Mapping[str, Sequence[int]], kept: Sequence[str] = KEPT) -> dict[str, Tensor]:
    """A network in which nothing is 0 or 1; its features neither explode nor vanish."""
    tensors = {}
    for name, shape in shapes.items():
        if name.rpartition(".")[2] in kept:
            continue
        x = noise(name, *shape)
        if len(shape) > 1:
            tensors[name] = x / math.sqrt(math.prod(shape[1:]))
        else:
            tensors[name] = 0.3 * x + (1 if name.endswith("weight") else 0)
    return tensors


def names(shapes: Mapping[str, Sequence[int]]) -> str:
    """A digest of all names and shapes."""
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def require_gradient_of_images(generator: Generator, step: float = 1e-2, within: float = 0.02) -> None:
    """The gradient of a pixel in x_T is the difference quotient along a drawn direction."""
    x = generator.latents([0], "x_T").requires_grad_()
    (gradient,) = torch.autograd.grad(generator.decode(x, "x_T")[0, 1, 2, 3], x)
    direction = noise("direction", *x.shape)
    with torch.no_grad():
        ends = [generator.decode(x + e * direction, "x_T")[0, 1, 2, 3] for e in (step, -step)]
    quotient = float(ends[0] - ends[1]) / (2 * step)
    assert abs(float((gradient * direction).sum()) - quotient) <= within * abs(quotient)
