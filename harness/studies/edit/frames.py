"""Edits as a picture, as the paper prints them: images in a row, and a score above each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ...report.figures import blank
from ...report.typeset import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def frames(images: Tensor, name: str, scores: Tensor) -> Figure:
    """A row for each edit: its images uint8 [P, T, C, H, W], and above each the score [P, T] that is called `name`."""
    rows, columns = scores.shape
    figure = blank(0.62 * columns, 0.85 * rows + 0.3)
    figure.suptitle(name, fontsize=8)
    for i in range(rows):
        for j in range(columns):
            axis = figure.add_subplot(rows, columns, i * columns + j + 1)
            axis.imshow(images[i, j].permute(1, 2, 0).numpy().squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set_title(number(float(scores[i, j])), fontsize=6, pad=2)
            axis.axis("off")
    return figure
