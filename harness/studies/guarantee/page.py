"""What `guarantee` found: the share of samples that each score may keep under a promise, and what that is worth."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...report.blocks import Block, Found, Grid, Heading, Text, Verdicts, numbers
from ...report.figures import slug

SHOWN = ("share kept", "bad among the kept", "bad without a choice", "broken promises", "no promise")


def promise_folder(folder: Path, run: str, score: str, alpha: float) -> Path:
    """Where the samples that were kept by a score under a promise lie. run: its full name."""
    return folder / "guarantee" / slug(run) / slug(score) / f"alpha-{alpha:g}"


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("guarantee", "bad", "delta", "labels"):
        yield Heading(str(about["run"]))
        yield Text(f"Bad: {about['bad']}. {about['labels']} labels; a promise is wrong with chance {about['delta']}.")
        yield Verdicts(list(_lines(numbers(part, "score", "alpha", "number"))), str(about["run"]))
        scores, alphas = list(part.score.unique()), list(part.alpha.unique())
        for number in SHOWN:
            rows = part[part.number == number]
            if len(rows):
                yield Text(number.capitalize())
                columns = {alpha: f"alpha {alpha}" for alpha in alphas}
                yield Grid("score", scores, columns, numbers(rows, "score", "alpha"))


def _lines(cells: dict[Any, Any]) -> Iterator[str]:
    """For each alpha which score keeps most; and of each that keeps nothing, how many labels would do."""
    for alpha in dict.fromkeys(alpha for _, alpha, _ in cells):
        kept = {score: cells[score, alpha, "share kept"].value for score, a, name in cells
                if a == alpha and name == "share kept"}  # fmt: skip
        promised = {score: value for score, value in kept.items() if (score, alpha, "threshold") in cells}
        if promised:
            best = max(promised, key=lambda score: promised[score])
            yield (
                f"At most {float(alpha):.0%} bad: {len(promised)} of {len(kept)} scores can promise it; "
                f"{best} keeps the most, {promised[best]:.0%} of the samples."
            )
            continue
        found = [row.value for (_, a, name), row in cells.items() if a == alpha and name == "labels needed"]
        needed = [value for value in found if not math.isnan(value)]
        enough = f"about {min(needed):,.0f} labels would do" if needed else (
            "no number of labels would do, since too many of the kept are bad"
        )  # fmt: skip
        yield f"At most {float(alpha):.0%} bad: no score can promise it; {enough}."
