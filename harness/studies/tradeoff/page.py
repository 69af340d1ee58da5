"""What `tradeoff` found: precision against recall, what each method gains over chance, and its frontier."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from ...report.blocks import Block, Drawing, Fold, Found, Grid, Heading, Table, Text, Verdicts, numbers
from ...report.figures import COLOURS, GREY, figure_path
from ...report.plots import Line, Lines
from ...report.tables import from_papers
from ...report.typeset import estimate
from ...report.verdict import CORRECTED, Number, Verdict, sign
from ...stats.families import family
from .names import ABOVE, ALL, AREA, AREA_GAIN, BELOW, CALLS, FRECHET, GAIN, PLAIN, PRECISION, RECALL, side_of

PAPERS = (
    "Numbers that papers print for their own models, data, feature spaces and numbers of samples. They are not ours, "
    "they are not comparable with the numbers above, and no frontier or hypervolume above contains them."
)
family(
    "tradeoff",
    together=["dataset", "generator", "seed", "samples", "judge_space", "kept", "k"],
    tested=lambda table: table.setting.isin([ALL, ABOVE, BELOW]) & table.quantity.isin([*GAIN.values(), AREA_GAIN]),
    terms="halves",
)
Numbers = Mapping[tuple[str, str, str], "pd.Series[float]"]
"""Rows of the table, by method, setting and quantity."""


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("tradeoff", "judge_space", "kept", "k"):
        run, space, kept, k = about.values()
        title = f"{run}, {kept:,} kept, judged in {space}, k = {k}"
        cells = numbers(part, "method", "setting", "quantity")
        gains = {method: row for (method, _, quantity), row in cells.items() if quantity == AREA_GAIN}
        methods = sorted(gains, key=lambda method: -gains[method].value)
        points = part.pivot(index=["method", "setting"], columns="quantity", values="value")
        points = points[[RECALL, PRECISION]].dropna()
        fronts = pd.concat([frontier(points.loc[[method]]) for method in methods])
        yield Heading(title)
        path, plain = figure_path(found.folder, "tradeoff", *about.values()), points.xs(PLAIN, level="setting")
        yield Drawing(path, "Precision against recall", _drawn("", fronts, plain, points))
        yield Verdicts([*_areas(gains, methods), *_claims(cells, methods)], title)
        of_all = {(method, what): row for (method, setting, what), row in cells.items() if setting == ALL}
        yield Grid("method", methods, [AREA, AREA_GAIN], of_all)
        rows = {key: ", ".join(key) for key in fronts.index}
        shown = {(rows[key[:2]], key[2]): row for key, row in cells.items() if key[:2] in rows}
        grid = Grid("setting", list(rows.values()), [PRECISION, RECALL, *GAIN.values(), FRECHET, CALLS], shown)
        yield Fold(f"{title}: the frontier of each method", [grid])
    papers = from_papers(found.folder.name)
    if len(papers):
        yield Heading("As papers print it")
        yield Text(PAPERS, "note")
        caption = "Points of the paper's figure, digitised; other models, data and networks than ours"
        yield Drawing(figure_path(found.folder, "papers"), caption, _drawn_from_papers(papers))
        yield Table(list(papers.columns), papers.to_numpy().tolist())


def _areas(gains: Mapping[str, Number], methods: Sequence[str]) -> Iterator[Verdict | str]:
    """Which methods raise the hypervolume over what they would have by chance."""
    open_ones = [method for method in methods if not sign(gains[method])]
    for method in methods:
        if method not in open_ones:
            yield Verdict(f"{method} raises the hypervolume over its null", gains[method])
    if open_ones:
        largest = max(open_ones, key=lambda method: gains[method].value)
        yield (
            f"Of {len(open_ones)} others no gain of hypervolume over its null is decided{CORRECTED}; "
            f"the largest is that of {largest}, {estimate(gains[largest])}."
        )


def _claims(cells: Numbers, methods: Sequence[str]) -> Iterator[Verdict]:
    """Whether each side of importance sampling raises what it should, on the mean of its settings."""
    for method in methods:
        for side, quantity, other in ((ABOVE, PRECISION, RECALL), (BELOW, RECALL, PRECISION)):
            if (method, side, GAIN[quantity]) not in cells:
                continue
            of_side = [key for key in cells if key[::2] == (method, GAIN[quantity]) and side_of(key[1]) == side]
            more = (
                f"This is the mean of {len(of_side)} settings; {other} changes by "
                f"{estimate(cells[method, side, GAIN[other]])}"
            )
            claim = f"{method}, {side.removeprefix(ALL).strip()} raises {quantity}"
            yield Verdict(claim, cells[method, side, GAIN[quantity]], more=[more])


def frontier(points: pd.DataFrame) -> pd.DataFrame:
    """The rows of points that no other row beats in recall or precision without losing in the other, by recall."""
    r, p = points[RECALL].to_numpy(), points[PRECISION].to_numpy()
    beaten = (r >= r[:, None]) & (p >= p[:, None]) & ((r > r[:, None]) | (p > p[:, None]))
    return points[~beaten.any(1)].sort_values([RECALL, PRECISION], kind="stable")


def _drawn(title: str, joined: pd.DataFrame, plain: pd.DataFrame, others: pd.DataFrame) -> Lines:
    """Precision against recall: a line for each method of `joined`, a star for plain sampling, dots for others."""

    def line(name: str, points: pd.DataFrame, colour: str, style: str, size: float = 3) -> Line:
        points = points.reset_index().rename(columns={RECALL: "at", PRECISION: "value"})
        return Line(name, points, colour, style=style, size=size)

    looks = itertools.product(("o-", "o--", "o:"), COLOURS)
    methods = zip(joined.groupby("method", sort=False), looks, strict=False)
    curves = [line(name, part, colour, style) for (name, part), (style, colour) in methods]
    curves = [line("", others, GREY, "."), *curves, line("plain sampling", plain, "black", "*", 11)]
    return Lines({title: curves}, RECALL, PRECISION, size=(7.5, 4.5), legend_beside=True, labels="setting")


def _drawn_from_papers(papers: pd.DataFrame) -> Lines:
    points = papers[papers["read"].str.startswith("digitised")].astype({PRECISION: float, RECALL: float})
    title = f"as published: {', '.join(dict.fromkeys(points.model + ', ' + points.dataset))}"
    plain = points.method == "none"
    return _drawn(title, points[~plain], points[plain], points[:0])
