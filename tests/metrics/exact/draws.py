"""Random sets of the kinds on which numbers go wrong: scales, offsets, duplicates, columns of unlike scale, types."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Sets = list[npt.NDArray[Any]]
SCALES = tuple(2.0**e for e in (0, -40, -20, 20, 40, -73, 73))
"""From 1e-22 to 1e22, in powers of two, so that equal distances stay equal."""
OFFSETS = (0.0, 0.0, 1e2, 1e6)
DTYPES: Mapping[str, Any] = {
    "float32": np.float32, "float64": np.float64, "float16": np.float16, "int32": np.int32, "int64": np.int64,
}  # fmt: skip


class Draw(NamedTuple):
    """sets: arrays [N, D] of one type, to pass to a metric; kind: in words, what they are."""

    sets: Sets
    kind: str


def draw(rng: np.random.Generator, count: int, least: int = 2, dimension: int | None = None) -> Draw:
    """`count` sets of random sizes, up to 60 rows of up to 40 dimensions."""
    dimension = dimension or int(rng.integers(1, 41))
    base = rng.normal(size=(int(rng.integers(1, 61)), dimension))
    kinds = []
    sets: Sets = []
    for _ in range(count):
        x = rng.normal(size=(int(rng.integers(least, 61)), dimension))
        copied = rng.random(len(x)) < rng.choice([0, 0, 0.3])
        nearly = rng.choice([0, 1e-6]) * rng.normal(size=x.shape)
        sets.append(np.where(copied[:, None], base[rng.integers(0, len(base), len(x))] + nearly, x))
    if rng.random() < 0.15:
        kinds.append("one column in ms")
        for x in sets:
            x[:, 0] = rng.integers(0, 20, len(x)) * 86400e3
    if rng.random() < 0.15:
        kinds.append("outlier")
        sets[int(rng.integers(count))][0] *= 1e4
    if rng.random() < 0.2:
        kinds.append("by class")
        sets = [x[np.argsort(x[:, -1], kind="stable")] for x in sets]
    name = str(rng.choice(list(DTYPES), p=[0.4, 0.35, 0.05, 0.1, 0.1]))
    scale, offset = float(rng.choice(SCALES)), float(rng.choice(OFFSETS))
    if name == "float16":
        scale, offset = 1.0, float(rng.choice([0, 30]))
    if name.startswith("int"):
        scale, offset = 10.0, float(rng.choice([0, 2**24 + 1, 10**9]))
        sets = [np.clip(np.rint(x * scale + offset), -(2**31) + 1, 2**31 - 1) for x in sets]
    else:
        sets = [(x + offset) * scale for x in sets]
    if name == "float16":
        sets = [np.clip(x, -6e4, 6e4) for x in sets]
    kinds += [name, f"scale {scale:g}", f"offset {offset:g}"]
    return Draw([x.astype(DTYPES[name]) for x in sets], ", ".join(kinds))
