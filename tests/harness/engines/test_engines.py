"""Runs by all engines leave the same bytes, also where workers or the command were killed; and status is right."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from assay.harness.arrays.records import read_records
from assay.harness.engines.plan import Job, Plan, status

from .slow_runs import METRICS, carried_out, environment, line, written

ASKED = ("-m", "seed=0,1", "n=1600", f"metric=[{','.join(METRICS)}]")


@pytest.fixture(scope="module")
def untroubled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run without engines leaves."""
    top = tmp_path_factory.mktemp("local")
    done = carried_out("local", top, top / "cache", *ASKED)
    assert done.returncode == 0, done.stderr
    return written(top)


def at_work(top: Path) -> list[Job]:
    return [job for plan in (Plan(top / "run", "arrays"), Plan(top / "run")) for job in plan.jobs() if job.is_alive]


def until(what: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def started(top: Path) -> "Iterator[subprocess.Popen[str]]":
    """A command on two processes that take their time."""
    environs = environment(top / "cache", ASSAY_TEST_PAUSE="0.5")
    # A shell starts what runs in its background, and so all tests there, with Ctrl-C ignored.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = subprocess.Popen(
        line("processes", top, *ASKED), stderr=subprocess.PIPE, text=True, env=environs, preexec_fn=heeding
    )
    try:
        yield command
    finally:
        command.kill()
        command.communicate()


@pytest.mark.parametrize("engine", ["processes", "ray", "slurm"])
def test_all_engines_leave_the_same_bytes(engine: str, tmp_path: Path, untroubled: dict[str, bytes]) -> None:
    done = carried_out(engine, tmp_path, tmp_path / "cache", *ASKED)
    assert done.returncode == 0, done.stderr
    assert written(tmp_path) == untroubled
    assert status(tmp_path / "run").counts == {"done": 6, "failed": 0, "running": 0, "missing": 0}
    assert "slow precision: " in done.stderr, "what workers say is said by the command"
    assert list((tmp_path / "run.plan" / "logs").glob("*.log"))
    assert not list((tmp_path / "run.plan" / "arrays").glob("*"))


def test_a_lost_worker_costs_nothing_but_time(tmp_path: Path, untroubled: dict[str, bytes]) -> None:
    (tmp_path / "deaths").write_text("image 1\n")
    done = carried_out("processes", tmp_path, tmp_path / "cache", *ASKED, ASSAY_TEST_DEATHS=str(tmp_path / "deaths"))
    assert done.returncode == 0, done.stderr
    assert "a worker was lost: its process ended with SIGKILL(-9)" in done.stderr
    assert written(tmp_path) == untroubled


def test_what_kills_its_workers_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Image 1500 of seed 0 cannot be made; a metric of seed 1 cannot be computed."""
    asked = ("-m", "seed=0,1", "n=1600", "metric=[precision,brittle,density]", "engine.tries=1")
    (tmp_path / "deaths").write_text("image 99\nmetric 99\n")
    done = carried_out("processes", tmp_path, tmp_path / "cache", *asked, ASSAY_TEST_DEATHS=str(tmp_path / "deaths"))
    assert done.returncode == 1, done.stderr
    found = {(record.cell.seed, record.cell.metric): record.error for record in read_records(tmp_path / "run")}
    lost = "the process at work on it was lost in each of its tries (1), killed or out of memory; "
    lost += "the logs beside the results are kept"
    for name in ("precision", "brittle", "density"):
        assert found[0, name] == f"slow, digits: images of fake samples 1000 to 1600 were not made: {lost}"
    assert (found[1, "precision"], found[1, "brittle"], found[1, "density"]) == (None, lost, None)
    assert status(tmp_path / "run").counts == {"done": 2, "failed": 4, "running": 0, "missing": 0}
    again = carried_out("processes", tmp_path, tmp_path / "cache", *asked)
    assert again.returncode == 0, again.stderr
    assert status(tmp_path / "run").counts["done"] == 6


def test_a_killed_command_takes_its_workers_along_and_the_next_goes_on(
    tmp_path: Path, untroubled: dict[str, bytes]
) -> None:
    with started(tmp_path) as command:
        until(lambda: at_work(tmp_path))
        told = status(tmp_path / "run")
        assert any("fake samples" in at or "real samples" in at for at in told.running), told
        command.kill()
        command.wait()
        until(lambda: not at_work(tmp_path), 30)
    assert status(tmp_path / "run").counts["running"] == 0
    done = carried_out("processes", tmp_path, tmp_path / "cache", *ASKED)
    assert done.returncode == 0, done.stderr
    assert written(tmp_path) == untroubled


def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(tmp_path: Path) -> None:
    with started(tmp_path) as command:
        until(lambda: at_work(tmp_path))
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=120)
    assert command.returncode == 130
    assert said.splitlines()[-1] == "interrupted; the same command goes on from here"
    assert "Traceback" not in said
    until(lambda: not at_work(tmp_path), 30)


def test_two_commands_share_the_work(tmp_path: Path, untroubled: dict[str, bytes]) -> None:
    """On one store and one results folder at once: the same bytes, and the network sees no image for both of them."""
    environs = environment(tmp_path / "cache", ASSAY_TEST_PAUSE="0.1", ASSAY_TEST_SEEN=str(tmp_path / "seen"))
    calls = [line("local", tmp_path, *ASKED), line("processes", tmp_path, *ASKED)]
    commands = [subprocess.Popen(call, stderr=subprocess.PIPE, text=True, env=environs) for call in calls]
    said = [command.communicate()[1] for command in commands]
    assert [command.returncode for command in commands] == [0, 0], said
    assert written(tmp_path) == untroubled
    seen = sum(map(int, (tmp_path / "seen").read_text().split()))
    generated, real, halves = 2 * 1600, 1438, 2 * 2 * 719
    assert seen <= generated + real + halves


def test_one_job_that_cannot_begin_does_not_hinder_the_others(tmp_path: Path) -> None:
    asked = ("-m", "generator=slow,stylegan3", "n=60", "metric=precision", "floor=false")
    call = [one for one in line("processes", tmp_path, *asked) if one != "generator=slow"]
    done = subprocess.run(call, capture_output=True, text=True, env=environment(tmp_path / "cache"), check=False)
    assert done.returncode == 1, done.stderr
    assert "failed: stylegan3: generator stylegan3 opens a published file" in done.stderr
    assert status(tmp_path / "run").counts == {"done": 1, "failed": 1, "running": 0, "missing": 0}
    assert (tmp_path / "run" / "report.html").is_file()
