"""Which metrics of fidelity, diversity and distance pass 15 simple checks, and which fail?"""

import math
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from ....metrics.kernels.alone import values_alone
from ...arrays.records import USED, find_record
from ...core.files import digest
from ...core.options import Count
from ...core.progress import say, track
from ...core.protocols import Estimate, Part, Row
from ...core.registry import study, unknown
from ...evaluate import reason
from ...run import MetricSpec, Run
from ...stats import intervals
from .checks import CHECKS, Case, Check
from .criteria import Criterion, Curve
from .demands import demands
from .metrics import UnderTest, all_known, under_test
from .page import page
from .published import FILE, NOT_PUBLISHED, UNDEFINED, overall, published, why

ALL = "all"
"""Case and criterion of the row that sums up a check."""


@dataclass(frozen=True)
class Options:
    """What is put through which checks, and at which size.

    metrics: names, or mappings with options; by default all of fidelity, diversity and distance that assay has.
    kind:    what they measure, where assay does not know it or is to take them for something else: fidelity, diversity,
             distance, "unbounded fidelity" or "unbounded diversity". Unknown ones that are better low are distances.
    checks:  names of checks; by default all 15.
    size:    samples of each set. Checks that vary the size go from a tenth of it to ten times as many.
    points:  most values of a curve; the paper has up to 51.
    repeats: how often all sets are drawn anew; criteria look at the mean. large: the same of the three checks that vary
             the size, which cost more than all others.
    fewer:   of metrics that cost more than others, the repeats that they have at most: {topological_precision: 2}.
    """

    metrics: Sequence[MetricSpec] = ()
    kind: Literal["", "fidelity", "diversity", "unbounded fidelity", "unbounded diversity", "distance"] = ""
    checks: Sequence[str] = ()
    size: Count = 1000
    points: Count = 51
    repeats: Count = 10
    large: Count = 10
    fewer: Mapping[str, Count] = field(default_factory=dict)


@study(page=page, sanity=("case", "criterion", "verdict", "published", "why"), sanity_curve=("case", "at"))
def sanity(run: Run, options: Options) -> Iterator[Part]:
    """The checks of arXiv:2505.22450, on sets whose fidelity and diversity are known by construction.

    A value of table `sanity` is a margin: by how much a criterion is met (at least 0) or missed, for scores in [0, 1]
    in units of the score, otherwise in shares of the curve's range, or of its mean size where it should be flat. Its
    interval is for other sets of the same size (jackknife over repeats). The row "all" of a check has its smallest
    margin. `sanity_curve` has the means over repeats, as the metric gives them; NaN where it refuses a pair of sets.
    All metrics see both sets standardised by the mean and standard deviation of the real one.
    A check is a part for each metric; those that have a record are not computed again.
    Raises ValueError for an unknown check, and for a metric that these sets cannot test.
    """
    known = {check.name: check for check in CHECKS}
    for name in options.checks:
        if name not in known:
            raise ValueError(unknown("check", name, list(known)))
    metrics = [under_test(entry, options.kind) for entry in options.metrics or all_known()]
    for check in [known[name] for name in options.checks] or CHECKS:
        usual = options.large if check.varies_size else options.repeats
        repeats = [min(usual, options.fewer.get(one.metric.name, usual)) for one in metrics]
        parts = [_parts(check, one, options, count) for one, count in zip(metrics, repeats, strict=True)]
        lacking = [i for i, each in enumerate(parts) if not all(_answered(run, part) for part in each)]
        together = Measured(check, [metrics[i] for i in lacking], [repeats[i] for i in lacking], options, run.seed)
        for i, each in enumerate(parts):
            apart = Measured(check, [metrics[i]], [repeats[i]], options, run.seed)
            measured, index = (together, lacking.index(i)) if i in lacking else (apart, 0)
            for part in each:
                rows = _verdicts if part.table == "sanity" else _curves
                yield replace(part, rows=partial(rows, measured, index))


def _parts(check: Check, one: UnderTest, options: Options, repeats: int) -> list[Part]:
    """The verdicts, where anything is asked, and the curve of a metric on a check, without their rows."""
    setting = {
        "check": check.name,
        "metric": one.metric.name,
        "options": one.described,
        "kind": one.said,
        "size": options.size,
        "points": options.points,
        "repeats": repeats,
    }
    prints = {f"{USED}{one.metric.name}": str(one.metric.version)}
    facts = prints | {"published": digest(FILE.read_text())}
    asked = any(asked_of(one, check, case, options.size) for case in check.cases(options.size))
    verdicts = [Part(tuple, setting, "sanity", fingerprints=facts)] if asked else []
    return [*verdicts, Part(tuple, setting, "sanity_curve", fingerprints=prints)]


def _answered(run: Run, part: Part) -> bool:
    """Whether there is a record, by all that it says of itself; `carry_out` decides whether it is valid."""
    record = find_record(run.folder, run.part(part.table, part.setting, {}))
    given = part.fingerprints.items()
    return record is not None and record.status == "ok" and all(record.inputs.get(k) == v for k, v in given)


def asked_of(one: UnderTest, check: Check, case: Case, size: int) -> list[Criterion]:
    """What a metric is asked here; where it has no fixed range, shapes alone."""
    every = demands(check, case, one.kind, size)
    return [criterion for criterion in every if one.bounded or criterion.unit != "bounds"]


@dataclass(frozen=True)
class Measured:
    """The curves of metrics on one check. They are computed together, because they share what distances cost."""

    check: Check
    metrics: Sequence[UnderTest]
    repeats: Sequence[int]
    options: Options
    seed: int

    @cached_property
    def cases(self) -> Sequence[Case]:
        return self.check.cases(self.options.size)

    def of(self, index: int) -> Iterator[tuple[Case, NDArray[np.float64]]]:
        """Each case with the values [repeat, point] of a metric."""
        for case, values in zip(self.cases, self._curves, strict=True):
            yield case, values[index, : self.repeats[index]]

    @cached_property
    def _curves(self) -> list[NDArray[np.float64]]:
        """Of each case the values [metric, repeat, point], NaN beyond the repeats of a metric."""
        at, most = [case.thinned(self.options.points) for case in self.cases], max(self.repeats)
        found = [np.full((len(self.metrics), most, len(values)), math.nan) for values in at]
        refused: set[tuple[str, str]] = set()
        total = most * sum(map(len, at))
        with track(self.check.name, total, "pairs of sets") as advance, values_alone(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a kernel is nearly linear here is what the checks are to show
            for repeat in range(most):
                for case, values, table in zip(self.cases, at, found, strict=True):
                    rng = np.random.default_rng(
                        [self.seed, repeat, zlib.crc32(f"{self.check.name} {case.name}".encode())]
                    )
                    for place, (real, fake) in enumerate(standardised(case.draw(rng, values))):
                        for row, one in enumerate(self.metrics):
                            if repeat < self.repeats[row]:
                                table[row, repeat, place] = self._value(one, fake, real, case, refused)
                        advance(1)
        return found

    def _value(self, one: UnderTest, fake: Tensor, real: Tensor, case: Case, refused: set[tuple[str, str]]) -> float:
        """NaN where the metric refuses the sets; why is said once for each case."""
        try:
            value = one.value(fake, real)
        except ValueError as failure:
            if (one.metric.name, case.name) not in refused:
                refused.add((one.metric.name, case.name))
                say(f"{self.check.name}, {case.name}: {one.metric.name} is undefined, {reason(failure)}")
            return math.nan
        return value if math.isfinite(value) else math.nan


def standardised(pairs: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs less the mean of the real set, over its standard deviations; constant coordinates keep their scale.

    A real set that several pairs share stays one tensor, so that what is known of it is computed once.
    """
    before, real = None, torch.empty(0)
    mean = std = np.zeros(0)
    for given, fake in pairs:
        if given is not before:
            before, mean, std = given, given.mean(0), given.std(0)
            std = np.where(std > 0, std, 1.0)
            real = torch.from_numpy((given - mean) / std)
        yield real, torch.from_numpy((fake - mean) / std)


def _curves(measured: Measured, index: int) -> Iterator[Row]:
    for case, values in measured.of(index):
        for at, repeats in zip(case.thinned(measured.options.points), values.T, strict=True):
            yield Row((case.name, at), intervals.mean(torch.from_numpy(repeats.copy())))


def _verdicts(measured: Measured, index: int) -> Iterator[Row]:
    one, check = measured.metrics[index], measured.check
    judged: list[tuple[Row, str, str]] = []
    for case, values in measured.of(index):
        for criterion in asked_of(one, check, case, measured.options.size):
            estimate, way = judge(criterion, case.thinned(measured.options.points), values, one)
            verdict = UNDEFINED if math.isnan(estimate.value) else (way or "pass") if estimate.value >= 0 else "fail"
            theirs = published(check.published, case.name, criterion.name, one.metric.name)
            text = why(one.metric.name, verdict, theirs, *estimate.interval)
            judged.append((Row((case.name, criterion.name, verdict, theirs, text), estimate), verdict, theirs))
    if judged:
        least = min(
            (row.estimate for row, _, _ in judged), key=lambda found: (not math.isnan(found.value), found.value)
        )
        ours, theirs = overall(ours for _, ours, _ in judged), overall(theirs for _, _, theirs in judged)
        reasons = sorted({str(row.keys[4]) for row, _, _ in judged} - {""})
        text = "; ".join(reasons) if theirs not in (ours, NOT_PUBLISHED) else ""
        yield Row((ALL, ALL, ours, theirs, text), least)
    yield from (row for row, _, _ in judged)


def judge(
    criterion: Criterion, at: Sequence[float], values: NDArray[np.float64], one: UnderTest
) -> tuple[Estimate, str]:
    """The margin of the mean curve of values [repeat, point] with its jackknife interval, and which way was met."""

    def margin(chosen: NDArray[np.float64]) -> tuple[float, str]:
        return criterion.margin(Curve(at, [one.oriented(value) for value in chosen.mean(0).tolist()]), one.bounded)

    count = len(values)
    value, way = margin(values)
    if count < 2 or math.isnan(value):
        return Estimate(value, (math.nan, math.nan), count), way
    others = np.array([margin(np.delete(values, i, 0))[0] for i in range(count)])
    error = math.sqrt((count - 1) / count * float(((others - others.mean()) ** 2).sum()))
    half = float(stdtrit(count - 1, 0.975)) * error
    return Estimate(value, (value - half, value + half), count), way
