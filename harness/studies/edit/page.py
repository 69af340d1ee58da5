"""What `edit` found: whether a score has one maximum along edits, goes with quality, and knows where to stop."""

from collections.abc import Iterator, Mapping

import pandas as pd

from ...report.blocks import Block, Drawing, Found, Grid, Heading, Picture, Table, Text, Verdicts, numbers
from ...report.figures import figure_path, short
from ...report.plots import Line, Lines
from ...report.typeset import estimate, number
from ...report.verdict import Number, Verdict, side, sign
from ...stats.families import counted_once, family
from . import quantities as named

COUNTED = (
    "score", "against", "cases", "better", "by smooth functions", "functions with as many", "worse",
    "by smooth functions", "better (Holm)", "worse (Holm)",
)  # fmt: skip
AGAINST = {named.GAIN: "random order", named.OVER_NORM: "the norm"}
WORDS = {1: "better", -1: "worse"}
CASES = ["run", *named.SETTING, "signal"]
"""Columns that name a case."""
ONE = 0.9
"""Rank correlation over which two signals count as one."""

family(
    "edit",
    together=["quantity"],
    tested=lambda table: table.quantity.isin([named.MOVES, *AGAINST]),
    terms="n",
)


def page(found: Found) -> Iterator[Block]:
    table, kept = found.tables["edit"], _kept_signals(found)
    yield Text(
        "In how many cases (generator, space, attribute and signal) stopping by a score gains, by the interval of "
        "each; beside it the mean number (and range) for arbitrary smooth functions of the latent, and how many of "
        "these are better in as many cases or more. Last, what Holm's correction for all scores and cases leaves."
    )
    if one := [f"{' and '.join(same)} are one signal and count once, by {same[0]}." for same in kept if same[1:]]:
        yield Verdicts(one)
    chance = found.tables.get("edit_chance", pd.DataFrame(columns=[*CASES, "length", "draw", "quantity"]))
    first = [same[0] for same in kept]
    yield Table(COUNTED, counts(table[table.signal.isin(first)], chance))
    for about, part in found.parts("edit", *named.SETTING):
        title = f"{about['run']}, space {about['space']}, along {about['attribute']}"
        cells, signals = numbers(part, "score", "quantity", "signal"), sorted(set(part.signal) - {named.ITSELF})
        columns = {(quantity, named.ITSELF): quantity for quantity in named.OF_SCORES}
        columns |= {(quantity, signal): f"{quantity}, {signal}" for quantity in named.BESIDE for signal in signals}
        words = (about["run"], short({name: about[name] for name in named.SETTING}))
        caption = "Mean over edits, in standard deviations of samples, less the value of the sample itself"
        course = _drawn(found.matching("edit_course", about))
        yield Heading(title)
        yield Verdicts(list(_verdicts(cells, list(part.score.unique()), signals, about["attribute"])), title)
        in_grid = {(score, (quantity, signal)): row for (score, quantity, signal), row in cells.items()}
        yield Grid("score", list(part.score.unique()), columns, in_grid)
        yield Drawing(figure_path(found.folder, "edit-course", *words), caption, course)
        picture = figure_path(found.folder, "edit", *words)
        yield Picture(picture, "Edits of the first samples, the sample itself in the middle")


def _kept_signals(found: Found) -> list[list[str]]:
    """The signals in groups that count once: in every run all their rank correlations are over ONE."""
    names = [name for name in found.tables["edit"].signal.unique() if name != named.ITSELF]
    if "edit_signals" not in found.tables:
        return [[name] for name in names]
    least = found.tables["edit_signals"].groupby(["signal", "other"]).value.min().to_dict()
    return counted_once(least, names, ONE)


def counts(table: pd.DataFrame, chance: pd.DataFrame) -> list[list[str]]:
    """Rows of COUNTED: how many gains of stopping are decided. Codes from the prior make no other score of one.

    chance: the gains of smooth functions; a function is known by its length and draw.
    """
    names = table.score.str.replace(r"(, )?encode=prior", "", regex=True).str.removesuffix("()")
    chance = chance.assign(side=[side(row) for row in chance.itertuples()])
    rows = []
    for (score, quantity), part in table[table.quantity.isin(AGAINST)].groupby([names, "quantity"]):
        cases = part[CASES].astype(str).apply(tuple, axis=1)
        same = chance[(chance.quantity == quantity) & chance[CASES].astype(str).apply(tuple, axis=1).isin(set(cases))]
        plain, decided = (list(map(of, part.itertuples())) for of in (side, sign))
        better, worse = (same.side.eq(way).groupby([same.length, same.draw]).sum() for way in WORDS)
        many = f"{(better >= plain.count(1)).sum()} of {len(better)}" if len(better) else "-"
        rows.append([
            str(score), AGAINST[quantity], str(len(part)), str(plain.count(1)), _spread(better), many,
            str(plain.count(-1)), _spread(worse), str(decided.count(1)), str(decided.count(-1)),
        ])  # fmt: skip
    return rows


def _spread(counts: "pd.Series[int]") -> str:
    """E.g. "7.2 (0 to 15)"."""
    return f"{counts.mean():.1f} ({counts.min()} to {counts.max()})" if len(counts) else "-"


def _verdicts(
    cells: Mapping[tuple[str, str, str], Number], scores: list[str], signals: list[str], attribute: str
) -> Iterator[Verdict | str]:
    """Whether the edit works, then of each score what the paper says of its own."""
    moves, fit = (cells.get((attribute, quantity, named.ITSELF)) for quantity in (named.MOVES, named.FIT))
    if moves is not None and fit is not None:
        explained = f"A linear model of it in the latents explains {number(fit.value)} of its variance"
        yield Verdict(f"the edit moves {attribute} (rank correlation)", moves, more=[explained])
    for score in scores:
        shape = {name: cell for name in named.OF_SCORES if (cell := cells.get((score, name, named.ITSELF))) is not None}
        words = [_of_shape(shape)] if {named.ONE_MAXIMUM, named.AWAY} <= shape.keys() else []
        for quantity, against in AGAINST.items():
            gains = {signal: cells[at] for signal in signals if (at := (score, quantity, signal)) in cells}
            words += _of_gains(gains, against)
        if words:
            yield f"{score}: {' '.join(words)}"


def _of_shape(shape: Mapping[str, Number]) -> str:
    """Where the score is highest along an edit, and how far it falls."""
    one, away = estimate(shape[named.ONE_MAXIMUM]), estimate(shape[named.AWAY])
    falls = f", and has fallen by {estimate(shape[named.FALL])} at the ends" if named.FALL in shape else ""
    return f"it has one maximum in a share of {one} of the edits, is highest {away} from the sample{falls}."


def _of_gains(gains: Mapping[str, Number], against: str) -> Iterator[str]:
    """By which signals stopping by the score is better or worse; of the others how many."""
    for decision, word in WORDS.items():
        decided = [f"{signal} {estimate(gain)}" for signal, gain in gains.items() if sign(gain) == decision]
        if decided:
            yield f"Stopping by it is {word} than by {against}, by {' and '.join(decided)}."
    if gains and not any(map(sign, gains.values())):
        yield f"By no signal is it decided whether stopping by it is better than by {against}."


def _drawn(course: pd.DataFrame) -> Lines:
    scores = course.assign(at=course["at"].astype(float)).groupby("score", sort=False)
    curves = [Line(score, points, style=("-", "--", ":")[i // 8 % 3]) for i, (score, points) in enumerate(scores)]
    across, up = "standard deviations along the direction", "change, standard deviations of samples"
    return Lines({"": curves}, across, up, level=0, size=(9, 4), legend_beside=True)
