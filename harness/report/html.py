"""The page as one file: templates filled in by Jinja, which escapes all that is not markup of ours.

Whatever the records say, nothing is loaded from elsewhere and no script runs but those of this folder: the page has a
content security policy that names these by their digests.
"""

import base64
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from .figures import sheet_of, small

TEMPLATES = Path(__file__).parent / "templates"
VEGA = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src "
)


@dataclass(frozen=True)
class Value:
    """A cell of a table with a number in it.

    record: the id of what is behind the number; opens at a click. data: numbers by which the cell is sorted and which
    are downloaded, by name: value, low, high, floor.
    """

    text: str
    interval: str = ""
    floor: str = ""
    mark: str = ""
    record: str = ""
    data: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(filter(None, [f"{self.text} {self.interval}".strip(), self.floor]))


def page(title: str, body: Sequence[str], contents: Sequence[tuple[str, str]] = (), records: object = None) -> str:
    """One self-contained document.

    contents: the id and the text of each section. records: what is behind the numbers, by the id of a `Value`.
    """
    plotted = any('<figure class="plot"' in block for block in body)
    names = [*(f"vega/{name}" for name in VEGA if plotted), "page.js"]
    scripts = [_script(name) for name in names]
    allowed = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    return _templates().get_template("page.html").render(
        title=title, body=body, contents=contents, policy=POLICY + allowed, style=Markup(_text("page.css")),
        scripts=map(Markup, scripts), records=_json(records or {}),
    )  # fmt: skip


def heading(text: str, level: int = 2) -> str:
    return _block("heading", text, level, heading_id(text) if level == 2 else "")


def heading_id(text: str) -> str:
    """Where a section is found by the contents."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def paragraph(text: str, kind: str = "") -> str:
    return _block("paragraph", text, kind)


def items(lines: Sequence[str]) -> str:
    return _block("items", lines)


def verdict(decision: str, mark: str, claim: str, number: str, more: Sequence[str]) -> str:
    """mark: one of yes, no and open."""
    return _block("verdict", decision, mark, claim, number, more)


def finding(sentence: str, groups: str, names: Sequence[str]) -> str:
    """A sentence about several names, which open at a click; groups: the same in few words."""
    return _block("finding", sentence, groups, names)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Value]],
    styles: Sequence[Sequence[str]] = (),
    caption: str = "",
    strong: Sequence[int] = (),
) -> str:
    """styles[i][j]: the background of the cell in row i, column j, as a CSS colour, or nothing; strong: bold rows."""
    texts = [any(isinstance(row[j], str) and str(row[j])[:1].isalpha() for row in rows) for j in range(len(columns))]
    return _block("table", columns, rows, styles, texts, caption or f"By {columns[0] or 'row'}", strong)


def leaderboard(board: object) -> str:
    """board: a `leaderboard.Board`."""
    return _block("leaderboard", board)


def figure(path: Path, caption: str) -> str:
    """A picture, inside the page, that opens large at a click; with what it says of each sample."""
    content = path.read_bytes()
    picture, kind = b"", "png"
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            sheet = sheet_of(image)
            if not getattr(image, "is_animated", False):  # lossless, and a fifth to a half smaller
                picture = small(content, partial(_webp, image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return paragraph(f"{path.name}: this picture is damaged", "failed")
    if 0 < len(picture) < len(content):
        content, kind = picture, "webp"
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return _block("picture", source, caption, json.dumps(sheet) if sheet else "")


def _webp(image: Image.Image) -> bytes:
    made = io.BytesIO()
    image.convert("RGB").save(made, "webp", lossless=True, quality=80)
    return made.getvalue()


def plot(name: str, spec: Mapping[str, Any], caption: str) -> str:
    """A plot in the grammar of Vega-Lite, drawn when it comes into view."""
    return _block("plot", f"plot-{name}", _json(spec), caption)


def details(summary: str, blocks: Sequence[str]) -> str:
    """Blocks that open at a click."""
    return _block("details", summary, blocks)


def shade(strength: float) -> str:
    """A background between orange (-1), none (0) and blue (1), for numbers that have a sign."""
    if strength != strength:
        return ""
    strength = max(-1.0, min(1.0, strength))
    red, green, blue = (9, 105, 218) if strength > 0 else (225, 111, 36)
    return f"rgba({red},{green},{blue},{0.55 * abs(strength):.3f})"


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip


def _block(name: str, *content: object) -> Markup:
    macro = getattr(_templates().get_template("blocks.html").module, name)
    return Markup(macro(*content))


@cache
def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _script(name: str) -> str:
    """A script without the address of its source map, which a browser's tools would ask for."""
    return re.sub(r"\n//# sourceMappingURL=\S*\s*$", "", _text(name))


def _json(value: object) -> Markup:
    """JSON that ends no script element, whatever text is in it."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
