"""Set metrics of samples that come batch by batch, as while a network trains, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arrays.spaces import extracted
from ..core.declarations import Metric as Declared
from ..core.files import digest
from ..core.inputs import Array, images, samples, statistics
from ..core.options import checked
from ..core.protocols import Estimate, Statistics
from ..core.registry import EXTRACTORS, METRICS, discover, unknown
from ..evaluate import estimates
from ..run import MetricSpec, label
from ..stats.reservoir import Reservoir
from .calls import evaluating, undisturbed
from .kept_set import KeptSet

Features = str | Callable[[Tensor], Tensor] | None
"""The name of an extractor, a function from images to features, or None where features are given directly."""
AUTO = "auto"
Answer = Estimate | dict[str, Estimate]
Counts = dict[str, dict[str, dict[str, int]]]


class Metric:
    """A set metric, or several that share their features, of batches of samples.

        metric = assay.Metric("frechet_distance", features="inception")
        metric.update(real=images)
        metric.update(fake=generated)
        metric.compute()  # Estimate(value=..., interval=(...))

    metric:    a name, {metric: name, option: value}, or a list of these. options: of the metric, or of all of a list.
    features:  the name of an extractor, a function or module from images [N, C, H, W] in [0, 1] to features [N, D], or
               None where batches are features [N, D] already. "auto" is the space that a metric is defined in, such as
               that of fid. A module is put into evaluation mode while it is called.
    reservoir: how many rows of each set are kept, drawn uniformly from all seen, with `reservoir_seed`. While a set has
               no more rows, the answer is that of the metric on the whole set. From then on, metrics of mean and
               covariance (frechet_distance, fid) use all rows seen by their moments, O(D^2), and find the interval from
               those kept; all other metrics are of the kept rows. `samples` tells how many were found and used.
    dataset, extractor: the data set's name and the options with which an extractor is opened.
    distributed: under torch.distributed, `compute` gives the answer of the samples of all ranks, on all ranks. It is a
               collective call then. Row i of rank r has number i R + r of R ranks, as DistributedSampler deals them.

    Images are uint8, or floating in [0, 1], and are not rounded; a run rounds them to 8 bits, as files have them. Rows
    stay on a CUDA device if they come from one, else on the CPU. No call keeps a gradient, uses autocast, or changes
    the default type, the global random generator or the mode of a module.

    Raises LookupError for unknown names, ValueError for anything else that is wrong.
    """

    def __init__(
        self,
        metric: MetricSpec | Sequence[MetricSpec],
        features: Features = AUTO,
        *,
        reservoir: int = 10_000,
        reservoir_seed: int = 0,
        dataset: str = "",
        extractor: Mapping[str, Any] | None = None,
        distributed: bool = True,
        **options: Any,
    ):
        discover()
        self._alone = isinstance(metric, (str, Mapping))
        specs = [metric] if isinstance(metric, (str, Mapping)) else list(metric)
        if not specs:
            raise ValueError("metric is an empty list: name at least one metric")
        self._asked = [_asked(spec, options) for spec in specs]
        self._features = _space(features, [one.metric for one in self._asked])
        for option, number in (("reservoir", reservoir), ("reservoir_seed", reservoir_seed)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ValueError(f"{option}={number!r} must be a whole number, 0 or more")
        for one in self._asked:
            if reservoir < 2 and set(one.metric.views) - set(one.metric.moments):
                raise ValueError(f"reservoir={reservoir}: {one.label} is computed from kept rows; keep 2 or more")
        self._size, self._seed, self._distributed = reservoir, reservoir_seed, distributed
        self._opening = dataset, dict(extractor or {})
        known = EXTRACTORS[self._features].options if isinstance(self._features, str) else {}
        for option in extractor or {}:
            if option not in known:
                raise ValueError(unknown(f"option of extractor {self._features}:", option, sorted(known)))
        self._extract: Callable[[Tensor], Tensor] | None = None
        names = list(dict.fromkeys(name for one in self._asked for name in one.metric.views))
        self._sets = {name: self._empty(name) for name in names}
        self._eight_bits: bool | None = None
        self.samples: Counts = {}
        """Of each metric and set, how many rows the last `compute` found and used, and the seed where it drew them."""

    def update(self, **batches: Array | Statistics) -> None:
        """See a batch of some of the sets, `fake=` and `real=`, images or features as `features` says.

        A set may instead be given as its `Statistics`, once (`assay.read_statistics`).
        """
        if not batches:
            raise ValueError(f"nothing to update: give {' or '.join(f'{name}=' for name in self._sets)}")
        for name in batches:
            if name not in self._sets:
                raise ValueError(f"{self._title} reads {' and '.join(self._sets)}, not {name!r}")
        rank, ranks = self._place()
        before, checked_batches = self._eight_bits, {}
        try:
            for name, batch in batches.items():
                checked_batches[name] = self._checked(name, batch)
        except BaseException:  # a refused call changes nothing
            self._eight_bits = before
            raise
        for name, found in checked_batches.items():
            if isinstance(found, Statistics):
                self._sets[name].fixed = found
            else:
                with undisturbed(found[1].device):
                    self._sets[name].add(*found, rank, ranks)

    def compute(self) -> Answer:
        """The answer for all samples seen: an Estimate, or a dict by name where there are several numbers."""
        rank, ranks = self._place()
        if ranks == 1:
            found, self.samples = self._answer()
            return found
        states: list[Any] | None = [None] * ranks if rank == 0 else None
        torch.distributed.gather_object(self._state(), states, dst=0)
        outcome: list[Any] = [None]
        if states is not None:
            try:
                outcome = [self._joined(states)._answer()]
            except Exception as failure:  # the other ranks wait for an answer, whatever it is
                outcome = [failure]
        torch.distributed.broadcast_object_list(outcome, src=0)
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        answer: Answer
        answer, self.samples = outcome[0]
        return answer

    def reset(self, which: str = "all") -> None:
        """Forget all samples, or those of one set: reset("fake") keeps the real ones."""
        if which != "all" and which not in self._sets:
            raise ValueError(f"which={which!r} must be all or {' or '.join(self._sets)}")
        for name in self._sets:
            if which in ("all", name):
                self._sets[name] = self._empty(name)
        if not any(one.seen for one in self._sets.values()):
            self._eight_bits = None

    def merge(self, other: Metric) -> None:
        """See what another metric of the same setting has seen, after the samples seen here."""
        if not isinstance(other, Metric) or other._setting != self._setting:
            theirs = other._setting if isinstance(other, Metric) else type(other).__name__
            raise ValueError(f"merge: {theirs} is not of the same metrics, features and reservoir as {self._setting}")
        if None not in (self._eight_bits, other._eight_bits) and self._eight_bits != other._eight_bits:
            raise ValueError("merge: one saw uint8, the other floating features: bring both into one range")
        for name, mine in self._sets.items():
            mine.require_mergeable(name, other._sets[name])
        with undisturbed(None):
            for name, mine in self._sets.items():
                mine.merge(other._sets[name])
        self._eight_bits = other._eight_bits if self._eight_bits is None else self._eight_bits

    def statistics(self, which: str = "real") -> Statistics:
        """Mean and covariance of the samples seen of one set on this process, e.g. for `assay.write_statistics`."""
        if which not in self._sets:
            raise ValueError(f"which={which!r} must be {' or '.join(self._sets)}")
        one = self._sets[which]
        one.require_some(which)
        if one.fixed is None and not one.keeps_moments and not one.reservoir.complete:
            raise ValueError(f"{which}: rows were left out, and no metric here keeps moments; add frechet_distance")
        with undisturbed(None):
            return one.fixed or one.moments().statistics()

    def state_dict(self) -> dict[str, Any]:
        """All that was seen, as tensors and plain values that torch.save and torch.load(weights_only=True) take."""
        return {"setting": self._setting, **self._state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of a metric of the same setting; what was seen before is forgotten."""
        if state.get("setting") != self._setting:
            raise ValueError(f"state_dict is of {state.get('setting')}, this is {self._setting}")
        self._load(state)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_extract": None}

    def __repr__(self) -> str:
        seen = ", ".join(f"{name}: {one.words}" for name, one in self._sets.items())
        return f"<Metric {self._title}; {seen}>"

    @property
    def _title(self) -> str:
        return ", ".join(one.label for one in self._asked)

    @property
    def _setting(self) -> str:
        seen = self._features
        if seen is not None and not isinstance(seen, str):
            kind = seen if hasattr(seen, "__qualname__") else type(seen)
            seen = str(getattr(seen, "fingerprint", f"{kind.__module__}.{kind.__qualname__}"))
        return f"{self._title}; features {seen}; reservoir {self._size}, seed {self._seed}"

    def _empty(self, name: str) -> KeptSet:
        keeps = any(name in one.metric.moments for one in self._asked)
        stream = int(digest("reservoir", self._seed, name)[:16], 16)
        return KeptSet(Reservoir(self._size, stream), keeps)

    def _require_moments(self, name: str) -> None:
        for one in self._asked:
            if name in one.metric.views and name not in one.metric.moments:
                raise ValueError(f"{name}: {one.label} needs samples; mean and covariance are not enough for it")

    def _checked(self, name: str, batch: Array | Statistics) -> tuple[list[int], Tensor] | Statistics:
        """A batch as `KeptSet` takes it. Raises ValueError unless it continues what was seen."""
        if isinstance(batch, Statistics):
            self._require_moments(name)
            self._sets[name].require_empty(name)
            return statistics(name, batch)
        with undisturbed(batch.device if isinstance(batch, Tensor) else None):
            shape, rows = self._rows(name, batch)
        self._sets[name].require_same_form(name, shape, rows)
        return shape, rows

    def _rows(self, name: str, batch: Array) -> tuple[list[int], Tensor]:
        """The shape of a sample as given, and the rows of a batch [n, D] that the metrics read."""
        if self._features is None:
            (flat,) = samples(**{name: batch})
            eight = "uint8" in str(getattr(batch, "dtype", ""))
            if self._eight_bits is not None and eight != self._eight_bits:
                kinds = ("uint8", "floating") if eight else ("floating", "uint8")
                raise ValueError(f"{name} is {kinds[0]}, batches before it were {kinds[1]}: bring all into one range")
            self._eight_bits = eight
            shape = list(batch.shape[1:]) if isinstance(getattr(batch, "shape", None), tuple) else [flat.shape[1]]
            return shape, self._home(flat.reshape(len(flat), *shape))
        seen = _pictures(name, batch)
        extract = self._opened()
        with evaluating(extract):
            features = extract(seen)
        if not isinstance(features, Tensor) or len(features) != len(seen):
            got = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"features made {got} of {len(seen)} images: they must return a tensor [N, D]")
        (flat,) = samples(**{f"features of {name}": features})
        return list(seen.shape[1:]), self._home(flat)

    def _home(self, rows: Tensor) -> Tensor:
        """On the device of the rows seen before; by default CUDA if they come from there, else the CPU."""
        held = (one.device for one in self._sets.values())
        home = next((device for device in held if device), rows.device if rows.is_cuda else torch.device("cpu"))
        return rows.to(home)

    def _opened(self) -> Callable[[Tensor], Tensor]:
        if self._extract is None:
            dataset, options = self._opening
            if isinstance(self._features, str):
                self._extract = EXTRACTORS[self._features].function(dataset, **options)
            else:
                assert self._features is not None
                self._extract = self._features
        assert self._extract is not None
        return self._extract

    def _place(self) -> tuple[int, int]:
        """The rank of this process, and how many there are."""
        there = torch.distributed
        if not self._distributed or not there.is_available() or not there.is_initialized():
            return 0, 1
        return there.get_rank(), there.get_world_size()

    def _state(self) -> dict[str, Any]:
        return {"eight_bits": self._eight_bits, "sets": {name: one.state() for name, one in self._sets.items()}}

    def _load(self, state: Mapping[str, Any]) -> None:
        self._eight_bits = state["eight_bits"]
        for name in self._sets:
            self._sets[name] = self._empty(name)
            self._sets[name].load(state["sets"][name])

    def _joined(self, states: Sequence[Mapping[str, Any]]) -> Metric:
        """A metric of what all ranks have seen."""
        whole = Metric.__new__(Metric)
        whole.__dict__ |= self.__dict__ | {"_sets": {name: self._empty(name) for name in self._sets}}
        kinds = {state["eight_bits"] for state in states} - {None}
        if len(kinds) > 1:
            raise ValueError("some ranks saw uint8, others floating features: bring all into one range")
        with undisturbed(None):
            for rank, state in enumerate(states):
                for name, one in whole._sets.items():
                    part = self._empty(name)
                    part.load(state["sets"][name])
                    one.require_mergeable(f"{name} of rank {rank}", part)
                    one.merge(part, joins=True)
        return whole

    def _answer(self) -> tuple[Answer, Counts]:
        found: dict[str, Estimate] = {}
        counts: Counts = {}
        for name, one in self._sets.items():
            one.require_some(name)
        device = next((one.device for one in self._sets.values() if one.device), None)
        with undisturbed(device):
            for asked in self._asked:
                declared = asked.metric
                given = {name: self._sets[name].given(name, name in declared.moments) for name in declared.views}
                given = {name: one.to(device or torch.device("cpu")) for name, one in given.items()}
                kept = {name: self._sets[name] for name in declared.views}
                counts[asked.label] = {
                    name: one.counts(name in declared.moments, self._seed) for name, one in kept.items()
                }
                result = declared.function(**given, **asked.options)
                n = next(iter(kept.values())).seen
                for name, estimate in estimates(asked.label, result, n).items():
                    if math.isinf(estimate.value):
                        raise ValueError(f"metric {asked.label!r} is infinite: {name} is {estimate.value}")
                    found[name if name not in found else f"{asked.label} {name}"] = estimate
        return (next(iter(found.values())) if self._alone and len(found) == 1 else found), counts


@dataclass(frozen=True)
class _Asked:
    """A metric, its label, and the options that differ from their defaults."""

    metric: Declared
    label: str
    options: Mapping[str, Any]


def _asked(spec: Any, options: Mapping[str, Any]) -> _Asked:
    own = {"metric": spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
    if not isinstance(own.get("metric"), str):
        raise ValueError(f"{spec!r} names no metric: give a name, or {{'metric': name, option: value}}")
    declared: Declared = METRICS[own.pop("metric")]
    name, given = declared.name, {**options, **own}
    if declared.kind != "set":
        raise ValueError(
            f"{name} scores each sample for itself, and needs no stream: call assay.score({name!r}, ...) on a batch"
        )
    if foreign := [view.space for view in declared.views.values() if not extracted(view.space)]:
        raise ValueError(f"{name} reads {foreign[0]} of a generator, which only a run has; use assay.evaluate")
    for option in given:
        if option not in declared.options:
            raise ValueError(unknown(f"option of metric {name}:", option, sorted(declared.options)))
    given = checked(f"metric {name}", declared.types, given)
    return _Asked(declared, label(name, declared.options, given), given)


def _space(features: Any, metrics: Sequence[Declared]) -> Features:
    """The feature space that all metrics share."""
    declared = {view.space: metric for metric in metrics for view in metric.views.values()}
    own = [space for space in declared if space != "features"]
    if features == AUTO:
        if len(own) != 1:
            raise ValueError(
                f"features: {metrics[0].name} is of any feature space: name an extractor such as features='inception', "
                "give a function from images to features, or features=None where batches are features"
            )
        return own[0]
    if features is not None and not isinstance(features, str) and not callable(features):
        raise ValueError(f"features={features!r} must be the name of an extractor, a function, or None")
    for metric in metrics:
        spaces = {view.space for view in metric.views.values()}
        if metric.fixed_features and features is not None and {features} != spaces:
            raise ValueError(
                f"{metric.name} is defined in {' and '.join(spaces)} alone ({metric.source}): leave out features; in "
                "any other space it bears another name, such as frechet_distance"
            )
    if isinstance(features, str):
        EXTRACTORS[features]
    return features  # type: ignore[no-any-return]


def _pictures(name: str, batch: Array) -> Tensor:
    """Images, or volumes [N, 1, R, R, R], in [0, 1]."""
    shape = tuple(getattr(batch, "shape", ()))
    if len(shape) != 5 or shape[1] != 1:
        return images(name, batch)
    return images(name, batch.reshape(shape[0], 1, shape[2], -1)).reshape(shape)
