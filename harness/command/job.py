"""One job of `assay run`: a generator on a data set, opened, evaluated and recorded, here or by a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays.records import record_name, write_record
from ..core.claims import claimed
from ..core.files import require_plain
from ..core.progress import say_once
from ..core.protocols import Cell
from ..core.registry import GROUPS, METRICS, STUDIES, check_options
from .hydra_jobs import one_line

if TYPE_CHECKING:
    from ..core.protocols import Record
    from ..engines.plan import Job
    from ..run import Run
    from ..sinks.jobs import Evaluated

Tell = Callable[["Evaluated", Sequence["Record"], int], None]
"""What was evaluated, the records of one of its metrics or studies, and of how many."""


class CannotBeginError(Exception):
    """The generator or the data set of a job cannot be opened. why: the error that says why."""

    def __init__(self, why: Exception):
        super().__init__(str(why))
        self.why = why


@dataclass(frozen=True)
class Outcome:
    """What one job of `assay run` says of itself to the command, which may run in another process.

    anew: whether any record or array was made; failed: a line for each record that says so; left_out: metrics that
    nobody named and that cannot be had here, with the reason; samples: which were found and used, a line a source.
    config: of the job; evaluated: what its records are of; records: names of those that answer it, made or found.
    """

    folder: str
    store: str | None
    anew: bool
    failed: Sequence[str]
    left_out: Mapping[str, str]
    samples: Sequence[str]
    config: Mapping[str, Any]
    evaluated: Evaluated
    records: Sequence[str] = ()


def folder_of(config: Mapping[str, Any]) -> Path:
    require_plain(str(config["name"]))
    return Path(config["out"]) / str(config["name"])


def planned_of(config: Mapping[str, Any]) -> Job:
    """What a job is going to evaluate, as far as its config tells."""
    from ..engines.plan import Job
    from ..run import label

    titles = []
    for group in ("generator", "dataset"):
        for name, options in config[group].items():
            titles.append(label(name, GROUPS[group][name].options, options or {}))
    metrics, studies = config.get("metric") or {}, config.get("study") or {}
    title = f"{', '.join(titles)}, seed {config['seed']}"
    return Job(title, dict.fromkeys(metrics, ""), dict.fromkeys(studies, False))


@dataclass(frozen=True)
class Asked:
    """What a job is to evaluate: cells of metrics, by name, and options of studies.

    refused: failed records of metrics that have no cell here. left_out: metrics that nobody named and that cannot be
    had here, with the reason.
    """

    cells: Mapping[str, Cell]
    refused: Mapping[str, Record]
    left_out: Mapping[str, str]
    studies: Mapping[str, Any]


def open_job(config: dict[str, Any], opened: dict[str, tuple[str, Any]]) -> Run:
    """The run of a job. opened: what the job before has opened. Raises CannotBeginError where opening fails."""
    try:
        check_options(config)
        run = _open(config, opened)
        for entries in (run.scores, run.quality_signals, run.set_metrics, *run.covariates.values(), run.classes or ()):
            run.cells(entries)  # before any work, so that an option out of its range is refused at once
    except (LookupError, FileNotFoundError, ValueError) as failure:
        raise CannotBeginError(failure) from failure
    return run


def asked_of(config: Mapping[str, Any], run: Run, from_glob: bool, alone: bool) -> Asked:
    """What a job is to evaluate of what it has opened.

    from_glob: the metric is one of many that nobody named: it is left out where it cannot be had for these samples.
    alone: whether there are no other jobs, so that what is refused is a wrong call, which is raised.
    """
    from ..evaluate import reason

    metrics, studies = config.get("metric") or {}, config.get("study") or {}
    if not metrics and not studies:
        metrics, studies = {name: {} for name in run.available_metrics()}, {"samples": {}}
        say_once(f"no metric and no study chosen, so all {len(metrics)} metrics that have what they need, and samples")
    space = {} if config["space"] is None else {"space": config["space"]}
    encode = {} if config["encode"] is None else {"encode": config["encode"]}
    encoding = [name for name in metrics if _takes_encode(run, name, space)] if encode else []
    if encode and not encoding and not from_glob:
        raise ValueError(
            f"encode={config['encode']}: none of the chosen metrics reads codes of real samples; leave it out"
        )
    left_out: dict[str, str] = {}
    cells: dict[str, Cell] = {}
    refused: dict[str, Record] = {}
    for name, options in metrics.items():
        asked = {**space, **(encode if name in encoding else {}), **(options or {})}
        try:
            cell = run.cell(name, **asked)
        except ValueError as failure:  # one that refuses the space, say: the others go on
            if from_glob:
                left_out[name] = reason(failure)
            elif alone and len(metrics) == 1 and not studies:
                raise
            else:
                refused[name] = run.refusal(name, asked, reason(failure))
            continue
        if from_glob and (why := run.lacks(name, cell)):
            left_out[name] = why
        else:
            cells[name] = cell
    return Asked(cells, refused, left_out, studies)


def evaluate_job(
    config: dict[str, Any],
    from_glob: bool,
    alone: bool,
    opened: dict[str, tuple[str, Any]],
    given_up: Mapping[str, str] | None = None,
    tell: Tell = lambda evaluated, records, planned: None,
) -> Outcome:
    """One generator on one data set: every chosen metric, then every chosen study; see `open_job` and `asked_of`.

    given_up: metrics and studies that are recorded as failed, and why. tell: is called after each metric and study with
    its records, found or made, and with how many metrics and studies there are.
    """
    from ..engines.plan import Plan, job_key
    from ..sinks.jobs import Evaluated

    plan, key, planned, run = Plan(folder_of(config)), job_key(config), planned_of(config), open_job(config, opened)
    arrays, evaluated = run.views.store.made, Evaluated(run.generator, run.dataset, run.seed, run.n)
    waiting = f"{planned.title}: another process is at work on it; this one waits for it"
    with claimed(plan.place / ".claims", key, waiting):
        asked = asked_of(config, run, from_glob, alone)
        cells = {**asked.cells, **{name: record.cell for name, record in asked.refused.items()}}
        planned.metrics = {name: record_name(cell) for name, cell in cells.items()}
        planned.studies = dict.fromkeys(asked.studies, False)
        plan.begin(key, planned)
        total = len(cells) + len(asked.studies)
        answers: list[Record] = []
        for records in _answers(run, asked, partial(plan.go_on, key, planned), planned, given_up or {}, alone):
            answers += records
            tell(evaluated, records, total)
        plan.end(key, planned)
    failed = [record for record in run.written if record.status == "failed"]
    return Outcome(
        folder=str(run.folder),
        store=config["store"],
        anew=bool(run.written) or run.views.store.made > arrays,
        failed=[f"{record.cell.generator} {record.cell.label}: {record.error}" for record in failed],
        left_out=asked.left_out,
        samples=[f"{source}: {' / '.join(words)}" for source, words in run.views.used.items()],
        config=config,
        evaluated=evaluated,
        records=list(dict.fromkeys(record_name(record.cell) for record in [*answers, *run.written])),
    )


def _answers(
    run: Run, asked: Asked, go_on: Callable[[str], None], planned: Job, given_up: Mapping[str, str], alone: bool
) -> Iterator[Sequence[Record]]:
    """The records of each metric and study in turn, found or made. go_on: is called with the name of the next one."""
    from ..evaluate import reason
    from ..run import failed_record
    from ..studies.carry_out import carry_out

    for record in asked.refused.values():
        yield [run.write(record)]
    for name, cell in asked.cells.items():
        go_on(name)
        yield [run.write(failed_record(cell, given_up[name])) if name in given_up else run.evaluate(cell)]
    for name, options in asked.studies.items():
        go_on(name)
        try:
            if name in given_up:
                answer = [run.refused_study(name, given_up[name])]
            else:
                answer = carry_out(run, name, **(options or {}))
        except ValueError as failure:
            if alone:
                raise
            answer = [run.refused_study(name, reason(failure))]
        planned.studies[name] = True
        yield answer


def refused(config: dict[str, Any], failure: Exception) -> Outcome:
    """The outcome of a job that could not begin: all that it was to evaluate is recorded as failed."""
    from ..engines.plan import Plan, job_key
    from ..sinks.jobs import Evaluated

    folder, planned, why = folder_of(config), planned_of(config), one_line(failure)
    metrics, studies = config.get("metric") or {}, config.get("study") or {}
    records = _unopened(config, folder, metrics, studies, why)
    planned.error = why
    Plan(folder).end(job_key(config), planned)
    name = records[0].cell.generator if records else planned.title
    evaluated = Evaluated.of(records[0]) if records else Evaluated(planned.title, "", int(config["seed"]), 0)
    return Outcome(str(folder), config["store"], True, [f"{name}: {why}"], {}, [], config, evaluated)


def _takes_encode(run: Run, name: str, space: Mapping[str, str]) -> bool:
    try:
        return run.takes_encode(name, **space)
    except ValueError:  # it takes no such space either
        return False


def _open(config: dict[str, Any], opened: dict[str, tuple[str, Any]]) -> Run:
    from ..open_run import open_run

    keys = (
        "features",
        "store",
        "device",
        "seed",
        "n",
        "n_real",
        "scores",
        "quality_signals",
        "classes",
        "covariates",
        "set_metrics",
        "floor",
        "unavailable",
    )
    chosen = {key: config[key] for key in keys}
    metrics = config.get("metric") or {}
    given = {name: options for name, options in metrics.items() if METRICS[name].kind == "sample" and options}
    return open_run(
        config["dataset"], config["generator"], folder_of(config), extractors=config["extractor"], opened=opened,
        metric_options=given, **chosen,
    )  # fmt: skip


def _unopened(
    config: Mapping[str, Any],
    folder: Path,
    metrics: Mapping[str, Any],
    studies: Sequence[str] | Mapping[str, Any],
    why: str,
) -> list[Record]:
    """Failed records of all that a config asks of a generator or a data set that cannot be opened.

    These have no fingerprint, so that a file or folder stands in them by its name alone.
    """
    from ..arrays.opened import PATHS, label
    from ..run import failed_record

    names = {}
    for group in ("generator", "dataset"):
        ((name, options),) = config[group].items()
        known = GROUPS[group][name].options
        short = {key: Path(value).name if key in PATHS and value else value for key, value in (options or {}).items()}
        names[group] = label(name, known, {key: value for key, value in short.items() if value != known.get(key)})
    n = config["n"] if isinstance(config["n"], int) else 0
    empty = Cell(folder.name, names["dataset"], names["generator"], "", "", int(config["seed"]), n)
    cells = [
        replace(empty, metric=name, label=label(name, METRICS[name].options, options or {}),
                params=dict(METRICS[name].options) | dict(options or {}))
        for name, options in metrics.items()
    ]  # fmt: skip
    cells += [replace(empty, metric=next(iter(STUDIES[name].tables)), label=name) for name in studies]
    records = [failed_record(cell, why) for cell in cells]
    for record in records:
        write_record(folder, record)
    return records
