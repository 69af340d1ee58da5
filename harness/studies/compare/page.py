"""What `compare` found: both generators by every metric, what lies between them, and which is better."""

from collections.abc import Iterator

from ...core.registry import METRICS
from ...report.blocks import Block, Found, Grid, Heading, Verdicts, numbers
from ...report.verdict import Verdict
from ...stats.families import family

family(
    "compare",
    together=["dataset", "generator", "seed", "samples", "halves"],
    tested=lambda table: table.subject == "difference",
    terms="halves",
)
WORDS = ("better", "worse", "not decided")


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("compare", "against"):
        cells = numbers(part.assign(row=part.metric + ", " + part.space), "row", "subject")
        rows = list(dict.fromkeys(row for row, _ in cells))
        directed = [(row, better) for row in rows if (better := _better(row)) != "neither"]
        yield Heading(f"{about['run']} against {about['against']}")
        claim = f"less that of {about['against']}"
        lines = [
            Verdict(f"{row}, {claim}", cells[row, "difference"], 1 if better == "higher" else -1, WORDS)
            for row, better in directed
        ]
        yield Verdicts(lines, about["run"])
        yield Grid("metric", rows, ["this", "other", "difference"], cells)


def _better(row: str) -> str:
    """The direction of the metric that a row names."""
    known = METRICS.get(row.partition("(")[0].partition(",")[0])
    return known.better if known else "neither"
