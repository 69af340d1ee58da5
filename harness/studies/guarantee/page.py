"""What `guarantee` found: the share of samples that each score may keep under a promise, and what that is worth."""

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
        title = f"{about['run']}, bad: {about['bad']}"
        yield Verdicts(list(_lines(numbers(part, "score", "alpha", "number"))), title)
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
        kept, thresholds, labels = (
            {score: cells[score, a, n].value for score, a, n in cells if (a, n) == (alpha, number)}
            for number in ("share kept", "threshold", "labels needed")
        )
        about, several = f"At most {100 * float(alpha):g}% bad", len(kept) > 1
        if thresholds:
            best = max(thresholds, key=lambda score: kept[score])
            can = f"{len(thresholds)} of {len(kept)} scores can promise it" if several else "it can be promised"
            yield f"{about}: {can}; {best} keeps{' the most,' if several else ''} {kept[best]:.0%} of the samples."
            continue
        enough = f"about {min(labels.values()):,.0f} labels would do" if labels else (
            "no number of labels would do, since too many of the kept are bad"
        )  # fmt: skip
        yield f"{about}: {'no score can' if several else f'{next(iter(kept))} cannot'} promise it; {enough}."
