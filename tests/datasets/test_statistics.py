"""Published statistics in place of real samples, from the command line and in a run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.harness.command.paths import real_data
from assay.harness.core.abilities import HasStatistics
from assay.harness.core.protocols import View
from assay.harness.core.registry import DATASETS, discover
from assay.harness.open_run import open_run

discover()


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of 40 real and of 130 generated images, and the statistics of the pixels of the real ones."""
    top = tmp_path_factory.mktemp("statistics")
    rng = np.random.default_rng(0)
    for name, count, low in (("real", 40, 0), ("fake", 130, 20)):
        (top / name).mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(low, 255, (5, 5), dtype=np.uint8)).save(top / name / f"{i}.png")
    pixels = np.stack([np.asarray(Image.open(top / "real" / f"{i}.png")).ravel() / np.float32(255) for i in range(40)])
    np.savez(top / "ref.npz", mu=pixels.mean(0, dtype=np.float64), sigma=np.cov(pixels, rowvar=False))
    return top


def opened(top: Path, data: str, out: Path, **options: Any) -> Any:
    return open_run(
        {data: options}, {"replay": {"path": str(top / "fake")}}, out, features="pixels", store=out, device="cpu"
    )


def test_the_distance_to_a_file_is_that_to_its_images(top: Path, tmp_path: Path) -> None:
    beside = opened(top, "statistics", tmp_path / "a", path=str(top / "ref.npz"))
    images = opened(top, "folder", tmp_path / "b", root=str(top / "real"))
    for name in ("frechet_distance", "frechet_infinity"):
        one, other = (run.evaluate(run.cell(name)) for run in (beside, images))
        assert one.status == "ok", one.error
        assert one.values[name].value == pytest.approx(other.values[name].value, rel=1e-6)
        assert (one.floor.rows, one.floor.error) == (
            [], "the real samples are known by mean and covariance alone: there are no others to compare"
        )  # fmt: skip
        assert one.samples["real"] == {"dimensions": 25}
        assert "taken on trust" in one.preprocessing["real"]
        assert "for other generated samples alone" in one.preprocessing["real"]
        width, wide = (high - low for _, (low, high), *_ in (one.values[name], other.values[name]))
        assert width < wide
    again = opened(top, "statistics", tmp_path / "a", path=str(top / "ref.npz"))
    assert again.evaluate(again.cell("frechet_distance")).values
    assert not again.written


def test_what_needs_samples_fails_and_says_so(top: Path, tmp_path: Path) -> None:
    run = opened(top, "statistics", tmp_path, path=str(top / "ref.npz"))
    for name in ("precision", "kernel_distance", "frechet_floor", "nearest_training_pixel"):
        record = run.evaluate(run.cell(name))
        assert record.status == "failed"
        assert "has the mean and covariance of real samples alone, and this metric needs the samples" in record.error
    assert {"frechet_distance", "vendi_score"} <= set(run.available_metrics())
    assert not {"precision", "frechet_floor"} & set(run.available_metrics())
    record = run.evaluate(run.cell("frechet_distance", space="random"))
    assert record.error.startswith("fake has 480 dimensions, real has 25: statistics are compared with features")
    assert run.views.lacks(View("real", "features")) is not None
    assert run.views.lacks(run.cell("frechet_distance").views["real"]) is None


def test_a_path_of_statistics_is_recognised(top: Path) -> None:
    assert real_data(top / "ref.npz") == ("dataset", "statistics", "path")
    assert real_data(top / "real") == ("dataset", "folder", "root")
    data = DATASETS["statistics"].function(path=str(top / "ref.npz"))
    assert isinstance(data, HasStatistics)
    assert not isinstance(DATASETS["none"].function(), HasStatistics)
    with pytest.raises(ValueError, match=r"needs a file: give dataset\.statistics\.path=FILE\.npz"):
        DATASETS["statistics"].function()


def command(top: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"ASSAY_CACHE": str(top / "cache"), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "assay", *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=top, env=environment, check=False)


def test_from_the_command_line(top: Path) -> None:
    """The statistics that a folder is written to are those of its pixels; then they take its place."""
    done = command(top, "statistics", "real", "--features", "pixels", "--out", "own.npz", "dataset.folder.mode=L")
    assert done.returncode == 0, done.stderr
    with np.load(top / "own.npz") as f:
        m, s = f["mu"][:], f["sigma"][:]
    with np.load(top / "ref.npz") as f:
        np.testing.assert_allclose(m, f["mu"], rtol=1e-6)
        np.testing.assert_allclose(s, f["sigma"], rtol=1e-6, atol=1e-9)
    words = ("features=pixels", "metric=[frechet_distance,precision]", "device=cpu")
    done = command(top, "run", "--fake", "fake", "--real", "own.npz", *words)
    assert done.returncode == 1, done.stderr
    assert (
        "samples, real: mean and covariance of 25 features, whose space is taken on trust; intervals are for"
        in done.stderr
    )
    records = [json.loads(file.read_text()) for file in (top / "outputs" / "run" / "records").iterdir()]
    assert {record["cell"]["metric"]: record["status"] for record in records} == {
        "frechet_distance": "ok", "precision": "failed"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ref.npz", "--features", "pixels", "--out", "x.npz"), "ref.npz has statistics already; give the samples"),
        (("none", "--features", "pixels", "--out", "x.npz"), "none: there is no such folder or file"),
        (("real", "--features", "pixls", "--out", "x.npz"), "unknown extractor 'pixls'; did you mean pixels"),
        (("real", "--features", "pixels", "--out", "x.npy"), "choose a name that ends in .npz"),
        (("real", "--features", "random", "--out", "x.npz", "extractor.random.sed=1"), "unknown option of extractor"),
    ],
)
def test_wrong_calls_are_one_line(
    words: tuple[str, ...], message: str, top: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from assay.harness import cli

    monkeypatch.chdir(top)
    monkeypatch.setattr(sys, "argv", ["assay", "statistics", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
