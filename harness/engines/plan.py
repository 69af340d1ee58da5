"""What a command has planned, and how far it is. It lies beside the results, since hosts and times are no results.

<out>/<name>.plan/ has a file for each job, one generator on one data set with one seed. All are written before the
first job starts, so that what is missing is known after a kill.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..arrays.records import read_records, record_name
from ..core.files import digest, writing
from ..core.locks import hold, host, if_left, release

State = Literal["planned", "running", "finished"]
SILENT = 10 * 60.0
"""After so many seconds without a new time of its file, a job on another host is taken to be lost."""


@dataclass
class Job:
    """One job of a command.

    title: what it evaluates, in words. metrics: by label, the file of the record, "" where it is not known yet.
    studies: by name, whether it was carried out to its end. error: why the job could not begin. seconds: that it took.
    host, process, begun: where and when it runs, or ran last. at: the metric or study that it was last at.
    is_alive: whether somebody is at work on it, as far as can be known from here; found anew whenever it is read.
    """

    title: str
    metrics: dict[str, str] = field(default_factory=dict)
    studies: dict[str, bool] = field(default_factory=dict)
    state: State = "planned"
    error: str = ""
    seconds: float = 0.0
    host: str = ""
    process: int = 0
    begun: float = 0.0
    at: str = ""
    is_alive: bool = False

    def __str__(self) -> str:
        where = "" if self.host == host() else f" on {self.host}"
        return f"{self.title}, {f'at {self.at}, ' if self.at else ''}process {self.process}{where}"


KINDS = {name: (int, float) if name in ("seconds", "begun") else type(value) for name, value in vars(Job("")).items()}


@dataclass(frozen=True)
class Plan:
    """The jobs of a results folder. A job is found by a key of all that decides what it evaluates.

    part: a folder within; "arrays" has the parts of views that workers are making.
    """

    folder: Path
    part: str = ""

    @property
    def place(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.plan") / self.part

    def file(self, key: str) -> Path:
        return self.place / f"{key}.json"

    def add(self, key: str, job: Job) -> None:
        """Plan a job, unless it is known and asks for the same."""
        known = self.read(key)
        if known is None or (set(known.metrics), set(known.studies)) != (set(job.metrics), set(job.studies)):
            self.write(key, job)

    def begin(self, key: str, job: Job) -> None:
        job.state, job.host, job.process, job.begun, job.at = "running", host(), os.getpid(), time.time(), ""
        self.write(key, job)

    def go_on(self, key: str, job: Job, at: str) -> None:
        job.at = at
        self.write(key, job)

    def end(self, key: str, job: Job) -> None:
        job.state, job.seconds = "finished", time.time() - job.begun
        self.write(key, job)

    def forget(self, key: str) -> None:
        self.file(key).unlink(missing_ok=True)

    def write(self, key: str, job: Job) -> None:
        """The file of a job that runs stays locked, so that others see whether its process still does."""
        fields = {name: value for name, value in vars(job).items() if name != "is_alive"}
        with writing(self.file(key), lasting=False) as file:
            file.write(json.dumps(fields).encode())
            opened = os.dup(file.fileno())
        if job.state == "running":
            hold(self.file(key), opened)
        else:
            os.close(opened)
            release(self.file(key))

    def read(self, key: str) -> Job | None:
        """None where there is no such job, or what is there is damaged."""
        try:
            job = Job(**json.loads(self.file(key).read_bytes()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        if not all(isinstance(value, KINDS[name]) for name, value in vars(job).items()):
            return None
        if job.state == "running":
            with if_left(self.file(key), job.host, SILENT) as left:
                job.is_alive = not left and self.file(key).exists()
        return job

    def jobs(self) -> list[Job]:
        found = (self.read(path.stem) for path in sorted(self.place.glob("[!.]*.json")))
        return sorted((job for job in found if job), key=lambda job: job.title)


def job_key(config: Mapping[str, Any]) -> str:
    """A name for all that decides what a job evaluates: who does it, where, and where results go does not."""
    elsewhere = ("device", "store", "out", "engine", "sink")
    return digest({name: value for name, value in config.items() if name not in elsewhere})[:16]


@dataclass(frozen=True)
class Status:
    """Numbers of metrics and studies by state; what failed and why; which jobs are at work; the expected rest time.

    counts: done, failed, running, missing. rest: seconds, None where no job has finished yet.
    """

    counts: Mapping[str, int]
    failed: Sequence[str]
    missing: Sequence[str]
    running: Sequence[str]
    rest: float | None

    def __str__(self) -> str:
        lines = [", ".join(f"{name} {count:,}" for name, count in self.counts.items())]
        lines += [f"failed: {line}" for line in self.failed]
        lines += [f"running: {line}" for line in self.running]
        lines += [f"missing: {line}" for line in self.missing]
        if self.counts["missing"] + self.counts["running"]:
            lines.append("expected rest time: " + ("unknown yet" if self.rest is None else _in_words(self.rest)))
        return "\n".join(lines)


def status(folder: Path) -> Status:
    """How far the commands are that write to a results folder.

    Raises FileNotFoundError where none has planned anything there.
    """
    jobs = Plan(folder).jobs()
    if not jobs:
        raise FileNotFoundError(f"{folder}: `assay run` has planned nothing here; give the folder <out>/<name>")
    try:
        records = {record_name(record.cell): record for record in read_records(folder)}
    except FileNotFoundError:
        records = {}
    counts = Counter(dict.fromkeys(("done", "failed", "running", "missing"), 0))
    failed, missing = list[str](), list[str]()
    running = [str(job) for job in jobs if job.is_alive]
    for job in jobs:
        lacking = []
        if job.error:
            failed.append(f"{job.title}: {job.error}")
        for name, file in job.metrics.items():
            record = records.get(file)
            if record is not None and record.status == "failed" and not job.error:
                failed.append(f"{job.title}, {name}: {record.error}")
            state = "failed" if job.error or (record and record.status == "failed") else "done" if record else ""
            counts[state or ("running" if job.is_alive else "missing")] += 1
            lacking += [] if state or job.is_alive else [name]
        for name, done in job.studies.items():
            state = "failed" if job.error else "done" if done else ""
            counts[state or ("running" if job.is_alive else "missing")] += 1
            lacking += [] if state or job.is_alive else [name]
        if lacking:
            missing.append(f"{job.title}: {', '.join(lacking)}")
    finished = [job.seconds for job in jobs if job.state == "finished" and not job.error]
    left = len(missing) + len(running)
    rest = sum(finished) / len(finished) * left / max(1, len(running)) if finished else None
    arrays = [str(part) for part in Plan(folder, "arrays").jobs() if part.is_alive]
    return Status(counts, failed, missing, arrays + running, rest)


def _in_words(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else "less than a minute"
