"""What `tradeoff` found: a picture of precision against recall, and the frontier of each method."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from .. import html
from ..figures import save, slug
from ..protocols import Record
from ..report import number, with_interval
from ..tables import add_run

PLAIN, ALL = "plain", "all"
"""Names in place of a setting: the samples as they come, and what belongs to all settings of a method."""
COLUMNS = ("precision", "recall", "precision gain", "recall gain", "frechet_distance", "calls")
COLOURS = ("#0969da", "#e16f24", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#57606a", "#0a7ea4")
NOTE = (
    "Each point is a set of equally many samples, chosen from one pool, against as many real ones; a line joins the "
    "settings of a method that no other of its settings beats in both. Gains in either are differences to plain "
    "sampling. Hypervolume is the area under a method's frontier, plain sampling included. It is that of the best of "
    "many, so noise alone raises it; its gain is over as many sets drawn by chance. Calls are generator calls a sample "
    "kept. A setting without numbers accepts too few of the pool."
)


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    body: list[str] = [html.heading("Precision against recall by what is kept"), html.paragraph(NOTE, "note")]
    printed: list[str] = []
    for (run, through, kept, k), part in add_run(found["tradeoff"]).groupby(["run", "through", "kept", "k"]):
        title = f"{run}, {kept:,} kept, judged in {through}, k = {k}"
        figure = folder / "figures" / f"tradeoff-{slug(run)}-{slug(through)}-{kept}-{k}.png"
        numbers = {(r.method, r.setting, r.quantity): r for _, r in part.iterrows() if r.value == r.value}
        methods = list(dict.fromkeys(part.method))
        areas = [
            [method, *(_shown(numbers, method, ALL, name) for name in ("hypervolume", "hypervolume gain"))]
            for method in methods
        ]
        body += [
            html.heading(title, 3),
            html.figure(save(_drawn(numbers, methods), figure), "Precision against recall"),
            html.table(["method", "hypervolume", "gain over chance"], areas),
            html.details(f"{title}: the frontier of each method", [_frontiers(numbers, methods)]),
        ]
        printed += [f"Hypervolume of precision and recall, {title}:"]
        printed += [f"  {method}: {area} (gain {gain})" for method, area, gain in areas]
        printed.append(f"picture: {figure}")
    return body, printed


Numbers = Mapping[tuple[str, str, str], "pd.Series[float]"]
"""Rows of the table, by method, setting and quantity."""


def frontier(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points (recall, precision) that no other beats in one without losing in the other, by recall."""

    def beaten(name: str) -> bool:
        r, p = points[name]
        return any(q >= p and s >= r and (s, q) != (r, p) for s, q in points.values())

    return sorted((name for name in points if not beaten(name)), key=lambda name: points[name])


def _points(numbers: Numbers, method: str) -> dict[str, tuple[float, float]]:
    settings = [setting for m, setting, quantity in numbers if m == method and quantity == "recall"]
    return {s: (numbers[method, s, "recall"].value, numbers[method, s, "precision"].value) for s in settings}


def _shown(numbers: Numbers, method: str, setting: str, quantity: str) -> str:
    row = numbers.get((method, setting, quantity))
    return "-" if row is None else with_interval(row) if quantity != "calls" else number(row.value)


def _frontiers(numbers: Numbers, methods: Sequence[str]) -> str:
    rows = [
        [method, setting, *(_shown(numbers, method, setting, quantity) for quantity in COLUMNS)]
        for method in methods
        for setting in frontier(_points(numbers, method))
    ]
    return html.table(["method", "setting", *COLUMNS], rows)


def _drawn(numbers: Numbers, methods: Sequence[str]) -> Figure:
    figure = Figure(figsize=(7.5, 5))
    axis = figure.subplots()
    for i, method in enumerate(methods):
        points, colour = _points(numbers, method), COLOURS[i % len(COLOURS)]
        line = "-" if i < len(COLOURS) else "--"
        if not points:
            continue
        recall, precision = zip(*points.values(), strict=True)
        axis.scatter(recall, precision, s=6, color=colour, alpha=0.35, linewidths=0)
        recall, precision = zip(*(points[name] for name in frontier(points)), strict=True)
        axis.plot(recall, precision, line, color=colour, marker="o", markersize=3, linewidth=1.2, label=method)
        axis.plot(*points[PLAIN], "*", color="black", markersize=11)
    axis.set_xlabel("recall", fontsize=8)
    axis.set_ylabel("precision", fontsize=8)
    axis.set_title("star: plain sampling", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
