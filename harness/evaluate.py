"""One cell to one record. Read this file first: the rest of assay prepares what it reads or shows what it writes."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .arrays.costs import Cost
from .arrays.records import USED, find_record, write_record
from .arrays.schema2 import METRIC_VERSION, OLD
from .arrays.scores import score_key
from .arrays.spaces import extracted
from .arrays.store import ScoreKey
from .arrays.views import Views
from .core.declarations import Metric
from .core.files import canonical
from .core.progress import say, say_done
from .core.protocols import Better, Cell, Estimate, Floor, Record, Row
from .core.registry import METRICS
from .stats import intervals

FLOOR_OF = "floor of "
"""Before the name of a metric, in the key of what it says of real samples."""


@dataclass(frozen=True)
class Question:
    """A cell and how to answer it.

    inputs: what the answer depends on, by name, found without computing it; recheck(name): the same for an input that
    an earlier answer named beside these, None where that cannot be known.
    compute: the rows, and what was read beyond `inputs`; preprocessing: what extractors do to the images it reads;
    numerics: with what the numbers were computed. samples: of each view, how many were found and used; floor: what the
    metric says of real samples in place of generated ones, None where that is not asked.
    """

    cell: Cell
    version: int
    columns: Sequence[str]
    inputs: Callable[[], Mapping[str, str]]
    compute: Callable[[], tuple[Sequence[Row], Mapping[str, str]]]
    preprocessing: Callable[[], Mapping[str, str]]
    numerics: Callable[[], Mapping[str, str]]
    recheck: Callable[[str], str | None] = lambda name: None
    samples: Callable[[], Mapping[str, Mapping[str, int]]] = dict
    floor: Callable[[], Floor] | None = None
    kind: Literal["set", "sample", "study"] = "study"
    better: Better = "neither"
    source: str = ""


class StudyError(ValueError):
    """A study yielded what cannot be recorded."""


def evaluate(cell: Cell, views: Views, folder: Path, written: list[Record], floor: bool = False) -> Record:
    """Read the views of a cell, call its metric, write the record. A valid record is not computed again.

    written: a new record is added here. floor: whether a metric that has a floor is computed of real samples too.
    """
    metric: Metric = METRICS[cell.metric]
    compute = sample_scores if metric.kind == "sample" else set_values

    def rows() -> tuple[list[Row], Mapping[str, str]]:
        found = estimates(cell.metric, compute(cell, views), cell.n)
        return [Row((name,), estimate) for name, estimate in found.items()], {}

    question = Question(
        cell=cell,
        version=metric.version,
        columns=("name",),
        inputs=partial(view_digests, cell, views),
        compute=rows,
        preprocessing=partial(view_preprocessing, cell, views),
        numerics=partial(stored_numerics if metric.kind == "sample" else cell_numerics, cell, views),
        kind=metric.kind,
        better=metric.better,
        source=metric.source,
        samples=partial(view_samples, cell, views),
        floor=partial(floor_of, cell, views) if floor and has_floor(cell) else None,
    )
    record = evaluate_or_load(question, views, folder, written)
    if record.status == "ok":
        if metric.kind == "sample" and not views.store.has(score_key(record)):
            sample_scores(cell, views)  # a valid record does not stand for the scores of each sample
        for view in cell.views.values():
            views.complete(view, cell.seed, cell.n)
    return record


def evaluate_or_load(question: Question, views: Views, folder: Path, written: list[Record]) -> Record:
    """The record of a cell: the one on disk where it is valid, else a new one. A failure is recorded as such.

    Where there is an older answer and its inputs cannot be found now, that answer stays on disk, and the failure is
    printed and returned.
    Raises StudyError, and OSError, since a full disk says nothing about the metric; a file that is not there does.
    """
    cell = question.cell
    old = find_record(folder, cell)
    inputs: Mapping[str, str] = {}
    rows: Sequence[Row] = ()
    error = None
    with Cost(folder, cell) as cost:
        try:
            inputs = question.inputs()
            if old and is_valid(old, question, inputs):
                if question.floor is None or old.floor is not None:
                    return old
                record = replace(old, floor=question.floor())
                write_record(folder, record)
                written.append(record)
                return record
            cost.counts = True
            rows, read = question.compute()
            inputs = {**read, **inputs}
        except StudyError:
            raise
        except Exception as failure:
            if isinstance(failure, OSError) and not isinstance(failure, FileNotFoundError):
                raise
            error = reason(failure)
    record = Record(
        cell=cell,
        version=question.version,
        kind=question.kind,
        better=question.better,
        source=question.source,
        columns=question.columns,
        rows=rows,
        status="ok" if error is None else "failed",
        error=error,
        inputs=inputs,
        preprocessing=question.preprocessing() if inputs else {},
        numerics=question.numerics(),
        samples=question.samples() if inputs else {},
        floor=question.floor() if question.floor and error is None else None,
    )
    if error is None or inputs or not (old and old.status == "ok"):
        write_record(folder, record)
    written.append(record)
    line = f"{cell.generator} {cell.label}: {formatted(record)}  [{cost.seconds:.1f} s]"
    say_done(line, cost.seconds) if error is None else say(line)
    return record


def is_valid(record: Record, question: Question, inputs: Mapping[str, str]) -> bool:
    """Whether a record still answers its cell: neither the metric, nor its options, nor what it read has changed."""
    now = (question.version, canonical(question.cell.params))
    if record.status != "ok" or (record.version, canonical(record.cell.params)) != now:
        return False
    if any(name.startswith(OLD) for name in record.inputs):
        return _agrees_with_schema2(record, inputs)
    others = record.inputs.keys() - inputs.keys()
    return all(record.inputs.get(name) == value for name, value in inputs.items()) and all(
        question.recheck(name) == record.inputs[name] for name in others
    )


def _agrees_with_schema2(record: Record, inputs: Mapping[str, str]) -> bool:
    """Whether all that a study reads today is among what it had read: the first release noted it by other names.

    What a metric read was noted as its version, a state and a digest; what no metric read as a digest alone.
    """
    noted = {_ends(value) for value in record.inputs.values() if "failed" not in value.split()}
    used = {value for name, value in inputs.items() if name.startswith(USED)}
    read = [_ends(value) for name, value in inputs.items() if not name.startswith(USED)]
    return used <= {METRIC_VERSION} and all({(first, last), (last, last)} & noted for first, last in read)


def _ends(text: str) -> tuple[str, str]:
    """The first and the last word."""
    return text.partition(" ")[0], text.rpartition(" ")[2]


def call(cell: Cell, views: Views) -> Any:
    """The metric's own result on the tensors of its views.

    Tensors are shared between the cells of a process: one that writes into them is refused, and they are read again.
    Raises ValueError with the number of generated samples where a metric needs more.
    """
    given = {name: views.given(view, cell.seed, cell.n) for name, view in cell.views.items()}
    tensors = {name: array for name, array in given.items() if isinstance(array, Tensor)}
    versions = {name: tensor._version for name, tensor in tensors.items()}
    try:
        result = METRICS[cell.metric].function(**given, **cell.params)
    except ValueError as failure:
        raise _with_number(failure, cell, tensors) from failure
    for name, tensor in tensors.items():
        if tensor._version != versions[name]:
            views.forget()
            raise ValueError(f"metric {cell.metric!r} wrote into its argument {name!r}; it must leave its input alone")
    return result


def _with_number(failure: ValueError, cell: Cell, tensors: Mapping[str, Tensor]) -> ValueError:
    """What a metric refuses, with the number of generated samples where a view is small because they are few."""
    as_many = [name for name, view in cell.views.items() if view.source != "fake" and view.n == "same"]
    few = any(f"{name} has {cell.n} row" in str(failure) for name in cell.views)
    if few and any(len(tensors[name]) == cell.n for name in as_many):
        made = "1 sample was generated" if cell.n == 1 else f"{cell.n} samples were generated"
        return ValueError(f"{made}, and as many real ones are compared with them; this metric needs more: {failure}")
    return failure


def set_values(cell: Cell, views: Views) -> dict[str, Estimate]:
    """The numbers of a set metric; NaN for an undefined one. Raises ValueError when one is infinite."""
    found = estimates(cell.metric, call(cell, views), cell.n)
    for name, estimate in found.items():
        if math.isinf(estimate.value):
            raise ValueError(f"metric {cell.metric!r} is infinite: {name} is {estimate.value}")
    return found


def sample_scores(cell: Cell, views: Views) -> Tensor:
    """Scores [n] float64 of a sample metric, kept in the store; NaN where the score is not defined."""

    def make() -> np.ndarray[Any, Any]:
        scores = call(cell, views)
        if not isinstance(scores, Tensor) or scores.shape != (cell.n,):
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(f"metric {cell.metric!r} must return one score per sample, [{cell.n}]; it returned {got}")
        if scores.isinf().any():
            raise ValueError(f"metric {cell.metric!r} is infinite for sample {int(scores.isinf().nonzero()[0])}")
        return scores.double().cpu().numpy()

    scores = views.store.array(_score_key(cell, views), make, partial(cell_numerics, cell, views))
    return torch.from_numpy(scores.copy())


def _score_key(cell: Cell, views: Views) -> ScoreKey:
    inputs = tuple(sorted(view_digests(cell, views).items()))
    return ScoreKey(cell.metric, METRICS[cell.metric].version, canonical(cell.params), inputs)


def view_digests(cell: Cell, views: Views) -> dict[str, str]:
    return {name: views.digest(view, cell.seed, cell.n) for name, view in cell.views.items()}


def view_samples(cell: Cell, views: Views) -> dict[str, dict[str, int]]:
    return {name: views.samples(view, cell.seed, cell.n) for name, view in cell.views.items()}


def has_floor(cell: Cell) -> bool:
    """Whether a cell compares generated samples with real ones, as images or through extractors, and nothing else."""
    sources = sorted(view.source for view in cell.views.values())
    seen = all(view.space == "images" or extracted(view.space) for view in cell.views.values())
    return METRICS[cell.metric].kind == "set" and sources == ["fake", "real"] and seen


def floor_of(cell: Cell, views: Views) -> Floor:
    """What a metric says of other real samples in place of the generated ones; kept in the store for all generators."""
    (real,) = (view for view in cell.views.values() if view.source == "real")
    try:
        stand_in, these, those = views.floor(real, cell.seed, cell.n)
    except ValueError as failure:
        return Floor([], 0, "", reason(failure))
    others = "held out" if stand_in.source == "holdout" else "other real samples"
    samples = f"{these.count:,} {others} against {those.count:,} real"
    read = {
        name: (replace(stand_in, space=view.space), these) if view.source == "fake" else (view, those)
        for name, view in cell.views.items()
    }

    def make() -> np.ndarray[Any, Any]:
        tensors = {name: views.tensor_of(*what) for name, what in read.items()}
        found = estimates(cell.metric, METRICS[cell.metric].function(**tensors, **cell.params), these.count)
        rows = [(name, (one.value, *one.interval, one.n, one.missing)) for name, one in found.items()]
        return np.array(rows, [("name", f"U{max(map(len, found))}"), ("numbers", "f8", 5)])

    inputs = tuple(sorted((name, views.digest_of(*what)) for name, what in read.items()))
    key = ScoreKey(f"{FLOOR_OF}{cell.metric}", METRICS[cell.metric].version, canonical(cell.params), inputs)
    try:
        stored = views.store.array(key, make)
    except OSError:
        raise
    except Exception as failure:
        return Floor([], these.count, samples, reason(failure))
    rows = []
    for name, (value, low, high, n, missing) in zip(stored["name"], stored["numbers"].tolist(), strict=True):
        rows.append(Row((str(name),), Estimate(value, (low, high), int(n), int(missing))))
    return Floor(rows, these.count, samples)


def view_preprocessing(cell: Cell, views: Views) -> dict[str, str]:
    """What extractors do to the images of a cell, by view; views in spaces without an extractor are left out."""
    texts = {name: views.preprocessing(view) for name, view in cell.views.items()}
    return {name: text for name, text in texts.items() if text}


def numerics(device: torch.device, dtypes: Iterable[str | None]) -> dict[str, str]:
    """With what numbers are computed here; dtypes: of the arrays that are read for them."""
    read = sorted({dtype for dtype in dtypes if dtype})
    return {
        "assay": version("assay"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        **({"dtype": ", ".join(read)} if read else {}),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
    }


def cell_numerics(cell: Cell, views: Views) -> dict[str, str]:
    """With what a metric is computed here on the arrays of its views."""
    return numerics(views.device, [views.dtype(view, cell.seed, cell.n) for view in cell.views.values()])


def stored_numerics(cell: Cell, views: Views) -> dict[str, str]:
    """With what the scores of a sample metric were computed, maybe by another process or on another device."""
    try:
        key = _score_key(cell, views)
    except (ValueError, LookupError, FileNotFoundError):  # a view that cannot be had: nothing was computed
        return cell_numerics(cell, views)
    return (views.store.numerics(key) if views.store.has(key) else {}) or cell_numerics(cell, views)


def estimates(name: str, result: Any, n: int) -> dict[str, Estimate]:
    """A metric's result as named estimates: scores by their mean; a bare number without an interval."""
    if isinstance(result, Mapping):
        return {key: estimate for part, value in result.items() for key, estimate in estimates(part, value, n).items()}
    if isinstance(result, Estimate):
        return {name: result}
    if isinstance(result, Tensor) and result.ndim == 1:
        return {name: intervals.mean(result)}
    return {name: Estimate(float(result), (float("nan"), float("nan")), n)}


def formatted(record: Record) -> str:
    """The answer in a few words."""
    if record.status == "failed":
        return f"FAILED, {record.error}"
    if len(record.rows) > 4 or record.kind == "study":
        return f"{len(record.rows)} values"
    each = {name: f"{e.value:.4g} ({e.interval[0]:.4g} to {e.interval[1]:.4g})" for name, e in record.values.items()}
    return ", ".join(text if name == record.cell.metric else f"{name} {text}" for name, text in each.items())


def reason(failure: BaseException) -> str:
    """What an exception says, in one line; with its type where it was not written for the user."""
    text = " ".join(str(failure.args[0] if isinstance(failure, KeyError) and failure.args else failure).split())
    written = isinstance(failure, (ValueError, LookupError, OSError, StudyError))
    return text if written else f"{type(failure).__name__}: {text}"
