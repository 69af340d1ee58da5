"""How pictures are drawn and saved: the same numbers give the same bytes."""

import dataclasses
import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from PIL import __version__ as pillow
from torch import Tensor

from ..core.files import cache_folder, digest, replace

os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))  # read at import; else it writes to the home
import matplotlib
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0969da", "#e16f24", "#8c959f"
COLOURS = (BLUE, ORANGE, "#1a7f37", "#8250df", "#bf3989", "#9a6700", GREY, "#0a7ea4")
"""Of the curves of a plot, in order."""
LONGEST = 90
"""Letters of a name in a file name, which may hold two of them and no more than 255."""


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG without date or program name inside."""
    replace(path, _png(figure))
    return path


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return content.getvalue()


def save_drawn(draw: Callable[[], Figure], path: Path) -> Path:
    """`save` of what is drawn; a `partial` of plain values is drawn only where it is not there yet."""
    shown = _shown(draw)
    return _once(shown, path, lambda: _png(draw())) if shown else save(draw(), path)


def save_strips(strips: Sequence[Tensor], path: Path, largest: int = 64, gap: int = 2) -> Path:
    """Rows of images, each uint8 [N, C, H, W], as one PNG; images over `largest` pixels are made smaller."""
    sheet = _sheet(strips, largest, gap)

    def encoded() -> bytes:
        content = io.BytesIO()
        sheet.save(content, format="png", optimize=True)
        return content.getvalue()

    return _once(digest(pillow, sheet.size, hashlib.sha256(sheet.tobytes()).hexdigest()), path, encoded)


def _once(shown: str, path: Path, encoded: Callable[[], bytes]) -> Path:
    """Write a PNG, unless a note in the cache folder says that the one that is there is of the same content."""
    note = cache_folder() / "figures" / shown
    if not (note.is_file() and path.is_file() and note.read_text() == _checksum(path)):
        replace(path, encoded())
        replace(note, _checksum(path).encode())
    return path


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _shown(draw: Callable[[], Figure]) -> str:
    """Names what a picture shows and the code that draws it; "" where it is of more than plain values."""
    if not isinstance(draw, partial):
        return ""
    files = dict.fromkeys([draw.func.__code__.co_filename, __file__, str(Path(__file__).with_name("blocks.py"))])
    try:
        values = [_described(draw.args), _described(draw.keywords)]
    except TypeError:
        return ""
    return digest(matplotlib.__version__, draw.func.__qualname__, [_checksum(Path(file)) for file in files], values)


def _described(value: Any) -> object:
    """A value as JSON holds it, a table by its hash. Raises TypeError for other objects."""
    if isinstance(value, pd.DataFrame):
        return [_described(list(value.columns)), pd.util.hash_pandas_object(value).to_numpy().tobytes().hex()]
    if dataclasses.is_dataclass(value):
        return [_described(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return [[_described(name), _described(item)] for name, item in value.items()]
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} is no plain value")


def save_turning(frames: Sequence[Sequence[Tensor]], path: Path, milliseconds: int = 120, gap: int = 2) -> Path:
    """Sheets as in `save_strips`, shown one after the other for ever: an animated PNG, which any browser plays."""
    first, *others = (_sheet(strips, max(strips[0].shape[-2:]), gap).convert("L") for strips in frames)
    content = io.BytesIO()
    first.save(content, format="png", save_all=True, append_images=others, duration=milliseconds, loop=0)
    replace(path, content.getvalue())
    return path


def _sheet(strips: Sequence[Tensor], largest: int, gap: int) -> Image.Image:
    size = min(strips[0].shape[-1], largest)
    width = max(len(strip) for strip in strips) * (size + gap) - gap
    canvas = Image.new("RGB", (max(width, 1), len(strips) * (size + gap) - gap), "white")
    for row, strip in enumerate(strips):
        for column, image in enumerate(strip.permute(0, 2, 3, 1).numpy()):
            picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).convert("RGB")
            if picture.width > size:
                picture = picture.resize((size, size), Image.Resampling.LANCZOS)
            canvas.paste(picture, (column * (size + gap), row * (size + gap)))
    return canvas


def figure_path(folder: Path, kind: str, *words: object) -> Path:
    """Where a picture lies in a results folder, by its kind and what it shows."""
    return folder / "figures" / ("-".join([kind, *(slug(str(word)) for word in words)]) + ".png")


def short(setting: Mapping[str, object]) -> str:
    """Eight digits that stand for the values of a setting in the name of a picture."""
    return digest([str(value) for value in setting.values()])[:8]


def slug(text: str) -> str:
    """A name as part of a file name; of a long one the beginning, and eight digits that stand for all of it."""
    plain = re.sub(r"[^a-zA-Z0-9.-]+", "-", text.replace(",", "")).strip("-")
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 9]}-{digest(text)[:8]}"
