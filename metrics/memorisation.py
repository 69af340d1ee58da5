"""Memorisation-informed Fréchet distance: the Fréchet distance over how far generated samples are from real ones."""

import math

import torch
from torch import Tensor

from ..harness.core.inputs import Array, require_pool3, samples
from ..harness.core.options import Positive
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .frechet import frechet_distance
from .kernels.scale import power_of_two, scaled

SOURCE = "https://github.com/Lightning-AI/torchmetrics/blob/master/src/torchmetrics/image/mifid.py"
SMALL, ADDED = 1e-8, 10e-15
"""Fréchet distance up to which the result is 0, and what is added to the penalty, as in that implementation."""


@metric(
    better="lower",
    kind="set",
    source=SOURCE,
    fake=View("fake", "features"),
    real=View("real", "features", n="all"),
)
def memorisation_informed_frechet(fake: Array, real: Array, threshold: Positive = 0.1) -> Estimate:
    """Fréchet distance over the memorisation penalty, lower is better; sets [M, D] and [N, D]. As torchmetrics has it:

        FD / (m + 1e-14),   m = mean over real x of min over generated y of 1 - |cos(x, y)|, and 1 from `threshold` on

    Where FD is at most 1e-8 it is 0, so that a set that is the real one is rated perfect. The competition that the
    score comes from (arXiv:2106.03062) asks how far each generated sample is from the real ones; torchmetrics asks it
    of each real sample, so a few copies among many samples hardly count. Rows whose entries add up to 0 are left out of
    m. The interval is that of the Fréchet distance, with the spread of m over real samples where m is below
    `threshold`; at the threshold the score jumps by a factor of 1 / threshold, which no interval tells.
    Raises ValueError for bad input, fewer than 2 rows, or where all rows of a set add up to 0.
    """
    y, x = samples(2, fake=fake, real=real)
    whole = frechet_distance(y, x)
    if whole.value <= SMALL:
        return whole._replace(value=0.0, interval=(0.0, 0.0))
    penalty = intervals.mean(_distances(y, x))
    if not penalty.value < threshold:
        return whole
    value = whole.value / (penalty.value + ADDED)
    below, above = (abs(whole.value - end) / whole.value for end in whole.interval)
    spread = (penalty.interval[1] - penalty.value) / (penalty.value + ADDED)
    low, high = value * (1 - math.hypot(below, spread)), value * (1 + math.hypot(above, spread))
    return whole._replace(value=value, interval=(max(0.0, low), high))


@metric(
    better="lower",
    kind="set",
    source=SOURCE,
    fixed_features=True,
    fake=View("fake", "inception"),
    real=View("real", "inception", n="all"),
)
def mifid(fake: Array, real: Array) -> Estimate:
    """MiFID: `memorisation_informed_frechet` of the Inception pool3 features of FID; lower is better.

    Features [M, 2048] and [N, 2048]. Raises ValueError for bad input, fewer than 2 rows, or arrays of another shape.
    """
    require_pool3(fake=fake, real=real)
    return memorisation_informed_frechet(fake, real)


def _distances(fake: Tensor, real: Tensor) -> Tensor:
    """Of each real row the smallest 1 - |cos| to a generated one, float64, at least 0."""
    power = power_of_two(fake, real)
    units = []
    for name, rows in (("fake", fake), ("real", real)):
        rows = scaled(rows, power).double()
        kept = rows[rows.sum(1) != 0]
        if not len(kept):
            raise ValueError(f"{name} has no row whose entries add up to other than 0, so it has no cosines")
        units.append(kept / kept.norm(dim=1, keepdim=True))
    y, x = units
    found = [(1 - (block @ y.T).abs().amax(1)).clamp(min=0) for block in x.split(1024)]
    return torch.cat(found)
