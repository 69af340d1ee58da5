"""What a worker does for a task: takes over from the command, catches what fails, and keeps what is said."""

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from ..core.locks import host
from ..core.progress import console
from .tasks import Answer, Setup

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that libraries read when they are loaded."""
INHERITED = ("ASSAY_", "XDG_CACHE_HOME")
"""Beginnings of the variables that a worker on another machine needs too."""


def perform(setup: Setup, work: Callable[[Any], Any], task: Any) -> Answer:
    """The answer to one task, in a worker."""
    begin(setup)
    with _listening() as said:
        try:
            value, error = work(task), None
        except Exception as failure:
            value, error = None, portable(failure)
    return Answer(value, error, said)


def taken_over(threads: int, logs: Path) -> Setup:
    """What a worker is to take over from this process."""
    kept = tuple((name, value) for name, value in os.environ.items() if name.startswith(INHERITED))
    return Setup(os.getcwd(), kept, threads, str(logs.absolute()))


def environment(threads: int) -> dict[str, str]:
    """Variables that a worker must have before it starts."""
    return dict.fromkeys(THREADS, str(threads)) | {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}


def pin(threads: int) -> None:
    """From here on this process computes with so many threads, in torch, NumPy, and what is loaded later."""
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def portable(failure: Exception) -> Exception:
    """An exception as it can be sent to another process: those of some packages cannot be read there."""
    try:
        pickle.loads(pickle.dumps(failure))
    except Exception:
        return RuntimeError(f"{type(failure).__name__}: {failure}")
    return failure


@cache
def begin(setup: Setup) -> None:
    """Once a process. What it and its libraries write goes to a log of its own."""
    os.chdir(setup.folder)
    os.environ.update(setup.environment)
    pin(setup.threads)
    logs = Path(setup.logs)
    logs.mkdir(parents=True, exist_ok=True)
    log = os.open(logs / f"{host()}-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    sys.stdout.flush()
    sys.stderr.flush()
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


def ends_with_its_parent() -> None:
    """Ctrl-C is for the command, which ends its workers. When it is gone, however it ended, they go too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="assay: end with the command").start()


class _Said(StringIO):
    """Keeps lines, and passes them on to the log."""

    def write(self, text: str) -> int:
        sys.stderr.write(text)
        return super().write(text)


@contextmanager
def _listening() -> Iterator[list[str]]:
    """The lines that are said inside; filled when it ends."""
    said, lines = _Said(), list[str]()
    console.file = said
    try:
        yield lines
    finally:
        console.file = None  # type: ignore[assignment]  # whatever standard error is, as before
        sys.stderr.flush()
        lines += said.getvalue().splitlines()
