"""Whole runs on samples of the user's own: which are used, what the floor is, what goes on where something fails."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.harness import cli
from assay.harness.command.overrides import check_grammar, check_names, full_names, without_data
from assay.harness.command.paths import take_paths
from assay.harness.core.registry import DATASETS, discover
from assay.harness.open_run import open_run

discover()
REALS, FAKES = "reals", "a ~,=(#ü 'fakes"
"""Folders; the second has what Hydra's grammar refuses."""
BROKEN = """
from collections.abc import Iterator
from dataclasses import dataclass

from assay import Part, Run, study


@dataclass(frozen=True)
class Options:
    size: int = 1


@study(broken=("name",))
def broken(run: Run, options: Options) -> Iterator[Part]:
    yield {}["absent"]
"""


def save(folder: Path, names: list[str], low: int, high: int, seed: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for name in names:
        Image.fromarray(rng.integers(low, high, (8, 8, 3), dtype=np.uint8)).save(folder / f"{name}.png")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 dark and 60 bright reals in class folders, 30 dark and 30 bright generated images."""
    top = tmp_path_factory.mktemp("own")
    save(top / REALS / "cat", [f"{i:02}" for i in range(60)], 0, 90, 0)
    save(top / REALS / "dog", [f"{i:02}" for i in range(60)], 160, 255, 1)
    save(top / FAKES, [f"a{i:02}" for i in range(30)], 0, 90, 2)
    save(top / "bright", [f"b{i:02}" for i in range(30)], 160, 255, 3)
    for image in (top / "bright").iterdir():
        shutil.move(image, top / FAKES / image.name)
    return top


def command(own: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"ASSAY_CACHE": str(own / "cache"), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "assay", "run", *arguments, "features=pixels", "device=cpu"]
    return subprocess.run(line, capture_output=True, text=True, cwd=own, env=environment, check=False)


def rows(own: Path, out: str) -> dict[str, dict[str, str]]:
    with (own / out / "run" / "tables" / "metrics.csv").open() as file:
        return {row["name"] or row["metric"]: row for row in csv.DictReader(file)}


def test_two_folders_are_compared_as_they_are(own: Path) -> None:
    """Without n all generated images count; the reals beside them come from both classes; fid fails alone."""
    done = command(own, "--fake", FAKES, f"--real={REALS}", "metric=[precision,fid,density]", "out=two")
    assert done.returncode == 1, done.stderr
    found = rows(own, "two")
    assert found["fid"]["status"] == "failed"
    assert "no weights of 'inception'" in found["fid"]["error"]
    assert found["precision"]["samples"] == "60"
    assert float(found["precision"]["value"]) > 0.8, "reals of one class would give a half"
    for name in ("precision", "density"):
        assert float(found[name]["floor_low"]) <= float(found[name]["floor"]) <= float(found[name]["floor_high"])
        assert 50 <= int(found[name]["floor_n"]) <= 60
        assert found[name]["used"].startswith("fake: found 60, used 60; real: found 1")
    assert done.stderr.count("samples, generated: found 60, used 60") == 1
    assert "real: " in (own / "two" / "run" / "report.md").read_text()
    assert "Samples: generated: found 60, used 60" in (own / "two" / "run" / "report.md").read_text()


def test_fewer_are_drawn_and_the_table_of_scores_names_them(own: Path) -> None:
    import pandas as pd

    done = command(
        own, "--fake", FAKES, "--real", REALS, "metric=[realism]", "n=20", "seed=3", "floor=false", "out=few"
    )
    assert done.returncode == 0, done.stderr
    assert "generated: found 60, used 20, drawn with seed 3" in done.stderr
    numbers = pd.read_parquet(own / "few" / "run" / "scores.parquet")["sample"].tolist()
    assert len(set(numbers)) == 20
    assert numbers != list(range(20))
    assert max(numbers) >= 30, "of 60, all 20 are among the first half in 1 of 10^8 seeds"


def test_held_out_samples_of_own_data_are_a_generator(own: Path) -> None:
    options = ("dataset=folder", f"dataset.root={REALS}", "metric=[precision]", "out=held")
    done = command(own, "generator=held_out", "dataset.holdout=0.3", *options)
    assert done.returncode == 0, done.stderr
    done = command(own, "generator=held_out", "dataset.holdout=0", *options)
    assert done.returncode == 2
    assert "no held-out samples: give dataset.folder.holdout=0.1" in done.stderr


def test_a_study_of_an_own_score_runs_with_what_there_is(own: Path) -> None:
    done = command(
        own, "--fake", FAKES, "--real", REALS, "study=correlate", "study.correlate.resamples=20", "classes=null",
        "scores=[random_score,rarity]", "quality_signals=[nearest_training_pixel]", "out=study",
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "None of" not in done.stderr
    assert (own / "study" / "run" / "report.html").is_file()
    assert "replayed samples have no latent codes" in done.stderr, "what is missing is said"


def test_a_sweep_over_metrics_leaves_out_what_cannot_be_had(own: Path) -> None:
    done = command(
        own, "-m", "--fake", FAKES, "--real", REALS, "metric=glob([precision,cycle_consistency,negative_norm,fid])",
        "out=swept",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "left out: negative_norm" in done.stderr or "left out: cycle_consistency" in done.stderr
    assert set(rows(own, "swept")) == {"precision", "fid"}


# The words of the command


def test_paths_become_options_that_hydra_does_not_see(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own)
    np.save("array.npy", np.zeros((2, 4, 4), np.uint8))
    Path("meshes").mkdir()
    Path("meshes/box.obj").touch()
    rest, paths, fakes = take_paths(["metric=precision", "--fake", FAKES, f"--real={REALS}"])
    assert sorted(rest) == ["dataset=folder", "generator=replay", "metric=precision"]
    assert paths == {("dataset", "folder", "root"): str(own / REALS)}
    assert fakes == {FAKES: str(own / FAKES)}, "a path may have = in it"
    assert take_paths(["--real", "array.npy"]) == (
        ["dataset=array"], {("dataset", "array", "path"): str(own / "array.npy")}, {}
    )  # fmt: skip
    assert take_paths(["--real=meshes"])[0] == ["dataset=mesh_folder"]
    with pytest.raises(FileNotFoundError, match="--fake absent: there is no such folder or file"):
        take_paths(["--fake", "absent"])
    with pytest.raises(ValueError, match=r"--real .*meshes: there is one set of real samples"):
        take_paths(["--real", "array.npy", "--real", "meshes"])
    with pytest.raises(ValueError, match="--fake chooses generator=replay, so leave out generator=vae"):
        take_paths(["generator=vae", "--fake", FAKES])


def test_sets_of_samples_are_called_by_their_names_or_by_what_tells_them_apart(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own)
    for run in ("a", "b"):
        Path(run, "samples").mkdir(parents=True)
    assert list(take_paths(["--fake", "a/samples", "--fake", "b/samples"])[2]) == ["a/samples", "b/samples"]
    assert list(take_paths(["--fake", "old=a/samples", "--fake=b/samples"])[2]) == ["old", "b/samples"]
    with pytest.raises(ValueError, match="x, x are not different; give each a name of its own: --fake NAME=PATH"):
        take_paths(["--fake", "x=a/samples", "--fake", "x=b/samples"])


def test_a_sweep_outlives_a_job_that_cannot_begin(own: Path) -> None:
    """The generator in the middle has no file: it is recorded as failed, and the others have their numbers."""
    options = ("generator=held_out,stylegan3,faulty", "dataset=digits", "metric=[random_score]", "n=20", "out=jobs")
    done = command(own, "-m", *options)
    assert done.returncode == 1, done.stderr
    with (own / "jobs" / "run" / "tables" / "metrics.csv").open() as file:
        found = {row["generator"]: row for row in csv.DictReader(file)}
    assert {name: row["status"] for name, row in found.items()} == {
        "held_out": "ok", "stylegan3": "failed", "faulty": "ok"
    }  # fmt: skip
    assert found["stylegan3"]["error"].endswith("give generator.stylegan3.path=FILE")
    assert "Traceback" not in done.stderr
    line = [sys.executable, "-m", "assay", "status", "jobs/run"]
    status = subprocess.run(line, capture_output=True, text=True, cwd=own, check=False)
    assert status.returncode == 1
    assert status.stdout.startswith("done 2, failed 1, running 0, missing 0\nfailed: stylegan3, digits, seed 0: ")


def test_a_job_that_breaks_off_keeps_what_it_has(own: Path) -> None:
    """A study whose code is wrong ends the command; the metric before it stays as it was recorded."""
    (own / "broken.py").write_text(BROKEN)
    environment = os.environ | {"ASSAY_CACHE": str(own / "cache"), "OMP_NUM_THREADS": "1"}
    options = ("generator=held_out", "dataset=digits", "metric=random_score", "study=broken", "n=20", "seed=0,1")
    line = [sys.executable, "-m", "assay", "--plugin", "broken.py", "run", "-m", *options, "out=broken"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=own, env=environment, check=False)
    assert done.returncode != 0, done.stderr
    records = [path.read_text() for path in (own / "broken" / "run" / "records").glob("random_score-*.json")]
    assert records, done.stderr
    assert all('"status": "ok"' in record for record in records)


def test_several_sets_of_samples_stand_in_one_table_by_their_names(own: Path) -> None:
    sets = ("--fake", f"first={FAKES}", "--fake", f"second={REALS}/dog", "--real", REALS)
    done = command(own, *sets, "metric=[precision]", "floor=false", "out=sets")
    assert done.returncode == 0, done.stderr
    with (own / "sets" / "run" / "tables" / "metrics.csv").open() as file:
        names = [row["generator"].partition("#")[0] for row in csv.DictReader(file)]
    assert names == ["replay(path=first", "replay(path=second"]
    assert "path=first" in (own / "sets" / "run" / "tables" / "leaderboard.tex").read_text()


def test_the_best_samples_are_written_with_their_names_and_ranks(own: Path) -> None:
    """Each of the 60 images is compared with the reals by its nearest one; numpy says which five are nearest."""
    import pandas as pd

    options = ("study=select", "scores=[nearest_training_feature]", "study.select.count=5", "out=best")
    done = command(own, "--fake", FAKES, "--real", REALS, *options)
    assert done.returncode == 0, done.stderr
    (folder,) = (own / "best" / "run" / "select").glob("*/nearest-training-feature")

    def pixels(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
        return np.asarray(Image.open(path), dtype=float).ravel() / 255

    reals = np.stack([pixels(path) for path in sorted((own / REALS).glob("*/*.png"))])
    distances = {p.name: np.linalg.norm(reals - pixels(p), axis=1).min() for p in (own / FAKES).iterdir()}
    ranking = pd.read_csv(folder / "ranking.csv")
    assert ranking["rank"].tolist() == list(range(1, 61))
    assert sorted(ranking["name"]) == sorted(distances)
    assert np.allclose(ranking["nearest_training_feature"], [distances[name] for name in ranking["name"]], rtol=1e-5)
    assert ranking["nearest_training_feature"].is_monotonic_increasing
    best = sorted(distances, key=lambda name: distances[name])[:5]
    written = sorted(folder.glob("*.png"))
    assert [path.name for path in written] == [f"{i:04}-{name}" for i, name in enumerate(best, 1)]
    for path, name in zip(written, best, strict=True):
        assert (pixels(path) == pixels(own / FAKES / name)).all()
    assert best[0] in (own / "best" / "run" / "report.html").read_text()


@pytest.mark.parametrize("path", ["~/x", "/a=b", "/a(b)", "/#a", "/ü", "/日本", "/a[b]", '/a"b'])
def test_a_path_that_hydra_does_not_take_is_told_with_a_quoted_one_that_it_takes(path: str) -> None:
    import shlex

    from hydra.core.override_parser.overrides_parser import OverridesParser

    with pytest.raises(ValueError, match="--fake PATH and --real PATH") as told:
        check_grammar([f"generator.replay.path={path}"])
    quoted = str(told.value).partition("quote the value, ")[2].partition("; or give")[0]
    (argument,) = shlex.split(quoted)
    (parsed,) = OverridesParser.create().parse_overrides([argument])
    assert parsed.value() == path


def test_an_option_without_its_data_set_says_which_to_choose() -> None:
    with pytest.raises(ValueError, match="add dataset=folder for images in a folder"):
        without_data(full_names(["generator=replay", "generator.path=X", "dataset.root=Y"], "vae"))
    with pytest.raises(ValueError, match=r"dataset.folder.root=Y is an option of folder.*add dataset=folder"):
        check_names(["generator=vae", "dataset.folder.root=Y"], "evaluate")
    with pytest.raises(ValueError, match="is an option of folder, and dataset=digits was chosen"):
        check_names(["dataset=digits", "dataset.folder.root=Y"], "evaluate")


def test_an_experiment_of_ones_own_folder_of_configs_is_known(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nname: mine\n")
    for flags in (["--config-dir", str(tmp_path)], [f"--config-dir={tmp_path}"], ["-cd", str(tmp_path)]):
        check_names(["experiment=mine", *flags, "n=5"], "evaluate")
    with pytest.raises(LookupError, match="'mine'"):
        check_names(["experiment=mine"], "evaluate")


# What a run makes of n and of paths


def test_n_is_all_of_stored_samples_and_5000_of_made_ones(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own)
    replayed = {"replay": {"path": str(own / FAKES)}}
    for n, expected in ((None, 60), ("all", 60), (60, 60), (7, 7)):
        assert open_run({"none": {}}, replayed, own / "n", store=own / "store", n=n).n == expected  # type: ignore[arg-type]
    assert open_run({"digits": {}}, {"vae": {}}, own / "n", store=own / "store").n == 5000
    with pytest.raises(ValueError, match="n=61: there are 60 generated samples and no more; leave n out"):
        open_run({"none": {}}, replayed, own / "n", store=own / "store", n=61)
    with pytest.raises(ValueError, match="n=all: this generator makes its samples"):
        open_run({"digits": {}}, {"vae": {}}, own / "n", store=own / "store", n="all")


def test_a_relative_folder_is_named_by_what_it_holds(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own)
    near = open_run({"folder": {"root": REALS}}, {"replay": {"path": FAKES}}, own / "n", store=own / "store")
    there = {"folder": {"root": str(own / REALS)}}
    far = open_run(there, {"replay": {"path": str(own / FAKES)}}, own / "n", store=own / "store")
    assert (near.dataset, near.generator) == (far.dataset, far.generator)
    assert near.dataset.startswith(f"folder(root={REALS}#")
    assert "folder" in DATASETS
    assert "path" not in near.generator.replace("replay(path=", "")


def test_held_out_of_an_array_takes_its_options(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    data = {"array": {"path": str(tmp_path / "images.npy"), "holdout": 0.25}}
    run = open_run(data, {"held_out": {}}, tmp_path / "run", store=tmp_path / "store", features="pixels")
    assert run.n == 10
    assert run.generator == "held_out"


def test_help_names_the_two_options() -> None:
    assert "--fake PATH --real PATH" in cli.HELP
