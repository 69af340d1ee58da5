"""What `replicate` found: which correlations would be so on another network of the family."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ...report.blocks import Block, Found, Grid, Heading, Text, Verdicts, numbers
from ...report.typeset import number
from ...report.verdict import Finding
from ...stats.families import family
from .decisions import MARKS, decision
from .names import EVERYWHERE, MEDIAN, NEW, NEW_DATA_SET, SEEDS, SHARE_OF_CEILING, SHARE_OF_VARIANCE, TOGETHER
from .overview import Overview, blocks
from .selections import OVER

family("replicate", tested=lambda frame: (frame.quantity == NEW) & (frame.against == ""), scale="correlation")
family("replicate", tested=lambda frame: (frame.quantity == NEW) & ~frame.against.isin(["", *OVER]))
family("replicate", tested=lambda frame: (frame.quantity == NEW) & frame.against.isin(OVER))
PLAIN = "plain training"
KEYS = ["family", "trained_on", "score", "against", "signal"]


def page(found: Found) -> Iterator[Block]:
    table = found.tables["replicate"]
    decided = {key: decision(rows) for key, rows in table.groupby(KEYS, sort=False)}
    chosen = table.against.isin(OVER)
    for signal, part in table[~chosen].groupby("signal", sort=False):
        if (part.against != "").all():
            continue
        of_signal = {(f, d, s, a): verdict for (f, d, s, a, which), verdict in decided.items() if which == signal}
        yield from blocks(Overview(part, of_signal), str(signal))
    if chosen.any():
        yield from _selections(table[chosen], decided)
    yield Heading("All comparisons")
    yield Text(
        "The correlation, or the gain over another score, on one more network of the family, with the interval that "
        "holds 95 % of them. \u2713: it lies above 0, after correction for all comparisons; \u2717: it would not, "
        "however many networks were trained."
    )
    for (signal, against), part in table[~chosen].groupby(["signal", "against"], sort=False):
        title = (
            f"Gain over {against} in {'' if against == PLAIN else 'rank correlation with '}{signal}"
            if against
            else f"Rank correlation with {signal}"
        )
        yield Heading(title)
        new = part[part.quantity == NEW]
        if new.value.isna().all():
            yield Text("Nothing is defined here: one of both is held fixed, or both are defined on different samples.")
            continue
        verdicts = {
            (f, d, s): verdict for (f, d, s, a, which), verdict in decided.items() if (a, which) == (against, signal)
        }
        yield Verdicts(list(sentences(part, verdicts)), f"{title}, on a new network")
        columns = {(row.family, row.trained_on): f"{row.family}, {row.trained_on}" for row in new.itertuples()}
        cells = {(row.score, (row.family, row.trained_on)): row for _, row in new[new.value.notna()].iterrows()}
        marks = {(s, (f, d)): MARKS[verdict] for (f, d, s), verdict in verdicts.items()}
        yield Grid("score", list(part.score.unique()), columns, cells, lambda value: value, marks)
        yield from _more(part)


def _selections(table: pd.DataFrame, decided: Mapping[Any, str]) -> Iterator[Block]:
    """What it is worth to keep the samples with the highest scores, a table for each family and data set."""
    yield Heading("What it is worth to keep the best")
    yield Text(
        "Gain on one more network of the family, with the interval that holds 95 % of them, of keeping the given share "
        "of the samples by each score: over as many drawn by chance in precision, in recall and in the share of the "
        "Fréchet distance that is saved; and in precision over truncation of equal recall. Marks as above."
    )
    new = table[table.quantity == NEW]
    for (name, dataset), part in new[~new.trained_on.isin([NEW_DATA_SET, EVERYWHERE])].groupby(
        ["family", "trained_on"], sort=False
    ):
        columns = {(s, a): f"{s}, over {a}" for s, a in part[["signal", "against"]].itertuples(index=False, name=None)}
        columns = dict(sorted(columns.items(), key=lambda column: column[0][0].rpartition(" ")[2]))
        rows = {(row.score, (row.signal, row.against)): row for _, row in part[part.value.notna()].iterrows()}
        marks = {(s, c): MARKS[decided[name, dataset, s, c[1], c[0]]] for s, c in rows}
        caption = f"{name}, {dataset}"
        yield Grid(caption, list(part.score.unique()), columns, rows, lambda value: value, marks, caption=caption)


def sentences(part: pd.DataFrame, verdicts: dict[tuple[Any, Any, Any], str]) -> Iterator[Finding]:
    """Scores of which the same is decided on the same data sets, in a sentence for each family."""
    for name, of_family in part.groupby("family", sort=False):
        data = [d for d in dict.fromkeys(of_family.trained_on) if d not in (NEW_DATA_SET, EVERYWHERE)]
        groups: dict[str, list[str]] = {}
        for score in dict.fromkeys(of_family.score):
            on = {verdict: [d for d in data if verdicts.get((name, d, score)) == verdict] for verdict in MARKS}
            said = "; ".join(f"{verdict} for {name} on {', '.join(where)}" for verdict, where in on.items() if where)
            groups.setdefault(said, []).append(str(score))
        for said, scores in groups.items():
            if said:
                yield Finding(scores, said)


def _more(part: pd.DataFrame) -> Iterator[Block]:
    """The numbers behind the decisions: medians, networks needed, new data sets, parts of the variance."""
    scores = list(part.score.unique())
    titles = {
        MEDIAN: "Median of the networks",
        SHARE_OF_CEILING: "As a share of the noise ceiling, median of the networks",
    }
    for quantity, title in (titles | {SEEDS: "Networks needed on each data set"}).items():
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
