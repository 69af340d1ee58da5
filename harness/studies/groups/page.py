"""What `groups` found: the groups compared as sets, and a gallery of their samples."""

from collections.abc import Iterator

from ...report.blocks import Block, Fold, Found, Grid, Heading, Picture, numbers
from ...report.figures import figure_path

GROUPS = ("top", "middle", "bottom", "random")


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("groups", "size"):
        scores = list(part.score.unique())
        columns = {(metric, group): f"{metric}, {group}" for metric in part.metric.unique() for group in GROUPS}
        cells = numbers(part, "score", "metric", "group")
        yield Heading(f"{about['run']}: groups of {about['size']:,} samples")
        in_grid = {(score, (metric, group)): row for (score, metric, group), row in cells.items()}
        yield Grid("score", scores, columns, in_grid, caption=f"{about['run']}: set metrics of each group")
        gallery = [Picture(figure_path(found.folder, "gallery", about["run"], score), score) for score in scores]
        yield Fold(f"{about['run']}: best, median and worst samples (rows) by each score", gallery)
