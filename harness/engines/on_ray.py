"""Tasks of Ray, on a cluster that runs already or on one that is started here and stopped again."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..core.options import Count, Positive
from .tasks import Answer, Engine, LostError, cores
from .worker import perform, taken_over

MEMORY = 100 * 2**20
"""Bytes of the store of objects of a cluster that is started here: arrays go through files, answers are small."""


class OnRay(Engine):
    """address: of a running cluster, "auto" for the one of this machine; None starts one on this machine alone.

    workers: how many tasks at once, where the cluster is started here; threads: cores of each task. gpus: of each task,
    which may be a part of one; None takes one where the machine has any.
    """

    def __init__(
        self,
        logs: Path,
        workers: Count | None = None,
        threads: Count | None = None,
        tries: Count = 3,
        address: str | None = None,
        gpus: Positive | int | None = None,
    ):
        self.workers = workers or max(1, cores() // (threads or 1))
        self.threads = threads or max(1, cores() // self.workers)
        self.tries, self.logs, self.address, self.gpus = tries, logs, address, gpus

    def __enter__(self) -> Engine:
        self.setup = taken_over(self.threads, self.logs)
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        if not self.address:  # a token of its own lets nobody else in, and none is written to the home folder
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token(), "RAY_worker_niceness": "0"}
        import ray  # reads these when it is loaded

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
        if self.address:
            ray.init(address=self.address, **quiet)
        else:
            cpus = self.workers * self.threads
            ray.init(num_cpus=cpus, include_dashboard=False, object_store_memory=MEMORY, **quiet)
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self.workers = max(1, int(there.get("CPU", 1)) // self.threads)
        if self.gpus is None:
            self.gpus = min(1, int(there.get("GPU", 0)))
        return self

    def __exit__(self, *raised: object) -> None:
        import ray

        ray.shutdown()

    def carry_out(self, work: Callable[[Any], Any], tasks: Mapping[int, Any]) -> Iterator[tuple[int, Answer]]:
        import ray

        # Whoever gives tasks out counts and reports retries; a worker that has a GPU also keeps what it opened.
        remote = ray.remote(num_cpus=self.threads, num_gpus=self.gpus or 0, max_retries=0, max_calls=0)(perform)
        running = {remote.remote(self.setup, work, task): number for number, task in tasks.items()}
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(done)
            try:
                answer: Answer = ray.get(done)
            except ray.exceptions.RayError as failure:
                answer = Answer(error=LostError(" ".join(str(failure).split()).partition(". ")[0]))
            yield number, answer


@cache
def _token() -> str:
    """One a process: Ray reads it once."""
    return secrets.token_hex(32)
