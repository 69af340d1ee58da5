"""Values without their intervals, for studies that find the spread by other sets."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HALVES = 20
"""Number of random halves; Student's t with 19 degrees of freedom allows for their number."""

_halves: ContextVar[int] = ContextVar("halves", default=HALVES)


@contextmanager
def values_alone() -> Iterator[None]:
    """Inside, metrics of sets whose intervals cost something leave them out: they are NaN. Values are the same."""
    token = _halves.set(0)
    try:
        yield
    finally:
        _halves.reset(token)


def drawn() -> int:
    """How many random halves are drawn for an interval: none where values are asked for alone."""
    return _halves.get()
