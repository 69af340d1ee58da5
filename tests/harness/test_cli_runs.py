"""`assay run` and the commands beside it, from end to end, in processes of their own."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.harness import cli
from assay.harness.core.registry import discover

from .shell import TINY, Files, Finished, Shell, differing, results

discover()
CELLS = ("run", "metric=[precision,recall,latent_density]", *TINY)
SCORES = "scores=[latent_density,rarity,random_score]"
STUDY = ("run", "study=[correlate,groups]", "study.correlate.resamples=20", SCORES, *TINY)


def test_each_folder_of_a_sweep_gets_a_page(assay: Shell) -> None:
    finished = assay("run", "-m", "metric=random_score", "name=one,two", *TINY, "out=named")
    assert finished.returncode == 0, finished.stderr
    assert all(f"page: named/{name}/report.html" in finished.stdout for name in ("one", "two"))
    assert "named/run" not in finished.stdout


def test_records_of_published_folders_are_packed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("assay.harness.report.tables.PUBLISHED", tmp_path / "published")
    for made in (True, False):
        for out in ("published", "other"):
            monkeypatch.setattr(sys, "argv", ["assay"])
            assert cli._run(["metric=random_score", *TINY, f"out={out}"]) == 0
        assert len((tmp_path / "published" / "run" / "records.jsonl").read_text().splitlines()) == 1
        assert not (tmp_path / "published" / "run" / "records").exists()
        assert records_in(tmp_path / "other" / "run") == 1
        assert ("nothing was recomputed" in capsys.readouterr().err) == (not made)


def test_encode_applies_to_the_metrics_that_read_codes(assay: Shell) -> None:
    both = assay("run", "metric=[latent_density,precision]", "encode=sample", *TINY, "out=encoded")
    assert both.returncode == 0, both.stderr
    assert "vae latent_density(encode=sample): " in both.stderr
    assert "vae precision: " in both.stderr
    none = assay("run", "metric=[recall,precision]", "encode=sample", *TINY, "out=encoded")
    assert none.returncode == 2
    assert "encode=sample: none of the chosen metrics reads codes" in none.stderr


@pytest.fixture(scope="module")
def cells(assay: Shell) -> Finished:
    return assay(*CELLS, "out=cells")


def test_metrics_are_printed_with_intervals_and_written(assay: Shell, cells: Finished) -> None:
    assert cells.returncode == 0, cells.stderr
    assert "precision ↑" in cells.stdout
    assert " to " in cells.stdout
    assert "page: cells/run/report.html" in cells.stdout
    names = assay.files("cells/run")
    assert len([name for name in names if name.startswith("records/")]) == 3
    assert {"report.html", "scores.parquet", "tables/metrics.csv", "tables/metrics.md", "tables/metrics.tex"} <= set(
        names
    )
    assert "latent_density" in names["tables/metrics.csv"].decode()


def test_a_second_run_computes_nothing_and_leaves_the_same_bytes(assay: Shell, cells: Finished) -> None:
    before, computed = assay.files("cells/run"), assay.costs("cells")
    again = assay(*CELLS, "out=cells")
    assert (again.returncode, again.stdout) == (0, cells.stdout)
    assert differing(assay.files("cells/run"), before) == []
    assert assay.costs("cells") == computed == 3
    assert "→" not in again.stderr, "no view was made"
    assert "nothing was recomputed" in again.stderr


def test_an_empty_store_leads_to_the_same_bytes(assay: Shell, cells: Finished) -> None:
    fresh = assay(*CELLS, "out=fresh", "store=other")
    assert fresh.returncode == 0, fresh.stderr
    assert "→" in fresh.stderr
    assert differing(results(assay, "fresh/run"), results(assay, "cells/run")) == []


def test_only_the_deleted_and_the_damaged_entry_are_made_again(assay: Shell, cells: Finished) -> None:
    entries = sorted((assay.folder / "store").rglob("*.npy"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in entries}
    lost, damaged = (
        next(path for path in entries if f'"through": "{space}"' in path.with_suffix(".json").read_text())
        for space in ("classifier", "latent:z")
    )
    results = assay.files("cells/run")
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    again = assay(*CELLS, "out=cells")
    assert again.returncode == 0
    assert "damaged" in again.stderr
    assert again.stderr.count("→") == 2, again.stderr
    assert {path: path.read_bytes() for path in entries} == {path: content for path, (content, _) in before.items()}
    assert {path for path in entries if path.stat().st_mtime_ns != before[path][1]} == {lost, damaged}
    assert differing(assay.files("cells/run"), results) == []


def test_a_sweep_over_metrics(assay: Shell) -> None:
    from_glob = assay("run", "-m", "metric=glob([realis*,rarit*,random*])", *TINY, "out=from_glob")
    assert from_glob.returncode == 0, from_glob.stderr
    records = [Path(name).name for name in assay.files("from_glob/run") if name.startswith("records/")]
    assert {name.rpartition("-")[0] for name in records} == {"realism", "rarity", "random_score"}


def test_a_metric_of_a_plugin_file_takes_part_in_a_run(assay: Shell) -> None:
    metrics = "metric=[first_feature,negative_distance_to_mean]"
    finished = assay("run", "--plugin=plugin.py", metrics, "metric.first_feature.power=2", *TINY, "out=plugged")
    assert finished.returncode == 0, finished.stderr
    assert "first_feature(power=2)" in assay.files("plugged/run")["tables/metrics.csv"].decode()
    assert "first_feature" in finished.stdout


def test_a_failed_cell_is_shown_and_the_others_are_not_lost(assay: Shell) -> None:
    finished = assay("run", "metric=[precision,recall]", "metric.recall.k=500", *TINY, "out=failed")
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert "\nfailed: vae recall(k=500): " in finished.stderr
    assert "precision" in finished.stdout
    assert ",failed," in assay.files("failed/run")["tables/metrics.csv"].decode()


@pytest.fixture(scope="module")
def study(assay: Shell) -> Finished:
    return assay(*STUDY, "out=study")


def test_a_study_writes_its_tables_pictures_and_page(assay: Shell, study: Finished) -> None:
    assert study.returncode == 0, study.stderr
    assert "held fixed" in study.stdout
    files = assay.files("study/run")
    assert {f"tables/{name}.csv" for name in ("correlate", "agreement", "groups", "metrics")} <= set(files)
    pictures = [content for name, content in files.items() if name.startswith("figures/")]
    assert len(pictures) == 2 + 3, "two of correlations, a gallery for each score"
    assert all(content.startswith(b"\x89PNG") for content in pictures)
    assert files["report.html"].count(b'<figure class="plot"') == 2
    assert files["report.html"].count(b"<img alt=") == 3
    rows = files["tables/correlate.csv"].decode().splitlines()
    assert len(rows) == 1 + 4 * 3 * 4, "conditions, scores, signals"
    rows = files["tables/groups.csv"].decode().splitlines()
    assert len(rows) == 1 + 3 * 4 * 4, "scores, groups, metrics"


def records_in(folder: Path) -> int:
    return len(list((folder / "records").glob("*.json")))


def interrupt(assay: Shell, out: str, at: int, how: signal.Signals) -> Finished:
    """Start the run and send a signal once so many records are written."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child started with it ignored ignores it too
    try:
        process = assay.start(*STUDY, f"out={out}", f"store={out}-store")
    finally:
        signal.signal(signal.SIGINT, handler)
    while process.poll() is None and records_in(assay.folder / out / "run") < at:
        time.sleep(0.002)
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=60)
    return Finished(process.args, process.returncode, stdout, stderr)


DIE_WHILE_WRITING = """
import os, sys
from pathlib import Path
from assay.harness.core.files import replace
os.replace = lambda *paths: os._exit(9)
replace(Path(sys.argv[1]), b"half")
"""


def test_a_killed_study_goes_on_to_the_same_bytes(assay: Shell, study: Finished) -> None:
    for at in np.random.default_rng(0).integers(0, 17, size=3):
        assert interrupt(assay, "killed", int(at), signal.SIGKILL).returncode == -signal.SIGKILL
    record = next(name for name in assay.files("study/run") if name.startswith("records/groups"))
    for name in (record, "report.html"):
        path = assay.folder / "killed" / "run" / name
        subprocess.run([sys.executable, "-c", DIE_WHILE_WRITING, str(path)], env=assay.environment, check=False)
    finished = assay(*STUDY, "out=killed", "store=killed-store")
    assert finished.returncode == 0, finished.stderr
    assert differing(results(assay, "killed/run"), results(assay, "study/run")) == []


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(assay: Shell, study: Finished) -> None:
    stopped = interrupt(assay, "stopped", 4, signal.SIGINT)
    assert stopped.returncode == 130
    assert "Traceback" not in stopped.stderr
    assert "the same command goes on" in stopped.stderr
    done = assay.costs("stopped")
    assert done >= 3
    finished = assay(*STUDY, "out=stopped", "store=stopped-store")
    assert finished.returncode == 0, finished.stderr
    records = [name for name in assay.files("stopped/run") if name.startswith("records/")]
    assert len(records) <= assay.costs("stopped") <= len(records) + 1, "at most the one in hand was made twice"
    assert differing(results(assay, "stopped/run"), results(assay, "study/run")) == []


def test_repeats_and_other_numbers_of_samples_share_a_folder(assay: Shell) -> None:
    finished = assay("run", "-m", *STUDY[1:], "seed=0,1", "n=60,70", "out=repeats")
    assert finished.returncode == 0, finished.stderr
    pictures = [name for name in assay.files("repeats/run") if name.startswith("figures/")]
    assert len(pictures) == 4 * 5, "each of the four has its own"


HOLES = (
    "run",
    "--plugin",
    "plugin.py",
    *STUDY[1:],
    "scores=[flaky,random_score]",
    "covariates.norm=patchy",
    "out=holes",
)
"""A score that fails in the first run and not in the second; a held column that is undefined in every third row."""


@pytest.fixture(scope="module")
def failed(assay: Shell) -> tuple[Finished, Files]:
    return assay(*HOLES, FLAKY="1"), assay.files("holes/run")


def has_raw_correlation(files: Files) -> dict[str, bool]:
    """Which scores have a raw correlation with a signal that is defined everywhere."""
    rows = csv.DictReader(io.StringIO(files["tables/correlate.csv"].decode()))
    raw = (row for row in rows if row["covariates"] == "nothing" and row["signal"] == "nearest_pixel")
    return {row["score"]: bool(row["value"]) for row in raw}


def test_a_score_that_fails_in_a_study_makes_the_run_fail(failed: tuple[Finished, Files]) -> None:
    assert failed[0].returncode == 1
    assert "Traceback" not in failed[0].stderr
    assert "failed: vae flaky: " in failed[0].stderr


def test_what_does_not_need_the_failed_score_is_made(failed: tuple[Finished, Files]) -> None:
    assert "random_score,12,top" in failed[1]["tables/groups.csv"].decode()


def test_a_held_column_that_is_undefined_spoils_only_what_holds_it(failed: tuple[Finished, Files]) -> None:
    assert has_raw_correlation(failed[1]) == {"flaky": False, "random_score": True}


def test_a_score_that_works_again_is_taken_up(assay: Shell, failed: tuple[Finished, Files]) -> None:
    healed = assay(*HOLES)
    assert healed.returncode == 0, healed.stderr
    assert has_raw_correlation(assay.files("holes/run")) == {"flaky": True, "random_score": True}


def test_a_terminal_without_arrows_costs_nothing(assay: Shell, cells: Finished) -> None:
    finished = assay(*CELLS, "out=cells", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert finished.returncode == 0, finished.stderr
    assert r"precision \u2191" in finished.stdout
    assert "nothing was recomputed" in finished.stderr


@pytest.mark.parametrize("more", [(), ("hydra/launcher=basic",)], ids=["own", "Hydra's"])
def test_what_has_nothing_to_make_needs_neither_cache_nor_home(
    assay: Shell, cells: Finished, more: tuple[str, ...]
) -> None:
    finished = assay(
        "run", "-m", *CELLS[1:], *more, "out=cells", HOME="/dev/null/home", ASSAY_CACHE="/dev/null/cache"
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "nothing was recomputed" in finished.stderr


DELETING = """
from pathlib import Path
from assay import View, metric

@metric(better="higher", kind="set", source="not published", fake=View("fake", "images"))
def deleting(fake):
    for path in Path("deleted/run/records").glob("*.json"):
        path.unlink()
    return 1.0
"""


def test_records_that_are_deleted_during_a_run_are_missed(assay: Shell) -> None:
    (assay.folder / "deleting.py").write_text(DELETING)
    finished = assay("--plugin", "deleting.py", "run", "metric=[precision,recall,deleting]", *TINY, "out=deleted")
    assert finished.returncode == 1
    assert "error: 2 of 3 records were deleted from deleted/run meanwhile; run the command again" in finished.stderr


def test_a_failed_cell_never_exits_with_0_whatever_the_clock_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["assay"])
    before = time.time()
    for hours in (0, -1, 1):
        monkeypatch.setattr(time, "time", lambda hours=hours: before + 3600 * hours)
        assert cli._run(["metric=[random_score,recall]", "metric.recall.k=500", *TINY]) == 1


def test_images_whose_names_are_no_utf8_are_read(assay: Shell) -> None:
    folder = assay.folder / "names"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        name = os.fsdecode(b"caf\xe9%d.png" % i)
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / name)
    odd = folder.rename(folder.with_name(os.fsdecode(b"n\xf6mes")))
    finished = assay(
        "run", "--fake", str(odd), "--real", str(odd), "metric=precision", "study=select",
        "scores=[mean_intensity]", "features=pixels", "out=odd",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert r"n\xf6mes" in finished.stdout
    (ranking,) = (assay.folder / "odd" / "run" / "select").rglob("ranking.csv")
    assert r"caf\xe93.png" in ranking.read_text()


def test_optuna_maximises_a_correlation(assay: Shell) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    number = "{table:correlate,covariates:nothing,score:latent_density,signal:judge_confidence}"
    optuna = ("hydra/sweeper=optuna", *(f"hydra.sweeper.{what}" for what in ("n_trials=3", "n_jobs=1")))
    call = (
        "run", "-m", *optuna, "hydra.sweeper.direction=maximize", "study=correlate", "study.correlate.resamples=20",
        "scores=[latent_density]", "metric.latent_density.bandwidth=interval(0.05,1)", *TINY, "out=optuna",
    )  # fmt: skip
    finished = assay(*call, f"objective={number}")
    assert finished.returncode == 0, finished.stderr
    (best,) = re.findall(r"best trial: metric.latent_density.bandwidth=(\S+): (\S+)", finished.stderr)
    rows = list(csv.DictReader(io.StringIO(assay.files("optuna/run")["tables/correlate.csv"].decode())))
    told = {row["score"]: row for row in rows if (row["covariates"], row["signal"]) == ("nothing", "judge_confidence")}
    assert float(told[f"latent_density(bandwidth={best[0]})"]["value"]) == float(best[1])
    assert len([name for name in assay.files("optuna/run") if "records/latent_density" in name]) == 3
    several = assay(*call, "objective=correlate")
    assert several.returncode == 2
    assert "error: objective=correlate: 16 numbers of correlate; choose one of each: covariates (" in several.stderr


@pytest.fixture(scope="module")
def pictures(assay: Shell) -> Path:
    generator = np.random.default_rng(0)
    path = assay.folder / "pictures.npz"
    np.savez(path, images=generator.integers(0, 256, (40, 8, 8), np.uint8), latents=generator.normal(size=(40, 3)))
    return path


def test_a_file_is_all_that_has_to_be_named(assay: Shell, pictures: Path) -> None:
    """Without a data set the generator is looked at alone, by every metric that needs no real samples."""
    finished = assay("run", "generator=replay", f"generator.path={pictures}", "n=40", "features=pixels", "out=alone")
    assert finished.returncode == 0, finished.stderr
    assert "dataset=none" in finished.stderr
    rows = list(csv.DictReader(io.StringIO(assay.files("alone/run")["tables/metrics.csv"].decode())))
    found = {row["name"] for row in rows}
    assert {"vendi_score", "mean_intensity", "negative_norm"} <= found
    assert not {"latent_density", "precision", "judge_confidence", "discriminator_logit"} & found
    assert {row["status"] for row in rows} == {"ok"}
    assert any(name.startswith("figures/samples-") for name in assay.files("alone/run"))


def test_replayed_samples_are_compared_with_a_data_set(assay: Shell, pictures: Path) -> None:
    file = f"generator.replay.path={pictures}"
    finished = assay(
        "run", "generator=replay", file, "metric=precision", "space=pixels", *TINY[:1], "n=40", "out=replayed"
    )
    assert finished.returncode == 0, finished.stderr
    (row,) = csv.DictReader(io.StringIO(assay.files("replayed/run")["tables/metrics.csv"].decode()))
    assert float(row["value"]) < 0.5, "noise is no digit"


def test_a_metric_that_needs_real_samples_says_so(assay: Shell, pictures: Path) -> None:
    finished = assay(
        "run", "generator=replay", f"generator.path={pictures}", "metric=precision", "features=pixels", "n=40"
    )
    assert finished.returncode == 1
    assert "data set 'none' has no real samples" in finished.stderr


def test_held_out_images_are_a_perfect_generator(assay: Shell) -> None:
    finished = assay(
        "run", "generator=held_out", "metric=[precision,nearest_pixel]", "dataset=digits", "n=100", "out=real"
    )
    assert finished.returncode == 0, finished.stderr
    rows = {r["name"]: r for r in csv.DictReader(io.StringIO(assay.files("real/run")["tables/metrics.csv"].decode()))}
    assert float(rows["precision"]["value"]) > 0.6
    assert float(rows["nearest_pixel"]["value"]) == 0


def test_a_report_can_be_made_again_from_the_records(assay: Shell, study: Finished) -> None:
    before = assay.files("study/run")
    (assay.folder / "study" / "run" / "report.html").unlink()
    finished = assay("report", "study/run")
    assert (finished.returncode, finished.stdout) == (0, study.stdout)
    assert differing(assay.files("study/run"), before) == []


def test_training_and_using_what_was_trained(assay: Shell) -> None:
    options = ("dataset=digits", "trainer.vae.epochs=1", "device=cpu")
    trained = assay("train", "generator=vae", *options, "out=weights")
    assert trained.returncode == 0, trained.stderr
    path = "generator.vae.path=weights/vae-digits.safetensors"
    used = assay("run", "metric=negative_norm", path, *TINY, "out=trained")
    assert used.returncode == 0, used.stderr
