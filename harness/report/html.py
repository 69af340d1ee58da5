"""The few pieces a page is made of. Everything that is not markup of ours is escaped."""

import base64
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #1b1f24 }
h1 { font-size: 1.7em } h2 { margin-top: 2em; border-bottom: 1px solid #d0d7de } h3 { margin-top: 1.5em }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 1em 0 }
td, th { padding: 3px 9px; border-bottom: 1px solid #e5e8eb; text-align: right; white-space: nowrap }
td:first-child, th:first-child { text-align: left } th { background: #f6f8fa; position: sticky; top: 0 }
.wide { overflow-x: auto } figure { margin: 1em 0 } figure img { max-width: 100% }
details figure { display: inline-block; margin: .6em } details img { image-rendering: pixelated; height: 180px }
summary { cursor: pointer; color: #0969da }
figcaption, .note { color: #57606a; font-size: 13px } small { color: #57606a } .failed { color: #b42318 }
"""


def page(title: str, body: Sequence[str]) -> str:
    """One self-contained document."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n' + "\n".join(
        [f"<h1>{escape(title)}</h1>", *body, "</body></html>\n"]
    )


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def items(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], colour: Callable[[int, int], str] = lambda i, j: ""
) -> str:
    """colour(i, j): the background of the cell in row i, column j, as a CSS colour, or nothing."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = []
    for i, row in enumerate(rows):
        styles = [f' style="background:{colour(i, j)}"' if colour(i, j) else "" for j in range(len(row))]
        body.append("<tr>" + "".join(f"<td{s}>{escape(c)}</td>" for s, c in zip(styles, row, strict=True)) + "</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>\n' + "\n".join(body) + "</table></div>"


def figure(path: Path, caption: str) -> str:
    """A PNG picture, inside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def details(summary: str, blocks: Sequence[str]) -> str:
    """Blocks that open at a click."""
    return f"<details><summary>{escape(summary)}</summary>" + "\n".join(blocks) + "</details>"


def shade(strength: float) -> str:
    """A background between orange (-1), white (0) and blue (1), for numbers that have a sign."""
    if strength != strength:
        return ""
    strength = max(-1.0, min(1.0, strength))
    red, green, blue = (9, 105, 218) if strength > 0 else (225, 111, 36)
    return f"rgba({red},{green},{blue},{0.55 * abs(strength):.3f})"
