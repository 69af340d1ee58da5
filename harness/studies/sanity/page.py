"""What `sanity` found: a table of passes and failures, and how often the published verdict is ours."""

from collections.abc import Iterator

import pandas as pd

from ...report.blocks import Block, Fold, Found, Heading, Table, Text, Verdicts
from ...report.verdict import agreeing
from .published import NOT_PUBLISHED, UNDEFINED

LETTERS = {"pass": "pass", "low": "pass (low)", "high": "pass (high)", "fail": "fail", UNDEFINED: "undefined"}


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("sanity", "size", "points"):
        repeats = " or ".join(map(str, sorted(part.repeats.unique())))
        yield Heading(f"Sets of {about['size']:,}, about {about['points']} values a curve, repeats: {repeats}")
        whole, cells = part[part.case == "all"], part[part.case != "all"]
        yield Verdicts(_lines(whole, cells), str(about["run"]))
        if fewer := _fewer(part):
            yield Text(f"Fewer repeats than the other metrics have: {', '.join(fewer)}.", "note")
        for kind in ("fidelity", "diversity", "distance"):
            rows = whole[whole.kind.str.endswith(kind)]
            if len(rows):
                yield _table(rows, kind)
        yield Text("In brackets the published verdict, where ours differs from it.", "note")
        differing = cells[~cells.published.isin([NOT_PUBLISHED]) & (cells.verdict != cells.published)]
        columns = ["metric", "check", "case", "criterion", "verdict", "published", "why"]
        if len(differing):
            yield Fold("Criteria that ours and the paper decide differently", [
                Table(columns, differing[columns].astype(str).to_numpy().tolist())
            ])  # fmt: skip


def _fewer(part: pd.DataFrame) -> list[str]:
    """Metrics that were repeated less often than others, for what they cost."""
    counts = part.groupby("check").repeats.transform("max")
    less = part.assign(most=counts)[part.repeats < counts]
    return [
        f"{metric} {' or '.join(sorted({f'{row.repeats} of {row.most}' for row in rows.itertuples()}))}"
        for metric, rows in less.groupby("metric", sort=False)
    ]


def _lines(whole: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    passed = {
        str(metric): f"{int(rows.verdict.isin(['pass', 'low', 'high']).sum())} of {len(rows)} checks"
        for metric, rows in whole.groupby("metric", sort=False)
    }
    lines = [f"{metric} passes {count}" for metric, count in passed.items()]
    known = cells[cells.published != NOT_PUBLISHED]
    if len(known):
        same = int((known.verdict == known.published).sum())
        said = f"{same} of {len(known)} published verdicts on single criteria {{are|is}} ours too"
        lines.append(agreeing(said, same))
    return lines


def _table(rows: pd.DataFrame, kind: str) -> Table:
    metrics = [f"{name} ({options})" if options else str(name)
               for name, options in rows[["metric", "options"]].drop_duplicates().itertuples(index=False)]  # fmt: skip
    columns = rows[["metric", "options"]].drop_duplicates().itertuples(index=False)
    by = {(row.check, row.metric, row.options): _cell(row.verdict, row.published) for row in rows.itertuples()}
    keys = [tuple(column) for column in columns]
    body = [[str(check), *(by.get((check, *key), "-") for key in keys)] for check in rows.check.unique()]
    return Table([f"check of {kind}", *metrics], body, f"Checks of {kind}")


def _cell(verdict: str, published: str) -> str:
    letter = LETTERS.get(verdict, verdict)
    return letter if published in (verdict, NOT_PUBLISHED) else f"{letter} [{LETTERS.get(published, published)}]"
