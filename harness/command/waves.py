"""The jobs of a command on an engine: first what arrays they lack, then these, each part of a view once, then the jobs.

So all workers make a large view together, and what several jobs read is made once. What a wave could not make, because
its processes were lost, the jobs that read it record as failed.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ..arrays.shards import whole_shards
from ..arrays.store import ShardKey, open_store
from ..core.progress import say, track
from ..core.protocols import Cell, View
from ..core.registry import STUDIES, discover
from ..engines.local import Local
from ..engines.plan import Job, Plan, job_key
from ..engines.tasks import Engine, LostError, carried_out
from ..engines.worker import portable
from ..evaluate import has_floor
from ..run import Run
from ..sinks.jobs import Evaluated, JobLogs
from .job import CannotBeginError, Outcome, asked_of, evaluate_job, folder_of, open_job

_opened: dict[str, tuple[str, Any]] = {}
"""What this process has open, from one task to the next."""
LISTS = re.compile(r"\brun\.(scores|quality_signals|covariates|set_metrics)\b|\brun\.sample_(classes)\b")
"""What studies read of a run, in their source."""


@dataclass(frozen=True)
class Task:
    """A job by its config; see `evaluate_job`. lost: arrays that are not to be made, by name in the store, and why."""

    config: dict[str, Any]
    from_glob: bool
    alone: bool
    given_up: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard:
    """An array that the store lacks, and its name there.

    whole: those of the whole set that the store lacks too; with these, the rows of a subset need not be computed.
    """

    view: View
    key: ShardKey
    name: str
    whole: Sequence[str]

    @property
    def samples(self) -> tuple[Any, ...]:
        """Which samples these are, whatever the space."""
        key = self.key
        return key.producer, key.source, key.seed, key.start, key.stop, key.drawn


@dataclass(frozen=True)
class Fill:
    """Arrays of the same samples, to be made by one worker; a job that reads them, and how it is called."""

    config: dict[str, Any]
    title: str
    shards: Sequence[Shard]

    def __str__(self) -> str:
        key, spaces = self.shards[0].key, ", ".join(dict.fromkeys(shard.key.space for shard in self.shards))
        return f"{self.title}: {spaces} of {key.source} samples {key.start} to {key.stop}"


def carry_out(workers: Engine, tasks: Sequence[Task], logs: JobLogs) -> list[Outcome | Exception]:
    """What became of each job, in their order: an exception says why its generator or data set cannot be opened.

    logs: gets each job when it is done; and where jobs are carried out in this process, records as they come.
    """
    _opened.clear()
    done: dict[int, Outcome | Exception] = {}
    if isinstance(workers, Local):
        here = partial(evaluate, tell=logs.evaluated)
        done |= {i: _logged(one, logs) for i, one in carried_out(workers, here, tasks)}
    else:
        lacking, done = _lacking(workers, tasks)
        lost = _filled(workers, lacking) if lacking else {}
        left = {i: replace(task, lost=lost) for i, task in enumerate(tasks) if i not in done}
        done |= _evaluated(workers, left, logs)
        if lacking:
            done = {i: replace(one, anew=True) if isinstance(one, Outcome) else one for i, one in done.items()}
    _opened.clear()
    return [done[i] for i in range(len(tasks))]


# What workers do


def lacking(task: Task) -> list[Shard] | Exception:
    """The arrays that a job needs and the store lacks."""
    discover()
    try:
        run = open_job(task.config, _opened)
    except CannotBeginError as failure:
        return portable(failure.why)
    asked = asked_of(task.config, run, task.from_glob, task.alone)
    found: dict[str, tuple[View, ShardKey]] = {}
    store = run.views.store
    for look in _looks(run, [*asked.cells.values(), *_read_by(run, asked.studies)]):
        with suppress(ValueError, LookupError, FileNotFoundError):  # no such view: its cell says so
            found |= {store.name(key): (view, key) for view, key in look()}
    return [
        Shard(view, key, name, [store.name(one) for one in whole_shards(key) if not store.has(one)])
        for name, (view, key) in found.items()
    ]


def fill(task: Fill) -> None:
    """Make arrays, but those that fail: the cell that reads one meets the same error, and records it."""
    discover()
    try:
        run = open_job(task.config, _opened)
    except CannotBeginError:  # since a moment ago; its job says why
        return
    notes, name, note = Plan(run.folder, "arrays"), task.shards[0].name[:16], Job(str(task))
    notes.begin(name, note)
    for shard in task.shards:
        try:
            run.views.fill(shard.view, shard.key)
        except Exception as failure:
            if isinstance(failure, OSError) and not isinstance(failure, FileNotFoundError):
                raise
            print(f"{task}: {failure}", file=sys.stderr)
    notes.end(name, note)
    notes.forget(name)


def evaluate(task: Task, tell: Callable[..., None] = lambda *results: None) -> Outcome | Exception:
    """Carry out a job; an exception says why its generator or data set cannot be opened. tell: `JobLogs.evaluated`."""
    discover()
    open_store(task.config["store"]).refused = task.lost
    try:
        heard = partial(tell, job_key(task.config), task.config)
        return evaluate_job(task.config, task.from_glob, task.alone, _opened, task.given_up, heard)
    except CannotBeginError as failure:
        return portable(failure.why)


def _looks(run: Run, cells: Iterable[Cell]) -> Iterator[Callable[[], list[tuple[View, ShardKey]]]]:
    """For each view of the cells, and of their floors, what finds the shards that it lacks."""
    for cell in cells:
        for view in cell.views.values():
            yield partial(run.views.missing, view, cell.seed, cell.n)
        if run.floor and has_floor(cell):
            (real,) = (view for view in cell.views.values() if view.source == "real")
            yield partial(_floor, run, real, cell)


def _floor(run: Run, real: View, cell: Cell) -> list[tuple[View, ShardKey]]:
    stand_in, these, those = run.views.floor(real, cell.seed, cell.n)
    spaces = {view.source: view.space for view in cell.views.values()}
    return [
        *run.views.missing_of(replace(stand_in, space=spaces["fake"]), these),
        *run.views.missing_of(real, those),
    ]  # fmt: skip


def _read_by(run: Run, studies: Iterable[str]) -> list[Cell]:
    """The cells of a run that the sources of studies name. What this misses, the job makes when the study asks."""
    names = set[str]()
    for study in studies:
        with suppress(OSError, TypeError):  # defined in a notebook
            source = inspect.getsource(sys.modules[STUDIES[study].function.__module__])
            names |= {name for found in LISTS.findall(source) for name in found if name}
    entries = [
        run.covariates.values() if name == "covariates" else [getattr(run, name) or ()] for name in sorted(names)
    ]
    return [cell for lists in entries for one in lists for cell in run.cells(one)]


# What the command does


def _lacking(workers: Engine, tasks: Sequence[Task]) -> tuple[list[Fill], dict[int, Outcome | Exception]]:
    """Packs of the arrays that all jobs lack, each once; and why jobs cannot be opened."""
    found: dict[str, tuple[int, Shard]] = {}
    refused: dict[int, Outcome | Exception] = {}
    with track("planned", len(tasks), "jobs") as advance:
        for i, answer in carried_out(workers, lacking, tasks):
            if isinstance(answer, Exception):
                refused[i] = answer
            else:
                for shard in answer:
                    found.setdefault(shard.name, (i, shard))
            advance(1)
    packs: dict[Any, list[Shard]] = {}
    readers: dict[Any, int] = {}
    for i, shard in sorted(found.values(), key=lambda one: one[0]):
        if not shard.whole or not set(shard.whole) <= found.keys():  # else its rows are read from the whole set
            packs.setdefault(shard.samples, []).append(shard)
            readers.setdefault(shard.samples, i)
    fills = [Fill(tasks[i].config, _title(tasks[i].config), packs[samples]) for samples, i in readers.items()]
    return _singly(fills) if len(fills) < workers.workers else fills, refused


def _singly(fills: Sequence[Fill]) -> list[Fill]:
    return [replace(pack, shards=[shard]) for pack in fills for shard in pack.shards]


def _filled(workers: Engine, packs: Sequence[Fill]) -> dict[str, str]:
    """Makes arrays. Returns the names of those whose processes were lost again and again, and what is said of them."""
    for folder in {folder_of(pack.config) for pack in packs}:
        notes = Plan(folder, "arrays")  # of workers that were killed
        for file in notes.place.glob("*.json"):
            if not ((job := notes.read(file.stem)) and job.is_alive):
                notes.forget(file.stem)
    lost: dict[str, str] = {}
    samples = sum(shard.key.stop - shard.key.start for pack in packs for shard in pack.shards)
    with track(f"arrays, {len(packs)} parts by {workers.workers} workers", samples, "samples") as advance:
        again = list[Fill]()
        for i, answer in carried_out(workers, fill, packs, tries=1):
            if isinstance(answer, LostError):
                again += _singly([packs[i]])
            else:
                advance(sum(shard.key.stop - shard.key.start for shard in packs[i].shards))
        for i, answer in carried_out(workers, fill, again):
            advance(again[i].shards[0].key.stop - again[i].shards[0].key.start)
            if isinstance(answer, LostError):
                lost[again[i].shards[0].name] = f"{again[i]} were not made: {_why(workers)}"
                say(f"lost: {again[i]}: {answer}")
    return lost


def _evaluated(workers: Engine, tasks: Mapping[int, Task], logs: JobLogs) -> dict[int, Outcome | Exception]:
    """Carries out jobs. Where the processes at work on a metric or study were lost, the rest of its job goes on."""
    done: dict[int, Outcome | Exception] = {}
    left = dict(tasks)
    with track("jobs", len(tasks), "jobs") as advance:
        while left:
            numbers, again = list(left), dict[int, Task]()
            for position, answer in carried_out(workers, evaluate, list(left.values())):
                i = numbers[position]
                if isinstance(answer, LostError):
                    task = left[i]
                    job = Plan(folder_of(task.config)).read(job_key(task.config))
                    if job and job.state == "running" and job.at and job.at not in task.given_up:
                        again[i] = replace(task, given_up={**task.given_up, job.at: _why(workers)})
                        continue
                    answer = LostError(_why(workers))
                done[i] = _logged(answer, logs)
                advance(1)
            left = again
    return done


def logged(outcome: Outcome, logs: JobLogs) -> Outcome:
    """The same, after the sinks have learned that the job is done."""
    logs.done(job_key(outcome.config), outcome.config, Evaluated(*outcome.evaluated))
    return outcome


def _logged(answer: Outcome | Exception, logs: JobLogs) -> Outcome | Exception:
    return answer if isinstance(answer, Exception) else logged(answer, logs)


def _why(workers: Engine) -> str:
    tries = f"each of its tries ({workers.tries})"
    return (
        f"the process at work on it was lost in {tries}, killed or out of memory; the logs beside the results are kept"
    )


def _title(config: Mapping[str, Any]) -> str:
    return f"{', '.join(config['generator'])}, {', '.join(config['dataset'])}"
