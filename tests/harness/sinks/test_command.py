"""`assay run` and `assay train` with sinks: what these hold is what the records say, and a dead one changes no byte."""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from assay.harness import cli
from assay.harness.arrays.records import read_records
from assay.harness.core.protocols import Record
from assay.harness.core.registry import SINKS, discover
from assay.harness.report.report import report
from assay.harness.report.tables import tables
from assay.harness.sinks.jobs import Evaluated, JobLogs
from assay.harness.sinks.payload import numbers

from .reading import Events, Offline, events, offline_runs

pytest.importorskip("wandb")
pytest.importorskip("tensorboard")
discover()
ROOT = Path(__file__).parents[3]
ASSAY = Path(sys.executable).with_name("assay")
PLUGIN = """
import os, signal
from pathlib import Path
from assay import View, metric
from assay.harness.core.registry import sink

@metric(better="higher", kind="set", source="not published", fake=View("fake", "pixels"))
def unlucky(fake):
    raise RuntimeError("out of order, /home/somebody")

@metric(better="higher", kind="set", source="not published", fake=View("fake", "pixels"))
def killer(fake):
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            process, text = int(status.parent.name), status.read_text()
            ours = f"PPid:\\t{os.getpid()}\\n" in text and b"wandb-core" in (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if ours:
            os.kill(process, signal.SIGKILL)
    return 0.5

class Dead:
    def __getattr__(self, name):
        raise OSError(28, "No space left on device")

@sink("dead")
def open_dead(about):
    return Dead()

@sink("missing")
def open_missing(about):
    import a_package_that_nobody_has
"""
TINY = ("dataset=digits", "n=60", "device=cpu", "features=pixels", "study=samples", "study.samples.rows=2")
METRICS = "metric=[precision,unlucky,recall,random_score]"
SWEEP = ("run", "-m", METRICS, *TINY, "seed=0,1", "name=tiny")
INTO = ("sink=[wandb,tensorboard]", "sink.wandb.project=mine")


class World:
    """A folder in which the command runs, with a home of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "home").mkdir()
        (folder / "plugin.py").write_text(PLUGIN)

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        places = {"HOME": "home", "ASSAY_CACHE": "cache", "ASSAY_STORE": "store", "MPLCONFIGDIR": "cache/matplotlib"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY_", "WANDB_"))}
        environment = kept | {name: str(self.folder / place) for name, place in places.items()}
        command = [str(ASSAY), "--plugin", "plugin.py", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment)

    def files(self, out: str, *without: str) -> dict[str, bytes]:
        """Contents by name, apart from pages, which tell costs, and from what has names that begin in these ways."""
        root = self.folder / out
        every = (path for path in root.rglob("*") if path.is_file() and path.name != "report.html")
        found = {str(path.relative_to(root)): path for path in every}
        return {name: path.read_bytes() for name, path in found.items() if not name.startswith(without)}


class Swept(NamedTuple):
    world: World
    records: list[Record]
    offline: list[Offline]
    finished: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A sweep of two jobs without sinks."""
    world = World(tmp_path_factory.mktemp("world"))
    assert world(*SWEEP, "out=plain").returncode == 1, "a metric failed"
    return world


@pytest.fixture(scope="module")
def swept(plain: World) -> Swept:
    finished = plain(*SWEEP, "out=swept", *INTO)
    return Swept(plain, read_records(plain.folder / "swept/tiny"), offline_runs(plain.folder / "swept"), finished)


def same(told: Any, value: Any) -> bool:
    """Whether a sink holds a value to the last bit; wandb writes NaN as a word, JSON 1.0 as 1."""
    if isinstance(value, float) and math.isnan(value):
        return told in ("NaN", None) or (isinstance(told, float) and math.isnan(told))
    return bool(told == value)


def assert_summary(summary: Mapping[str, Any], records: list[Record]) -> None:
    expected = numbers(records)
    assert expected
    for name, value in expected.items():
        assert same(summary[name], value), name
    given = {name for name in summary if name.endswith(("/value", "/low", "/high", "/failed"))}
    assert given - expected.keys() <= {"progress/failed"}, "and nothing else"


def assert_table(run: Offline, name: str, expected: pd.DataFrame) -> None:
    columns, rows = run.tables[f"tables/{name}"]
    assert columns == list(expected.columns)
    assert len(rows) == len(expected)
    for row, there in zip(rows, expected.astype(object).values.tolist(), strict=True):
        assert all(map(same, row, there)), (row, there)


def of_seed(records: list[Record], seed: int) -> list[Record]:
    return [record for record in records if record.cell.seed == seed]


def test_a_sweep_is_one_group_of_a_run_for_each_job_and_one_for_the_report(swept: Swept) -> None:
    titles = [f"vae, digits, seed {seed}, 60 samples" for seed in (0, 1)]
    assert [one.run["display_name"] for one in swept.offline] == ["tiny", *titles]
    assert [one.run["job_type"] for one in swept.offline] == ["report", "evaluate", "evaluate"]
    assert len({one.run["run_group"] for one in swept.offline}) == 1
    assert {one.run["project"] for one in swept.offline} == {"mine"}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_summary_of_a_job_has_the_numbers_of_its_records(swept: Swept, seed: int) -> None:
    run = swept.offline[1 + seed]
    records = of_seed(swept.records, seed)
    assert_summary(run.summary, records)
    assert (run.summary["records"], run.summary["failed"]) == (len(records), 1)
    assert_table(run, "metrics", tables(records)["metrics"])


@pytest.mark.parametrize("seed", [0, 1])
def test_what_failed_is_told_with_its_reason_and_without_a_number(swept: Swept, seed: int) -> None:
    run = swept.offline[1 + seed]
    (failed,) = (record for record in of_seed(swept.records, seed) if record.status == "failed")
    assert run.summary["unlucky/failed"] == failed.error == "RuntimeError: out of order, /home/somebody"
    assert "unlucky/value" not in run.summary
    columns, rows = run.tables["tables/metrics"]
    (row,) = (dict(zip(columns, row, strict=True)) for row in rows if "unlucky" in row)
    assert (row["status"], row["error"], row["value"]) == ("failed", failed.error, None)
    assert run.exit_code == 1


def test_progress_is_told_while_the_run_goes_on(swept: Swept) -> None:
    rows = [row for row in swept.offline[1].history if "progress/done" in row]
    assert [(row["progress/done"], row["progress/failed"], row["progress/planned"]) for row in rows] == [
        (1, 0, 5), (2, 1, 5), (3, 1, 5), (4, 1, 5), (5, 1, 5)
    ]  # fmt: skip


def test_the_report_has_all_tables_pictures_and_records(swept: Swept) -> None:
    (run, *_) = swept.offline
    folder = swept.world.folder / "swept/tiny"
    for name, table in tables(swept.records).items():
        assert_table(run, name, table)
    pictures = {f"figures/{path.stem}": path for path in (folder / "figures").glob("*.png")}
    assert pictures
    assert run.pictures.keys() == pictures.keys()
    for name, path in pictures.items():
        with Image.open(path) as picture:
            assert np.array_equal(run.pictures[name], np.asarray(picture.convert("RGB")))
    files = run.files["records-tiny"]
    (folder / "again").mkdir(exist_ok=True)
    (folder / "again/records.jsonl").write_bytes(files["records.jsonl"])
    assert read_records(folder / "again") == swept.records
    shutil.rmtree(folder / "again")
    assert files["tables/metrics.csv"] == (folder / "tables/metrics.csv").read_bytes()


def test_config_and_command_are_told(swept: Swept) -> None:
    config = swept.offline[2].config
    assert (config["n"], config["seed"], config["dataset"]) == (60, 1, {"digits": {}})
    assert set(config["metric"]) == {"precision", "unlucky", "recall", "random_score"}
    assert config["command"].startswith(f"assay run -m '{METRICS}' dataset=digits n=60 ")
    assert not {"out", "store", "sink"} & config.keys()


def test_tensorboard_has_the_numbers_and_pictures_too(swept: Swept) -> None:
    folder = swept.world.folder / "swept/tiny.tensorboard"
    for seed in (0, 1):
        found: Events = events(folder / f"vae-digits-seed-{seed}-60-samples")
        summary = {name: steps[0] for name, steps in found.numbers.items() if 0 in steps} | found.texts
        assert_summary(summary, of_seed(swept.records, seed))
        assert found.numbers["progress/failed"] == {1: 0, 2: 1, 3: 1, 4: 1, 5: 1}
        assert repr(swept.records[0].rows[0].estimate.value) in events(folder / "tiny").texts["tables/metrics"]
    figures = {f"figures/{path.stem}" for path in (swept.world.folder / "swept/tiny/figures").glob("*.png")}
    assert set(events(folder / "tiny").pictures) == figures


def test_sinks_change_no_byte_of_the_results(swept: Swept) -> None:
    hosts = ("tiny.plan/", "tiny.costs.csv", "tiny.wandb/", "tiny.tensorboard/")
    assert swept.world.files("swept", *hosts) == swept.world.files("plain", *hosts)
    assert swept.finished.returncode == 1, "for the metric that failed"
    assert {path.name for path in (swept.world.folder / "swept").glob("tiny.plan/*")} == {
        path.name for path in (swept.world.folder / "plain").glob("tiny.plan/*")
    }, "sinks do not decide what a job is"


def test_nothing_is_said_or_written_elsewhere(swept: Swept) -> None:
    assert "wandb" not in swept.finished.stdout + swept.finished.stderr
    assert list((swept.world.folder / "home").iterdir()) == []
    assert {path.name for path in swept.world.folder.iterdir()} <= {
        *("__pycache__", "home", "cache", "store", "plugin.py", "plain", "swept", "dead", "killed", "whole", "single")
    }
    assert {path.name for path in (swept.world.folder / "swept").iterdir()} == {
        *("tiny", "tiny.plan", "tiny.costs.csv", "tiny.wandb", "tiny.tensorboard")
    }


def test_no_name_of_host_or_user_is_in_the_file(swept: Swept) -> None:
    for run in swept.offline:
        assert not {"host", "git", "program"} & run.run.keys()
        assert not (run.path.parent / "files" / "wandb-metadata.json").exists()
        told = json.dumps([run.run, run.summary, run.history])
        assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", told)


def test_a_run_that_is_found_tells_the_same_summary(swept: Swept) -> None:
    for folder in ("swept/tiny.wandb", "swept/tiny.tensorboard"):
        shutil.rmtree(swept.world.folder / folder)
    again = swept.world(*SWEEP, "out=swept", *INTO)
    assert "recomputed" not in again.stderr or again.returncode == 1
    for before, after in zip(swept.offline, offline_runs(swept.world.folder / "swept"), strict=True):
        told = [
            {key: value for key, value in one.summary.items() if not key.startswith(("_", "tables/", "figures/"))}
            for one in (before, after)
        ]
        assert told[0] == told[1]
        assert before.run["run_group"] == after.run["run_group"]
        assert before.tables == after.tables


def test_of_a_single_job_all_is_in_one_run(plain: World) -> None:
    finished = plain("run", METRICS, *TINY, "name=tiny", "out=single", *INTO)
    assert finished.returncode == 1
    (run,) = offline_runs(plain.folder / "single")
    records = read_records(plain.folder / "single/tiny")
    assert_summary(run.summary, records)
    assert_table(run, "leaderboard", tables(records)["leaderboard"])
    assert run.files.keys() == {"records-tiny"}
    assert len(run.pictures) == len(list((plain.folder / "single/tiny/figures").glob("*.png"))) > 0


WHOLE = ("run", "-m", "metric=[precision,killer,recall]", *TINY, "seed=0,1", "name=tiny")
OURS = ("tiny.plan/", "tiny.costs.csv", "tiny.wandb", "tiny.tensorboard")


@pytest.fixture(scope="module")
def whole(plain: World) -> dict[str, bytes]:
    """All that a sweep leaves when no sink is there that could fail."""
    assert plain(*WHOLE, "out=whole").returncode == 0
    return plain.files("whole", *OURS)


def test_dead_sinks_leave_the_run_whole(plain: World, whole: dict[str, bytes]) -> None:
    (plain.folder / "dead").mkdir()
    for sink in ("wandb", "tensorboard"):  # a file where a sink wants its folder
        (plain.folder / f"dead/tiny.{sink}").write_text("mine")
    finished = plain(*WHOLE, "out=dead", "sink=[dead,missing,wandb,tensorboard]")
    assert finished.returncode == 0
    said = sorted(line for line in finished.stderr.splitlines() if line.startswith("sink "))
    assert [line.partition(": ")[0] for line in said] == [
        f"sink {name} failed" for name in ("dead", "missing", "tensorboard", "wandb")
    ]
    assert "it needs a package" in said[1]
    assert plain.files("dead", *OURS) == whole


def test_a_killed_service_leaves_the_run_whole(plain: World, whole: dict[str, bytes]) -> None:
    finished = plain(*WHOLE, "out=killed", "sink=wandb")
    assert finished.returncode == 0
    (said,) = (line for line in finished.stderr.splitlines() if "wandb" in line)
    assert said.startswith("sink wandb failed: ")
    assert "everything from killer on" in said
    assert "Traceback" not in finished.stderr
    assert plain.files("killed", *OURS) == whole


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("sink=wanb",), "unknown sink 'wanb'; did you mean wandb?"),
        (("sink=wandb", "sink.wandb.mode=on"), "mode='on' must be offline or online"),
        (("sink=wandb", "sink.wandb.projct=x"), "did you mean project?"),
        (("sink.wandb.project=x",), "add sink=wandb"),
        (("sink=tensorboard", "sink.wandb.project=x"), "sink=tensorboard was chosen"),
    ],
)
def test_a_wrong_option_is_a_wrong_call(
    words: tuple[str, ...],
    error: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(sys, "argv", ["assay", "run", "metric=precision", f"out={tmp_path}", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert error in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], list[Offline], Path]:
    """The published records of the quickstart, as its three jobs and its report hand them to the sinks."""
    out = tmp_path_factory.mktemp("out")
    shutil.copytree(ROOT / "results/quickstart", out / "quickstart")
    report(out / "quickstart")
    records = read_records(out / "quickstart")
    sinks = {name: dict(SINKS[name].options) for name in ("wandb", "tensorboard")}
    config = {"out": str(out), "name": "quickstart", "sink": sinks, "n": 5000}
    jobs = sorted({Evaluated.of(record) for record in records})
    with JobLogs(["run", "experiment=quickstart"], len(jobs)) as logs:
        for job in jobs:
            logs.done(str(job), config, job)
        logs.reported(config, False)
    return records, offline_runs(out), out


def without_digest(line: bytes) -> dict[str, Any]:
    """Records that are older than digests get one where they are written again."""
    return {name: value for name, value in json.loads(line).items() if name != "digest"}


def test_the_quickstart_is_in_wandb_with_every_number(
    quickstart: tuple[list[Record], list[Offline], Path],
) -> None:
    records, runs, out = quickstart
    found, *jobs = runs
    assert len(jobs) == 3
    assert len({one.run["run_group"] for one in runs}) == 1
    for job in jobs:
        own = [
            record for record in records if f"{record.cell.generator}, fashion_mnist, seed 0" in job.run["display_name"]
        ]
        assert len(own) == len(records) / 3
        assert_summary(job.summary, own)
    for name, table in tables(records).items():
        assert_table(found, name, table)
    lines = found.files["records-quickstart"]["records.jsonl"].splitlines()
    published = (ROOT / "results/quickstart/records.jsonl").read_bytes().splitlines()
    assert [without_digest(line) for line in lines] == [without_digest(line) for line in published]
    assert any("correlate-vae-fashion-mnist" in name for name in found.pictures)
    assert len(found.pictures) == len(list((out / "quickstart/figures").glob("*.png")))


def test_the_quickstart_is_in_tensorboard_with_every_number(
    quickstart: tuple[list[Record], list[Offline], Path],
) -> None:
    records, _, out = quickstart
    for job in {Evaluated.of(record) for record in records}:
        (folder,) = (
            folder
            for folder in (out / "quickstart.tensorboard").iterdir()
            if folder.name.startswith(job.generator.replace("(", "-").replace("=", "-").replace(")", "") + "-fashion")
        )
        found = events(folder)
        summary = {name: steps[0] for name, steps in found.numbers.items()} | found.texts
        assert_summary(summary, [record for record in records if Evaluated.of(record) == job])
