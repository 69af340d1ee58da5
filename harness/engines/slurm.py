"""Job arrays of Slurm through submitit. Each job of an array does a pack of tasks, one after the other."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..core.options import Count, Positive
from .tasks import Answer, Engine, LostError, cores
from .worker import perform, taken_over


class Pack:
    """Tasks of one job. Where Slurm takes its node away, it begins again: what was made is found, not made again."""

    def __init__(self, setup: Any, work: Callable[[Any], Any]):
        self.setup, self.work = setup, work

    def __call__(self, tasks: Sequence[Any]) -> list[Answer]:
        return [perform(self.setup, self.work, task) for task in tasks]

    def checkpoint(self, tasks: Sequence[Any]) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, tasks)


class Slurm(Engine):
    """workers: jobs of an array that run at once; pack: tasks of a job, None shares all of them among the workers.

    threads: cores of a job; gpus: of a job; memory: of a job, in GB; minutes: time limit of a job; array: most jobs of
    an array, as the cluster has it. partition, account, qos and constraint as `sbatch` has them; more: further options
    of sbatch by name. executor "local" runs the jobs as processes of this machine, without Slurm.
    """

    def __init__(
        self,
        logs: Path,
        workers: Count = 8,
        threads: Count | None = None,
        tries: Count = 3,
        executor: Literal["slurm", "local"] = "slurm",
        pack: Count | None = None,
        array: Count = 1000,
        gpus: int = 0,
        memory: Positive = 16,
        minutes: Count = 240,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        more: Mapping[str, Any] | None = None,
    ):
        here = executor == "local"
        self.workers, self.tries, self.logs, self.executor = workers, tries, logs, executor
        self.threads = threads or (max(1, cores() // workers) if here else 4)
        self.pack, self.array = None if here else pack, array
        asked = {"partition": partition, "account": account, "qos": qos, "constraint": constraint}
        self.parameters: dict[str, Any] = {"timeout_min": minutes, "gpus_per_node": gpus, "cpus_per_task": self.threads}
        if not here:
            self.parameters |= {"mem_gb": memory, "slurm_array_parallelism": workers}
            self.parameters |= {f"slurm_{name}": value for name, value in asked.items() if value is not None}
            self.parameters |= {"slurm_additional_parameters": dict(more or {})}

    def __enter__(self) -> Engine:
        from submitit import AutoExecutor

        self.setup = taken_over(self.threads, self.logs)
        self.jobs: list[Any] = []
        try:
            self.submitting = AutoExecutor(folder=self.logs, cluster=self.executor)
        except RuntimeError:
            raise ValueError("engine=slurm: there is no sbatch on this machine; go to one that submits jobs") from None
        self.submitting.update_parameters(name="assay", **self.parameters)
        return self

    def __exit__(self, *raised: object) -> None:
        for job in self.jobs:
            if not job.done():
                job.cancel(check=False)

    def carry_out(self, work: Callable[[Any], Any], tasks: Mapping[int, Any]) -> Iterator[tuple[int, Answer]]:
        from submitit.core.utils import FailedJobError, UncompletedJobError
        from submitit.helpers import as_completed

        size = max(self.pack or math.ceil(len(tasks) / self.workers), math.ceil(len(tasks) / self.array))
        packs = math.ceil(len(tasks) / size)
        numbers = [list(tasks)[first::packs] for first in range(packs)]
        found = self.submitting.map_array(Pack(self.setup, work), [[tasks[i] for i in pack] for pack in numbers])
        self.jobs += found
        packed = {job.job_id: pack for job, pack in zip(found, numbers, strict=True)}
        for job in as_completed(found, poll_frequency=0.2 if self.executor == "local" else 10):
            try:
                answers = job.result()
            except (UncompletedJobError, FailedJobError) as failure:
                lost = LostError(f"job {job.job_id} of Slurm ended as {job.state}, {type(failure).__name__}")
                answers = [Answer(error=lost)] * len(packed[job.job_id])
            yield from zip(packed[job.job_id], answers, strict=True)
