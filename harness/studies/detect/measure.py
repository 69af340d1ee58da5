"""Which scores tell damaged inputs from sound ones by their codes, and which only find rare ones?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ...core.abilities import HasGroundTruth
from ...core.progress import say
from ...core.protocols import Cell, Part, Row
from ...core.registry import METRICS, study
from ...evaluate import reason
from ...report.figures import save_strips
from ...run import MetricSpec, Run
from ...stats.auroc import area, difference, separation
from ...stats.correlations import Correlations
from ..conditions import CLASS, NOTHING
from .names import ANY, BY_SORT, EXAMPLES, OTHER, RARE, SOUNDNESS, TYPICALITY
from .page import page

SHOWN = 14
"""Samples of each state in the picture."""


@dataclass(frozen=True)
class Options:
    """What to try.

    rare:      sound samples of at most this typicality count as rare; they are compared with the other sound ones.
    also:      further sample metrics to try.
    against:   scores that each score is compared with, paired.
    resamples: bootstrap resamples of the samples, from which the intervals of correlations come.
    n_real:    numbers of real samples with which the scores are also tried, to tell how far they depend on it.
    """

    rare: float = 0.2
    also: Sequence[MetricSpec] = ()
    against: Sequence[MetricSpec] = ("negative_norm",)
    resamples: int = 1000
    n_real: Sequence[int] = ()


@study(
    version=2,
    page=page,
    detect=("score", "fault"),
    detect_gain=("score", "against"),
    detect_followed=("score", "fact"),
    detect_reals=("score", "reals"),
)
def detect(run: Run, options: Options) -> Iterator[Part]:
    """How often a damaged input scores below a sound one (AUROC), for each fault and all; how often a rare one does.

    Only for a generator that knows what its samples are; others are left out. `faulty` is one: it shows inputs, sound
    and damaged, by the codes that an encoder gives them. What is found there is how well damaged inputs are detected by
    their codes. It says nothing of samples that a generator makes of its own prior: no such sample is among them.

    The scores of the run and its signals of quality are tried with nothing held fixed, within classes, and within sorts
    of equal class and typicality, where finding what is rare is no help. 0.5 is chance. A higher score should be
    better: signs are turned accordingly, and a score without direction is taken as it is. "Rare, not faulty" has sound
    samples of one class on both sides: above 0.5, rare ones score worse. Rank correlations with soundness (1 sound, 0
    faulty) and with typicality, each with class and the other held fixed, say which of the two a score follows.

    Intervals of areas are DeLong's. Claims are corrected for all scores, faults and conditions of the run (Holm). A
    score is judged on the samples for which it is defined.
    """
    model = run.views.generator
    if not isinstance(model, HasGroundTruth):
        say(f"detect is left out: what is wrong with samples of {run.generator} is not known; generator=faulty knows")
        return
    truth = model.truth(run.views.seeds(run.seed, run.n))
    tried = {cell.label: cell for cell in run.cells([*run.scores, *run.quality_signals, *options.also])}
    against = {cell.label: cell for cell in run.cells(list(options.against))}
    scores, rivals = ({name: run.oriented(cell) for name, cell in entries.items()} for entries in (tried, against))
    cells, rival_cells = (  # without those that failed, which may have no views to tell by
        [cell for cell in entries.values() if not run.failed(cell)] for entries in (tried, against)
    )
    sound, typicality_known = truth.state == 0, bool(truth.typicality.isfinite().all())
    groups = {ANY: (~sound, sound)}
    groups |= {name: (truth.state == number, sound) for number, name in enumerate(model.states) if number}
    with_rare, strata = groups, {NOTHING: None, CLASS: truth.kind}
    if typicality_known:
        rare = truth.typicality <= options.rare
        with_rare = groups | {RARE: (sound & rare, sound & ~rare)}
        sorts = torch.stack([truth.kind.double(), truth.typicality], 1)
        strata[BY_SORT] = torch.unique(sorts, dim=0, return_inverse=True)[1]
    for held, within in strata.items():
        among = groups if held == BY_SORT else with_rare  # samples of one sort are equally rare
        rows = partial(_areas, scores, among, within)
        yield Part(rows, {"covariates": held, "rare": options.rare}, table="detect", cells=cells)
    finest = list(strata)[-1]
    rows = partial(_gains, scores, rivals, ~sound, strata[finest])
    yield Part(rows, {"covariates": finest}, table="detect_gain", cells=[*cells, *rival_cells])
    for n in options.n_real:
        if n < 1:
            raise ValueError(f"n_real={list(options.n_real)} must be numbers of real samples, 1 or more")
    if options.n_real:
        rows = partial(_by_reals, run, cells, options.n_real, ~sound, strata[finest])
        tried_at = {"covariates": finest, "n_real": str(list(options.n_real))}
        yield Part(rows, tried_at, table="detect_reals", cells=cells)
    facts = {SOUNDNESS: sound.double()} | ({TYPICALITY: truth.typicality} if typicality_known else {})
    correlations = Correlations({**scores, **facts}, truth.kind, options.resamples, run.seed)
    for held in (NOTHING, OTHER):
        rows = partial(_followed, correlations, list(scores), list(facts), held == OTHER)
        setting = {"covariates": held, "resamples": options.resamples}
        yield Part(rows, setting, table="detect_followed", cells=cells)
    _picture(run, truth.state, model.states)


def _picture(run: Run, state: Tensor, states: Sequence[str]) -> None:
    """The first samples of each state, a row for each."""
    first = [(state == number).nonzero()[:SHOWN, 0].tolist() for number in range(len(states))]
    strips = [run.views.images("fake", run.seed, run.n, rows) for rows in first if rows]
    said = [[name] * len(rows) for name, rows in zip(states, first, strict=True) if rows]
    save_strips(strips, run.figure(EXAMPLES), labels=said)


def _areas(
    scores: Mapping[str, Tensor], groups: Mapping[str, tuple[Tensor, Tensor]], strata: Tensor | None
) -> Iterator[Row]:
    """The area for each score and each pair of groups: how often the sample of the first scores lower."""
    for name, column in scores.items():
        for group, (low, high) in groups.items():
            rows = (low | high) & column.isfinite()
            part = None if strata is None else strata[rows]
            missing = int((low | high).sum() - rows.sum())
            yield Row((name, group), area(separation(-column[rows], low[rows], part), missing))


def _by_reals(
    run: Run, cells: Sequence[Cell], numbers: Sequence[int], faulty: Tensor, strata: Tensor | None
) -> Iterator[Row]:
    """The area for all faults, by how many real samples each score that takes all of them may see."""
    for cell in cells:
        metric = METRICS[cell.metric]
        every = [name for name, view in metric.views.items() if view.source == "real" and view.n == "all"]
        for n in numbers if every else ():
            views = {name: replace(view, n=n) if name in every else view for name, view in cell.views.items()}
            inputs = {name: run.views.tensor(view, run.seed, run.n) for name, view in views.items()}
            try:
                found = metric.function(**inputs, **cell.params).double().cpu()
            except ValueError as failure:  # too few of them
                say(f"{cell.label} with {n:,} real samples is undefined, {reason(failure)}")
                continue
            column = -found if metric.better == "lower" else found
            rows = column.isfinite()
            part = None if strata is None else strata[rows]
            yield Row((cell.label, n), area(separation(-column[rows], faulty[rows], part), int((~rows).sum())))


def _gains(
    scores: Mapping[str, Tensor], rivals: Mapping[str, Tensor], faulty: Tensor, strata: Tensor | None
) -> Iterator[Row]:
    """How much more area a score has than a rival, for all faults, where both are defined."""
    for name, column in scores.items():
        for rival, other in rivals.items():
            rows = column.isfinite() & other.isfinite()
            part = None if strata is None else strata[rows]
            one, two = (separation(-each[rows], faulty[rows], part) for each in (column, other))
            yield Row((name, rival), difference(one, two)._replace(missing=int((~rows).sum())))


def _followed(correlations: Correlations, names: Sequence[str], facts: Sequence[str], held: bool) -> Iterator[Row]:
    """Correlations with each fact; with `held`, the class and the other fact are held fixed."""
    for fact in facts:
        others = [other for other in facts if other != fact] if held else []
        yield from (Row(*pair) for pair in correlations.of(names, [fact], others, held).items())
