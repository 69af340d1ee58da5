"""Which scores find faulty samples, and which only find rare ones? For a generator whose samples are known."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ...arrays.views import SEEDS
from ...core.progress import say
from ...core.protocols import Estimate, HasGroundTruth, Truth
from ...core.registry import study
from ...run import MetricSpec, Run
from ...stats.auroc import area, difference, separation
from ...stats.correlations import Correlations
from .page import ANY, BY_CLASS, BY_SORT, OTHER, RARE, RAW, SOUNDNESS, TYPICALITY, page


@study(page)
def detect(
    run: Run,
    rare: float = 0.2,
    also: Sequence[MetricSpec] = (),
    against: Sequence[MetricSpec] = ("negative_norm",),
    resamples: int = 1000,
) -> None:
    """How often a faulty sample scores below a sound one (AUROC), for each fault and all; how often a rare one does.

    Only for a generator that knows what its samples are, such as `faulty`; others are left out. Tried are the scores of
    the run and its signals of quality, also within classes, and within sorts of equal class and typicality. Rank
    correlations with soundness and with typicality, each with class and the other held fixed, say which of the two a
    score follows.

    rare:    sound samples of at most this typicality are told from the other sound ones.
    also:    further sample metrics to try.
    against: scores that each score is compared with, paired.
    Intervals: DeLong's; for correlations percentiles of `resamples` bootstraps. A score is judged on the samples where
    it is defined.
    """
    if not isinstance(run.views.generator, HasGroundTruth):
        say(f"detect is left out: what is wrong with samples of {run.generator} is not known; generator=faulty knows")
        return
    first = run.seed * SEEDS
    truth = run.views.generator.truth(range(first, first + run.n))
    tried = {cell.label: cell for cell in run.cells([*run.scores, *run.quality_signals, *also])}
    cells, names, rivals = list(tried.values()), list(tried), run.cells(list(against))
    columns = {cell.label: run.oriented(cell) for cell in [*cells, *rivals]}
    faults = {name: number for number, name in enumerate(run.views.generator.states) if number}
    conditions: dict[str, Tensor | None] = {RAW: None, BY_CLASS: truth.kind}
    known = bool(truth.typicality.isfinite().all())
    if known:
        sorts = torch.stack([truth.kind.double(), truth.typicality], 1)
        conditions[BY_SORT] = torch.unique(sorts, dim=0, return_inverse=True)[1]
    for given, strata in conditions.items():
        compute = partial(_areas, columns, names, truth, faults, rare if known and given != BY_SORT else None, strata)
        params = {"columns": "score ~ fault", "given": given, "rare": rare}
        run.record("detect", 1, params, cells, compute)
    compute = partial(_gains, columns, names, [cell.label for cell in rivals], truth, strata)
    run.record("detect_gain", 1, {"columns": "score ~ against", "given": given}, [*cells, *rivals], compute)
    sound, typical = (truth.state == 0).double(), truth.typicality
    facts = {SOUNDNESS: sound, TYPICALITY: typical} if known else {SOUNDNESS: sound}
    correlations = Correlations({**columns, **facts}, truth.kind, resamples, run.seed)
    for given in (RAW, OTHER):
        compute = partial(_followed, correlations, names, list(facts), given == OTHER)
        params = {"columns": "score ~ fact", "given": given, "resamples": resamples}
        run.record("detect_followed", 1, params, cells, compute)


def _areas(
    columns: Mapping[str, Tensor],
    names: Sequence[str],
    truth: Truth,
    faults: Mapping[str, int],
    rare: float | None,
    strata: Tensor | None,
) -> dict[str, Estimate]:
    """The area for each score and fault: how often the faulty sample of a pair scores lower."""
    sound = truth.state == 0
    groups = {ANY: (~sound, sound)} | {name: (truth.state == number, sound) for name, number in faults.items()}
    if rare is not None:
        seldom = truth.typicality <= rare
        groups[RARE] = (sound & seldom, sound & ~seldom)
    found = {}
    for name in names:
        for group, (low, high) in groups.items():
            rows = (low | high) & columns[name].isfinite()
            part = None if strata is None else strata[rows]
            missing = int((low | high).sum() - rows.sum())
            found[f"{name} ~ {group}"] = area(separation(-columns[name][rows], low[rows], part), missing)
    return found


def _gains(
    columns: Mapping[str, Tensor],
    names: Sequence[str],
    rivals: Sequence[str],
    truth: Truth,
    strata: Tensor | None,
) -> dict[str, Estimate]:
    """How much more area a score has than a rival, for all faults, where both are defined."""
    found = {}
    for name in names:
        for rival in rivals:
            rows = columns[name].isfinite() & columns[rival].isfinite()
            part = None if strata is None else strata[rows]
            two = (separation(-columns[each][rows], truth.state[rows] > 0, part) for each in (name, rival))
            gain = difference(*two)
            found[f"{name} ~ {rival}"] = gain._replace(missing=int((~rows).sum()))
    return found


def _followed(correlations: Correlations, names: list[str], facts: list[str], fixed: bool) -> dict[str, Estimate]:
    """Correlations with each fact; with `fixed`, class and the other fact held fixed."""
    found: dict[str, Estimate] = {}
    for fact in facts:
        others = [other for other in facts if other != fact] if fixed else []
        found |= correlations.of(names, [fact], others, fixed)
    return found
