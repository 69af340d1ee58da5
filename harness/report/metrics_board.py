"""The leaderboard of metrics, as a section of a page, a table, and the lines about one of them."""

import math
from collections.abc import Iterator

import pandas as pd

from ..core.escapes import for_csv
from ..core.protocols import Estimate
from .blocks import Block, Heading, Table, Text, Verdicts
from .evidence import QUESTIONS, Evidence, Question, needs
from .typeset import formatted, number

MISSING = "not measured"
BEST = "Pareto-best"
NOTE = (
    "In brackets the rank: 1 more than how many others have a whole interval that is better, so that ties share it. "
    "Pareto-best: no other metric is preferable, that is, measured in all that this one was, clearly better in one "
    "question and clearly worse in none. No question weighs more than another. What was not measured does not count."
)


def metric_section(found: Evidence) -> Iterator[Block]:
    yield Heading("Metrics put to the test", 2)
    yield Text(NOTE)
    yield Verdicts([f"{question.name}: {question.of}, {_count(found, question)}" for question in QUESTIONS])
    yield Verdicts(said(found))
    titles = [f"{question.name}{' ↑' if question.better == 'higher' else ' ↓'}" for question in QUESTIONS]
    rows = [
        [metric, *(_cell(found, metric, question) for question in QUESTIONS), needs(metric),
         "yes" if metric in found.best else "no"]
        for metric in found.rows
    ]  # fmt: skip
    yield Table(["metric", *titles, "reads", BEST], rows, "Metrics by the questions that were put to them")


def said(found: Evidence) -> list[str]:
    """What the numbers support: who is first in each question, in all that were put to it, and who is undominated."""
    asked = {metric: [q.name for q in QUESTIONS if (metric, q.name) in found.values] for metric in found.rows}
    lines = []
    for question in QUESTIONS:
        if first := [metric for metric in found.rows if found.ranks.get((metric, question.name)) == 1]:
            lines.append(f"First in {question.name}, of {found.count(question.name)}: {', '.join(first)}.")
    several = [metric for metric in found.rows if len(asked[metric]) > 1]
    leading = [metric for metric in several if all(found.ranks.get((metric, name)) == 1 for name in asked[metric])]
    if several:
        lines.append(
            f"Of {len(several)} metrics to which two questions or more were put, "
            + (
                f"first in all of its questions: {', '.join(leading)}."
                if leading
                else "none is first in all of its own."
            )
        )
    lines.append(f"{len(found.best)} of {len(found.rows)} metrics have no other that is preferable.")
    return lines


def metric_frame(found: Evidence) -> pd.DataFrame:
    """A row for each metric and question, those without a number too, which then say so."""
    rows = []
    for metric in found.rows:
        for question in QUESTIONS:
            estimate = found.values.get((metric, question.name))
            low, high = estimate.interval if estimate else (math.nan, math.nan)
            rows.append({
                "metric": for_csv(metric), "question": question.name, "better": question.better,
                "value": _plain(estimate.value if estimate else math.nan), "low": _plain(low), "high": _plain(high),
                "rank": found.ranks.get((metric, question.name), ""), "measured": "yes" if estimate else MISSING,
                "best": "yes" if metric in found.best else "", "reads": needs(metric),
            })  # fmt: skip
    return pd.DataFrame(rows)


def about(found: Evidence, metric: str) -> list[str]:
    """Lines about a metric: every question; and about its settings that were measured apart, the questions of these."""
    wide = max(len(question.name) for question in QUESTIONS)
    lines = [_headed(found, metric)]
    lines += [f"  {q.name:{wide}}  {_cell(found, metric, q, of=True):35} {q.of}" for q in QUESTIONS]
    for row in [row for row in found.rows if row.startswith(f"{metric}(")]:
        lines.append(_headed(found, row))
        here = [question for question in QUESTIONS if (row, question.name) in found.values]
        lines += [f"  {question.name:{wide}}  {_cell(found, row, question, of=True)}" for question in here]
    return lines


def _headed(found: Evidence, row: str) -> str:
    return f"{row}: reads {needs(row)}" + ("; Pareto-best, no other is preferable" if row in found.best else "")


def _cell(found: Evidence, metric: str, question: Question, of: bool = False) -> str:
    """The number with its rank, of how many where `of` says so; MISSING where there is none."""
    estimate = found.values.get((metric, question.name))
    if estimate is None:
        return MISSING
    rank = found.ranks.get((metric, question.name))
    behind = "" if rank is None else f" [{rank} of {found.count(question.name)}]" if of else f" [{rank}]"
    return _with_interval(estimate) + behind


def _with_interval(estimate: Estimate) -> str:
    low, high = estimate.interval
    return number(estimate.value) if math.isnan(low) else formatted(estimate.value, low, high)


def _count(found: Evidence, question: Question) -> str:
    count = found.count(question.name)
    return f"{count} metrics" if count else f"{MISSING} in these folders"


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
