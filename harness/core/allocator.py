"""Memory that is freed and asked for again at once, as that of a network's activations, stays with the process."""

import ctypes

TRIM, MAP = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's mallopt."""

LARGEST_MAP = 1 << 25
"""Blocks of more bytes are always given back; glibc allows no larger threshold."""

KEPT = 1 << 28
"""Bytes of freed memory that are kept at most."""


def keep_freed_memory() -> None:
    """By default glibc gives a block of a few megabytes back when it is freed, and each page is cleared again.

    That is up to half of the time of small networks on a CPU. Elsewhere than with glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(MAP, LARGEST_MAP)
    mallopt(TRIM, KEPT)
