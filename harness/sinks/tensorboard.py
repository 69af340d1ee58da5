"""TensorBoard: an event file for each run, below one folder; numbers in full precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from ..core.escapes import for_markdown
from ..core.progress import say_once
from ..core.registry import sink
from ..report.figures import slug
from ..report.tables import READABLE
from ..report.typeset import markdown_table
from .protocol import About, Value

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@sink("tensorboard")
def open_tensorboard(about: About, folder: str = "") -> TensorBoard:
    """TensorBoard: event files, in a folder for each run.

    folder: where these folders lie, by default in <out>/<name>.tensorboard.
    """
    from torch.utils.tensorboard import SummaryWriter

    if about.run is not None:
        return TensorBoard(about.run, given=True)
    place = (Path(folder) if folder else about.folder) / slug(about.name)
    for old in place.glob("events.out.tfevents.*"):  # of the same run before: TensorBoard would show both as one
        old.unlink()
    writer = SummaryWriter(str(place))
    shown = TensorBoard(writer)
    shown.text("config", f"```\n{yaml.safe_dump(dict(about.config), sort_keys=False)}```")
    shown.text("command", for_markdown(about.command))
    return shown


class TensorBoard:
    """given: the writer is its user's, and stays open. Records are files beside the results; it takes none."""

    def __init__(self, writer: SummaryWriter, given: bool = False):
        self._writer, self._given = writer, given
        self._said: dict[str, Value] = {}

    def progress(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, new_style=True, double_precision=True)

    def summary(self, values: Mapping[str, Value]) -> None:
        new = {name: value for name, value in values.items() if self._said.get(name) != value}
        self._said |= new
        self.progress({name: value for name, value in new.items() if not isinstance(value, str)}, 0)
        for name, value in new.items():
            if isinstance(value, str):
                self.text(name, for_markdown(value))

    def table(self, name: str, table: pd.DataFrame) -> None:
        if len(table) > READABLE:
            say_once(f"tensorboard shows the first {READABLE} of {len(table):,} rows of {name}")
        rows = [list(map(str, row)) for row in table[:READABLE].astype(object).values.tolist()]
        self.text(name, markdown_table(list(table.columns), rows))

    def pictures(self, pictures: Mapping[str, Path], step: int | None = None) -> None:
        for name, path in pictures.items():
            with Image.open(path) as picture:
                self._writer.add_image(name, np.asarray(picture.convert("RGB")), step or 0, dataformats="HWC")

    def records(self, name: str, files: Mapping[str, bytes]) -> None:
        pass

    def close(self, failed: bool) -> None:
        if self._given:
            self._writer.flush()
        else:
            self._writer.close()

    def text(self, name: str, text: str) -> None:
        self._writer.add_text(name, text)
