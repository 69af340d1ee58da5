"""On how many trained networks a finding rests: intervals for samples say nothing of another training."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..core.registry import GENERATORS
from ..formats.weights import NETWORKS

SHOWN_AGAIN = ("replay",)
"""Generators with files that hold samples, not a network."""


LISTED = re.compile(r"(\w+)\(.*?\bpath=([^/,)#]+)/([^/,)#]*?(\d+))(?:#[0-9a-f]{8})?[,)]")
"""A generator of `assay train networks=LIST`, as records name it: "vae(path=LIST/seed3#1a2b3c4d)"."""


class Training(NamedTuple):
    """Which network of a list a generator is: seed is that of its training."""

    family: str
    listed: str
    seed: int
    path: str


def training(generator: str) -> Training | None:
    """The network of a list behind a generator as records name it; None for any other generator."""
    found = LISTED.match(generator)
    return Training(found[1], found[2], int(found[4]), f"{NETWORKS}{found[2]}/{found[3]}") if found else None


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
