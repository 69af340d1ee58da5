"""What `few_shot` found: the verdict in words, accuracies and gains of each selection, gains by how much is kept."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ...core.files import digest
from ...core.protocols import Record
from ...report import html
from ...report.figures import save, slug
from ...report.typeset import number

NONE, ALL, RANDOM, NORM = "none", "all", "random", "top negative_norm"
"""Selections by name; those by a score are "top SCORE" and "bottom SCORE"."""
ACCURACY, GAIN, OVER_NORM, POOLED = "accuracy", "gain over random", "gain over norm", ", these splits"
CLASSIFIERS = ("nearest prototype", "logistic regression")
CLAIM = "top latent_density"

PUBLISHED: Mapping[tuple[str, int], tuple[float, float]] = {
    ("miniimagenet", 1): (0.7484, 0.0023),
    ("miniimagenet", 5): (0.8328, 0.0040),
    ("tieredimagenet", 1): (0.7698, 0.0065),
    ("tieredimagenet", 5): (0.8577, 0.0050),
}
"""Accuracy of R-SVAE and half of its interval, by data set and shots (5-way, ResNet-12)."""
SOURCE = (
    "published R-SVAE (all features kept; 5-way, ResNet-12), as quoted by the authors of a later paper, DVLA-RL++: a "
    "secondary source, the order of its columns inferred"
)
NOTE = (
    "Accuracy of episodes, in per cent. Each selection keeps a part of the same generated features of a class, and has "
    "the same episodes as the others. Gains are paired differences of accuracy, in points. Over splits: Student's t of "
    "their means, what another split would be held to. These splits: their pools of generated features together, "
    "each with episodes of its own, what these base and novel classes alone are held to. A selection is said to help "
    "or harm where both intervals leave out 0: five means can agree by chance more closely than the episodes allow."
)
COLOURS = ("#0969da", "#e16f24", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#57606a", "#0a7ea4")


ABOUT = ["dataset", "generator", "seed", "samples", "features", "splits", "how"]
"""Columns that tell one study from another."""

Numbers = Mapping[tuple[str, str], "pd.Series[float]"]
"""Rows of the table by selection and quantity, at the number and the share that the study is about."""


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    body: list[str] = []
    printed: list[str] = []
    for about, part in found["few_shot_splits"].groupby(ABOUT) if "few_shot_splits" in found else ():
        run = dict(zip(ABOUT, about, strict=True))
        made = f"{run['samples']:,} features of each class by {run['generator']}"
        title = f"{made}, from {run['features']} of {run['dataset']}, seed {run['seed']}, {run['how']}"
        body += [html.heading(title, 3)]
        printed.append(f"{title}; splits: {run['splits']}")
        details = []
        for (shots, classifier), rows in part.groupby(["shots", "classifier"]):
            numbers = _numbers(rows)
            words = _verdict(f"{_shown(shots)}, {classifier}", numbers)
            printed += [f"  {line}" for line in words]
            body.append(html.items(words))
            heading = f"{_shown(shots)}, {classifier}: {int(rows.episodes.iloc[0]):,} episodes a split"
            table = [*_rows(numbers), *_published(run["features"], shots)]
            details.append(html.details(heading, [html.table(["selection", *QUANTITIES], table)]))
        if figure := _drawn(part):
            path = save(figure, folder / "figures" / f"few_shot-{slug(run['features'])}-{digest(title)[:8]}.png")
            body.append(html.figure(path, "Gain over a random share of equal size"))
            printed.append(f"picture: {path}")
        body += details
    if "few_shot_generator" in found:
        body += [html.heading("What was learned of the base classes", 3), _learned(found["few_shot_generator"])]
    heading = html.heading("Few-shot classification by what is kept of generated features")
    return [heading, html.paragraph(NOTE, "note"), *body], printed


QUANTITIES = (ACCURACY, GAIN, f"{GAIN}{POOLED}", OVER_NORM, f"{OVER_NORM}{POOLED}")


def _shown(shots: int) -> str:
    return f"{shots} shot{'s' if shots > 1 else ''}"


def _numbers(rows: pd.DataFrame) -> Numbers:
    """Only settings of the study itself have an accuracy, points of the plots have none."""
    own = rows[rows.quantity == ACCURACY]
    main = {(row.generated, row.share, row.selection) for row in own.itertuples()}
    return {
        (row.selection, row.quantity): row
        for _, row in rows.iterrows()
        if (row.generated, row.share, row.selection) in main
    }


def _points(row: "pd.Series[float] | None", digits: int = 3) -> str:
    """In per cent: 1.200 (0.900 to 1.500)."""
    if row is None:
        return "-"
    value, low, high = (f"{100 * number:.{digits}f}" for number in (row.value, row.low, row.high))
    return f"{value} ({low} to {high})" if row.low == row.low else value


def _sign(numbers: Numbers, name: str, quantity: str) -> int:
    """1 above 0, -1 below, 0 where the interval over splits (if there are several) or that of these splits has it."""
    rows = [numbers[name, quantity], numbers[name, f"{quantity}{POOLED}"]]
    rows = [row for row in rows if row.low == row.low]
    return int(all(row.low > 0 for row in rows)) - int(all(row.high < 0 for row in rows))


def _verdict(what: str, numbers: Numbers) -> list[str]:
    """What the claim comes to, and which other selections differ from chance."""
    names = [name for name, quantity in numbers if quantity == GAIN and name != NONE]
    words = []
    if tops := [name for name in names if name.startswith(CLAIM)]:
        claim = CLAIM if CLAIM in tops else tops[0]
        said = {1: "helps", -1: "harms", 0: "neither helps nor harms that can be told"}[_sign(numbers, claim, GAIN)]
        told = f"{what}: the {claim} share {said}: points over a random share {_both(numbers, claim, GAIN)}"
        if (claim, OVER_NORM) in numbers:
            told += f"; over the share of smallest norm {_both(numbers, claim, OVER_NORM)}"
        words.append(f"{told}.")
    for sign, word in ((1, "above"), (-1, "below")):
        clear = [f"{name} {_both(numbers, name, GAIN)}" for name in names if _sign(numbers, name, GAIN) == sign]
        words.append(f"{what}: {word} a random share, of {len(names)} selections: {'; '.join(clear) or 'none'}.")
    return words


def _both(numbers: Numbers, name: str, quantity: str) -> str:
    """A gain over splits, and on these splits alone."""
    return f"{_points(numbers[name, quantity])} over splits, {_points(numbers[name, f'{quantity}{POOLED}'])} on these"


def _rows(numbers: Numbers) -> list[list[str]]:
    names = list(dict.fromkeys(name for name, _ in numbers))
    names.sort(key=lambda name: (name not in (NONE, ALL, RANDOM), -numbers[name, ACCURACY].value))
    return [[name, *(_points(numbers.get((name, q)), 2 if q == ACCURACY else 3) for q in QUANTITIES)] for name in names]


def _published(features: str, shots: int) -> list[list[str]]:
    """The published accuracy, where the features are of its data."""
    plain = re.sub("[^a-z]", "", features.lower())
    return [
        [SOURCE, f"{100 * value:.2f} ({100 * (value - half):.2f} to {100 * (value + half):.2f})", "-", "-", "-", "-"]
        for (data, k), (value, half) in PUBLISHED.items()
        if data in plain and k == shots
    ]


def _learned(table: pd.DataFrame) -> str:
    shown = table[~table.quantity.str.startswith("representatives of")]
    quantities = list(dict.fromkeys(shown.quantity))
    rows = []
    for (generator, features), part in shown.groupby(["generator", "features"]):
        value = dict(zip(part.quantity, part.value, strict=True))
        rows.append([f"{generator}, {features}", *(number(value.get(name, float("nan"))) for name in quantities)])
    return html.table(["", *quantities], rows)


def _drawn(part: pd.DataFrame) -> Figure | None:
    """Gains by nearest prototype, over the share kept and over the number generated; a row for each number of shots."""
    gains = part[(part.quantity == f"{GAIN}{POOLED}") & (part.classifier == CLASSIFIERS[0])]
    gains = gains.assign(generated=gains.generated.astype(int), share=gains.share.astype(float))
    swept = [name for name, rows in gains.groupby("selection") if len(rows) > len(gains.shots.unique())]
    if not swept:
        return None
    shots = sorted(gains.shots.unique())
    figure = Figure(figsize=(9, 3.2 * len(shots)))
    axes = figure.subplots(len(shots), 2, squeeze=False, sharey="row")
    for i, k in enumerate(shots):
        for name, colour in zip(swept, COLOURS * len(swept), strict=False):
            rows = gains[(gains.selection == name) & (gains.shots == k)]
            own = rows[(rows.generated == rows.generated.mode()[0])]
            share = rows.share.mode()[0]
            for axis, curve, x in ((axes[i, 0], own, "share"), (axes[i, 1], rows[rows.share == share], "generated")):
                curve = curve.sort_values(x)
                axis.plot(curve[x], 100 * curve.value, "o-", color=colour, markersize=3, linewidth=1.2, label=name)
                if name in (CLAIM, NORM):
                    axis.fill_between(
                        curve[x], 100 * curve.low, 100 * curve.high, color=colour, alpha=0.15, linewidth=0
                    )
                axis.set_xscale("log")
                axis.set_xticks(curve[x], [f"{place:g}" for place in curve[x]], fontsize=8)
                axis.minorticks_off()
        for axis, what in zip(axes[i], ("share kept", "number generated a class"), strict=True):
            axis.axhline(0, color="black", linewidth=0.8)
            axis.set_xlabel(what, fontsize=8)
            axis.tick_params(labelsize=8)
            axis.grid(alpha=0.3)
        axes[i, 0].set_ylabel(f"points over random, {_shown(k)}", fontsize=8)
    axes[0, 1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
