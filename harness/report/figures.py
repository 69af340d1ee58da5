"""How pictures are drawn and saved: the same numbers give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image
from PIL import __version__ as pillow
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..core.files import cache_folder, digest, replace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0969da", "#e16f24", "#8c959f"
COLOURS = (BLUE, ORANGE, "#1a7f37", "#8250df", "#bf3989", "#9a6700", GREY, "#0a7ea4")
"""Of the curves of a plot, in order."""
LONGEST = 90
"""Letters of a name in a file name, which may hold two of them and no more than 255."""
SHEET = "assay sheet"
"""Name of the text in a PNG that says where each image lies and what is said of it."""


def blank(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure; sizes in inches. Only who draws one waits for Matplotlib."""
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))  # read at import; else it writes to home
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG without date or program name inside."""
    replace(path, png(figure))
    return path


def png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return content.getvalue()


def save_strips(
    strips: Sequence[Tensor], path: Path, largest: int = 64, gap: int = 2, labels: Sequence[Sequence[str]] = ()
) -> Path:
    """Rows of images, each uint8 [N, C, H, W], as one PNG; images over `largest` pixels are made smaller.

    labels: what is said of each image, in rows as the images. The PNG keeps them, and the page shows them.
    """
    sheet, said = _sheet(strips, largest, gap), ""
    if labels:
        said = json.dumps({"size": _size(strips, largest), "gap": gap, "labels": [list(row) for row in labels]})

    def encoded() -> bytes:
        content, texts = io.BytesIO(), PngInfo()
        if said:
            texts.add_itxt(SHEET, said)
        sheet.save(content, format="png", optimize=True, pnginfo=texts)
        return content.getvalue()

    return save_once(digest(pillow, sheet.size, said, hashlib.sha256(sheet.tobytes()).hexdigest()), path, encoded)


def save_once(shown: str, path: Path, encoded: Callable[[], bytes]) -> Path:
    """Write a PNG, unless a note in the cache folder says that the one that is there is of the same content.

    shown: a name for the content.
    """
    note = _note(shown)
    if not (note.is_file() and path.is_file() and note.read_text() == checksum(path)):
        replace(path, encoded())
        replace(note, checksum(path).encode())
    return path


def small(content: bytes, encoded: Callable[[], bytes]) -> bytes:
    """A smaller encoding of a picture with this content; made once, and then kept in the cache folder."""
    kept = _note(digest("small", pillow, hashlib.sha256(content).hexdigest()))
    if kept.is_file():
        checked, _, made = kept.read_bytes().partition(b"\n")
        if checked.decode(errors="replace") == hashlib.sha256(made).hexdigest():
            return made
    made = encoded()
    with suppress(OSError):  # it is made again the next time
        replace(kept, hashlib.sha256(made).hexdigest().encode() + b"\n" + made)
    return made


def _note(name: str) -> Path:
    return cache_folder() / "figures" / name


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_turning(frames: Sequence[Sequence[Tensor]], path: Path, milliseconds: int = 120, gap: int = 2) -> Path:
    """Sheets as in `save_strips`, shown one after the other for ever: an animated PNG, which any browser plays."""
    first, *others = (_sheet(strips, max(strips[0].shape[-2:]), gap).convert("L") for strips in frames)
    content = io.BytesIO()
    first.save(content, format="png", save_all=True, append_images=others, duration=milliseconds, loop=0)
    replace(path, content.getvalue())
    return path


def sheet_of(image: Image.Image) -> dict[str, Any] | None:
    """The size and gap of the images in a picture of `save_strips`, and the labels; None where it tells of none."""
    try:
        sheet = json.loads(getattr(image, "text", {}).get(SHEET, "null"))
        labels = [[str(label) for label in row] for row in sheet["labels"]]
        return {"size": int(sheet["size"]), "gap": int(sheet["gap"]), "labels": labels}
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _size(strips: Sequence[Tensor], largest: int) -> int:
    return min(strips[0].shape[-1], largest)


def _sheet(strips: Sequence[Tensor], largest: int, gap: int) -> Image.Image:
    size = _size(strips, largest)
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
