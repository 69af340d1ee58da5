"""Nearest neighbours whose ties share their places equally, so that the order of rows has no effect."""

from collections.abc import Callable

from torch import Tensor

from .nearest import Neighbours


def shared_places(search: Callable[[int], Neighbours], k: int, most: int) -> tuple[Neighbours, Tensor]:
    """Neighbours [N, c] and the expected number of the k places that each holds, float64 [N, c].

    search: gives the n nearest for n up to `most`. Neighbours at the same distance as the k-th are equally likely to
    hold the last places, as if rows were in random order. Each row of the places sums to k.
    """
    wanted = min(k + 1, most)
    while True:
        found = search(wanted)
        last = found.distances[:, k - 1 : k]
        if wanted == most or not bool((found.distances[:, -1:] == last).any()):
            break
        wanted = min(2 * wanted, most)
    nearer, tied = found.distances < last, (found.distances == last).double()
    return found, nearer + tied * ((k - nearer.sum(1, keepdim=True)) / tied.sum(1, keepdim=True))
