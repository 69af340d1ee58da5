"""The sinks of a command: a run of them for each of its jobs, and where these are several one for their report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from ..arrays.records import read_records
from ..core.files import digest
from ..core.protocols import Record
from ..core.registry import SINKS
from ..report.tables import run_name
from .log import Log
from .payload import command_of, config_of
from .protocol import About


class Evaluated(NamedTuple):
    """What a job has evaluated, as its records name it."""

    generator: str
    dataset: str
    seed: int
    n: int

    @classmethod
    def of(cls, record: Record) -> Evaluated:
        return cls(record.cell.generator, record.cell.dataset, record.cell.seed, record.cell.n)


class JobLogs:
    """Belongs to the process that gathers the outcomes of jobs; the jobs themselves may run in others.

    words: the command as it was typed. jobs: how many there are; the report of a single one goes to its own run.
    """

    def __init__(self, words: Sequence[str], jobs: int = 1):
        self._command, self.jobs = command_of(words), jobs
        self._logs: dict[str, Log] = {}
        self._dead: set[str] = set()

    def __enter__(self) -> JobLogs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for log in self._logs.values():
            log.close(failed=True)

    def begin(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """The jobs of a command are planned, and none has begun."""
        for config in configs:
            Log(self._about(config, "", "evaluate"), chosen(config), self._dead).begin()

    def evaluated(
        self, key: str, config: Mapping[str, Any], evaluated: Evaluated, records: Sequence[Record], planned: int
    ) -> None:
        """One of the planned metrics and studies of a job is done. key: by which the job is known; records: of it."""
        if chosen(config):
            self._log(key, config, evaluated).evaluated(records, planned)

    def done(self, key: str, config: Mapping[str, Any], evaluated: Evaluated) -> None:
        """A job is at its end, or could not begin. Its run gets all numbers; among other jobs it is closed."""
        if not chosen(config):
            return
        records = [record for record in read_records(_folder(config)) if Evaluated.of(record) == evaluated]
        log = self._log(key, config, evaluated)
        log.summary(records)
        if self.jobs > 1:
            log.table(records)
            log.close(any(record.status == "failed" for record in records))
            del self._logs[key]

    def reported(self, config: Mapping[str, Any], failed: bool) -> None:
        """The report of a results folder is made. config: of one of the jobs that write there; failed: if any did."""
        if not chosen(config):
            return
        folder = _folder(config)
        if self.jobs == 1 and self._logs:
            ((key, log),) = self._logs.items()
            del self._logs[key]
        else:
            log = Log(self._about(config, folder.name, "report"), chosen(config), self._dead)
        log.report(folder)
        log.close(failed)

    def _log(self, key: str, config: Mapping[str, Any], evaluated: Evaluated) -> Log:
        if key not in self._logs:
            about = self._about(config, run_name(*evaluated), "evaluate")
            self._logs[key] = Log(about, chosen(config), self._dead)
        return self._logs[key]

    def _about(self, config: Mapping[str, Any], name: str, kind: Any) -> About:
        folder = _folder(config)
        group = f"{folder.name}-{digest(self._command)[:8]}"
        return About(name, kind, group, folder, config_of(config), self._command)


@contextmanager
def log_of_training(name: str, out: Path, config: Mapping[str, Any], words: Sequence[str]) -> Iterator[Log]:
    """What a training tells its sinks. out: the folder of its weights."""
    command = command_of(words)
    log = Log(About(name, "train", f"train-{digest(command)[:8]}", out, config_of(config), command), chosen(config))
    log.begin()
    try:
        yield log
    except BaseException:
        log.close(failed=True)
        raise
    log.close()


def chosen(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The sinks that a config asks for, with their options; it may also set options of others."""
    asked = {name: options or {} for name, options in (config.get("sink") or {}).items()}
    return {name: options for name, options in asked.items() if SINKS[name].options.keys() <= options.keys()}


def _folder(config: Mapping[str, Any]) -> Path:
    return Path(config["out"]) / str(config["name"])
