"""This process does one task after the other, as if there were no engines."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.options import Count
from .tasks import Answer, Engine
from .worker import pin


class Local(Engine):
    """threads: that computations take; None leaves torch and NumPy as they are."""

    workers, tries = 1, 1

    def __init__(self, logs: Path, threads: Count | None = None):
        self.threads = threads

    def __enter__(self) -> Engine:
        if self.threads is not None:
            pin(self.threads)
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def carry_out(self, work: Callable[[Any], Any], tasks: Mapping[int, Any]) -> Iterator[tuple[int, Answer]]:
        for number, task in list(tasks.items()):
            yield number, Answer(work(task))
