"""assay compare-features: the numbers of two files are those of the formulas, and what cannot be had is told."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

from assay.harness.command.compare_features import features, main
from assay.metrics.frechet import frechet_distance
from assay.metrics.neighbours import density, precision, recall


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    fake, real = tmp_path / "fake.npy", tmp_path / "real.npz"
    np.save(fake, 0.9 * rng.normal(size=(120, 6)))
    np.savez(real, features=rng.normal(size=(150, 6)).astype(">f4"), labels=np.arange(150))
    return fake, real


def test_numbers_are_those_of_the_formulas(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    table = files[0].parent / "table.csv"
    asked = ["frechet_distance", "precision(k=3)", "recall", "density(k=7)"]
    assert main([*map(str, files), *asked, "--csv", str(table)]) == 0
    fake, real = np.load(files[0]), np.load(files[1])["features"].astype(float)
    want = [frechet_distance(fake, real), precision(fake, real, k=3), recall(fake, real), density(fake, real, k=7)]
    found = pd.read_csv(table)
    assert list(found.metric) == asked
    assert np.allclose(found.value, [one.value for one in want], rtol=1e-9)
    assert np.allclose(found[["low", "high"]], [one.interval for one in want], rtol=1e-9)
    assert (found.n == 120).all()
    assert (found.n_real == 150).all()
    assert "120 generated rows and 150 real rows of 6 numbers" in capsys.readouterr().out


def test_what_fails_stands_in_the_table_and_the_rest_goes_on(files: tuple[Path, Path]) -> None:
    table = files[0].parent / "table.csv"
    assert main([*map(str, files), "precision(k=500)", "recall", "--csv", str(table)]) == 1
    found = pd.read_csv(table)
    assert found.value.isna().tolist() == [True, False]
    assert "k=500 needs" in found.error[0]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("fid", "take frechet_distance"),
        ("realism", "does not compare features"),
        ("copying_score", "does not compare features"),
        ("precision(q=3)", "unknown option of metric precision: 'q'"),
        ("precision(k=3", "is no metric; write NAME"),
        ("precison", "did you mean precision"),
    ],
)
def test_what_has_no_meaning_for_features_is_refused(files: tuple[Path, Path], entry: str, told: str) -> None:
    with pytest.raises((ValueError, LookupError), match=told.replace("(", r"\(")):
        main([*map(str, files), entry])


def test_files_without_features_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=np.zeros((3, 2)), b=np.zeros((3, 2)))
    np.save(tmp_path / "images.npy", np.zeros((3, 2, 2)))
    for name in ("two.npz", "images.npy"):
        with pytest.raises(ValueError, match=r"give one array of rows \[N, D\], called features"):
            features(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        features(tmp_path / "none.npy")


def test_real_rows_may_be_known_by_mean_and_covariance(files: tuple[Path, Path], tmp_path: Path) -> None:
    fake, real = np.load(files[0]), np.load(files[1])["features"].astype(float)
    mean, covariance = real.mean(0), np.cov(real, rowvar=False)
    np.savez(tmp_path / "stats.npz", mu=mean, sigma=covariance)
    root = linalg.sqrtm(np.cov(fake, rowvar=False) @ covariance).real
    want = ((fake.mean(0) - mean) ** 2).sum() + np.trace(np.cov(fake, rowvar=False) + covariance - 2 * root)
    table = tmp_path / "table.csv"
    assert main([str(files[0]), str(tmp_path / "stats.npz"), "--csv", str(table)]) == 0
    (found,) = pd.read_csv(table).itertuples()
    assert (found.metric, found.n) == ("frechet_distance", 120)
    assert found.value == pytest.approx(want, rel=1e-9)
    assert main([str(files[0]), str(tmp_path / "stats.npz"), "precision", "frechet_distance", "--csv", str(table)]) == 1
    refused, found = pd.read_csv(table).itertuples()
    assert "it needs real rows, and mean and covariance are not enough" in refused.error
    assert found.value == pytest.approx(want, rel=1e-9)
    with pytest.raises(ValueError, match="has statistics: give the features of the generated samples"):
        main([str(tmp_path / "stats.npz"), str(files[1])])
