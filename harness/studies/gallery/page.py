"""What `gallery` found: for every score, the best, median and worst samples of each class."""

from collections.abc import Iterator

from ...report.blocks import Block, Fold, Found, Picture
from ...report.figures import figure_path
from ..extremes import EXTREMES


def page(found: Found) -> Iterator[Block]:
    for run in found.tables["gallery"].run.unique():
        caption = f"{run}: rows are the best, the median and the worst samples by one score, then by the next"
        yield Picture(figure_path(found.folder, "sheet", run), caption)
    for about, part in found.parts("gallery", "score"):
        groups = {name: set(rows.group) for name, rows in part.groupby("class", sort=False)}
        rows = [f"{name}: {', '.join(group for group in EXTREMES if group in of)}" for name, of in groups.items()]
        picture = figure_path(found.folder, "classes", about["run"], about["score"])
        yield Fold(f"{about['run']}: {about['score']}", [Picture(picture, f"rows from above, {'; '.join(rows)}")])
