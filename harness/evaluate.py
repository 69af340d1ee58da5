"""One cell to one record. Read this file first: the rest of assay prepares what it reads or shows what it writes."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .arrays.costs import Cost
from .arrays.records import SCHEMA, read_record, record_path, write_record
from .arrays.store import ScoreKey
from .arrays.views import Views
from .core.files import canonical
from .core.progress import say
from .core.protocols import Cell, Estimate, Record
from .core.registry import METRICS, Metric
from .stats.ranks import mean_with_interval


def evaluate(cell: Cell, views: Views, folder: Path) -> Record:
    """Read the views of a cell, call its metric, write the record. A valid record is not computed again."""
    metric: Metric = METRICS[cell.metric]
    compute = partial(sample_scores if metric.kind == "sample" else set_values, cell, views)
    record = answer(
        cell, metric, partial(view_digests, cell, views), compute, folder, partial(view_preprocessing, cell, views)
    )
    if record.status == "ok":
        for view in cell.views.values():
            views.complete(view, cell.seed, cell.n)
    return record


def answer(
    cell: Cell,
    metric: Metric,
    read_inputs: Callable[[], Mapping[str, str]],
    compute: Callable[[], Any],
    folder: Path,
    preprocessing: Callable[[], Mapping[str, str]] = dict,
) -> Record:
    """The record of a cell: the one on disk where it is valid, else a new one. A failure is recorded as such."""
    path = record_path(folder, cell)
    old = read_record(path)
    inputs: Mapping[str, str] = {}
    values: Mapping[str, Estimate] = {}
    error = None
    with Cost(folder, cell) as cost:
        try:
            inputs = read_inputs()
            if old and is_valid(old, cell, metric, inputs):
                return old
            cost.counts = True
            values = estimates(cell.metric, compute(), cell.n)
        except OSError:  # a full disk or an unreachable data set says nothing about the metric: it stops the run
            raise
        except Exception as failure:
            if old and old.status == "ok" and not inputs:  # what was found before is not lost to what is missing now
                raise
            error = reason(failure)
    record = Record(
        schema=SCHEMA,
        experiment=cell.experiment,
        dataset=cell.dataset,
        generator=cell.generator,
        metric=cell.metric,
        label=cell.label,
        version=metric.version,
        kind=metric.kind,
        better=metric.better,
        source=metric.source,
        params=cell.params,
        views=cell.views,
        seed=cell.seed,
        n=cell.n,
        inputs=inputs,
        preprocessing=preprocessing() if inputs else {},
        status="ok" if error is None else "failed",
        error=error,
        values=values,
        numerics={"torch": torch.__version__, "dtype": "float32"},
    )
    write_record(path, record)
    say(f"{cell.generator} {cell.label}: {shown(record)}  [{cost.seconds:.1f} s]")
    return record


def is_valid(record: Record, cell: Cell, metric: Metric, inputs: Mapping[str, str]) -> bool:
    """Whether a record still answers its cell: neither the metric, nor its options, nor what it read has changed."""
    now = (metric.version, canonical(cell.params), inputs)
    return record.status == "ok" and (record.version, canonical(record.params), record.inputs) == now


def call(cell: Cell, views: Views) -> Any:
    """The metric's own result on the tensors of its views.

    Tensors are shared between the cells of a process: one that writes into them is refused, and they are read again.
    """
    tensors = {name: views.tensor(view, cell.seed, cell.n) for name, view in cell.views.items()}
    versions = {name: tensor._version for name, tensor in tensors.items()}
    result = METRICS[cell.metric].function(**tensors, **cell.params)
    for name, tensor in tensors.items():
        if tensor._version != versions[name]:
            views.forget()
            raise ValueError(f"metric {cell.metric!r} wrote into its argument {name!r}; it must leave its input alone")
    return result


def set_values(cell: Cell, views: Views) -> dict[str, Estimate]:
    """The numbers of a set metric; NaN for an undefined one. Raises ValueError when one is infinite."""
    found = estimates(cell.metric, call(cell, views), cell.n)
    for name, estimate in found.items():
        if math.isinf(estimate.value):
            raise ValueError(f"metric {cell.metric!r} is infinite: {name} is {estimate.value}")
    return found


def sample_scores(cell: Cell, views: Views) -> Tensor:
    """Scores [n] float64 of a sample metric, kept in the store; NaN where the score is not defined."""
    inputs = tuple(sorted(view_digests(cell, views).items()))
    key = ScoreKey(cell.metric, METRICS[cell.metric].version, canonical(cell.params), inputs)

    def make() -> np.ndarray[Any, Any]:
        scores = call(cell, views)
        if not isinstance(scores, Tensor) or scores.shape != (cell.n,):
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(f"metric {cell.metric!r} must return one score per sample, [{cell.n}]; it returned {got}")
        if scores.isinf().any():
            raise ValueError(f"metric {cell.metric!r} is infinite for sample {int(scores.isinf().nonzero()[0])}")
        return scores.double().cpu().numpy()

    return torch.from_numpy(views.store.array(key, make).copy())


def view_digests(cell: Cell, views: Views) -> dict[str, str]:
    return {name: views.digest(view, cell.seed, cell.n) for name, view in cell.views.items()}


def view_preprocessing(cell: Cell, views: Views) -> dict[str, str]:
    """What extractors do to the images of a cell, by view; views that no extractor sees are left out."""
    told = {name: views.preprocessing(view) for name, view in cell.views.items()}
    return {name: text for name, text in told.items() if text}


def estimates(name: str, result: Any, n: int) -> dict[str, Estimate]:
    """A metric's result as named estimates: scores by their mean; a bare number without an interval."""
    if isinstance(result, Mapping):
        return {key: estimate for part, value in result.items() for key, estimate in estimates(part, value, n).items()}
    if isinstance(result, Estimate):
        return {name: result}
    if isinstance(result, Tensor) and result.ndim == 1:
        return {name: mean_with_interval(result)}
    return {name: Estimate(float(result), (float("nan"), float("nan")), n)}


def shown(record: Record) -> str:
    """The answer in a few words."""
    if record.status == "failed":
        return f"FAILED, {record.error}"
    if len(record.values) > 4:
        return f"{len(record.values)} values"
    each = {name: f"{e.value:.4g} ({e.interval[0]:.4g} to {e.interval[1]:.4g})" for name, e in record.values.items()}
    return ", ".join(text if name == record.metric else f"{name} {text}" for name, text in each.items())


def reason(failure: BaseException) -> str:
    """What an exception says, in one line; with its type where it was not written for the user."""
    text = " ".join(str(failure.args[0] if isinstance(failure, KeyError) and failure.args else failure).split())
    return text if isinstance(failure, (ValueError, LookupError, OSError)) else f"{type(failure).__name__}: {text}"
