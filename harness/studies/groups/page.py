"""What `groups` found: the groups compared as sets, and a gallery of their samples."""

from collections.abc import Iterator

from ...report.blocks import Block, Fold, Found, Grid, Heading, Picture, Text, numbers
from ...report.figures import figure_path

GROUPS = ("top", "middle", "bottom", "random")


def page(found: Found) -> Iterator[Block]:
    sizes = ", ".join(f"{size:,}" for size in sorted(found.tables["groups"]["size"].unique()))
    yield Heading("What selecting by a score does", 2)
    yield Text(
        f"Groups of {sizes} samples, compared with as many real ones: the top, middle and bottom share by each score, "
        "and a random one. A score that selects for quality raises precision from bottom to top; if it selects the "
        "typical only, recall and coverage fall below those of the random group.",
        "note",
    )
    for about, part in found.parts("groups"):
        scores = list(part.score.unique())
        columns = {(metric, group): f"{metric}, {group}" for metric in part.metric.unique() for group in GROUPS}
        cells = numbers(part, "score", "metric", "group")
        yield Heading(about["run"])
        yield Grid(
            "score", scores, columns, {(score, (metric, group)): row for (score, metric, group), row in cells.items()}
        )
        gallery = [Picture(figure_path(found.folder, "gallery", about["run"], score), score) for score in scores]
        yield Fold(f"{about['run']}: best, median and worst samples (rows) by each score", gallery)
