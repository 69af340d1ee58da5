"""Is this generator better than that one? Set metrics of both, and their differences with intervals."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ...arrays.views import Views
from ...core.protocols import Estimate, Record
from ...core.registry import METRICS, task
from ...report import html
from ...report.tables import add_run
from ...report.typeset import with_interval
from ...run import Study, open_generator
from ..same_seeds import SameSeeds

THIS, OTHER, DIFFERENCE = "this", "other", "difference"
NOTE = (
    "Both generators are judged by as many samples of the same seeds, against the same reals. Their own intervals hold "
    "for other samples against these reals; the interval of the difference, from random halves of samples and reals, "
    "for other reals too, and it is rather wide than narrow."
)


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    body, printed = [html.heading("Which generator is better?"), html.paragraph(NOTE, "note")], []
    for (run, other), part in add_run(found["compare"]).groupby(["run", "against"], sort=False):
        rows = []
        for (metric, space), one in part.groupby(["metric", "through"], sort=False):
            by = {row.of: row for _, row in one.iterrows()}
            verdict = _verdict(str(metric), by[DIFFERENCE])
            values = [with_interval(by[of]) for of in (THIS, OTHER, DIFFERENCE)]
            rows.append([f"{metric}, {space}", *values, verdict])
            printed.append(f"{metric} in {space}: {run} less {other}: {values[2]}, {verdict}")
        body += [html.heading(f"{run} against {other}", 3)]
        body += [html.table(["metric", THIS, OTHER, DIFFERENCE, "this one is"], rows)]
    return body, printed


def _verdict(metric: str, difference: "pd.Series[float]") -> str:
    known = METRICS.get(metric.partition("(")[0])
    if not difference.low * difference.high > 0 or known is None or known.better == "neither":
        return "not decided"
    return "better" if (difference.value > 0) == (known.better == "higher") else "worse"


@task(page)
def compare(
    study: Study,
    to: Sequence[str | Mapping[str, Mapping[str, Any] | None]] = (),
    spaces: Sequence[str] = ("features",),
    halves: int = 20,
) -> None:
    """`study.sets` of this generator and of others, on the same seeds and reals; a difference has its own interval.

    to:     generators to compare with, by name or {name: options}: task.compare.to=[vae,{stylegan2: {truncation: .7}}].
    spaces: feature spaces that judge.
    halves: random halves of samples and reals, by which the intervals of differences are found.
    """
    if not to:
        raise ValueError("name the generators to compare with: task.compare.to=[NAME,{NAME: {OPTION: VALUE}}]")
    same, here = SameSeeds(study, spaces, study.n, halves), study.views
    for entry in to:
        name, generator = open_generator(here.data.name, {entry: {}} if isinstance(entry, str) else entry)
        there = Views(here.data, generator, here.features, here.store, here.device, here.options)
        params = {
            "columns": "metric ~ through ~ of",
            "against": name,
            "halves": halves,
            "spaces": ", ".join(same.spaces),
        }
        read = {"against": generator.fingerprint}
        study.record("compare", 1, params, same.cells, partial(_compared, same, here, there), read=read)


def _compared(same: SameSeeds, here: Views, there: Views) -> dict[str, Estimate]:
    of = {THIS: same.values(here), OTHER: same.values(there), DIFFERENCE: same.differences(here, there)}
    return {f"{key} ~ {which}": value for which, values in of.items() for key, value in values.items()}
