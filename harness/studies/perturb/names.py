"""The names of what `perturb` records: the setting of a part, quantities, and whose samples a number is of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...report.figures import short

DIRECTIONS = ("lower", "higher")
GRADIENTS = ("sign", "raw")
NETWORK = "network"
"""The part about the network that learned the density; the other parts are about samples MOVED."""
REAL, BEFORE, MOVED, RANDOM = "real", "before", "moved", "random"
OVER_BEFORE, OVER_RANDOM = f"{MOVED} - {BEFORE}", f"{MOVED} - {RANDOM}"
"""Whose samples a number is of: real ones, those before the move, moved, or moved at random; paired differences."""
EXACT, PREDICTED = "exact density", "predicted density"
RIGHT = {EXACT: f"{EXACT} moves right", PREDICTED: f"{PREDICTED} moves right"}
"""Names of the share of samples whose density changes as asked for."""
ERROR, AGREEMENT = "held-out squared error", "rank agreement"
LARGEST, FOOLED, KEPT_PROMISE, CALLS = "largest move", "fooled", "exact change a predicted one", "calls"
PRECISION, RECALL, FRECHET = "precision", "recall", "frechet_distance"


@dataclass(frozen=True)
class Setting:
    """What the rows of a part have in common: columns of the table, in this order.

    part: NETWORK or MOVED. gradient, epsilon, direction: of a move. neighbours, halves, judge_space: of precision and
    recall. k, epochs: of the network. The others are those of `Options` and of the run.
    """

    alpha: float
    direction: str
    epochs: int
    epsilon: float
    features: str
    gradient: str
    halves: int
    k: int
    neighbours: int
    part: str
    resamples: int
    samples_moved: int
    space: str
    steps: int
    judge_space: str


COMMON = tuple(
    field.name for field in fields(Setting) if field.name not in ("part", "gradient", "epsilon", "direction")
)
"""What all parts of one call of the study share."""


def picture_words(setting: Mapping[str, Any], gradient: str, epsilon: float, rows: Sequence[str]) -> tuple[str, ...]:
    """What tells the picture of a move from others: the values of COMMON in `setting`, and the names of its rows."""
    common = {name: setting[name] for name in COMMON}
    return gradient, f"{epsilon:g}", short({**common, "rows": ", ".join(rows)})
