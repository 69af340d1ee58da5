"""What `perturb` found: what moved which way, whether the network was fooled, and samples before and after."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ...report.blocks import Block, Found, Grid, Heading, Picture, Text, Verdicts, numbers
from ...report.figures import figure_path
from ...report.typeset import estimate, number
from ...report.verdict import Number, Verdict
from ...stats.families import family
from . import names
from .names import BEFORE, EXACT, MOVED, OVER_BEFORE, OVER_RANDOM, PREDICTED, RANDOM, RIGHT

family(
    "perturb",
    together=["dataset", "generator", "seed", "samples", *names.COMMON],
    tested=lambda table: (table.quantity == EXACT) & (table.samples_of == OVER_RANDOM),
    terms="n",
)
DENSITY = {
    (names.LARGEST, MOVED): "largest move", (PREDICTED, BEFORE): "predicted before",
    (PREDICTED, MOVED): "predicted after", (EXACT, BEFORE): "exact before", (EXACT, MOVED): "exact after",
    (EXACT, RANDOM): "exact, random", (EXACT, OVER_RANDOM): f"exact, {OVER_RANDOM}", (RIGHT[EXACT], MOVED): "right way",
    (RIGHT[EXACT], RANDOM): "right way, random", (names.FOOLED, MOVED): "fooled",
    (names.KEPT_PROMISE, MOVED): "exact / predicted change", (names.AGREEMENT, MOVED): "rank agreement after",
    (names.CALLS, MOVED): "calls",
}  # fmt: skip
"""Columns of the first table, by quantity and whose samples it is of."""
OTHERS = (*RIGHT.values(), names.PRECISION, names.RECALL, names.FRECHET, *(quantity for quantity, _ in DENSITY))
"""Quantities that are no quality signals."""


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("perturb", *names.COMMON):
        title = f"{about['run']}, space {about['space']}"
        yield Heading(title)
        yield Text.of_setting(about, names.COMMON)
        network = numbers(part[part.part == names.NETWORK], "quantity", "samples_of")
        rows = part[part.part == MOVED].groupby(["gradient", "epsilon", "direction"], sort=False)
        moves: dict[Any, Any] = {move: of for move, each in rows if (of := numbers(each, "quantity", "samples_of"))}
        known = [_network(network)] if network else []
        yield Verdicts([*known, *map(_verdict, moves, moves.values())], f"{title}, judged in {about['judge_space']}")
        signals = dict.fromkeys(quantity for of in moves.values() for quantity, _ in of if quantity not in OTHERS)
        effects = itertools.product((names.PRECISION, names.RECALL, *signals), (BEFORE, OVER_BEFORE, OVER_RANDOM))
        distances = [(names.FRECHET, of) for of in (BEFORE, MOVED, RANDOM)]
        label = {move: "{2}, {0}, {1:g}".format(*move) for move in moves}
        cells = {(label[move], key): row for move, of in moves.items() for key, row in of.items()}
        for columns in (DENSITY, {key: " ".join(key) for key in [*effects, *distances]}):
            yield Grid("direction, gradient, epsilon", list(label.values()), columns, cells)
        for gradient, epsilon in dict.fromkeys((gradient, epsilon) for gradient, epsilon, _ in moves):
            shown = [*(d for d in names.DIRECTIONS if (gradient, epsilon, d) in moves), RANDOM]
            words = names.picture_words(about, gradient, epsilon, shown)
            path = figure_path(found.folder, "perturb", about["run"], *words)
            yield Picture(path, f"{gradient} gradient, epsilon {epsilon:g}; rows: original, {', '.join(shown)}")


def _network(of: Mapping[Any, Number]) -> str:
    return (
        f"The network has a squared error of {number(of[names.ERROR, names.REAL].value)} on held-out real samples; its "
        f"rank agreement with the exact density is {estimate(of[names.AGREEMENT, BEFORE])} on generated ones."
    )


def _verdict(move: tuple[str, float, str], of: Mapping[Any, Number]) -> Verdict:
    gradient, epsilon, direction = move
    verb = "raise" if direction == "higher" else "lower"
    more = (
        f"The density moves the right way in {estimate(of[RIGHT[EXACT], MOVED])} of samples, after random moves in "
        f"{estimate(of[RIGHT[EXACT], RANDOM])}. The network is fooled in {estimate(of[names.FOOLED, MOVED])}. Of the "
        f"change that it predicts, {estimate(of[names.KEPT_PROMISE, MOVED])} is true"
    )
    claim = f"the {gradient} gradient, epsilon {epsilon:g}, to {direction} density {verb}s it more than random moves"
    return Verdict(claim, of[EXACT, OVER_RANDOM], 1 if direction == "higher" else -1, more=[more])
