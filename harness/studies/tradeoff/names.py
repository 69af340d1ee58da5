"""The names of what `tradeoff` records: what stands in place of a setting, and the quantities."""

PLAIN, ALL, ABOVE, BELOW = "plain", "all", "all w > 1", "all w < 1"
"""In place of a setting: the samples as they come; all settings of a method, or those on one side of w = 1."""
PRECISION, RECALL, FRECHET, CALLS = "precision", "recall", "frechet_distance", "calls"
GAIN = {PRECISION: f"{PRECISION} gain", RECALL: f"{RECALL} gain"}
SAVED, OVER_TRUNCATION = f"{FRECHET} saved", f"{PRECISION} over truncation"
AREA, AREA_GAIN = "hypervolume", "hypervolume gain"
SETTING = (
    "beside", "calibrated", "halves", "k", "kept", "lengths", "method", "nulls", "percentiles", "psis", "quantiles",
    "rates", "rhos", "shares", "step_sizes", "steps", "thresholds", "judge_space", "volume", "weights",
)  # fmt: skip
"""Columns of the table for what the rows of a part have in common, in this order; each part has some of them."""


def side_of(setting: str) -> str:
    """Whether a setting of importance sampling prefers high scores or low ones; empty for other settings."""
    weight = float(setting.rpartition(" w ")[2]) if setting.startswith("tau ") else 1.0
    return ABOVE if weight > 1 else BELOW if weight < 1 else ""
