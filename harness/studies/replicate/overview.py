"""One table of all families and data sets: what each score is worth, and what is claimed of the paper's score."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from ...report.blocks import Block, Fold, Grid, Heading, Text, Verdicts
from ...report.typeset import formatted
from ...stats.replication import MOST_SEEDS
from .decisions import FAILS, HOLDS, MARKS, OPEN, UNDEFINED
from .names import EVERYWHERE, MEDIAN, NEW, NEW_DATA_SET, SEEDS, SHARE_OF_CEILING

PAPER = "latent_density"
"""The score whose claims are judged: that of arXiv:2407.15171."""
IN_Z = ", in z"
W = re.compile(r"(, )?space=latent:w(, encode=prior)?")
BANDWIDTH = re.compile(PAPER + r"(\((bandwidth=[\d.]+)?(, )?(relative=False)?\))?")
Column = tuple[str, str]
Key = tuple[Any, Any, Any]
"""Family, data set and score, as the table has them."""


@dataclass(frozen=True)
class Overview:
    """The rows of a table of `replicate` for one signal, with what is decided of each, by family, data set and score.

    A row of the overview is a score in the space where it makes sense: w where a family has it, since codes of z are
    draws of the prior. What such a family has in z has a row of its own.
    """

    part: pd.DataFrame
    decided: Mapping[tuple[Any, Any, Any, Any], str]

    @cached_property
    def columns(self) -> dict[Column, str]:
        new = self.part[(self.part.quantity == NEW) & ~self.part.trained_on.isin([NEW_DATA_SET, EVERYWHERE])]
        return {(row.family, row.trained_on): f"{row.family}, {row.trained_on}" for row in new.itertuples()}

    @cached_property
    def rows(self) -> dict[str, dict[str, str]]:
        """By the name of a row, and by family, the score that stands there."""
        found: dict[str, dict[str, str]] = {}
        for family, part in self.part[self.part.against == ""].groupby("family", sort=False):
            for name, score in in_w(part.score.unique()).items():
                found.setdefault(name, {})[str(family)] = score
        return found

    @cached_property
    def numbers(self) -> dict[tuple[Key, str, str], Any]:
        """Rows by family, data set and score, by what it is compared with, and by quantity."""
        return {((r.family, r.trained_on, r.score), r.against, r.quantity): r for r in self.part.itertuples()}

    @cached_property
    def rivals(self) -> dict[str, dict[str, str]]:
        """The same as `rows` for what scores are compared with."""
        found: dict[str, dict[str, str]] = {}
        for family, part in self.part[self.part.against != ""].groupby("family", sort=False):
            for name, score in in_w(part.against.unique()).items():
                found.setdefault(name, {})[str(family)] = score
        return found

    def mean_of_medians(self, name: str) -> float:
        """Over the families and data sets on which a row has one; below all others where it has none."""
        found = [self.numbers.get(((f, d, self.rows[name].get(f)), "", MEDIAN)) for f, d in self.columns]
        values = [row.value for row in found if row is not None and row.value == row.value]
        return sum(values) / len(values) if values else -2.0

    @cached_property
    def paper(self) -> list[str]:
        """The paper's score, and the best of its bandwidths, chosen after seeing them."""
        settings = [name for name in self.rows if BANDWIDTH.fullmatch(name)]
        best = sorted(settings, key=self.mean_of_medians)[-1:]
        return list(dict.fromkeys([*([PAPER] if PAPER in settings else []), *best]))

    @cached_property
    def names(self) -> list[str]:
        """Of all rows: the paper's, then the highest first."""
        others = [name for name in self.rows if name not in self.paper]
        return [*self.paper, *sorted(others, key=self.mean_of_medians, reverse=True)]

    def decision(self, name: str, column: Column, against: str = "") -> str:
        """What is decided of a row in a column; of its gain over another row, where one is named."""
        score, rival = self.rows.get(name, {}).get(column[0]), self.rivals.get(against, {}).get(column[0], "")
        return UNDEFINED if against and not rival else self.decided.get((*column, score, rival), UNDEFINED)

    def cell(self, name: str, column: Column) -> str:
        """Median, interval for a new network, decision, share of the ceiling, and networks needed where it is open."""
        score = self.rows[name].get(column[0])
        key = (*column, score)
        median, new = (self.numbers.get((key, "", quantity)) for quantity in (MEDIAN, NEW))
        if median is None or new is None or new.value != new.value:
            return "-"
        decision, share = self.decided.get((*key, ""), UNDEFINED), self.numbers.get((key, "", SHARE_OF_CEILING))
        ceiling = [f"{100 * share.value:.0f} %"] if share is not None and share.value == share.value else []
        needed = [networks(self.numbers[key, "", SEEDS].value)] if decision == OPEN else []
        return ", ".join([formatted(median.value, new.low, new.high) + MARKS[decision], *ceiling, *needed])

    def claim(self, name: str, column: Column, against: str = "") -> str:
        """The decision in words, and the networks that it would take where there is none."""
        decision = self.decision(name, column, against)
        if decision == UNDEFINED:
            return "-"
        score, rival = self.rows[name][column[0]], self.rivals.get(against, {}).get(column[0], "")
        needed = self.numbers.get(((*column, score), rival, SEEDS))
        return f"{decision}, {networks(needed.value)}" if decision == OPEN and needed is not None else decision


def in_w(scores: Sequence[str]) -> dict[str, str]:
    """Scores of one family by the names of their rows."""
    moved = {_without_w(score): score for score in scores if W.search(score)}
    found = {}
    for score in scores:
        plain = score.replace("(encode=prior)", "").replace(", encode=prior)", ")") if moved else score
        if not W.search(score):
            found[f"{score}{IN_Z}" if plain in moved or score in moved else plain] = score
    return moved | found


def _without_w(score: str) -> str:
    return W.sub("", score).replace("(, ", "(").replace("()", "")


def networks(count: float) -> str:
    return f"{count:.0f} networks" if count < float("inf") else f"over {MOST_SEEDS:,} networks"


def blocks(overview: Overview, signal: str) -> Iterator[Block]:
    columns, paper = overview.columns, overview.paper
    yield Heading(f"Scores, families and data sets: rank correlation with {signal}")
    yield Text(
        "Median of the networks that were measured, the interval that holds 95 % of further networks of the family, "
        "\u2713 where it lies above 0 after correction, \u2717 where it would not, however many networks were trained; "
        "the share of the noise ceiling, the most that any score could have; and where it is undecided how many "
        "networks a decision is expected to take. Bold: the paper's score, and its best bandwidth, chosen after "
        "seeing all. A family with the space w has its scores in w."
    )
    yield Verdicts(list(_everywhere(overview)), f"Is a score better everywhere, by {signal}")
    names = overview.names
    cells: dict[Any, Any] = {(name, column): overview.cell(name, column) for name in names for column in columns}
    cells = {key: text for key, text in cells.items() if text != "-"}
    further = [name for name in names if name not in paper and (name.startswith(f"{PAPER}(") or name.endswith(IN_Z))]
    shown = [name for name in names if name not in further]
    yield Grid("score", shown, columns, cells, text=str, strong=paper)
    yield Fold(
        "Further settings of the paper's score, and scores in z", [Grid("score", further, columns, cells, text=str)]
    )
    yield Heading(f"Claims, by {signal}")
    claimed = {f"{name} tells quality": (name, "") for name in paper}
    for rival in overview.rivals:
        if rival in paper:
            better = [name for name in names if any(overview.decision(name, c, rival) == HOLDS for c in columns)]
            claimed |= {f"{name} tells more than {rival}": (name, rival) for name in better}
        else:
            claimed |= {f"{name} tells more than {rival}": (name, rival) for name in paper if name != rival}
    said: dict[Any, Any] = {
        (claim, column): text
        for claim, (name, rival) in claimed.items()
        for column in columns
        if (text := overview.claim(name, column, rival)) != "-"
    }
    yield Grid("claim", list(claimed), columns, said, text=str, strong=[f"{name} tells quality" for name in paper])


def _everywhere(overview: Overview) -> Iterator[str]:
    """Of the paper's score, and of its best bandwidth where that is compared, which scores beat it where."""
    for rival in overview.paper:
        if rival not in overview.rivals:
            continue
        where = {
            name: [c for c in overview.columns if overview.decision(name, c, rival) != UNDEFINED]
            for name in overview.rows
        }
        won = {name: [c for c in cs if overview.decision(name, c, rival) == HOLDS] for name, cs in where.items() if cs}
        lost = {name: [c for c in cs if overview.decision(name, c, rival) == FAILS] for name, cs in where.items() if cs}
        every = [name for name, cs in won.items() if len(cs) == len(overview.columns)]
        if every:
            yield f"{', '.join(every)}: above {rival} in every family on every data set, after correction."
            continue
        most = max(won, key=lambda name: len(won[name]), default="")
        if not most or not won[most]:
            yield f"No score is above {rival} anywhere, after correction."
            continue
        places = "; ".join(overview.columns[column] for column in won[most])
        rest = f"; it is not on {len(lost[most])}" if lost[most] else ""
        absent = len(overview.columns) - len(where[most])
        rest += f"; on {absent} it is not defined" if absent else ""
        yield (
            f"No score is above {rival} in every family on every data set. {most} is on "
            f"{len(won[most])} of {len(overview.columns)} ({places}), after correction{rest}."
        )
