"""What a plan says of jobs that are done, failed, at work, lost or not begun."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from assay.harness.arrays.records import record_name, write_record
from assay.harness.core import locks
from assay.harness.core.locks import release
from assay.harness.core.protocols import Cell, Estimate, Record, Row
from assay.harness.engines.plan import SILENT, Job, Plan, job_key, status


def record(metric: str, failed: bool = False) -> Record:
    cell = Cell("run", "digits", "vae", metric, metric, 0, 10)
    rows = [] if failed else [Row((metric,), Estimate(1.0, (0.9, 1.1), 10))]
    how = ("failed", "too few") if failed else ("ok", None)
    return Record(cell, 1, "set", "higher", "x", ("name",), rows, *how, {})  # type: ignore[arg-type]


def test_each_state_is_told(tmp_path: Path) -> None:
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
    release(plan.file("c"))  # as when its process ends
    lost = status(folder)
    assert lost.counts == {"done": 2, "failed": 2, "running": 0, "missing": 4}
    assert lost.missing == ["b: precision, recall", "c: density, gallery"]
    assert "expected rest time: 4 min" in str(lost)


@pytest.mark.parametrize(("age", "alive"), [(SILENT - 60, True), (SILENT + 60, False)])
def test_a_job_elsewhere_is_alive_while_its_file_gets_new_times(tmp_path: Path, age: float, alive: bool) -> None:
    plan = Plan(tmp_path / "run")
    plan.write("a", Job("a"))
    plan.file("a").write_text('{"title": "a", "state": "running", "host": "elsewhere", "process": 1}')
    os.utime(plan.file("a"), (time.time() - age,) * 2)
    job = plan.read("a")
    assert job is not None
    assert job.is_alive == alive


def test_files_that_are_held_get_new_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats = iter([False, True])
    monkeypatch.setattr(threading, "Event", lambda: SimpleNamespace(wait=lambda seconds: next(beats)))
    held, other = tmp_path / "held", tmp_path / "other"
    for path in (held, other):
        path.touch()
        os.utime(path, (0, 0))
    monkeypatch.setattr(locks, "_HELD", {held: 0})
    locks._beat()
    assert held.stat().st_mtime > 1e9
    assert other.stat().st_mtime == 0


JOB = """
import os, sys
from pathlib import Path
from assay.harness.engines.plan import Job, Plan

number = PROCESS
os.getpid = lambda: number
Plan(Path(sys.argv[1])).begin(sys.argv[2], Job(sys.argv[2], {"precision": ""}))
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("call", "process"),
    [
        ([], "1"),
        pytest.param(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"], "os.getpid()",
            marks=pytest.mark.skipif(
                not shutil.which("unshare") or subprocess.run(["unshare", "--pid", "--fork", "true"]).returncode != 0,
                reason="this system lets nobody make a PID namespace",
            ),
        ),
    ],
)  # fmt: skip
def test_of_jobs_that_are_all_process_1_the_killed_one_is_lost(tmp_path: Path, call: list[str], process: str) -> None:
    code, folder = JOB.replace("PROCESS", process), tmp_path / "run"
    jobs = [
        subprocess.Popen([*call, sys.executable, "-c", code, str(folder), name], stdin=-1, stdout=-1, text=True)
        for name in "ab"
    ]
    try:
        for job in jobs:
            assert job.stdout is not None
            assert job.stdout.readline() == "1\n"
        assert status(folder).running == ["a, process 1", "b, process 1"]
        jobs[0].kill()
        jobs[0].wait()
        deadline = time.monotonic() + 10  # what unshare started dies a moment after it
        while len(status(folder).running) > 1 and time.monotonic() < deadline:
            os.sched_yield()
        found = status(folder)
        assert (found.running, found.missing) == (["b, process 1"], ["a: precision"])
    finally:
        for job in jobs:
            job.kill()
            job.communicate()


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
    plan.file("d").write_text('{"title": "d", "metrics": []}')
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
