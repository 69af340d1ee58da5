"""On how many trained networks a finding rests: intervals for samples say nothing of another training."""

import re
from collections.abc import Iterable

from ..core.registry import GENERATORS

SHOWN_AGAIN = ("replay",)
"""Generators with files that hold samples, not a network."""


def networks(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Of (generator, data set), as records name them: how many networks of each family on each data set.

    Two generators are one network where they have the same file, or both none; their other options differ.
    """
    files: dict[tuple[str, str], set[str]] = {}
    for name, data in pairs:
        family, _, options = name.partition("(")
        if family in GENERATORS and "path" in GENERATORS[family].options and family not in SHOWN_AGAIN:
            path = re.search(r"\bpath=([^,)]*)", options)
            files.setdefault((family, data), set()).add(path[1] if path else "")
    return {key: len(found) for key, found in files.items()}


def on_networks(pairs: Iterable[tuple[str, str]]) -> str:
    """A sentence that says for what networks the numbers of these generators hold; empty where none was trained."""
    counts = networks(pairs)
    several = [f"{count} trained networks of {name} on {data}" for (name, data), count in counts.items() if count > 1]
    single = [f"{name} on {data}" for (name, data), count in counts.items() if count == 1]
    once = (
        f"{'On this trained network' if len(single) == 1 else 'On these trained networks, one each'} "
        f"({'; '.join(single)}): intervals hold for other samples, not for another training."
    )
    return " ".join([*([f"On {' and '.join(several)}."] if several else []), *([once] if single else [])])
