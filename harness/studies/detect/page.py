"""What `detect` found: which scores find which faults, and whether a low score means broken or rare."""

from collections.abc import Iterator

import pandas as pd

from ...report.blocks import Block, Drawing, Found, Grid, Heading, Picture, Text, Verdicts, numbers
from ...report.figures import BLUE, GREY, ORANGE, figure_path
from ...report.plots import Dots
from ...report.verdict import Finding, sign
from ...stats.families import family
from ..conditions import CLASS, NOTHING
from .names import ANY, BY_SORT, EXAMPLES, OTHER, RARE

CHANCE = 0.5
RUN = ["dataset", "generator", "seed", "samples"]
family("detect", together=[*RUN, "rare"], null=CHANCE, scale="odds")
family("detect_gain", together=RUN)
family("detect_followed", together=RUN, scale="correlation")
INPUTS = (
    "These are inputs, sound and damaged, seen by the codes that an encoder gives them: what follows is detection of "
    "damaged inputs by their codes, and no finding about samples that a generator makes."
)
BY_REALS = "AUROC for all faults by how many real samples a score may see, within "
EVERY, SOME, NONE = "{find|finds} every kind of fault", "{find|finds} some kinds", "{find|finds} none"
MISLED = "{rank|ranks} samples with some fault above sound ones"
UNDEFINED = "not defined for enough samples to tell"
RARE_BELOW, RARE_ABOVE = ("{rank|ranks} rare sound samples " + side + " common ones" for side in ("below", "above"))
FOLLOWED = "Rank correlation with soundness (1 sound, 0 faulty) and typicality, with class and the other held fixed"
GAIN = "By how much the area for all faults is larger than that of another score, paired, within "


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("detect", "rare"):
        run, held = about["run"], next(name for name in (BY_SORT, CLASS, NOTHING) if name in set(part.covariates))
        raw, fixed, in_class = (part[part.covariates == name] for name in (NOTHING, held, CLASS))
        rare = in_class[in_class.fault == RARE]
        any_raw, any_fixed = (frame[frame.fault == ANY] for frame in (raw, fixed))
        yield Heading(run)
        if str(run).startswith("faulty"):
            yield Text(INPUTS)
        yield Picture(figure_path(found.folder, EXAMPLES, run), "Samples in each state, a row for each")
        yield Verdicts(verdict(fixed, rare, held), run)
        yield Text(f"AUROC within {held}; rare: typicality of {about['rare']} or less")
        yield _grid(pd.concat([fixed[fixed.fault != RARE], rare]), "fault", CHANCE, 2)
        panels = {ANY: [(any_raw, GREY), (any_fixed, BLUE)]} | ({RARE: [(rare, ORANGE)]} if len(rare) else {})
        kinds = {GREY: NOTHING, BLUE: f"within {held}", ORANGE: "rare sound samples"}
        order = any_fixed.sort_values("value", ascending=False).score.tolist()
        drawn = Dots(panels, order, level=CHANCE, limits=(0, 1), kinds=kinds)
        caption = f"AUROC within {held} (blue), with nothing held fixed (grey), and of rare sound samples (orange)"
        yield Drawing(figure_path(found.folder, "detect", *about.values()), caption, drawn)
        for table, condition, column, strength, text in (
            ("detect_followed", OTHER, "fact", 1, FOLLOWED), ("detect_gain", held, "against", 4, GAIN + held),
        ):  # fmt: skip
            frame = found.matching(table, {"run": run, "covariates": condition})
            if len(frame):
                yield Text(text)
                yield _grid(frame, column, 0, strength)
        reals = found.matching("detect_reals", {"run": run, "covariates": held})
        if len(reals):
            yield Text(BY_REALS + held)
            columns = {n: f"{n:,}" for n in sorted(reals.reals.unique())}
            yield Grid("score", list(reals.score.unique()), columns, numbers(reals, "score", "reals"))


def verdict(fixed: pd.DataFrame, rare: pd.DataFrame, held: str) -> list[Finding]:
    """In words: which scores find which faults beyond what is held fixed, and which find what is merely rare.

    fixed: areas within strata of what is held fixed; rare: areas of rare sound samples against the other sound ones.
    """
    answers = (EVERY, SOME, NONE, MISLED, UNDEFINED, RARE_BELOW, RARE_ABOVE)
    said: dict[str, list[str]] = {answer: [] for answer in answers}
    for score, part in fixed[~fixed.fault.isin([ANY, RARE])].groupby("score", sort=False):
        signs = {row.fault: sign(row, CHANCE) for _, row in part.iterrows()}
        finds, misses = ([fault for fault, side in signs.items() if side == wanted] for wanted in (1, -1))
        answer = MISLED if misses else EVERY if len(finds) == len(signs) else SOME if finds else NONE
        which = f" ({', '.join(misses or finds)})" if answer in (MISLED, SOME) else ""
        said[UNDEFINED if part.value.isna().all() else answer].append(f"{score}{which}")
    for _, row in rare.iterrows():
        if side := sign(row, CHANCE):
            said[RARE_BELOW if side == 1 else RARE_ABOVE].append(row.score)
    within = {EVERY: f"{EVERY}, within {held}"}
    return [Finding(scores, within.get(answer, answer)) for answer, scores in said.items() if scores]


def _grid(part: pd.DataFrame, across: str, middle: float, strength: float) -> Grid:
    """Scores down; blue above `middle`, orange below."""
    columns = sorted(part[across].unique(), key=lambda name: (name != ANY, name == RARE))
    cells = numbers(part, "score", across)
    return Grid("score", list(part.score.unique()), columns, cells, lambda value: strength * (value - middle))
