"""Which metric notices which damage of real images, from which share on, and which one is fooled?"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ....metrics.kernels.alone import values_alone
from ...arrays.records import USED
from ...core.declarations import Metric
from ...core.files import digest
from ...core.options import Count
from ...core.progress import say, track
from ...core.protocols import Estimate, Part, Row
from ...core.registry import METRICS, study
from ...evaluate import reason
from ...run import MetricSpec, Run, label
from ...stats import intervals
from ..of_sets import check_reads, value_of
from .faults import SLIPS
from .page import page
from .sets import DETECTED, Pools, damaged

NONE = (math.nan, math.nan)
KNOWN = (
    "precision", "recall", "density", "coverage", "clipped_density", "clipped_coverage", "symmetric_precision",
    "symmetric_recall", "precision_cover", "recall_cover", "probabilistic_precision", "probabilistic_recall",
    "alpha_precision", "beta_recall", "topological_precision", "topological_recall", "realism", "rarity",
    "authenticity", "frechet_distance", "kernel_distance", "cmmd", "sliced_distance", "vendi_score", "copying_score",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What is damaged, how much, and which metrics look at it.

    metrics: names, or mappings with options, of metrics that read features; by default those of KNOWN.
    samples: numbers of samples of each set; that many held-out images stand for generated ones.
    shares:  of the samples that are damaged.
    blocks:  disjoint sets that are damaged in turn.
    sound:   disjoint sets from which the spread without damage comes; drawn anew where there are not enough images.
    few:     other numbers of sound samples, to see the bias, up to half of both splits together; as many sets of each
             as `sound`, if they are disjoint.
    """

    metrics: Sequence[MetricSpec] = ()
    samples: Sequence[Count] = (1000,)
    shares: Sequence[float] = (0.01, 0.03, 0.1, 0.3, 1.0)
    blocks: Count = 2
    sound: Count = 10
    few: Sequence[Count] = (100, 300, 1000)


@study(version=2, page=page, damage=("damage", "share"), damage_summary=("damage", "number"), damage_few=("count",))
def damage(run: Run, options: Options) -> Iterator[Part]:
    """Held-out samples of the data set as generated ones, damaged in ways that are known, against its training samples.

    Damages: a share of the images is covered, blurred, noisy, compressed or cropped; classes are lost; images are
    copies of the real ones, or of each other; and slips of preprocessing, from which all suffer. `damage` has the
    values; share 0 is sound. `damage_summary` has, for each damage, in units of the standard deviation of one value of
    sound samples, `change` at the largest share, where below 0 is worse, `sensitivity`, its slope per share up to the
    smallest share that is noticed, `step back`, the largest improvement from one share to a larger one, and `smallest
    share`, the one from which on a value is with probability 0.8 worse than 95 % of those of sound samples: the change
    is then 2.49 deviations (interpolated; none where it never is). A metric that is neither better high nor low has no
    worse side: for it any change counts. `damage_few` has the values of other numbers of sound samples, generated and
    real ones drawn from both splits together, so that they differ by chance alone.
    A data set of shapes has faults of its own: each held-out shape can be had with each of them.
    Raises ValueError for too few images, and for a metric that reads other things than features.
    """
    entries = [_entry(each) for each in options.metrics or KNOWN]
    pools = Pools(run)
    for count in options.samples:
        measured = Measured(pools, entries, options, count)
        for index, entry in enumerate(entries):
            setting = {
                **entry.about(pools.features),
                "size": count,
                "blocks": options.blocks,
                "shares": ", ".join(map(str, options.shares)),
                "sound": options.sound,
            }
            prints = pools.fingerprints | entry.prints
            yield Part(partial(_values, measured, index), setting, "damage", fingerprints=prints)
            yield Part(partial(_summary, measured, index), setting, "damage_summary", fingerprints=prints)
    fewer = Fewer(pools, entries, options)
    for index, entry in enumerate(entries if options.few else []):
        setting = {**entry.about(pools.features), "sound": options.sound}
        prints = pools.fingerprints | entry.prints | {"numbers": digest(sorted(options.few))}
        yield Part(partial(fewer.rows, index), setting, "damage_few", fingerprints=prints)


class Entry(NamedTuple):
    metric: Metric
    options: Mapping[str, Any]

    def about(self, features: str) -> dict[str, str]:
        described = label("", self.metric.options, self.options).strip("()")
        return {"metric": self.metric.name, "options": described, "features": features}

    @property
    def prints(self) -> dict[str, str]:
        return {f"{USED}{self.metric.name}": str(self.metric.version)}


def _entry(spec: MetricSpec) -> Entry:
    options = {} if isinstance(spec, str) else dict(spec)
    metric: Metric = METRICS[spec if isinstance(spec, str) else str(options.pop("metric", ""))]
    check_reads(metric, {"fake", "real", "holdout"}, options)
    return Entry(metric, options)


class Values:
    """Values of all metrics for sets of features; what a metric refuses is NaN, and said once for each damage."""

    def __init__(self, entries: Sequence[Entry]):
        self.entries, self.refused = entries, set[tuple[str, str]]()

    def of(self, sets: Mapping[str, Tensor], damage: str) -> list[float]:
        found = []
        for metric, options in self.entries:
            try:
                value = value_of(metric, sets, options)
            except ValueError as failure:
                value = math.nan
                if (metric.name, damage) not in self.refused:
                    self.refused.add((metric.name, damage))
                    say(f"{damage}: {metric.name} is undefined, {reason(failure)}")
            found.append(value if math.isfinite(value) else math.nan)
        return found


@dataclass(frozen=True)
class Measured:
    """Values of all metrics at one number of samples. They are computed together: metrics share what distances cost."""

    pools: Pools
    entries: Sequence[Entry]
    options: Options
    count: int

    @cached_property
    def sound(self) -> Tensor:
        """[metric, permutation, block]: of disjoint blocks of sound samples, in as many permutations as are needed."""
        each = self.pools.blocks(self.count)
        permutations = math.ceil(self.options.sound / each)
        values = Values(self.entries)
        with track(f"{self.count} sound samples", permutations * each, "sets") as advance, _quiet():
            rows = []
            for permutation in range(permutations):
                for block in range(each):
                    rows.append(values.of(self.pools.sets(self.count, permutation, block), "sound"))
                    advance(1)
        return torch.tensor(rows, dtype=torch.float64).T.reshape(len(self.entries), permutations, each)

    @cached_property
    def values(self) -> dict[tuple[str, float], Tensor]:
        """[metric, block] by damage and share; the blocks are the first of those of sound samples."""
        chosen = [
            (damage, share) for damage in self.pools.damages for share in self._shares(damage)
            if self.pools.can(damage, share, self.count)
        ]  # fmt: skip
        blocks = min(self.options.blocks, self.pools.blocks(self.count))
        values, found = Values(self.entries), {}
        with track(f"{self.count} damaged samples", len(chosen) * blocks, "sets") as advance, _quiet():
            for damage, share in chosen:
                rows = []
                for block in range(blocks):
                    sets = self.pools.sets(self.count, 0, block)
                    sets["fake"] = damaged(self.pools, sets, damage, share, self.count, block)
                    rows.append(values.of(sets, f"{damage}, {share:g}"))
                    advance(1)
                found[damage, share] = torch.tensor(rows, dtype=torch.float64).T
        return found

    def _shares(self, damage: str) -> Sequence[float]:
        return [1.0] if damage in SLIPS else self.options.shares

    def deviation(self, index: int) -> float:
        """Of one value of sound samples, within permutations, whose blocks are disjoint."""
        return float(self.sound[index].var(1).mean().sqrt()) or math.nan


def _values(measured: Measured, index: int) -> Iterator[Row]:
    yield Row(("sound", 0.0), intervals.mean(measured.sound[index].flatten()))
    for (damage, share), found in measured.values.items():
        yield Row((damage, share), intervals.mean(found[index]))


def _summary(measured: Measured, index: int) -> Iterator[Row]:
    better, deviation = measured.entries[index].metric.better, measured.deviation(index)
    names = dict.fromkeys(damage for damage, _ in measured.values)
    for damage in names:
        shares = [share for name, share in measured.values if name == damage]
        before = measured.sound[index, 0]
        changes = [
            measured.values[damage, share][index] - before[: len(measured.values[damage, share][index])]
            for share in shares
        ]
        scaled = [oriented(change / deviation, better) for change in changes]
        means = [float(change.mean()) for change in scaled]
        yield Row((damage, "change"), intervals.mean(scaled[-1]))
        smallest = noticed(shares, means)
        yield Row((damage, "smallest share"), Estimate(smallest, NONE, len(scaled[-1])))
        at = next((i for i, mean in enumerate(means) if -mean >= DETECTED), len(means) - 1)
        yield Row((damage, "sensitivity"), intervals.mean(-scaled[at] / shares[at]))
        yield Row((damage, "step back"), Estimate(step_back(means), NONE, len(scaled[-1])))


def oriented(change: Tensor, better: str) -> Tensor:
    """Changes so that below 0 is worse; of a metric that is better neither high nor low every change is worse."""
    return -change if better == "lower" else change if better == "higher" else -change.abs()


def noticed(shares: Sequence[float], means: Sequence[float]) -> float:
    """The smallest share with a change of DETECTED deviations to the worse, between shares linearly; NaN for none."""
    before = (0.0, 0.0)
    for share, mean in zip(shares, means, strict=True):
        if -mean >= DETECTED:
            rise = (DETECTED + before[1]) / (-mean + before[1])
            return before[0] + (share - before[0]) * rise
        before = (share, mean)
    return math.nan


def step_back(means: Sequence[float]) -> float:
    """The largest rise from one share to the next, 0 without any; NaN where a value is undefined."""
    if any(map(math.isnan, means)):
        return math.nan
    return max(0.0, *(after - before for before, after in zip([0.0, *means], means, strict=False)))


@dataclass(frozen=True)
class Fewer:
    """Values of other numbers of sound samples."""

    pools: Pools
    entries: Sequence[Entry]
    options: Options

    @cached_property
    def values(self) -> dict[int, Tensor]:
        """[block, metric] by number of samples."""
        values = Values(self.entries)
        most = (self.pools.data.count("train") + self.pools.data.count("test")) // 2
        for count in self.options.few:
            if count > most:
                raise ValueError(f"few={count}: two disjoint sets of these samples have at most {most:,} each")
        counts = {count: min(self.options.sound, most // count) for count in sorted(self.options.few)}
        rows: dict[int, list[list[float]]] = {count: [] for count in counts}
        with track("numbers of sound samples", sum(counts.values()), "sets") as advance, _quiet():
            for count, sets in self.pools.pooled(counts):
                rows[count].append(values.of(sets, f"{count} sound"))
                advance(1)
        return {count: torch.tensor(found, dtype=torch.float64) for count, found in rows.items()}

    def rows(self, index: int) -> Iterator[Row]:
        for count, values in self.values.items():
            yield Row((count,), intervals.mean(values[:, index]))


class _quiet:  # noqa: N801  a context manager, named as one
    """Values without intervals, and without warnings that are the same for every set."""

    def __enter__(self) -> None:
        self._warnings, self._alone = warnings.catch_warnings(), values_alone()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._alone.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._alone.__exit__(*error)
        self._warnings.__exit__(*error)
