"""The jobs of `assay run`: each one generator on one data set, planned before the first one starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays.records import read_records, record_name, write_record
from ..core.files import require_plain, require_writable
from ..core.progress import say
from ..core.protocols import Cell
from ..core.registry import GROUPS, METRICS, STUDIES, Registry, check_options, discover
from .hydra_jobs import one_line, register, run_jobs

if TYPE_CHECKING:
    from ..core.protocols import Record
    from ..engines.plan import Job
    from ..run import Run
    from ..sinks.jobs import Evaluated, JobLogs


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
    records: names of the records that answer it, made or found. config: of the job; evaluated: what its records are of.
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


def carry_out_all(
    overrides: list[str], expanded: Callable[[dict[str, Any]], list[dict[str, Any]]], from_glob: bool, logs: JobLogs
) -> list[Outcome]:
    """The outcomes of all jobs of a command, each of which is planned before the first one starts.

    logs: is told of records as they come, and of jobs that are done.
    """
    from ..engines.plan import Plan, job_key
    from .objective import objective
    from .sweep import configs

    register(overrides, "evaluate")
    composed = configs("evaluate", overrides)
    if composed is None:  # Hydra's launcher or sweeper knows which jobs there are

        def jobs(config: dict[str, Any]) -> list[dict[str, Any]]:
            discover()
            found = []
            for one in expanded(config):
                try:
                    found.append(_job(one, from_glob, False, {}))
                except CannotBeginError as failure:
                    found.append(_refused(one, failure.why))
            return list(map(asdict, found))

        def value(config: dict[str, Any], done: list[dict[str, Any]]) -> float:
            named = {name for one in done for name in one["records"]}
            records = [one for one in read_records(_folder(config)) if record_name(one.cell) in named]
            return objective(config["objective"], records)

        answers = [Outcome(**fields) for done in run_jobs("evaluate", overrides, jobs, value) for fields in done]
        logs.jobs = len(answers)
        return [_logged(outcome, logs) for outcome in answers]
    planned = [one for config in composed for one in expanded(config)]
    for config in planned:
        check_options(config)
        require_writable(_folder(config))
        Plan(_folder(config)).add(job_key(config), _planned(config))
    opened: dict[str, tuple[str, Any]] = {}
    outcomes, refused = list[Outcome](), list[tuple[dict[str, Any], Exception]]()
    logs.jobs = len(planned)
    for config in planned:
        try:
            outcome = _job(
                config, from_glob, len(planned) == 1, opened, partial(logs.evaluated, job_key(config), config)
            )
            outcomes.append(_logged(outcome, logs))
        except CannotBeginError as failure:
            refused.append((config, failure.why))
    if not outcomes:  # none could begin: a wrong call, of which nothing is recorded
        raise refused[0][1]
    return outcomes + [_logged(_refused(config, failure), logs) for config, failure in refused]


def _logged(outcome: Outcome, logs: JobLogs) -> Outcome:
    from ..engines.plan import job_key
    from ..sinks.jobs import Evaluated

    logs.done(job_key(outcome.config), outcome.config, Evaluated(*outcome.evaluated))
    return outcome


def with_paths(
    config: dict[str, Any], paths: Mapping[tuple[str, str, str], str], fakes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A config for each set of generated samples that was given by its path, or the one there is.

    paths: options that Hydra's grammar never sees, by group, name and option. fakes: paths of samples by name.
    """
    for (group, name, option), path in paths.items():
        config[group][name][option] = path
    if not fakes:
        return [config]
    replayed = config["generator"]["replay"]
    return [config | {"generator": {"replay": replayed | {"path": path, "name": name}}} for name, path in fakes.items()]


def _folder(config: Mapping[str, Any]) -> Path:
    require_plain(str(config["name"]))
    return Path(config["out"]) / str(config["name"])


def _planned(config: Mapping[str, Any]) -> Job:
    """What a job is going to evaluate, as far as its config tells."""
    from ..engines.plan import Job
    from ..run import label

    titles = []
    for group in ("generator", "dataset"):
        for name, options in config[group].items():
            titles.append(label(name, GROUPS[group][name].options, options or {}))
    metrics, studies = (chosen(config.get(group) or {}, GROUPS[group]) for group in ("metric", "study"))
    title = f"{', '.join(titles)}, seed {config['seed']}"
    return Job(title, dict.fromkeys(metrics, ""), dict.fromkeys(studies, False))


def _job(
    config: dict[str, Any],
    from_glob: bool,
    alone: bool,
    opened: dict[str, tuple[str, Any]],
    tell: Callable[[Evaluated, Sequence[Record], int], None] = lambda evaluated, records, planned: None,
) -> Outcome:
    """One generator on one data set: every chosen metric, then every chosen study.

    from_glob: the metric is one of many that nobody named: it is left out where it cannot be had for these samples.
    alone: whether there are no other jobs, so that a study that refuses its options is a wrong call.
    opened: what the job before has opened. tell: is called after each metric and study with its records, found or made,
    and with how many metrics and studies there are. Raises CannotBeginError where opening fails.
    """
    from ..engines.plan import Plan, job_key
    from ..evaluate import reason
    from ..sinks.jobs import Evaluated
    from ..studies.carry_out import carry_out

    plan, key, planned = Plan(_folder(config)), job_key(config), _planned(config)
    metrics, studies = (chosen(config.get(group) or {}, GROUPS[group]) for group in ("metric", "study"))
    try:
        check_options(config)
        run = _open(config, opened)
        for entries in (run.scores, run.quality_signals, run.set_metrics, *run.covariates.values(), run.classes or ()):
            run.cells(entries)  # before any work, so that an option out of its range is told at once
    except (LookupError, FileNotFoundError, ValueError) as failure:
        raise CannotBeginError(failure) from failure
    arrays = run.views.store.made
    if not metrics and not studies:
        metrics, studies = {name: {} for name in run.available_metrics()}, {"samples": {}}
        say(f"no metric and no study chosen, so all {len(metrics)} metrics that have what they need, and samples")
    space = {} if config["space"] is None else {"space": config["space"]}
    encode = {} if config["encode"] is None else {"encode": config["encode"]}
    encoding = [name for name in metrics if _takes_encode(run, name, space)] if encode else []
    if encode and not encoding and not from_glob:
        raise ValueError(
            f"encode={config['encode']}: none of the chosen metrics reads codes of real samples; leave it out"
        )
    left_out: dict[str, str] = {}
    cells: dict[str, Cell] = {}
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
                cells[name] = run.refused(name, asked, reason(failure)).cell
            continue
        if from_glob and (why := run.lacks(name, cell)):
            left_out[name] = why
        else:
            cells[name] = cell
    planned.metrics = {name: record_name(cell) for name, cell in cells.items()}
    planned.studies = dict.fromkeys(studies, False)
    plan.begin(key, planned)
    refused = {record_name(record.cell): record for record in run.written}
    evaluated = Evaluated(run.generator, run.dataset, run.seed, run.n)
    answers: list[Record] = []
    for name, cell in cells.items():
        record = refused.get(planned.metrics[name]) or run.evaluate(cell)
        answers.append(record)
        tell(evaluated, [record], len(cells) + len(studies))
    for name, options in studies.items():
        before = len(run.written)
        try:
            answers += carry_out(run, name, **(options or {}))
        except ValueError as failure:
            if alone:
                raise
            run.refused_study(name, reason(failure))
        planned.studies[name] = True
        tell(evaluated, run.written[before:], len(cells) + len(studies))
    plan.end(key, planned)
    failed = [record for record in run.written if record.status == "failed"]
    return Outcome(
        folder=str(run.folder),
        store=config["store"],
        anew=bool(run.written) or run.views.store.made > arrays,
        failed=[f"{record.cell.generator} {record.cell.label}: {record.error}" for record in failed],
        left_out=left_out,
        samples=[f"{source}: {' / '.join(words)}" for source, words in run.views.used.items()],
        records=list(dict.fromkeys(record_name(record.cell) for record in [*answers, *run.written])),
        config=config,
        evaluated=evaluated,
    )


def _refused(config: dict[str, Any], failure: Exception) -> Outcome:
    """The outcome of a job that could not begin: all that it was to evaluate is recorded as failed."""
    from ..engines.plan import Plan, job_key
    from ..sinks.jobs import Evaluated

    folder, planned, why = _folder(config), _planned(config), one_line(failure)
    metrics, studies = (chosen(config.get(group) or {}, GROUPS[group]) for group in ("metric", "study"))
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


def chosen(node: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """Those of {name: options} that were chosen: an experiment also sets options of studies that were left out."""
    return {name: options for name, options in node.items() if set(registry[name].options) <= set(options or {})}


def _open(config: dict[str, Any], opened: dict[str, tuple[str, Any]]) -> Run:
    from ..run import open_run

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
    )
    chosen = {key: config[key] for key in keys}
    metrics = config.get("metric") or {}
    given = {name: options for name, options in metrics.items() if METRICS[name].kind == "sample" and options}
    return open_run(
        config["dataset"], config["generator"], _folder(config), extractors=config["extractor"], opened=opened,
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
    from ..run import PATHS, failed_record, label

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
