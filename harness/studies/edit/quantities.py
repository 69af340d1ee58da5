"""Names in the tables of `edit`: what a number is, and what a score is compared with."""

SETTING = ("attribute", "edits", "reach", "space", "steps")
"""What the rows of the same edits have in common."""
ITSELF = "itself"
"""The signal of a number that compares a score with nothing else."""
WALKED = "minus the way walked"
"""The baseline among the scores: how near an edit still is to the sample that it began with."""
NORM = "negative_norm"
"""The score that is the other baseline: it knows nothing of the data."""
MOVES, FIT = "goes with the edit", "linear fit"
"""Of the attribute."""
OF_SCORES = ONE_MAXIMUM, AWAY, FALL, CHANGE = (
    "one maximum", "maximum away by", "fall to the ends", "change where it stops",
)  # fmt: skip
"""Of each score."""
BESIDE = AGREEMENT, BEYOND, GAIN, OVER_NORM = (
    "agreement", "agreement beyond the way walked", "gain of stopping", "gain of stopping over the norm",
)  # fmt: skip
"""Of each score beside each signal."""
