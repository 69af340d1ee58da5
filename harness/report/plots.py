"""The plots of pages, each drawn twice from the same numbers: by Matplotlib as a PNG, by Vega-Lite in the page."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from ..core.files import digest
from . import figures
from .figures import COLOURS, blank, checksum, png, save, save_once

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Spec = dict[str, Any]
"""A plot in the grammar of Vega-Lite (https://vega.github.io/vega-lite/), with its numbers inside."""
DASHES = {"-": [1, 0], "--": [6, 3], ":": [2, 2]}
DIVERGING = ["#b2182b", "#f7f7f7", "#2166ac"]


class Plot(Protocol):
    def figure(self) -> Figure: ...

    def spec(self) -> Spec: ...


@dataclass(frozen=True)
class Line:
    """A curve of a plot: a table with columns at, value and, for a band, low and high; size: of its markers."""

    name: str
    points: pd.DataFrame
    colour: str = ""
    band: bool = False
    style: str = "-"
    size: float = 4


@dataclass(frozen=True)
class Lines:
    """Curves in panels by title, `wide` beside each other, with one legend. level: a horizontal line.

    labels: a column of the points that says which each is.
    """

    panels: Mapping[str, Sequence[Line]]
    across: str
    up: str = ""
    level: float | None = None
    wide: int = 2
    logarithmic: bool = False
    size: tuple[float, float] = (4.5, 3.0)
    legend_beside: bool = False
    labels: str = ""

    def figure(self) -> Figure:
        count = min(self.wide, len(self.panels))
        tall = math.ceil(len(self.panels) / count)
        figure = blank(self.size[0] * count, self.size[1] * tall, layout="constrained")
        for index, (title, curves) in enumerate(self.panels.items()):
            axis = figure.add_subplot(tall, count, index + 1)
            for i, curve in enumerate(curves):
                points = curve.points.sort_values("at")
                colour = curve.colour or COLOURS[i % len(COLOURS)]
                axis.plot(
                    points["at"], points.value, curve.style, color=colour, label=curve.name, linewidth=1.4,
                    markersize=curve.size,
                )  # fmt: skip
                if curve.band:
                    axis.fill_between(points["at"], points.low, points.high, color=colour, alpha=0.15, linewidth=0)
            if self.level is not None:
                axis.axhline(self.level, color="black", linewidth=0.8)
            if self.logarithmic:
                places = sorted({place for curve in curves for place in curve.points["at"]})
                axis.set_xscale("log")
                axis.set_xticks(places, [f"{place:g}" for place in places])
                axis.minorticks_off()
            axis.set_title(title, fontsize=8)
            axis.set_xlabel(self.across, fontsize=8)
            axis.set_ylabel(self.up, fontsize=8)
            axis.tick_params(labelsize=7)
            axis.grid(alpha=0.3)
            if index == 0 and self.legend_beside:
                figure.legend(fontsize=6, loc="outside right center")
            elif index == 0:
                axis.legend(fontsize=6)
        return figure

    def spec(self) -> Spec:
        """A click on a name in the legend leaves its curve alone; dragging and the wheel move and scale a plot."""
        rows = list(self._rows())
        scale: Spec = {"zero": False} | ({"type": "log"} if self.logarithmic else {})
        axes: dict[str, Spec] = {
            "x": {"field": "at", "type": "quantitative", "title": self.across, "scale": scale},
            "y": {"field": "value", "type": "quantitative", "title": self.up or None, "scale": {"zero": False}},
        }
        names = list(dict.fromkeys(row["curve"] for row in rows))
        curves = [curve for panel in self.panels.values() for curve in panel]
        known: dict[str, str] = {}
        for i, curve in enumerate(curves):
            known.setdefault(curve.name or "others", curve.colour or COLOURS[i % len(COLOURS)])
        colour = {
            "field": "curve", "type": "nominal", "title": None,
            "scale": {"domain": names, "range": [_inked(known[name]) for name in names]},
            "legend": {"orient": "bottom", "symbolLimit": 60},
        }  # fmt: skip
        faded = {"condition": {"param": "chosen", "value": 1}, "value": 0.12}
        shown = {**axes, "color": colour, "opacity": faded}
        tooltip = [
            {"field": name} for name in ("curve", "point", "at", "value", "low", "high") if _has_values(rows, name)
        ]
        layer: list[Spec] = []
        if any(row["low"] is not None for row in rows):
            band = {"x": axes["x"], "color": colour, "y": {**axes["y"], "field": "low"}, "y2": {"field": "high"}}
            layer.append({"mark": {"type": "area", "opacity": 0.15, "aria": False}, "encoding": band})
        dash = {"field": "dash", "type": "nominal", "scale": None, "legend": None}
        joined = {"mark": {"type": "line", "strokeWidth": 1.6}, "transform": [{"filter": "datum.joined"}]}
        layer.append({**joined, "encoding": {**shown, "strokeDash": dash}})
        marked = {"type": "point", "filled": True, "size": 42}
        chosen = {"name": "chosen", "select": {"type": "point", "fields": ["curve"]}, "bind": "legend"}
        moved: list[Spec] = [{"name": "moved", "select": "interval", "bind": "scales"}] if len(self.panels) == 1 else []
        layer.append({"mark": marked, "params": [chosen, *moved], "encoding": {**shown, "tooltip": tooltip}})
        if self.level is not None:
            layer.append({"mark": {"type": "rule", "aria": False}, "encoding": {"y": {"datum": self.level}}})
        one = {"layer": layer, "height": 260}
        if len(self.panels) == 1:
            return {"data": packed(rows), "width": "container", **one}
        facet = {"field": "panel", "type": "nominal", "title": None, "sort": list(self.panels)}
        free = {"scale": {"x": "independent", "y": "independent"}}
        inner = {**one, "width": 300}
        return {
            "data": packed(rows), "facet": facet, "columns": self.wide, "spec": inner, "resolve": free,
            "usermeta": {"left": 70, "least": 220},
        }  # fmt: skip

    def _rows(self) -> Iterator[Spec]:
        for title, curves in self.panels.items():
            for curve in curves:
                style = curve.style.strip("o.*")
                for row in curve.points.sort_values("at").to_dict("records"):
                    ends = {end: _plain(row[end]) if curve.band else None for end in ("low", "high")}
                    label = {"point": str(row[self.labels])} if self.labels and self.labels in row else {}
                    yield {
                        "panel": title, "curve": curve.name or "others", "at": _plain(row["at"]),
                        "value": _plain(row["value"]), **ends, **label, "joined": bool(style),
                        "dash": DASHES.get(style, DASHES["-"]),
                    }  # fmt: skip


@dataclass(frozen=True)
class Dots:
    """Values with intervals beside each other, a row for each of `order` (in column `name`); in panels by title.

    panels: tables and the colour of each. level: a vertical line; limits: of the axis. kinds: what the colours mean.
    """

    panels: Mapping[str, Sequence[tuple[pd.DataFrame, str]]]
    order: Sequence[str]
    name: str = "score"
    level: float = 0.0
    limits: tuple[float, float] = (-1, 1)
    kinds: Mapping[str, str] | None = None

    def figure(self) -> Figure:
        order, panels = self.order, self.panels
        figure = blank(2.6 * len(panels) + 2.5 + 2 * (len(panels) == 1), 0.28 * len(order) + 0.9)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (title, sets) in zip(axes, panels.items(), strict=True):
            shifts = np.linspace(-0.2, 0.2, len(sets)) if len(sets) > 1 else [0.0]
            for (frame, colour), shift in zip(sets, shifts, strict=True):
                part = frame.set_index(self.name).reindex(order)
                at = np.arange(len(order)) + shift
                axis.hlines(at, part.low, part.high, color=colour, linewidth=2)
                axis.plot(part.value, at, "o", color=colour, markersize=3.5)
            axis.axvline(self.level, color="black", linewidth=0.8)
            axis.set_title(title, fontsize=9)
            axis.set_xlim(*self.limits)
            axis.tick_params(labelsize=8)
            axis.grid(axis="x", alpha=0.3)
        axes[0].set_yticks(range(len(order)), order)
        axes[0].invert_yaxis()
        return figure

    def spec(self) -> Spec:
        """Panels of one score axis; the page sets how many stand beside each other."""
        kinds = self.kinds or {}
        rows = [
            {"panel": title, self.name: str(row[self.name]), "kind": kinds.get(colour, colour)}
            | {end: _plain(row[end]) for end in ("value", "low", "high")}
            for title, sets in self.panels.items()
            for frame, colour in sets
            for row in frame[frame.value.notna()].to_dict("records")
        ]
        colours = list(dict.fromkeys(colour for sets in self.panels.values() for _, colour in sets))
        scale = {"domain": [kinds.get(colour, colour) for colour in colours], "range": colours}
        legend = {"orient": "top"} if kinds else None
        shared = {
            "y": {"field": self.name, "type": "nominal", "sort": list(self.order), "title": None,
                  "axis": {"labelLimit": 190}},
            "yOffset": {"field": "kind", "type": "nominal", "sort": scale["domain"]},
            "color": {"field": "kind", "type": "nominal", "title": None, "scale": scale, "legend": legend},
            "tooltip": [{"field": name} for name in (self.name, "kind", "value", "low", "high")],
        }  # fmt: skip
        across = {"type": "quantitative", "scale": {"domain": list(self.limits)}, "title": None}
        interval = {"x": {"field": "low", **across}, "x2": {"field": "high"}}
        level = {"x": {"datum": self.level, **across}}
        layer: list[Spec] = [
            {"mark": {"type": "rule", "aria": False}, "data": {"values": [{}]}, "encoding": level},
            {"mark": {"type": "rule", "strokeWidth": 2, "aria": False}, "encoding": {**shared, **interval}},
            {"mark": {"type": "point", "filled": True, "size": 15, "opacity": 1},
             "encoding": {**shared, "x": {"field": "value", **across}}},
        ]  # fmt: skip
        facet = {"field": "panel", "type": "nominal", "title": None, "sort": list(self.panels)}
        inner = {"layer": layer[1:] + layer[:1], "width": 190, "height": {"step": 8 if len(colours) > 1 else 17}}
        return {
            "data": packed(rows), "facet": facet, "columns": len(self.panels), "spec": inner,
            "usermeta": {"left": 215, "least": 110},
        }  # fmt: skip


@dataclass(frozen=True)
class HeatMap:
    """A square of correlations between the values of two columns, printed in the cells."""

    table: pd.DataFrame
    rows: str
    columns: str

    def figure(self) -> Figure:
        names, matrix = self._matrix()
        figure = blank(0.33 * len(names) + 3, 0.33 * len(names) + 2)
        axis = figure.subplots()
        image = axis.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axis.set_yticks(range(len(names)), names, fontsize=7)
        for i, j in np.argwhere(~np.isnan(matrix)):
            colour = "white" if abs(matrix[i, j]) > 0.6 else "black"
            axis.text(j, i, _short(matrix[i, j]), ha="center", va="center", fontsize=5.5, color=colour)
        figure.colorbar(image, ax=axis, shrink=0.6)
        return figure

    def spec(self) -> Spec:
        names, matrix = self._matrix()
        rows = [
            {self.rows: names[i], self.columns: names[j], "value": _plain(matrix[i, j])}
            for i, j in np.argwhere(~np.isnan(matrix)).tolist()
        ]
        place = {"type": "nominal", "sort": names, "title": None}
        shared = {
            "x": {"field": self.columns, **place, "axis": {"labelAngle": -90, "labelLimit": 190, "orient": "top"}},
            "y": {"field": self.rows, **place, "axis": {"labelLimit": 190}},
        }
        scale = {"domain": [-1, 0, 1], "range": DIVERGING}
        colour = {"field": "value", "type": "quantitative", "title": "correlation", "scale": scale}
        tooltip = [{"field": name} for name in (self.rows, self.columns, "value")]
        dark = {"condition": {"test": "abs(datum.value) > 0.6", "value": "white"}, "value": "black"}
        layer = [
            {"mark": "rect", "encoding": {**shared, "color": colour, "tooltip": tooltip}},
            {"mark": {"type": "text", "fontSize": 9, "aria": False},
             "encoding": {**shared, "text": {"field": "value", "format": ".1f"}, "color": dark}},
        ]  # fmt: skip
        return {"data": packed(rows), "layer": layer, "width": {"step": 19}, "height": {"step": 19}}

    def _matrix(self) -> tuple[list[str], np.ndarray]:
        """The names, and what both halves of the square have in common."""
        names = list(self.table[self.rows].unique())
        wide = self.table.pivot(index=self.rows, columns=self.columns, values="value")
        matrix = wide.reindex(index=names, columns=names).to_numpy()
        return names, np.where(np.isnan(matrix), matrix.T, matrix)


def packed(rows: Sequence[Spec]) -> Spec:
    """Rows by columns, which the page unpacks: of text, each text once (`of`) and where it stands (`at`)."""
    columns: Spec = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        texts = {text: at for at, text in enumerate(dict.fromkeys(value for value in values if isinstance(value, str)))}
        whole = all(isinstance(value, str) for value in values)
        columns[name] = {"of": list(texts), "at": [texts[str(value)] for value in values]} if whole else values
    return {"packed": columns, "count": len(rows)}


def _short(value: float) -> str:
    return f"{value:.1f}".replace("0.", ".")


def _plain(value: Any) -> float | None:
    """A number as text of four digits would have it; JSON has no NaN and no infinity."""
    value = float(value)
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _has_values(rows: Sequence[Spec], name: str) -> bool:
    return any(row.get(name) is not None for row in rows)


def _inked(colour: str) -> str:
    """Black would not be seen on a dark page: grey is seen on both."""
    return "#808890" if colour == "black" else colour


def save_plot(plot: Plot, path: Path) -> Path:
    """Write a plot as PNG; one of plain values is drawn only where it is not there yet."""
    shown = _shown(plot)
    return save_once(shown, path, lambda: png(plot.figure())) if shown else save(plot.figure(), path)


def _shown(plot: Plot) -> str:
    """Names what a picture shows and the code that draws it; "" where it is of more than plain values."""
    code = {inspect.getfile(type(plot)), figures.__file__}
    try:
        values = _described(plot)
    except TypeError:
        return ""
    return digest(
        version("matplotlib"), type(plot).__qualname__, [checksum(Path(file)) for file in sorted(code)], values
    )


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
