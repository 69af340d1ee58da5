"""Moments of arrays that metrics share, so that each is computed once."""

from collections.abc import Iterable

from torch import Tensor

from ...harness.core.inputs import Array, samples
from ...harness.stats.moments import FEW as FEW
from ...harness.stats.moments import STRIP as STRIP
from ...harness.stats.moments import Moments as Moments
from ...harness.stats.moments import add_gram as add_gram
from ...harness.stats.moments import mirrored
from ...harness.stats.moments import strips as strips
from .memo import remember


def moments(x: Array) -> Moments:
    """Moments of the rows of x [N, D]. Raises ValueError for bad input."""
    return _moments(*samples(x=x))


@remember
def _moments(x: Tensor) -> Moments:
    return Moments.of(x)


def streamed(batches: Iterable[Array]) -> Moments:
    """Moments of batches [n_i, D] that need not fit in memory together.

    Raises ValueError, naming the batch, for bad input, and when there is no batch.
    """
    found: Moments | None = None
    for i, batch in enumerate(batches):
        (x,) = samples(**{f"batch {i}": batch})
        if found is not None and x.shape[1] != len(found.mean):
            raise ValueError(
                f"batch {i} has {x.shape[1]} dimensions, those before it have {len(found.mean)}: use one feature space"
            )
        found = _moments(x) if found is None else found.merge(_moments(x))
    if found is None:
        raise ValueError("batches is empty: give at least one batch of samples [n, D]")
    return found


def gram(x: Tensor) -> Tensor:
    """x' x [D, D] for x [N, D]."""
    return mirrored(add_gram(x.new_zeros(x.shape[1], x.shape[1]), x))
