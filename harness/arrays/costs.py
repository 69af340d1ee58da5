"""What a cell cost. Kept beside the results folder, not in it: a second run costs something else, changes nothing."""

import csv
import resource
import time
from pathlib import Path
from types import TracebackType

from ..core.escapes import for_csv, for_json
from ..core.files import naming
from ..core.locks import one_at_a_time
from ..core.protocols import Cell

FIELDS = ("dataset", "generator", "label", "seed", "n", "seconds", "peak_memory_mib")


class Cost:
    """Context that times its body; where the body sets `counts`, a row is added to `<folder>.costs.csv`."""

    seconds = 0.0
    counts = False

    def __init__(self, folder: Path, cell: Cell):
        self.file, self.cell = folder.with_name(f"{folder.name}.costs.csv"), cell

    def __enter__(self) -> "Cost":
        self._begin = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.seconds = time.monotonic() - self._begin
        if not self.counts or kind is not None:
            return
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cell = self.cell
        named = [for_csv(for_json(text)) for text in (cell.dataset, cell.generator, cell.label)]
        row = (*named, cell.seed, cell.n, f"{self.seconds:.2f}", f"{peak:.0f}")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(self.file.parent), naming(self.file), self.file.open("a", newline="") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(FIELDS)
            writer.writerow(row)
