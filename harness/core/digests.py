"""The sha256 of many things, of 32 bytes each and not of 64 letters."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Digests = NDArray[np.bytes_]
"""sha256 of each of N things, S32 [N]; they sort as their hexadecimal digits do."""
BYTES = 32


def packed(digits: Iterable[str], count: int) -> Digests:
    """From hexadecimal digits."""
    return np.fromiter(map(bytes.fromhex, digits), f"S{BYTES}", count)


def hexadecimal(digests: Digests, places: NDArray[np.int64] | None = None) -> Iterator[str]:
    """The digits of each, or of those at some places."""
    chosen = digests if places is None else (digests[place] for place in places)
    return (bytes(one).ljust(BYTES, b"\0").hex() for one in chosen)


def first_word(digests: Digests) -> NDArray[Any]:
    """The first 32 bits of each as a number."""
    return np.ascontiguousarray(digests).view(">u4").reshape(-1, BYTES // 4)[:, 0].astype(np.int64)
