"""Processes of this machine, each a pool of one: where one is killed, no other breaks, and what it was at is known."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
from joblib.externals.loky import process_executor

from ..core.options import Count
from .tasks import Answer, Engine, LostError, cores
from .worker import ends_with_its_parent, environment, perform, taken_over


class Processes(Engine):
    """workers: None, one for each GPU or core; threads: of each, None shares the cores among them.

    Where there are GPUs, worker i sees GPU i alone, counted anew after the last one.
    """

    def __init__(self, logs: Path, workers: Count | None = None, threads: Count | None = None, tries: Count = 3):
        self.gpus = _gpus()
        self.workers = workers or len(self.gpus) or cores()
        self.threads = threads or max(1, cores() // self.workers)
        self.tries, self.logs = tries, logs

    def __enter__(self) -> Engine:
        self.setup = taken_over(self.threads, self.logs)
        self.pools: dict[int, process_executor.ProcessPoolExecutor] = {}
        return self

    def __exit__(self, *raised: object) -> None:
        for pool in self.pools.values():
            pool.shutdown(wait=True, kill_workers=True)

    def carry_out(self, work: Callable[[Any], Any], tasks: Mapping[int, Any]) -> Iterator[tuple[int, Answer]]:
        waiting, free = deque(tasks.items()), deque(range(self.workers))
        running: dict[Future[Answer], tuple[int, int]] = {}
        while waiting or running:
            while waiting and free:
                worker, (number, task) = free.popleft(), waiting.popleft()
                running[self._pool(worker).submit(perform, self.setup, work, task)] = (worker, number)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                worker, number = running.pop(future)
                try:
                    answer = future.result()
                except BrokenProcessPool as failure:
                    self.pools.pop(worker).shutdown(kill_workers=True)
                    answer = Answer(error=LostError(_exit_code(failure)))
                free.append(worker)
                yield number, answer

    def _pool(self, worker: int) -> process_executor.ProcessPoolExecutor:
        if worker not in self.pools:
            seen = {"CUDA_VISIBLE_DEVICES": self.gpus[worker % len(self.gpus)]} if self.gpus else {}
            self.pools[worker] = process_executor.ProcessPoolExecutor(
                max_workers=1, initializer=_begin, env=environment(self.threads) | seen
            )
        return self.pools[worker]


def _begin() -> None:
    """In a worker. loky would take networks and arrays that are kept for a leak, and end it between two tasks."""
    process_executor._USE_PSUTIL = False
    ends_with_its_parent()


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named[:count] if len(named) >= count > 0 and named != [""] else list(map(str, range(count)))


def _exit_code(failure: BrokenProcessPool) -> str:
    """What ended the process, from loky's many lines."""
    code = str(failure).rpartition("{")[2].partition("}")[0]
    return f"its process ended with {code}" if code else "its process ended"
