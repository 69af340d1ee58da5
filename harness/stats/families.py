"""Families of comparisons that are decided together: p-values from intervals, and Holm's correction for their number.

A study declares the families of its tables with `family`. Each number of a table is then decided by its interval and by
`holm_p`, so that in every family of true null hypotheses the chance of one false decision or more is at most 5 %.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import logit, stdtr, stdtrit

from ..core import columns

HOLM = columns.HOLM
LEVEL = 0.05
Scale = Literal["plain", "correlation", "odds"]
Rows = Callable[[pd.DataFrame], "pd.Series[bool]"]

SCALES: Mapping[Scale, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda x: x,
    "correlation": lambda x: np.arctanh(np.clip(x, -1 + 1e-12, 1 - 1e-12)),
    "odds": lambda x: logit(np.clip(x, 1e-12, 1 - 1e-12)),
}
"""On which an interval is nearest to value plus and minus its standard error: Fisher's z, log odds."""


@dataclass(frozen=True)
class Family:
    """How the rows of a table fall into families.

    together: columns; rows with equal values are one family. tested: which rows are comparisons; None for all.
    null: what a value is compared with. scale: of SCALES.
    terms: a column; Student's t has one degree of freedom less than it says. Without it, or where it says nothing, the
           interval is normal or one of percentiles.
    """

    together: Sequence[str] = ()
    tested: Rows | None = None
    null: float = 0.0
    scale: Scale = "plain"
    terms: str = ""


FAMILIES: dict[str, list[Family]] = {}
"""By the name of the table; no row is tested in more than one."""


def family(
    table: str,
    together: Sequence[str] = (),
    tested: Rows | None = None,
    null: float = 0.0,
    scale: Scale = "plain",
    terms: str = "",
) -> Family:
    """Declare which numbers of a table are decided together; see `Family`."""
    declared = Family(together, tested, null, scale, terms)
    FAMILIES.setdefault(table, []).append(declared)
    return declared


def decided(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A table with the column HOLM, NaN where a row is no comparison; as it is where it has no declared family."""
    known = FAMILIES.get(table, [])
    if not known or not len(frame):
        return frame
    p = pd.Series(math.nan, frame.index)
    for each in known:
        p = p.fillna(corrected(frame, each))
    return frame.assign(**{HOLM: p})


def corrected(frame: pd.DataFrame, of: Family) -> "pd.Series[float]":
    """Holm's p of each row of a table with columns value, low and high; NaN for rows that are no comparison."""
    p = pd.Series(p_values(frame, of), frame.index, dtype=float)
    if of.tested is not None:
        p = p.where(of.tested(frame))
    columns = [frame[name] for name in of.together if name in frame]  # records of another release may lack some
    if not columns:
        return pd.Series(holm(p.to_numpy()), frame.index)
    groups = p.groupby(columns, dropna=False)
    return groups.transform(lambda part: holm(part.to_numpy()))


def p_values(frame: pd.DataFrame, of: Family) -> np.ndarray:
    """Two-sided p-values in [0, 1] of the hypothesis that each value is `null`; NaN where there is no interval.

    The standard error is that of the interval: the distance, on the family's scale, from the value to the end on the
    side of `null`, over the quantile of Student's t or of the normal distribution from which the interval is made. So
    p < 0.05 where the interval leaves out `null`, and p > 0.05 where it contains it. Of a percentile interval this
    extends the tail beyond the resamples as a normal one, without which no p-value would be below 1 / resamples. An
    area of 0 or 1 has the exact binomial interval of some number of independent pairs, and their p-value.
    """
    terms = pd.to_numeric(frame[of.terms], errors="coerce") if of.terms in frame else pd.Series(np.inf, frame.index)
    degrees = terms.fillna(np.inf).to_numpy(float) - 1
    value, low, high = (frame[name].astype(float).to_numpy() for name in ("value", "low", "high"))
    side = np.where(low > of.null, 1, np.where(high < of.null, -1, 0))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        x, below, above, null = (SCALES[of.scale](each) for each in (value, low, high, np.full(len(frame), of.null)))
        error = np.where(x >= null, x - below, above - x)
        error = np.where(error > 0, error, (above - below) / 2)  # a percentile interval may leave out its own value
        ratio = np.where(x == null, 0.0, np.abs(x - null) / error)
        p = 2 * stdtr(degrees, -ratio * stdtrit(degrees, 0.975))
        if of.scale == "odds":
            end, chance = np.where(value == 1, low, 1 - high), np.where(value == 1, of.null, 1 - of.null)
            p = np.where((value == 0) | (value == 1), 2 * chance ** (math.log(0.025) / np.log(end)), p)
        inside = np.maximum(p, np.nextafter(LEVEL, 1))
    p = np.where(side == 0, inside, p)
    return np.where(np.isnan(value + low + high), math.nan, p)


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values of Holm's step-down method (Holm 1979, https://www.jstor.org/stable/4615733).

    It holds under any dependence: rejecting where the adjusted p is at most alpha, the chance of one false rejection or
    more is at most alpha. p [m]: NaN where nothing was tested; these stay NaN and do not count.
    """
    found = np.full(len(p), math.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    found[order] = np.minimum(np.maximum.accumulate((len(order) - np.arange(len(order))) * p[order]), 1)
    return found


def counted_once(scores: Mapping[tuple[str, str], float], names: Sequence[str], above: float = 0.9) -> list[list[str]]:
    """Names in groups whose correlations, by pair, are all over `above`: what says the same counts once.

    Each name joins the first group with all of whose names it is so correlated. A pair without a correlation is not.
    """
    groups: list[list[str]] = []
    for name in names:
        for group in groups:
            if all(max(scores.get((name, other), 0.0), scores.get((other, name), 0.0)) > above for other in group):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups
