"""What `detect` found: which scores find which faults, and whether a low score means broken or rare."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from ...report.blocks import Block, Drawing, Fold, Found, Grid, Heading, Text, Verdicts, dots, numbers
from ...report.figures import BLUE, GREY, ORANGE, figure_path
from ...report.verdict import sign
from ..conditions import CLASS, NOTHING
from .names import ANY, BY_SORT, OTHER, RARE

CHANCE = 0.5

NOTE = (
    "AUROC: the probability that a faulty sample scores worse than a sound one; 0.5 is chance. Signs are turned so "
    "that a higher score should be better; a score without direction is taken as it is. Within class and typicality, "
    "only samples of one class whose style is equally common are compared, so that finding what is rare is no help. "
    "'Rare, not faulty' has sound samples on both sides: above 0.5, rare ones score worse. DeLong's intervals; a score "
    "without any information is called a finder of a fault once in 40 times."
)
FOLLOWED = (
    "Rank correlation with soundness (1 sound, 0 faulty) and with typicality, each with the class and the other of the "
    "two held fixed."
)


def page(found: Found) -> Iterator[Block]:
    yield Heading("Which scores find faulty samples?", 2)
    yield Text(NOTE, "note")
    for about, part in found.parts("detect", "rare"):
        run, held = about["run"], next(name for name in (BY_SORT, CLASS, NOTHING) if name in set(part.covariates))
        raw, fixed, in_class = (part[part.covariates == name] for name in (NOTHING, held, CLASS))
        rare = in_class[in_class.fault == RARE]
        yield Heading(run)
        yield Verdicts(verdict(fixed, rare, held), run)
        of_rare = f"; of rare samples, of typicality {about['rare']} or less, within the class" if len(rare) else ""
        yield Text(f"Area within {held}{of_rare}")
        yield _grid(pd.concat([fixed[fixed.fault != RARE], rare]), "fault", CHANCE, 2)
        yield Fold("with nothing held fixed", [_grid(raw, "fault", CHANCE, 2)])
        any_raw, any_fixed = (frame[frame.fault == ANY] for frame in (raw, fixed))
        panels = {ANY: [(any_raw, GREY), (any_fixed, BLUE)]} | ({RARE: [(rare, ORANGE)]} if len(rare) else {})
        order = any_fixed.sort_values("value", ascending=False).score.tolist()
        caption = f"AUROC with nothing held fixed (grey) and within {held} (blue)" + (
            ", and of rare samples within the class (orange)" if len(rare) else ""
        )
        drawn = partial(dots, panels, order, level=CHANCE, limits=(0, 1))
        yield Drawing(figure_path(found.folder, "detect", *about.values()), caption, drawn)
        gain = f"By how much the area for all faults is larger than that of another score, within {held}, paired"
        for table, condition, column, strength, text in (
            ("detect_followed", OTHER, "fact", 1, FOLLOWED), ("detect_gain", held, "against", 4, gain),
        ):  # fmt: skip
            frame = found.matching(table, {"run": run, "covariates": condition})
            if len(frame):
                yield Text(text)
                yield _grid(frame, column, 0, strength)


def verdict(fixed: pd.DataFrame, rare: pd.DataFrame, held: str) -> list[str]:
    """In words: which scores find which faults beyond what is held fixed, and which find what is merely rare.

    fixed: areas within strata of what is held fixed; rare: areas of rare sound samples against the other sound ones.
    """
    every, some, blind, misled, undefined = list[str](), list[str](), list[str](), list[str](), list[str]()
    for score, part in fixed[~fixed.fault.isin([ANY, RARE])].groupby("score", sort=False):
        signs = dict(zip(part.fault, (sign(row, CHANCE) for _, row in part.iterrows()), strict=True))
        finds, misses = ([fault for fault, side in signs.items() if side == wanted] for wanted in (1, -1))
        if part.value.isna().all():
            undefined.append(str(score))
        elif misses:
            misled.append(f"{score} ({', '.join(misses)})")
        elif len(finds) == len(part):
            every.append(str(score))
        elif finds:
            some.append(f"{score} ({', '.join(finds)})")
        else:
            blind.append(str(score))
    sides = [(row.score, sign(row, CHANCE)) for _, row in rare.iterrows()]
    told = {
        f"find every kind of fault, within {held}": every,
        "find some kinds": some,
        "find none": blind,
        "rank samples with some fault above sound ones": misled,
        "not defined for enough samples to tell": undefined,
        "rank rare sound samples below common ones": [score for score, side in sides if side == 1],
        "rank rare sound samples above common ones": [score for score, side in sides if side == -1],
    }
    return [f"{', '.join(scores)}: {answer}." for answer, scores in told.items() if scores]


def _grid(part: pd.DataFrame, across: str, middle: float, strength: float) -> Grid:
    """Scores down; blue above `middle`, orange below."""
    columns = sorted(part[across].unique(), key=lambda name: (name != ANY, name == RARE))
    cells = numbers(part, "score", across)
    return Grid("score", list(part.score.unique()), columns, cells, lambda value: strength * (value - middle))
