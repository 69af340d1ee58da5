"""What is decided of a score on a data set."""

import pandas as pd

from ...report.verdict import sign
from .names import NEVER, NEW

SURE = 0.975
HOLDS, FAILS, OPEN, UNDEFINED = "holds", "does not hold", "undecided", "not defined"
MARKS = {HOLDS: " \u2713", FAILS: " \u2717", OPEN: "", UNDEFINED: ""}


def decision(rows: pd.DataFrame) -> str:
    """What is decided, given the rows of all quantities of a score on a data set."""
    of = {row.quantity: row for row in rows.itertuples()}
    if NEW not in of or of[NEW].n == 0:
        return UNDEFINED
    enough = of[NEW].n >= 2
    if enough and sign(of[NEW]) == 1:
        return HOLDS
    return FAILS if enough and NEVER in of and of[NEVER].value >= SURE else OPEN
