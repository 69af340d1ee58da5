"""What `tradeoff` found: a picture of precision against recall, and the frontier of each method."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ...core.protocols import Record
from ...report import html
from ...report.figures import save, slug
from ...report.tables import add_run, from_papers
from ...report.typeset import number, with_interval

PLAIN, ALL, ABOVE, BELOW = "plain", "all", "all w > 1", "all w < 1"
"""Names in place of a setting: the samples as they come, and what belongs to all settings of a method, or to a side."""
COLUMNS = ("precision", "recall", "precision gain", "recall gain", "frechet_distance", "calls")
COLOURS = ("#0969da", "#e16f24", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#57606a", "#0a7ea4")
NOTE = (
    "Each point is a set of equally many samples, chosen from one pool, against as many real ones; a line joins the "
    "settings of a method that no other of its settings beats in both. Gains in either are differences to plain "
    "sampling, the mean of many sets drawn by chance; their intervals hold the luck of one such set. Hypervolume is "
    "the area under a method's frontier, plain sampling included. It is that of the best of many, so noise alone "
    "raises it; its gain is over as many sets drawn by chance, and methods stand in its order. Calls are generator "
    "calls a sample kept. A setting without numbers accepts too few of the pool."
)
PAPERS = (
    "Numbers that papers print for their own models, data, feature spaces and numbers of samples. They are not ours, "
    "they are not comparable with the numbers above, and no frontier or hypervolume above contains them."
)

Numbers = Mapping[tuple[str, str, str], "pd.Series[float]"]
"""Rows of the table, by method, setting and quantity."""


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    body: list[str] = [html.heading("Precision against recall by what is kept"), html.paragraph(NOTE, "note")]
    printed: list[str] = []
    for (run, judge_space, kept, k), part in add_run(found["tradeoff"]).groupby(["run", "judge_space", "kept", "k"]):
        title = f"{run}, {kept:,} kept, judged in {judge_space}, k = {k}"
        figure = folder / "figures" / f"tradeoff-{slug(run)}-{slug(judge_space)}-{kept}-{k}.png"
        numbers = {(r.method, r.setting, r.quantity): r for _, r in part.iterrows() if r.value == r.value}
        methods = sorted(dict.fromkeys(part.method), key=lambda method: -_gain(numbers, method))
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
        claims = _claims(numbers, methods)
        body.append(html.items(claims))
        printed += [f"  {line}" for line in claims]
        printed.append(f"picture: {figure}")
    papers = from_papers(folder.name)
    if len(papers):
        picture = save(_drawn_from_papers(papers), folder / "figures" / "papers.png")
        body += [
            html.heading("As papers print it", 3),
            html.paragraph(PAPERS, "note"),
            html.figure(picture, "Points of the paper's figure, digitised; other models, data and networks than ours"),
            html.table(list(papers.columns), papers.to_numpy().tolist()),
        ]
    return body, printed


def _claims(numbers: Numbers, methods: Sequence[str]) -> list[str]:
    """Whether each side of importance sampling raises what it should, on the mean of its settings and one by one."""
    lines = []
    for method in methods:
        for side, quantity, other in ((ABOVE, "precision", "recall"), (BELOW, "recall", "precision")):
            mean, cost = numbers.get((method, side, f"{quantity} gain")), numbers.get((method, side, f"{other} gain"))
            if mean is None or cost is None:
                continue
            gains = [
                row
                for (of, setting, what), row in numbers.items()
                if of == method and what == f"{quantity} gain" and side_of(setting) == side
            ]
            raised, lowered = (sum(sign * row.value > 0 < row.low * row.high for row in gains) for sign in (1, -1))
            word = (
                "holds" if mean.low > 0 else "does not hold, the opposite is seen" if mean.high < 0 else "not decided"
            )
            lines.append(
                f"{method}, {side[4:]} raises {quantity}: {word}. On the mean of {len(gains)} settings by "
                f"{with_interval(mean)}, {other} by {with_interval(cost)}; {raised} settings raise it and "
                f"{lowered} lower it beyond their intervals"
            )
    return lines


def side_of(setting: str) -> str:
    """Whether a setting of importance sampling prefers high scores or low ones; empty for other settings."""
    weight = float(setting.rpartition(" w ")[2]) if setting.startswith("tau ") else 1.0
    return ABOVE if weight > 1 else BELOW if weight < 1 else ""


def frontier(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points (recall, precision) that no other beats in one without losing in the other, by recall."""

    def beaten(name: str) -> bool:
        r, p = points[name]
        return any(q >= p and s >= r and (s, q) != (r, p) for s, q in points.values())

    return sorted((name for name in points if not beaten(name)), key=lambda name: points[name])


def _gain(numbers: Numbers, method: str) -> float:
    """Of hypervolume over chance, by which methods are ordered."""
    row = numbers.get((method, ALL, "hypervolume gain"))
    return -1.0 if row is None else float(row.value)


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


def _drawn_from_papers(papers: pd.DataFrame) -> Figure:
    """Precision against recall of what was digitised, each method's points joined."""
    points = papers[papers["read"].str.startswith("digitised")].astype({"precision": float, "recall": float})
    figure = Figure(figsize=(5.5, 3.7))
    axis = figure.subplots()
    joined = points[points.method != "none"].groupby("method", sort=False)
    for (method, part), colour in zip(joined, COLOURS, strict=False):
        axis.plot(part.recall, part.precision, "--", color=colour, marker="o", markersize=3, linewidth=1, label=method)
    alone = points[points.method == "none"]
    axis.plot(alone.recall, alone.precision, "*", color="black", markersize=11)
    axis.set_xlabel("recall", fontsize=8)
    axis.set_ylabel("precision", fontsize=8)
    axis.set_title(f"as published: {', '.join(dict.fromkeys(points.model + ', ' + points.dataset))}", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    return figure
