"""`assay.log_to`: what `evaluate` finds goes to a sink of its own, or to a run that its user has open."""

import json
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import assay
from assay.harness.core import registry
from assay.harness.core.protocols import Record
from assay.harness.sinks.payload import numbers

from .reading import events, offline_runs
from .test_log import Noted

wandb = pytest.importorskip("wandb")
pytest.importorskip("tensorboard")
RNG = np.random.default_rng(0)
REAL, FAKE = (RNG.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8) for _ in range(2))


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def evaluated(label: str, k: int = 3) -> Record:
    return assay.evaluate("precision", {label: FAKE}, REAL, features="pixels", k=k)


def environment() -> dict[str, str]:
    """What wandb reads, but for the variable by which it finds its own service again."""
    return {name: value for name, value in os.environ.items() if name.startswith("WANDB_") and "SERVICE" not in name}


def test_each_call_is_a_step_of_a_run_of_its_own(tmp_path: Path) -> None:
    before = environment()
    with assay.log_to("wandb", project="mine", name="trial"), assay.log_to("tensorboard", name="trial"):
        records = [evaluated("first", k=2), evaluated("second", k=2)]
    (run,) = offline_runs(tmp_path)
    assert (run.run["project"], run.run["display_name"], run.exit_code) == ("mine", "trial", 0)
    rows = [row["precision(k=2)/value"] for row in run.history if "precision(k=2)/value" in row]
    assert rows[:2] == [record.values["precision"].value for record in records]
    assert {name: run.summary[name] for name in numbers(records)} == numbers(records[1:])
    columns, table = run.tables["tables/metrics"]
    assert [row[columns.index("generator")] for row in table] == [record.cell.generator for record in records]
    found = events(tmp_path / "outputs/python.tensorboard/trial").numbers["precision(k=2)/value"]
    assert [found[1], found[2]] == [record.values["precision"].value for record in records]
    assert environment() == before
    assert {path.name for path in tmp_path.iterdir()} <= {"outputs", "cache"}


def test_a_run_that_its_user_has_opened_takes_the_results_and_stays_open(tmp_path: Path) -> None:
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
    run = wandb.init(mode="offline", dir=str(tmp_path), project="own", settings=settings)
    run.log({"loss": 1.0})
    with assay.log_to("wandb", run=run):
        record = evaluated("mine")
    run.log({"loss": 0.5})
    run.finish()
    (found,) = offline_runs(tmp_path)
    assert [row["loss"] for row in found.history if "loss" in row] == [1.0, 0.5]
    assert {name: found.summary[name] for name in numbers([record])} == numbers([record])
    assert not (tmp_path / "outputs").exists()


def test_after_its_end_nothing_more_is_told(own_registries: None, tmp_path: Path) -> None:
    noted = Noted()
    registry.sink("noted")(lambda about: noted)
    opened = assay.log_to("noted")
    evaluated("first")
    opened.close()
    told = list(noted.calls)
    evaluated("second")
    opened.close()
    assert told == noted.calls == ["progress", "summary", "table", "close"]


@pytest.mark.parametrize("method", ["start", "progress", "summary", "table", "close"])
def test_a_dead_sink_does_not_change_the_answer(
    own_registries: None, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    noted = Noted(method)

    def open_it(about: Any) -> Noted:
        noted._note("start")
        return noted

    registry.sink("dead")(open_it)
    expected = evaluated("same")
    with assay.log_to("dead"):
        found = evaluated("same")
    assert found == expected
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("sink dead failed")]) == 1


def test_what_failed_is_told(own_registries: None) -> None:
    noted = Noted()
    registry.sink("noted")(lambda about: noted)
    with assay.log_to("noted"):
        record = evaluated("few", k=50)
    assert record.status == "failed"
    assert noted.told[0] == (1, {})
    assert noted.told[1] == {"precision(k=50)/failed": record.error, "records": 1, "failed": 1}
    assert noted.told[-1] is True


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"sink": "wanb"}, "did you mean wandb?"),
        ({"sink": "wandb", "projct": "x"}, "did you mean project?"),
        ({"sink": "wandb", "mode": "on"}, "mode='on' must be offline or online"),
    ],
)
def test_a_wrong_call_is_an_error(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises((LookupError, ValueError), match=error.replace("?", r"\?")):
        assay.log_to(**arguments)


def test_offline_asks_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """wandb talks to its own service through a socket of this machine, and to nobody else."""
    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **more: asked.append(where))
    with assay.log_to("wandb"):
        evaluated("alone")
    assert asked == []
    assert offline_runs(tmp_path)[0].exit_code == 0


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """wandb itself says nothing when its file is cut short."""

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with assay.log_to("wandb"):
        evaluated("alone")
        monkeypatch.setattr(Path, "write_bytes", refuse)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("sink "))
    assert "No space left on device: what wandb wrote to" in line


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with assay.log_to("wandb"):
        assert evaluated("alone").status == "ok"
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "wandb" in line)
    assert "pip install 'assay[wandb]'" in line


def test_the_guide_is_true(own_registries: None, tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "sharing.md").read_text()
    first, plugin = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(compile(first, "sharing.md", "exec"), {})
    (run,) = offline_runs(tmp_path)
    assert run.run["project"] == "vae-scores"
    assert [row["precision/value"] for row in run.history if "tables/metrics._type" not in row] != []
    exec(compile(plugin, "my_sink.py", "exec"), {"__name__": "my_sink"})
    with assay.log_to("lines", file="numbers.jsonl"):
        record = evaluated("mine")
    lines = (tmp_path / "outputs/python.lines/numbers.jsonl").read_text().splitlines()
    told = dict(map(json.loads, lines))
    assert told["precision(k=3)/value"] == record.values["precision"].value
