"""What `groups` found: the groups compared as sets, and a gallery of their samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from ...core.protocols import Record
from ...report import html
from ...report.figures import save_strips, slug
from ...report.tables import add_run, run_name
from ...report.typeset import number
from ...run import Study

SHOWN = ("top", "middle", "bottom")


def draw_gallery(study: Study, rows: Mapping[str, Mapping[str, Tensor]]) -> None:
    """A picture per score: its best, median and worst samples. rows[score][group] are their positions."""
    run = run_name(study.generator, study.dataset, study.seed, study.n)
    for score, groups in rows.items():
        if not len(groups["top"]):
            continue
        strips = [study.views.images("fake", study.seed, study.n, groups[group].tolist()) for group in SHOWN]
        save_strips(strips, _picture(study.folder, run, score))


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    table = add_run(found["groups"])
    sizes = ", ".join(f"{size:,}" for size in sorted(table["size"].unique()))
    body = [
        html.heading("What selecting by a score does"),
        html.paragraph(
            f"Groups of {sizes} samples, compared with as many real ones: the top, middle and bottom share by each "
            "score, and a random one. A score that selects for quality raises precision from bottom to top; if it "
            "selects the typical only, recall and coverage fall below those of the random group.",
            "note",
        ),
    ]
    for run in table.run.unique():
        one = table[table.run == run]
        pictures = {score: _picture(folder, run, score) for score in one.score.unique()}
        gallery = [html.figure(path, score) for score, path in pictures.items() if path.is_file()]
        body += [html.heading(run, 3), _compared(one)]
        body.append(html.details(f"{run}: best, median and worst samples (rows) by each score", gallery))
    return body, []


def _compared(table: pd.DataFrame) -> str:
    metrics, groups = list(table.metric.unique()), [*SHOWN, "random"]
    cells = {(row.score, row.metric, row.group): row for _, row in table.iterrows()}
    columns = [f"{metric}, {group}" for metric in metrics for group in groups]
    rows = [
        [score, *(_cell(cells.get((score, metric, group))) for metric in metrics for group in groups)]
        for score in table.score.unique()
    ]
    return html.table(["score", *columns], rows)


def _cell(row: "pd.Series[float] | None") -> str:
    return "-" if row is None else f"{number(row.value)} ({number(row.low)} to {number(row.high)})"


def _picture(folder: Path, run: str, score: str) -> Path:
    return folder / "figures" / f"gallery-{slug(run)}-{slug(score)}.png"
