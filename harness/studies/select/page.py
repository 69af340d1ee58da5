"""What `select` found: a picture of the samples that were written, with their names and scores."""

from collections.abc import Iterator
from pathlib import Path

from ...report.blocks import Block, Fold, Found, Picture, Table, Text
from ...report.figures import figure_path, slug


def selection_folder(folder: Path, run: str, score: str) -> Path:
    """Where samples that were chosen by a score lie. run: its full name."""
    return folder / "select" / slug(run) / slug(score)


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("select", "score", "count", "worst"):
        which = "worst" if str(about["worst"]) == "True" else "best"
        yield Text(f"{about['run']}: the {len(part)} {which} by {about['score']}, from the first row on")
        yield Picture(figure_path(found.folder, "select", about["run"], about["score"]), f"{which} by {about['score']}")
        rows = [
            [str(rank), str(sample), str(name), f"{value:.4g}"]
            for rank, sample, name, value in zip(part["rank"], part["sample"], part["name"], part["value"], strict=True)
        ]
        yield Fold("Their names and scores", [Table(["rank", "sample", "name", "score"], rows)])
        folder = selection_folder(found.folder, about["run"], about["score"])
        yield Text(f"Files, and the ranks of all samples: {folder.relative_to(found.folder)}", "note")
