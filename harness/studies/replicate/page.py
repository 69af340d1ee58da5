"""What `replicate` found: which correlations would be so on another network of the family."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ...report.blocks import Block, Found, Grid, Heading, Text, Verdicts, numbers
from ...report.typeset import number
from ...report.verdict import Finding, sign
from ...stats.families import family
from .names import EVERYWHERE, MEDIAN, NEVER, NEW, NEW_DATA_SET, SEEDS, SHARE_OF_CEILING, SHARE_OF_VARIANCE, TOGETHER

family("replicate", tested=lambda frame: (frame.quantity == NEW) & (frame.against == ""), scale="correlation")
family("replicate", tested=lambda frame: (frame.quantity == NEW) & (frame.against != ""))

SURE = 0.975
HOLDS, FAILS, OPEN, UNDEFINED = "holds", "does not hold", "undecided", "not defined"
MARKS = {HOLDS: " \u2713", FAILS: " \u2717", OPEN: "", UNDEFINED: ""}


def page(found: Found) -> Iterator[Block]:
    table = found.tables["replicate"]
    yield Text(
        "The correlation, or the gain over another score, on one more network of the family, with the interval that "
        "holds 95 % of them. \u2713: it lies above 0, after correction for all comparisons; \u2717: it would not, "
        "however many networks were trained."
    )
    for (signal, against), part in table.groupby(["signal", "against"], sort=False):
        title = (
            f"Gain over {against} in rank correlation with {signal}" if against else f"Rank correlation with {signal}"
        )
        yield Heading(title)
        new = part[part.quantity == NEW]
        if new.value.isna().all():
            yield Text("Nothing is defined here: one of both is held fixed, or both are defined on different samples.")
            continue
        verdicts = {(f, d, s): decision(rows) for (f, d, s), rows in part.groupby(["family", "trained_on", "score"])}
        yield Verdicts(list(sentences(part, verdicts)), f"{title}, on a new network")
        columns = {(row.family, row.trained_on): f"{row.family}, {row.trained_on}" for row in new.itertuples()}
        cells = {(row.score, (row.family, row.trained_on)): row for _, row in new[new.value.notna()].iterrows()}
        marks = {(s, (f, d)): MARKS[told] for (f, d, s), told in verdicts.items()}
        yield Grid("score", list(part.score.unique()), columns, cells, lambda value: value, marks)
        yield from _more(part)


def decision(rows: pd.DataFrame) -> str:
    """What is decided of a score on a data set, given the rows of all its quantities there."""
    of = {row.quantity: row for row in rows.itertuples()}
    if NEW not in of or of[NEW].n == 0:
        return UNDEFINED
    enough = of[NEW].n >= 2
    if enough and sign(of[NEW]) == 1:
        return HOLDS
    return FAILS if enough and NEVER in of and of[NEVER].value >= SURE else OPEN


def sentences(part: pd.DataFrame, verdicts: dict[tuple[Any, Any, Any], str]) -> Iterator[Finding]:
    """Scores of which the same is decided on the same data sets, in a sentence for each family."""
    for name, of_family in part.groupby("family", sort=False):
        data = [d for d in dict.fromkeys(of_family.trained_on) if d not in (NEW_DATA_SET, EVERYWHERE)]
        groups: dict[str, list[str]] = {}
        for score in dict.fromkeys(of_family.score):
            on = {told: [d for d in data if verdicts.get((name, d, score)) == told] for told in MARKS}
            said = "; ".join(f"{told} for {name} on {', '.join(where)}" for told, where in on.items() if where)
            groups.setdefault(said, []).append(str(score))
        for said, scores in groups.items():
            if said:
                yield Finding(scores, said)


def _more(part: pd.DataFrame) -> Iterator[Block]:
    """The numbers behind the decisions: medians, networks needed, new data sets, parts of the variance."""
    scores = list(part.score.unique())
    told = {
        MEDIAN: "Median of the networks",
        SHARE_OF_CEILING: "As a share of the noise ceiling, median of the networks",
    }
    for quantity, title in (told | {SEEDS: "Networks needed on each data set"}).items():
        rows = part[part.quantity == quantity]
        if rows.empty:
            continue
        columns = {(row.family, row.trained_on): f"{row.family}, {row.trained_on}" for row in rows.itertuples()}
        cells = {(row.score, (row.family, row.trained_on)): row for _, row in rows.iterrows()}
        yield Text(title)
        yield Grid("score", scores, columns, cells, text=lambda row: number(row.value))
    elsewhere = part[(part.trained_on == NEW_DATA_SET) & (part.quantity == NEW)]
    yield Text("On a new network and a new data set")
    yield Grid("score", scores, list(elsewhere.family.unique()), numbers(elsewhere, "score", "family"))
    begins = tuple(text.partition("{")[0] for text in (SHARE_OF_VARIANCE, TOGETHER))
    over_all = part[part.quantity.str.startswith(begins)]
    titles = over_all.family + ", " + over_all.quantity
    over_all = over_all.assign(column=titles)
    yield Text("Parts of the variance, and p-values of claims over data sets")
    cells = numbers(over_all, "score", "column")
    yield Grid("score", scores, list(titles.unique()), cells, text=lambda row: number(row.value))
