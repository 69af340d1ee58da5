"""Tasks that do not need each other, and the engine that carries them out: this process, a pool, Ray or Slurm."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..core.options import checked, option_types
from ..core.progress import say
from ..core.registry import unknown

T = TypeVar("T")
R = TypeVar("R")
ENGINES = {
    "local": ("local", "Local", ""),
    "processes": ("processes", "Processes", "joblib"),
    "ray": ("on_ray", "OnRay", "ray"),
    "slurm": ("slurm", "Slurm", "submitit"),
}
"""Of each engine the module, the class, and the package that it needs. Modules do not bear the names of packages."""


class LostError(Exception):
    """The process that was at work on a task is gone: killed, out of memory, or with its machine."""


@dataclass(frozen=True)
class Answer:
    """What became of a task: its value or what it raised, and the lines that were said meanwhile."""

    value: Any = None
    error: Exception | None = None
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Setup:
    """What a worker takes over from the command before its first task.

    folder: the working folder; environment: variables; threads: that its computations take; logs: folder of its log.
    """

    folder: str
    environment: tuple[tuple[str, str], ...]
    threads: int
    logs: str


class Engine(AbstractContextManager["Engine"], Protocol):
    """Carries out tasks while it is open. workers: how many at once. tries: how often a task may lose its process."""

    workers: int
    tries: int

    def carry_out(self, work: Callable[[Any], Any], tasks: Mapping[int, Any]) -> Iterator[tuple[int, Answer]]:
        """Calls a function of a module on each task, and yields the answers by the tasks' numbers, as they come.

        The error of an answer is a LostError where the process was lost. To stop asking gives up what is not done.
        """
        ...


def engine(setting: Mapping[str, Any], logs: Path) -> Engine:
    """The engine of a config: {name, and options of its own}. Raises LookupError and ValueError with the way out."""
    name, options = str(setting["name"]), {key: value for key, value in setting.items() if key != "name"}
    if name not in ENGINES:
        raise LookupError(unknown("engine", name, list(ENGINES)))
    module, kind, package = ENGINES[name]
    if package and find_spec(package) is None:
        raise ValueError(f"engine={name} needs the package {package}: pip install 'assay[{name}]'")
    made: Any = getattr(importlib.import_module(f"{__package__}.{module}"), kind)
    types = option_types(made)
    for option in options:
        if option not in types:
            raise LookupError(unknown(f"option of engine {name}:", option, sorted(types)))
    found: Engine = made(logs, **checked(f"engine {name}", types, options))
    return found


def carried_out(
    engine: Engine, work: Callable[[T], R], tasks: Sequence[T], tries: int | None = None
) -> Iterator[tuple[int, R | LostError]]:
    """The answer to each task by its position, as they come; a task whose process was lost is given out again.

    Lost for the last of `tries` times, which are those of the engine, its answer is a LostError. Lines of workers are
    said here. Raises what a task raised.
    """
    left, losses = dict(enumerate(tasks)), Counter[int]()
    while left:
        for position, answer in engine.carry_out(work, left):
            for line in answer.lines:
                say(line)
            if not isinstance(answer.error, LostError):
                if answer.error is not None:
                    raise answer.error
                del left[position]
                yield position, answer.value
                continue
            losses[position] += 1
            say(f"a worker was lost: {answer.error}")
            if losses[position] == (tries or engine.tries):
                del left[position]
                yield position, answer.error


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))
