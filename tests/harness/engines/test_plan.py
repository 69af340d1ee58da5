"""What a plan says of jobs that are done, failed, at work, lost or not begun."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.harness.arrays.records import record_name, write_record
from assay.harness.core.protocols import Cell, Estimate, Record, Row
from assay.harness.engines.plan import DAY, Job, Plan, job_key, status


def record(metric: str, failed: bool = False) -> Record:
    cell = Cell("run", "digits", "vae", metric, metric, 0, 10)
    rows = [] if failed else [Row((metric,), Estimate(1.0, (0.9, 1.1), 10))]
    how = ("failed", "too few") if failed else ("ok", None)
    return Record(cell, 1, "set", "higher", "x", ("name",), rows, *how, {})  # type: ignore[arg-type]


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_each_state_is_told(tmp_path: Path, gone: int) -> None:
    folder = tmp_path / "run"
    plan, ok, bad = Plan(folder), record("precision"), record("recall", failed=True)
    for one in (ok, bad):
        write_record(folder, one)
    both = {"precision": record_name(ok.cell), "recall": record_name(bad.cell)}
    plan.write("a", Job("a", both, {"gallery": True}, "finished", seconds=120))
    plan.add("b", Job("b", {"precision": "", "recall": ""}))
    plan.begin("c", Job("c", {"density": "density-0.json"}, {"gallery": False}))
    plan.write("d", Job("d", {"precision": ""}, error="no weights", state="finished"))
    found = status(folder)
    assert found.counts == {"done": 2, "failed": 2, "running": 2, "missing": 2}
    assert found.failed == ["a, recall: too few", "d: no weights"]
    assert found.missing == ["b: precision, recall"]
    assert found.running == [f"c, process {os.getpid()}"]
    assert found.rest == 240, "two jobs are left, one at a time, of two minutes each"
    job = plan.read("c")
    assert job is not None
    job.process = gone
    plan.write("c", job)
    lost = status(folder)
    assert lost.counts == {"done": 2, "failed": 2, "running": 0, "missing": 4}
    assert lost.missing == ["b: precision, recall", "c: density, gallery"]
    assert "expected rest time: 4 min" in str(lost)


@pytest.mark.parametrize(("age", "alive"), [(DAY - 60, True), (DAY + 60, False)])
def test_a_job_elsewhere_is_alive_for_a_day(age: float, alive: bool, gone: int) -> None:
    begun = time.time() - age
    assert Job("a", state="running", host="elsewhere", process=gone, begun=begun).is_alive == alive


def test_a_known_job_is_planned_again_only_where_it_is_to_do_something_else(tmp_path: Path) -> None:
    plan, done = Plan(tmp_path / "run"), Job("a", {"precision": "x.json"}, {}, "finished", seconds=5)
    plan.write("a", done)
    plan.add("a", Job("a", {"precision": ""}))
    assert plan.read("a") == done
    plan.add("a", Job("a", {"precision": "", "recall": ""}))
    again = plan.read("a")
    assert again is not None
    assert again.state == "planned"


def test_damaged_files_are_no_jobs(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "run")
    plan.add("a", Job("a", {"precision": ""}))
    plan.file("b").write_text("{")
    plan.file("c").write_text('{"title": "c", "colour": 3}')
    assert [job.title for job in plan.jobs()] == ["a"]


def test_where_nothing_was_planned_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has planned nothing here"):
        status(tmp_path / "run")


def test_a_job_is_known_by_what_it_evaluates() -> None:
    config = {
        "generator": {"vae": {}},
        "seed": 0,
        "device": "cpu",
        "store": None,
        "out": "a",
        "engine": {"name": "local"},
    }
    elsewhere = {"device": "cuda", "store": "elsewhere", "out": "b", "engine": {"name": "ray"}}
    assert job_key(config) == job_key(config | elsewhere)
    assert job_key(config) != job_key(config | {"seed": 1})


def test_who_is_at_what_is_told(tmp_path: Path) -> None:
    """Parts of views that workers make are no jobs: they are told while somebody is at work on them."""
    plan, arrays = Plan(tmp_path / "run"), Plan(tmp_path / "run", "arrays")
    job, part = Job("vae", {"precision": "x.json", "fid": "y.json"}), Job("vae: images of fake samples 0 to 1000")
    plan.add("a", job)
    arrays.begin("b", part)
    assert status(tmp_path / "run").running == [f"{part.title}, process {os.getpid()}"]
    assert status(tmp_path / "run").counts == {"done": 0, "failed": 0, "running": 0, "missing": 2}
    arrays.end("b", part)
    arrays.forget("b")
    plan.begin("a", job)
    plan.go_on("a", job, "fid")
    assert status(tmp_path / "run").running == [f"vae, at fid, process {os.getpid()}"]
