"""The names of what `interpolate` records: rows, quantities, and the setting of a part."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...report.figures import short

LINEAR, SLERP = "linear", "slerp"
SCHEMES = ("pixel", "feature", "~pixel", "~feature")
"""What is optimised: the energy in pixels or in features, and (~) the same of equalised images."""
ROWS = (LINEAR, SLERP, *SCHEMES)
LATENT = "latent"
"""What numbers are measured in, beside the distances of SCHEMES and of the judges."""
NOTHING = "nothing"
"""What a number that is no difference is compared with."""
ENERGY, RATIO = "energy", "energy ratio"
JENSEN_GAP, SPEED, STRAIGHTNESS = "jensen gap", "speed variation", "straightness"
TURNING, END_DISTANCE = "turning", "max_end_distance"
SHAPE = (JENSEN_GAP, SPEED, STRAIGHTNESS, TURNING, END_DISTANCE)
PPL = "path PPL"
CONTRAST, BRIGHTNESS = "contrast", "brightness"
MIDDLE, MEAN, LEAST = "middle", "mean", "least"
"""Images of a path that contrast and brightness are those of."""
MEAN_SCORE, WORST_SCORE, FRAMES = "mean score", "worst score", "frames"
AT_FIRST = " at first"
"""After the name of a quantity: before the rounds."""
IMPROVEMENT, LEAST_OF_ALL, EXCESS = "improvement", "least of all rows", "largest excess over the least"
WENT_ON, GRADIENT, CALLS, FROM_START = "went on", "gradient", "calls", "energy ratio from start"


@dataclass(frozen=True)
class Setting:
    """What the rows of a part have in common: columns of the table, in this order.

    images: in what form the part takes them; part: what it measures; both None for the curve of energy, whose table
    does not have them. row: one of ROWS. The others are those of `Options`, as they were chosen for this generator.
    """

    equalised_per: str
    equalised_to: str
    features: str
    images: str | None
    iterations: int
    judges: str
    pairs: int
    part: str | None
    power: int
    lr: float
    rounds: int
    row: str
    segments: int
    space: str
    sphere: str
    starts: int


COMMON = tuple(field.name for field in fields(Setting) if field.name not in ("images", "part", "row"))
"""What all parts of one latent space share."""


def picture_words(setting: Mapping[str, Any]) -> tuple[str, str]:
    """What tells the pictures of a setting from others: the space, and digits that stand for the values of COMMON."""
    return setting["space"], short({name: setting[name] for name in COMMON})
