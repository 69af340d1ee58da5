"""A uniform sample of bounded size from rows that come batch by batch."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.int64]
Keys = NDArray[np.float64]


class Reservoir:
    """At most `size` of the rows seen, each equally likely to be among them; all of them while they are no more.

    Row number i has an exponential key that `stream` and i decide alone, and the rows with the smallest keys are kept
    (bottom-k sampling, Cohen and Kaplan 2007). So batch sizes change nothing, and processes whose rows have different
    numbers keep together what one process would keep.
    """

    def __init__(self, size: int, stream: int):
        self.size, self.stream, self.seen = size, stream, 0
        self.keys: Keys = np.empty(0)
        self.numbers: Numbers = np.empty(0, np.int64)
        self._kept: Tensor | None = None

    @property
    def complete(self) -> bool:
        """Whether all rows seen are kept."""
        return self.seen == len(self.keys)

    @property
    def rows(self) -> Tensor | None:
        """The rows kept, [m, ...], in the order of their numbers; None before the first."""
        if self._kept is None:
            return None
        order = np.argsort(self.numbers, kind="stable")
        kept = self._kept[: len(order)]
        return kept if (np.diff(order) == 1).all() else kept[torch.from_numpy(order).to(kept.device)]

    @property
    def device(self) -> torch.device | None:
        return None if self._kept is None else self._kept.device

    def add(self, rows: Tensor, place: int = 0, places: int = 1) -> None:
        """See rows [n, ...]. With several places, such as the ranks of processes, the numbers go round among them."""
        numbers = (self.seen + np.arange(len(rows))) * places + place
        self._take(rows, _keys(self.stream, numbers), numbers)
        self.seen += len(rows)

    def join(self, other: "Reservoir") -> None:
        """Take over what a process at another place has seen; its numbers are not among those seen here."""
        if other._kept is not None:
            self._take(other._kept[: len(other.keys)], other.keys, other.numbers)
        self.seen += other.seen

    def merge(self, other: "Reservoir") -> None:
        """See the rows of another reservoir of the same size after those seen here."""
        rows = other.rows
        if rows is None:
            self.seen += other.seen
        elif other.complete:
            self.add(rows)
        else:  # its keys may be those of rows here: it gets the smallest keys that its rows would have anew
            rng = np.random.default_rng([self.stream, self.seen, other.seen])
            gaps = rng.exponential(size=len(other.keys)) / (other.seen - np.arange(len(other.keys)))
            ranks = np.argsort(np.argsort(other.keys[np.argsort(other.numbers, kind="stable")]))
            self._take(rows, np.cumsum(gaps)[ranks], self.seen + np.sort(other.numbers))
            self.seen += other.seen

    def state(self) -> dict[str, Any]:
        """All that must be kept to go on: tensors and numbers."""
        kept = None if self._kept is None else self._kept[: len(self.keys)].cpu().clone()
        keys, numbers = torch.from_numpy(self.keys.copy()), torch.from_numpy(self.numbers.copy())
        return {"seen": self.seen, "keys": keys, "numbers": numbers, "rows": kept}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, which is left as it is."""
        self.seen, rows = state["seen"], state["rows"]
        self._kept = None if rows is None else rows.clone()
        self.keys, self.numbers = state["keys"].numpy().copy(), state["numbers"].numpy().copy()

    def _take(self, rows: Tensor, keys: Keys, numbers: Numbers) -> None:
        there, free = len(self.keys), min(self.size - len(self.keys), len(rows))
        if free:
            kept = self._with_room(rows, there + free)
            kept[there : there + free] = rows[:free]
            self.keys = np.concatenate([self.keys, keys[:free]])
            self.numbers = np.concatenate([self.numbers, numbers[:free]])
            rows, keys, numbers = rows[free:], keys[free:], numbers[free:]
        if not len(rows) or not self.size:
            return
        stay = np.zeros(self.size + len(rows), bool)
        stay[np.argpartition(np.concatenate([self.keys, keys]), self.size - 1)[: self.size]] = True
        leave, enter = np.flatnonzero(~stay[: self.size]), np.flatnonzero(stay[self.size :])
        kept = self._with_room(rows, self.size)
        device = kept.device
        kept[torch.from_numpy(leave).to(device)] = rows[torch.from_numpy(enter).to(rows.device)].to(kept)
        self.keys[leave], self.numbers[leave] = keys[enter], numbers[enter]

    def _with_room(self, rows: Tensor, needed: int) -> Tensor:
        """The buffer, grown where it is too small, in a type that holds the values of these rows too."""
        kept = rows[:0].clone() if self._kept is None else self._kept
        kind = torch.promote_types(kept.dtype, rows.dtype)
        if len(kept) < needed:
            larger = kept.new_empty(min(self.size, max(needed, 2 * len(kept))), *kept.shape[1:], dtype=kind)
            larger[: len(kept)] = kept
            kept = larger
        self._kept = kept = kept.to(kind)
        return kept


def _keys(stream: int, numbers: Numbers) -> Keys:
    """Exponential variables, each decided by the stream and its number alone (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(stream)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return -np.log((z >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54)
