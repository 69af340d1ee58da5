"""The jobs of `assay run`: each one generator on one data set, planned before the first one starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..arrays.records import read_records, record_name
from ..core.files import require_writable
from ..core.registry import check_options, discover
from .hydra_jobs import register, run_jobs
from .job import CannotBeginError, Outcome, evaluate_job, folder_of, planned_of, refused

if TYPE_CHECKING:
    from ..sinks.jobs import JobLogs


def carry_out_all(
    overrides: list[str], expanded: Callable[[dict[str, Any]], list[dict[str, Any]]], from_glob: bool, logs: JobLogs
) -> list[Outcome]:
    """The outcomes of all jobs of a command, each of which is planned before the first one starts.

    logs: gets records as they come, and each job when it is done.
    """
    from ..engines.plan import Plan, job_key
    from ..engines.tasks import LostError, engine
    from .objective import objective
    from .sweep import configs
    from .waves import Task, carry_out, logged

    register(overrides, "evaluate")
    composed = configs("evaluate", overrides)
    if composed is None:  # Hydra's launcher or sweeper knows which jobs there are

        def jobs(config: dict[str, Any]) -> list[dict[str, Any]]:
            discover()
            found = []
            for one in expanded(config):
                if one["engine"]["name"] != "local":
                    raise ValueError("Hydra's launcher or sweeper gives out these jobs itself: leave out engine=...")
                try:
                    with engine(one["engine"], Plan(folder_of(one)).place / "logs"):
                        found.append(evaluate_job(one, from_glob, False, {}))
                except CannotBeginError as failure:
                    found.append(refused(one, failure.why))
            return list(map(asdict, found))

        def value(config: dict[str, Any], done: list[dict[str, Any]]) -> float:
            named = {name for one in done for name in one["records"]}
            records = [one for one in read_records(folder_of(config)) if record_name(one.cell) in named]
            return objective(config["objective"], records)

        answers = [Outcome(**fields) for done in run_jobs("evaluate", overrides, jobs, value) for fields in done]
        logs.jobs = len(answers)
        return [logged(outcome, logs) for outcome in answers]
    planned = [one for config in composed for one in expanded(config)]
    if any(config["engine"] != planned[0]["engine"] for config in planned):
        raise ValueError("one engine carries out all jobs of a command: choose one value of engine and of its options")
    for config in planned:
        check_options(config)
        require_writable(folder_of(config))
        Plan(folder_of(config)).add(job_key(config), planned_of(config))
    logs.jobs = len(planned)
    logs.begin(planned)
    tasks = [Task(config, from_glob, len(planned) == 1) for config in planned]
    with engine(planned[0]["engine"], Plan(folder_of(planned[0])).place / "logs") as workers:
        done = carry_out(workers, tasks, logs)
    outcomes = [one for one in done if isinstance(one, Outcome)]
    unopened = [(config, one) for config, one in zip(planned, done, strict=True) if isinstance(one, Exception)]
    if not outcomes and not isinstance(unopened[0][1], LostError):  # a wrong call, of which nothing is recorded
        raise unopened[0][1]
    return outcomes + [logged(refused(config, failure), logs) for config, failure in unopened]


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
