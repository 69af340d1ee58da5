"""Many short texts in one buffer, in a tenth of the memory of a list."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

CODEC = ("utf-8", "surrogatepass")
"""Its bytes sort as the texts do, those of file names that are no UTF-8 too."""
WORD = 8


class Texts(Sequence[str]):
    """Texts of which only the bytes and their places are in memory; each is made when it is asked for.

    content: the bytes, and WORD more; starts, ends: of each text, the places of its bytes, int64 [N].
    """

    def __init__(self, content: bytes | bytearray, starts: NDArray[np.int64], ends: NDArray[np.int64]):
        self.content, self.starts, self.ends = content, starts, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        content, ends = bytearray(), array("q")
        for text in texts:
            content += text.encode(*CODEC)
            ends.append(len(content))
        return cls.joined(content, np.array(ends, np.int64))

    @classmethod
    def joined(cls, content: bytes | bytearray, ends: NDArray[np.int64]) -> Texts:
        """Texts whose bytes lie after each other."""
        return cls(content + bytes(WORD), np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1]]), ends)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> str | Texts:
        if isinstance(place, slice):
            return Texts(self.content, self.starts[place], self.ends[place])
        return self.content[self.starts[place] : self.ends[place]].decode(*CODEC)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str) or len(other) != len(self):
            return False
        return all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def at(self, places: NDArray[np.int64]) -> Texts:
        """The texts at some places, of the same bytes."""
        return Texts(self.content, self.starts[places], self.ends[places])

    def order(self) -> NDArray[np.int64]:
        """The places of the texts in their order; those of equal ones as they come.

        From the last eight bytes to the first (radix sort), since a list of keys would take what is saved here.
        """
        lengths = self.ends - self.starts
        words = np.ndarray(len(self.content) - WORD + 1, ">u8", self.content, strides=(1,))
        order = np.arange(len(self))
        for begin in reversed(range(0, int(lengths.max(initial=0)), WORD)):
            longer = lengths[order] > begin
            late = order[longer]
            beyond = 8 * np.maximum(WORD - (lengths[late] - begin), 0).astype(np.uint64)
            word = words[self.starts[late] + begin].astype(np.uint64) >> beyond << beyond
            order = np.concatenate([order[~longer], late[np.argsort(word, kind="stable")]])
        return order

    def sorted(self) -> Texts:
        return self.at(self.order())

    def place(self, text: str) -> int | None:
        """Where a text is among these, which are in order; None where it is not."""
        found = bisect_left(self, text)
        return found if found < len(self) and self[found] == text else None

    def repeated(self) -> NDArray[np.int64]:
        """The places that have the text of the place before them; all of equal ones but the first, if in order."""
        same = (one == another for one, another in pairwise(self))
        return 1 + np.flatnonzero(np.fromiter(same, bool, max(0, len(self) - 1)))
