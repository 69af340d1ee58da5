"""A sink that fails, in whatever way, costs nothing but itself."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from assay.harness.core import registry
from assay.harness.core.progress import say_once
from assay.harness.sinks import log as module
from assay.harness.sinks.log import ROWS, Log
from assay.harness.sinks.protocol import About, Value

METHODS = ("start", "progress", "summary", "table", "pictures", "records", "close")
FAILURES: dict[str, Callable[[], BaseException]] = {
    "disk full": lambda: OSError(28, "No space left on device"),
    "dead service": lambda: ConnectionResetError("Connection lost"),
    "wrong": lambda: TypeError("cannot"),
    "exits": lambda: SystemExit(3),
}


@dataclass
class Noted:
    """Notes its calls; at the one named `breaks`, and at every later one, it raises."""

    breaks: str = ""
    failure: Callable[[], BaseException] = RuntimeError
    calls: list[str] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    broken: bool = False

    def _note(self, name: str, what: object = None) -> None:
        self.calls.append(name)
        self.told.append(what)
        self.broken = self.broken or name == self.breaks
        if self.broken:
            raise self.failure()

    def progress(self, values: Mapping[str, float], step: int) -> None:
        self._note("progress", (step, values))

    def summary(self, values: Mapping[str, Value]) -> None:
        self._note("summary", values)

    def table(self, name: str, table: pd.DataFrame) -> None:
        self._note("table", len(table))

    def pictures(self, pictures: Mapping[str, Path], step: int | None = None) -> None:
        self._note("pictures", pictures)

    def records(self, name: str, files: Mapping[str, bytes]) -> None:
        self._note("records", files)

    def close(self, failed: bool) -> None:
        self._note("close", failed)


@pytest.fixture
def declared(own_registries: None) -> Iterator[dict[str, Noted]]:
    """What is put here under "one" or "other" is what the sink of that name opens."""
    opened: dict[str, Noted] = {}
    for name in ("one", "other"):

        def open_it(about: About, name: str = name) -> Noted:
            opened[name]._note("start")
            return opened[name]

        registry.sink(name)(open_it)
    return opened


def tell(log: Log, picture: Path) -> None:
    log.step(1, {"loss": 0.5}, picture)
    log.values({"test": 1.0})
    log._tables({"metrics": pd.DataFrame({"value": [1.0]})})
    log._tell("the records", lambda sink: sink.records("run", {"records.jsonl": b""}))
    log.close()


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("breaks", METHODS)
def test_one_line_says_that_a_sink_failed_and_the_other_has_all(
    declared: dict[str, Noted], tmp_path: Path, capsys: pytest.CaptureFixture[str], breaks: str, failure: str
) -> None:
    declared |= {"one": Noted(breaks, FAILURES[failure]), "other": Noted()}
    tell(Log(About("name", "evaluate", "group", tmp_path / "run"), {"one": {}, "other": {}}), tmp_path / "a.png")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("sink one failed: ")
    assert "lacks everything from" in lines[0]
    assert declared["other"].calls == ["start", "pictures", "progress", "summary", "table", "records", "close"]
    after = declared["one"].calls[declared["one"].calls.index(breaks) + 1 :]
    assert after in ([], ["close"]), "it is not called again, but for its end"


def test_an_interruption_is_no_failure_of_a_sink(declared: dict[str, Noted], tmp_path: Path) -> None:
    declared["one"] = Noted("progress", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        Log(About("name", "evaluate", "group", tmp_path / "run"), {"one": {}}).step(1, {})


def test_a_missing_package_is_told_with_the_command_that_installs_it(
    declared: dict[str, Noted], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declared["one"] = Noted("start", lambda: ModuleNotFoundError("No module named 'one'"))
    Log(About("name", "evaluate", "group", tmp_path / "run"), {"one": {}}).step(1, {"loss": 0.5})
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'assay[one]'" in line


def test_a_failure_in_one_run_silences_the_sink_in_all_that_share_it(
    declared: dict[str, Noted], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead: set[str] = set()
    declared["one"] = Noted("start")
    for name in "abc":
        Log(About(name, "evaluate", "group", tmp_path / name), {"one": {}}, dead).step(1, {})
    assert declared["one"].calls == ["start"]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_long_tables_are_cut_and_this_is_said(
    declared: dict[str, Noted], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say_once.cache_clear()
    declared["one"] = Noted()
    log = Log(About("name", "evaluate", "group", tmp_path / "run"), {"one": {}})
    log._tables({"metrics": pd.DataFrame({"value": range(ROWS + 1)})})
    assert declared["one"].told[-1] == ROWS
    assert f"first {ROWS:,} of {ROWS + 1:,} rows of table metrics" in capsys.readouterr().err


def test_without_sinks_nothing_is_read_or_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise AssertionError("records were read")

    monkeypatch.setattr(module, "read_records", refuse)
    Log(About("name", "report", "group", tmp_path), {}).report(tmp_path)
