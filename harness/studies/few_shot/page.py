"""What `few_shot` found: the verdict in words, accuracies and gains of each selection, gains by how much is kept."""

import re
from collections.abc import Callable, Iterator

import pandas as pd

from ...core.columns import BESIDE, NUMBERS
from ...report.blocks import Block, Drawing, Fold, Found, Grid, Heading, Table, Verdicts, numbers
from ...report.figures import figure_path, short
from ...report.plots import Line, Lines
from ...report.tables import from_papers
from ...report.typeset import estimate
from ...report.verdict import Number, Verdict, sign
from ...stats.families import HOLM, family
from .settings import ACCURACY, GAIN, NONE, NORM, OF_ORACLE, ORACLE, OVER_NORM, POOLED, PROTOTYPE

CLAIM = "top latent_density"
WORDS = ("helps", "harms", "has no effect that can be detected")
ABOUT = ("dataset", "generator", "seed", "samples", "features", "splits", "how")
"""Columns that tell one study from another."""
QUANTITIES = (
    ACCURACY, GAIN, f"{GAIN}{POOLED}", OVER_NORM, f"{OVER_NORM}{POOLED}", f"{OF_ORACLE}{POOLED}"
)  # fmt: skip


def _of_study(*quantities: str) -> Callable[[pd.DataFrame], "pd.Series[bool]"]:
    """Rows of these quantities that are no points of the plots, which have no accuracy; nor the oracle's."""

    def tested(table: pd.DataFrame) -> "pd.Series[bool]":
        about = [column for column in table.columns if column not in (*BESIDE, "quantity")]
        main = (table.quantity == ACCURACY).groupby([table[name] for name in about], dropna=False).transform("any")
        return main & table.quantity.isin(quantities) & ~table.selection.isin([NONE, ORACLE])

    return tested


family("few_shot_splits", together=ABOUT, tested=_of_study(GAIN, OVER_NORM), terms="splits")
family("few_shot_splits", together=ABOUT, tested=_of_study(GAIN + POOLED, OVER_NORM + POOLED))


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("few_shot_splits", *ABOUT) if "few_shot_splits" in found.tables else ():
        part = part.assign(**100 * part[NUMBERS])
        made = f"{about['samples']:,} features of each class by {about['generator']}"
        said: list[Verdict | str] = []
        grids: list[Block] = []
        for (shots, classifier), rows in part.groupby(["shots", "classifier"]):
            what, main = f"{shots}-shot, {classifier}", _main(rows)
            said += _verdicts(what, main)
            names = main[main.quantity == ACCURACY].sort_values("value", ascending=False).selection
            grid = Grid("selection", list(names), QUANTITIES, numbers(main, "selection", "quantity"))
            grids.append(Fold(f"{what}: {int(rows.episodes.iloc[0]):,} episodes a split", [grid]))
        yield Heading(f"{made}, from {about['features']} of {about['dataset']}, seed {about['seed']}, {about['how']}")
        yield Verdicts(said, f"{made}, {about['splits']} splits")
        if panels := _panels(part):
            path = figure_path(found.folder, "few_shot", about["features"], short(about))
            draw = Lines(panels, "", "points over random", level=0, logarithmic=True, legend_beside=True)
            yield Drawing(path, "Gain over a random share of equal size, by nearest prototype", draw)
        yield from grids
        plain = re.sub("[^a-z]", "", about["features"].lower())
        if printed := [row for row in from_papers("few_shot").to_dict("records") if row["dataset"].lower() in plain]:
            yield Fold("As papers print it", [Table(list(printed[0]), [list(row.values()) for row in printed])])
    if "few_shot_generator" in found.tables:
        table = found.tables["few_shot_generator"]
        table = table[~table.quantity.str.startswith("representatives of")]
        learned = numbers(table.assign(by=table.generator + ", " + table.features), "by", "quantity")
        rows, columns = (list(dict.fromkeys(names)) for names in zip(*learned, strict=True))
        yield Heading("What was learned of the base classes")
        yield Grid("generator, features", rows, columns, learned)


def _main(rows: pd.DataFrame) -> pd.DataFrame:
    """Only settings of the study itself have an accuracy, points of the plots have none."""
    return rows.merge(rows.loc[rows.quantity == ACCURACY, ["generated", "share", "selection"]])


def _gains(main: pd.DataFrame, quantity: str) -> dict[str, Number]:
    """By selection, with the outer ends of the intervals over splits (if there are several) and of these splits."""
    both = main[main.quantity.isin([quantity, f"{quantity}{POOLED}"]) & (main.selection != NONE)]
    outer = {"value": "first", "low": "min", "high": "max"} | ({HOLM: "max"} if HOLM in both else {})
    ends = both.groupby("selection").agg(outer)
    return {row.Index: row for row in ends.dropna(subset=NUMBERS).itertuples()}


def _verdicts(what: str, main: pd.DataFrame) -> Iterator[Verdict | str]:
    """What the claim comes to, and which other selections differ from chance."""
    gains, over_norm, shares = (_gains(main, quantity) for quantity in (GAIN, OVER_NORM, OF_ORACLE))
    oracle = gains.pop(ORACLE, None)
    for claim in [name for name in gains if name.startswith(CLAIM)][:1]:
        more = [f"Over the share of smallest norm {estimate(over_norm[claim])}"] if claim in over_norm else []
        if oracle is not None and claim in shares:
            more.append(
                f"That is {estimate(shares[claim])} % of what an oracle gains that knows the true class mean, "
                f"{estimate(oracle)}"
            )
        elif oracle is not None:
            more.append(f"Even an oracle that knows the true class mean gains {estimate(oracle)}")
        yield Verdict(f"{what}: the {claim} share against a random one", gains[claim], words=WORDS, more=more)
    ways = {"better": 1, "worse": -1}
    clear = {word: [name for name, gain in gains.items() if sign(gain) == way] for word, way in ways.items()}
    if not any(clear.values()):
        yield f"{what}: no selection of {len(gains)} is better or worse than a random share."
    for word, names in clear.items():
        if names:
            listed = "; ".join(f"{name} {estimate(gains[name])}" for name in names)
            yield f"{what}: {len(names)} of {len(gains)} selections are {word} than a random share: {listed}."


def _panels(part: pd.DataFrame) -> dict[str, list[Line]]:
    """Curves of gains by nearest prototype, over the share kept and over the number generated, for each of `shots`."""
    gains = part[(part.quantity == f"{GAIN}{POOLED}") & (part.classifier == PROTOTYPE)]
    gains = gains.assign(generated=gains.generated.astype(int), share=gains.share.astype(float))
    varied = [name for name, rows in gains.groupby("selection") if len(rows) > gains.shots.nunique()]
    panels = {}
    for shots, rows in gains[gains.selection.isin(varied)].groupby("shots"):
        for across, fixed, title in (("share", "generated", "share kept"), ("generated", "share", "number generated")):
            points = rows[rows[fixed] == rows[fixed].mode()[0]].assign(at=rows[across])
            curves = [Line(name, each, band=name in (CLAIM, NORM)) for name, each in points.groupby("selection")]
            panels[f"{shots}-shot, by {title}"] = curves
    return panels
