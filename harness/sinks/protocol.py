"""What a sink is: a place besides files to which results go, such as a service that tracks experiments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd

Value = float | int | str


@dataclass(frozen=True)
class About:
    """What one run of a sink is about.

    name: of what is evaluated or trained, in full. kind: "report" is that of all jobs of a sweep.
    group: a name that all jobs of a command share. config: its options, as JSON can hold them; command: what was typed.
    folder: where files of the sink lie, unless its user has chosen another place; it may not exist yet.
    run: a run of the service that its user has opened; it takes the results and stays open.
    """

    name: str
    kind: Literal["evaluate", "report", "train"]
    group: str
    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    run: Any = None


class Sink(Protocol):
    """An open run of a sink. Any method may raise any exception: the sink is then not called again, but for `close`.

    Names of values are paths, such as "precision/value". A number is never rounded; NaN is an undefined one.
    """

    def progress(self, values: Mapping[str, float], step: int) -> None:
        """Numbers that change while a run goes on; `step` counts the finished cells or epochs."""
        ...

    def summary(self, values: Mapping[str, Value]) -> None:
        """Final values by name. A later value replaces an earlier one."""
        ...

    def table(self, name: str, table: pd.DataFrame) -> None: ...

    def pictures(self, pictures: Mapping[str, Path], step: int | None = None) -> None:
        """PNG files by name."""
        ...

    def records(self, name: str, files: Mapping[str, bytes]) -> None:
        """The contents of files by their names: a new version of what is called `name`, where the sink has versions."""
        ...

    def close(self, failed: bool) -> None:
        """The end. failed: whether anything could not be evaluated."""
        ...
