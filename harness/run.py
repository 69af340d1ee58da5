"""What a run works on: one generator, one data set, and the cells that its config asks for."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .arrays.opened import label as label  # studies import it from here
from .arrays.other_spaces import asks_encoder, encoded, exchangeable, in_space
from .arrays.records import find_record, write_record
from .arrays.views import Views
from .core.abilities import Encoder, FeatureGenerator, HasStatistics
from .core.declarations import Metric
from .core.options import checked
from .core.progress import say_once
from .core.protocols import Cell, Record, View
from .core.registry import METRICS, STUDIES, unknown
from .evaluate import evaluate, reason, sample_scores
from .report.figures import figure_path
from .report.tables import run_name

MetricSpec = str | Mapping[str, Any]
"""The name of a metric, or {metric: name, option: value or list of values, space: ..., encode: ...}."""
Unavailable = Literal["fail", "leave_out"]
MODALITIES = ("image", "shape", "any")
"""Samples for which an entry of a list can be meant."""


@dataclass(frozen=True)
class Run:
    """One generator on one data set, and what its studies compare.

    generator, dataset: names with the options that differ from their defaults.
    n_real:  how many real samples the metrics that take all of them may see; None for all.
    scores:  the per-sample scores under test; quality_signals: independent signs of quality.
    classes: a sample metric that gives the class of each sample, None where there is none; covariates: further sample
             metrics to hold fixed.
    set_metrics: set metrics by which groups of samples are compared.
    written: the records that were written, not found.
    floor:   whether set metrics are also computed of real samples in place of the generated ones.
    unavailable: whether cells of lists, such as `scores`, fail or are left out where the generator or the data set
             lacks what they need.
    data_options: those that the data set was opened with.
    metric_options: of per-sample metrics, by name, where an entry does not set them itself.
    """

    experiment: str
    generator: str
    dataset: str
    views: Views
    folder: Path
    seed: int
    n: int
    n_real: int | None = None
    scores: Sequence[MetricSpec] = ()
    quality_signals: Sequence[MetricSpec] = ()
    classes: MetricSpec | None = None
    covariates: Mapping[str, MetricSpec | Sequence[MetricSpec]] = field(default_factory=dict)
    set_metrics: Sequence[MetricSpec] = ()
    written: list[Record] = field(default_factory=list)
    floor: bool = False
    unavailable: Unavailable = "fail"
    data_options: Mapping[str, Any] = field(default_factory=dict)
    metric_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def cells(self, entries: MetricSpec | Sequence[MetricSpec]) -> list[Cell]:
        """The cells of entries; an entry with lists of values gives one for each combination."""
        if isinstance(entries, (str, Mapping)):
            entries = [entries]
        cells = []
        for entry in entries:
            options = {"metric": entry} if isinstance(entry, str) else dict(entry)
            if "metric" not in options:
                raise ValueError(f"{options} names no metric; write it as {{metric: name, option: value}}")
            if (only := options.pop("modality", "any")) not in MODALITIES:
                raise ValueError(f"modality={only!r} of {options['metric']} must be one of {', '.join(MODALITIES)}")
            if only != "any" and only != self.views.modality:  # the second makes a sample
                continue
            axes = [value if isinstance(value, list) else [value] for value in options.values()]
            given = self.metric_options.get(str(options["metric"]), {})
            for values in itertools.product(*axes):
                cells.append(self.cell(**{**given, **dict(zip(options, values, strict=True))}))
        different = {cell.label: cell for cell in cells}
        if self.unavailable == "fail":
            return list(different.values())
        lacking = {name: why for name, cell in different.items() if (why := self._lacking(cell)) is not None}
        for lack in dict.fromkeys(lacking.values()):
            names = ", ".join(name for name, why in lacking.items() if why == lack)
            say_once(f"{self.generator}: left out: {names}: {lack}")
        return [cell for name, cell in different.items() if name not in lacking]

    def _lacking(self, cell: Cell) -> str | None:
        """What the generator or the data set lacks for a cell; None where nothing."""
        if (why := self.lacks(cell.metric, cell)) is not None:
            return why
        try:
            for view in cell.views.values():
                self.views.try_out(view)
        except ValueError as failure:
            return reason(failure)
        return None

    def cell(
        self,
        metric: str,
        space: str | None = None,
        encode: str | None = None,
        n_real: int | None = None,
        **options: Any,
    ) -> Cell:
        """The cell of one metric; `space` and `encode` replace those of its declared views.

        n_real: how many real samples it may see, where that is another number than for other metrics.
        Raises ValueError where these do not apply to the metric, and for an unknown option.
        """
        declared: Metric = METRICS[metric]
        for name in options:
            if name not in declared.options:
                raise ValueError(unknown(f"option of metric {metric}:", name, sorted(declared.options)))
        options = checked(f"metric {metric}", declared.types, options)
        if declared.fixed_features and (space is not None or encode is not None):
            spaces = ", ".join(dict.fromkeys(view.space for view in declared.views.values()))
            raise ValueError(
                f"{metric} is defined in {spaces} alone ({declared.source}), so leave out space and encode; "
                "in any other space it bears another name, such as frechet_distance"
            )
        there = declared.views if space is None else in_space(declared, space)
        there = self._read(declared, there, dict(declared.options) | options)
        views = there if encode is None else encoded(metric, there, encode)
        moved = any(view.space != declared.views[name].space for name, view in there.items())
        changes = {"space": space} if moved else {}
        changes |= {"encode": encode} if views != there else {}
        encodes = isinstance(self.views.generator, (Encoder, FeatureGenerator))
        compared = any(view.encode == "prior" for view in there.values())  # with codes of the prior, which are others
        if encode is None and not (encodes or compared) and any(map(asks_encoder, views.values())):
            views = {
                name: replace(view, encode="prior") if asks_encoder(view) else view for name, view in views.items()
            }
            changes["encode"] = "prior"
        if n_real is not None:
            changes["n_real"] = str(n_real)
        if (limit := self.n_real if n_real is None else n_real) is not None:
            views = {
                name: replace(view, n=limit) if view.source == "real" and view.n == "all" else view
                for name, view in views.items()
            }
        if isinstance(self.views.data, HasStatistics):
            views = {
                name: replace(view, n="moments") if name in declared.moments and view.source == "real" else view
                for name, view in views.items()
            }
        return replace(
            self._empty,
            metric=metric,
            label=label(metric, declared.options, options | changes),
            params=dict(declared.options) | options,
            views=views,
        )

    def _read(self, metric: Metric, views: Mapping[str, View], options: Mapping[str, Any]) -> Mapping[str, View]:
        """Those of the views that a metric reads with these options."""
        unread = metric.unread(options, lambda names: not any(self.views.lacks(views[name]) for name in names))
        return {name: view for name, view in views.items() if name not in unread}

    def takes_encode(self, metric: str, space: str | None = None) -> bool:
        """Whether a metric, in this space, reads codes that others can replace, so that `cell` takes `encode`."""
        declared: Metric = METRICS[metric]
        there = declared.views if space is None else in_space(declared, space)
        return bool(exchangeable(there)) and not declared.fixed_features

    def available_metrics(self) -> list[str]:
        """Names of the metrics whose views can be had, given this data set, this generator and what is installed."""

        def can_be_had(name: str) -> bool:
            if not self.supports(name):
                return False
            cell = self.cell(name)
            try:
                for view in cell.views.values():
                    self.views.digest(view, cell.seed, cell.n)
                    self.views.try_out(view)
            except (ValueError, LookupError, OSError):
                return False
            return True

        return [name for name in METRICS if can_be_had(name)]

    def supports(self, metric: str) -> bool:
        """Whether the generated samples are what a metric is made for, images or shapes."""
        return METRICS[metric].modality in ("any", self.views.modality)

    def lacks(self, metric: str, cell: Cell) -> str | None:
        """Why a cell makes no sense here: what the generator or the data set lacks for it; None where nothing."""
        if not self.supports(metric):
            return f"made for {METRICS[metric].modality}s, and these samples are {self.views.modality}s"
        return next((why for view in cell.views.values() if (why := self.views.lacks(view))), None)

    def refusal(self, metric: str, options: Mapping[str, Any], why: str) -> Record:
        """The failed record of a metric that has no cell with these options, `space` and `encode` among them."""
        declared: Metric = METRICS[metric]
        params = {key: value for key, value in options.items() if key in declared.options}
        cell = replace(
            self._empty,
            metric=metric,
            label=label(metric, declared.options, options),
            params=dict(declared.options) | params,
            views=declared.views,
        )
        return failed_record(cell, why)

    def refused_study(self, study: str, why: str) -> Record:
        """Write the failed record of a study that could not begin or go on."""
        table = next(iter(STUDIES[study].tables))
        return self.write(failed_record(replace(self._empty, metric=table, label=study), why))

    def write(self, record: Record) -> Record:
        write_record(self.folder, record)
        self.written.append(record)
        return record

    def evaluate(self, cell: Cell) -> Record:
        return evaluate(cell, self.views, self.folder, self.written, self.floor)

    def sample_scores(self, cell: Cell) -> Tensor:
        """Scores [n] of a sample metric; NaN where not defined. Writes the cell's record too."""
        if METRICS[cell.metric].kind != "sample":
            raise ValueError(
                f"{cell.metric!r} is no per-sample score; choose one of `assay list metrics` with kind sample"
            )
        record = self.evaluate(cell)
        if record.status == "failed":
            return torch.full((self.n,), torch.nan, dtype=torch.float64)
        return sample_scores(cell, self.views)

    def sample_classes(self) -> tuple[list[Cell], Tensor]:
        """The cell of `classes`, if any, and the class of each sample [n]; NaN where it is not known."""
        cells = self.cells(self.classes or [])
        if len(cells) > 1:
            raise ValueError(f"classes={self.classes} names {len(cells)} metrics; name one")
        unknown = torch.full((self.n,), torch.nan, dtype=torch.float64)
        return cells, self.sample_scores(cells[0]) if cells else unknown

    def failed(self, cell: Cell) -> bool:
        """Whether a cell could not be evaluated, in this run or, if it was not tried, as its record says."""
        here = [record for record in self.written if record.cell == cell]  # an older answer may stay in its place
        record = here[-1] if here else find_record(self.folder, cell)
        return record is not None and record.status == "failed"

    def oriented(self, cell: Cell) -> Tensor:
        """Scores [n] of a sample metric with the sign turned so that more is better."""
        sign = -1 if METRICS[cell.metric].better == "lower" else 1
        return sign * self.sample_scores(cell)

    def inputs(self, cell: Cell, fake: Callable[[str], Tensor]) -> dict[str, Tensor]:
        """What a metric reads if `fake(space)` takes the place of the generated samples; all else is unchanged."""
        return {
            name: fake(view.space) if view.source == "fake" else self.views.tensor(view, self.seed, self.n)
            for name, view in cell.views.items()
        }

    @property
    def title(self) -> str:
        """What is evaluated, in full: it names rows and pictures."""
        return run_name(self.generator, self.dataset, self.seed, self.n)

    def figure(self, kind: str, *more: object) -> Path:
        """Where a picture of this run lies; the page finds it there by the same kind and words."""
        return figure_path(self.folder, kind, self.title, *more)

    def part(self, table: str, setting: Mapping[str, Any], views: Mapping[str, View]) -> Cell:
        """The cell of a part of a study: of a table, with what its rows have in common."""
        return replace(
            self._empty,
            metric=table,
            label=label(table, {}, dict(sorted(setting.items()))),
            params=setting,
            views=views,
        )

    @property
    def _empty(self) -> Cell:
        return Cell(self.experiment, self.dataset, self.generator, "", "", self.seed, self.n)


def failed_record(cell: Cell, why: str) -> Record:
    """The record of a cell, of a metric or of a study, that could not be evaluated."""
    declaration: dict[str, Any] = {"version": 1, "kind": "study", "better": "neither", "source": "", "columns": ()}
    if tables := [study.tables[cell.metric] for study in STUDIES.values() if cell.metric in study.tables]:
        declaration["columns"] = tables[0]
    if declared := METRICS.get(cell.metric):
        declaration = {name: getattr(declared, name) for name in ("version", "kind", "better", "source")}
        declaration["columns"] = ("name",)
    return Record(cell=cell, rows=(), status="failed", error=why, inputs={}, **declaration)
