"""What the authors of arXiv:2505.22450 found, cell by cell, and why ours may differ.

published.csv has the verdicts of their pass/fail tables, which the notebook plotting/print_pass_fail_tables.ipynb of
vanderschaarlab/position-fidelity-diversity-metrics-flawed (MIT, commit d30d874) shows as its output.
"""

import csv
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path

NOT_PUBLISHED = "not published"
UNDEFINED = "undefined"
FILE = Path(__file__).with_name("published.csv")
EMBEDDED = ("alpha_precision", "beta_recall")
COVERS = ("precision_cover", "recall_cover")


@cache
def cells() -> dict[tuple[str, str, str, str], str]:
    """By check, case, criterion and metric: pass, fail, or the way in which it passed, low or high."""
    with FILE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (row["check"], row["case"], row["criterion"], metric): verdict
        for row in rows
        for metric, verdict in row.items()
        if metric not in ("check", "case", "criterion") and verdict
    }


def published(check: str, case: str, criterion: str, metric: str) -> str:
    return cells().get((check, case, criterion, metric), NOT_PUBLISHED)


def overall(verdicts: Iterable[str]) -> str:
    """One verdict of several: they must all be passed, and not once as low and once as high."""
    found = set(verdicts) - {NOT_PUBLISHED}
    if not found:
        return NOT_PUBLISHED
    if UNDEFINED in found:
        return UNDEFINED
    if "fail" in found or {"low", "high"} <= found:
        return "fail"
    return next((way for way in ("low", "high") if way in found), "pass")


def why(metric: str, ours: str, theirs: str, low: float, high: float) -> str:
    """Why ours differs from theirs; empty where it does not. low, high: the interval of our margin."""
    if theirs in (NOT_PUBLISHED, ours):
        return ""
    if metric in EMBEDDED:
        return "the paper embeds both sets by a trained network first"
    if metric in COVERS:
        return "the paper calls the cover of reals precision"
    if ours == UNDEFINED:
        return "the metric has no value for some of these sets"
    if math.isnan(low) or math.isnan(high):
        return "one repeat, whose spread is not known"
    if low <= 0 <= high:
        return "within the spread of repeats"
    return "open"
