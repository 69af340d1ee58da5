"""Files of mean and covariance: all layouts give the same numbers, and what is no covariance is refused by name."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import assay
from assay.harness.core.protocols import Statistics
from assay.harness.formats.statistics import has_statistics, read_statistics, write_statistics
from assay.metrics.frechet import fid, frechet_distance, frechet_infinity
from assay.metrics.neighbours import precision


def gauss(n: int, d: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0.5, np.arange(1, d + 1), (n, d))


ROWS = gauss(300, 6)
MU, SIGMA = ROWS.mean(0), np.cov(ROWS, rowvar=False)


def guided_diffusion(file: Path) -> dict[str, str]:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    np.savez(file.with_suffix(".npz"), arr_0=images, mu=MU, sigma=SIGMA, mu_s=MU[:3], sigma_s=SIGMA[:3, :3])
    return {"path": str(file.with_suffix(".npz")), "key": ""}


def npz(file: Path) -> dict[str, str]:
    np.savez(file.with_suffix(".npz"), mu=MU, sigma=SIGMA)
    return {"path": str(file.with_suffix(".npz"))}


def compressed(file: Path) -> dict[str, str]:
    np.savez_compressed(file.with_suffix(".npz"), mu=MU, sigma=SIGMA)
    return {"path": str(file.with_suffix(".npz"))}


def two_files(file: Path) -> dict[str, str]:
    np.save(file.with_suffix(".mu.npy"), MU)
    np.save(file.with_suffix(".sigma.npy"), SIGMA)
    return {"path": str(file.with_suffix(".mu.npy")), "sigma": str(file.with_suffix(".sigma.npy"))}


def edm2(file: Path) -> dict[str, str]:
    other = {"mu": MU[:2], "sigma": SIGMA[:2, :2]}
    file.with_suffix(".pkl").write_bytes(pickle.dumps({"fid": {"mu": MU, "sigma": SIGMA}, "fd_dinov2": other}))
    return {"path": str(file.with_suffix(".pkl")), "key": "fid"}


def sums(file: Path) -> dict[str, str]:
    found = {"raw_mean": ROWS.sum(0), "raw_cov": ROWS.T @ ROWS, "num_items": len(ROWS), "all_features": None}
    file.with_suffix(".pkl").write_bytes(pickle.dumps(found))
    return {"path": str(file.with_suffix(".pkl"))}


def torch_file(file: Path) -> dict[str, str]:
    torch.save({"mu": torch.from_numpy(MU), "sigma": torch.from_numpy(SIGMA)}, file.with_suffix(".pt"))
    return {"path": str(file.with_suffix(".pt"))}


@pytest.mark.parametrize("layout", [npz, compressed, two_files, guided_diffusion, edm2, sums, torch_file])
def test_layouts(layout: Callable[[Path], dict[str, str]], tmp_path: Path) -> None:
    found = read_statistics(**layout(tmp_path / "file"))
    np.testing.assert_allclose(found.mean, MU, rtol=1e-13)
    np.testing.assert_allclose(found.covariance, SIGMA, rtol=1e-11, atol=1e-11)
    assert found.covariance.dtype == found.mean.dtype == torch.float64


def test_spatial_statistics_have_a_key(tmp_path: Path) -> None:
    path = guided_diffusion(tmp_path / "file")["path"]
    assert len(read_statistics(path, "spatial").mean) == 3
    assert not has_statistics(Path(path))  # it has images, which serve all metrics


def test_which_files_are_statistics(tmp_path: Path) -> None:
    assert has_statistics(Path(npz(tmp_path / "a")["path"]))
    assert has_statistics(Path(edm2(tmp_path / "b")["path"]))
    np.savez(tmp_path / "c.npz", images=np.zeros((2, 4, 4), np.uint8))
    (tmp_path / "d.pkl").write_bytes(b"nothing")
    assert not any(map(has_statistics, (tmp_path / "c.npz", tmp_path / "d.pkl", tmp_path, tmp_path / "none.npz")))


def test_what_is_written_is_read_as_pytorch_fid_does(tmp_path: Path) -> None:
    metric = assay.Metric("frechet_distance", features=None)
    for batch in np.array_split(ROWS, 7):
        metric.update(real=batch)
    write_statistics(tmp_path / "out.npz", metric.statistics("real"))
    with np.load(tmp_path / "out.npz") as f:
        m, s = f["mu"][:], f["sigma"][:]
        assert sorted(f) == ["mu", "sigma"]
    assert m.dtype == s.dtype == np.float64
    np.testing.assert_allclose(m, MU, rtol=1e-13)
    np.testing.assert_allclose(s, SIGMA, rtol=1e-11, atol=1e-12)
    with pytest.raises(ValueError, match=r"out.pt: statistics are written to a .npz file"):
        write_statistics(tmp_path / "out.pt", metric.statistics("real"))


def damaged(**arrays: Any) -> dict[str, Any]:
    return {"mu": MU, "sigma": SIGMA} | arrays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (damaged(mu=np.where(np.arange(6) == 2, np.nan, MU)), "the mean has 1 values that are not finite"),
        (damaged(sigma=np.full((6, 6), np.inf)), "the covariance has 36 values that are not finite"),
        (damaged(mu=MU[:5]), r"a mean of shape \[5\] and a covariance of shape \[6, 6\]"),
        (damaged(sigma=SIGMA[0]), r"a covariance of shape \[1, 6\]; they must be \[D\] and \[D, D\]"),
        (damaged(mu=MU[None]), r"a mean of shape \[1, 6\]"),
        (damaged(sigma=np.triu(SIGMA)), "the covariance is not symmetric, entries differ from their mirror by up to"),
        (damaged(sigma=SIGMA - 2 * np.diag(SIGMA.diagonal())), "the covariance has a negative eigenvalue, -"),
        (damaged(sigma=-np.eye(6)), "the covariance has a negative eigenvalue, -1 beside -1"),
        (damaged(mu=MU.astype(complex)), "mu and sigma, mean has the type complex128"),
        (damaged(mu=MU.astype(str)), "mu and sigma, mean has the type <U"),
        ({"arr_0": MU}, r"has arr_0, and no statistics: these are arrays mu \[D\] and sigma \[D, D\]"),
    ],
)
def test_what_is_no_covariance_is_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message) as refused:
        read_statistics(tmp_path / "bad.npz")
    assert "bad.npz" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_pickle_runs_nothing_and_a_wrong_key_is_named(tmp_path: Path) -> None:
    path = edm2(tmp_path / "file")["path"]
    for key, message in (
        ("", "has statistics 'fid', 'fd_dinov2': choose one with key"),
        ("kid", "has no statistics 'kid', but 'fid', 'fd_dinov2': choose one"),
    ):
        with pytest.raises(ValueError, match=message):
            read_statistics(path, key)
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="has a list, and no statistics"):
        read_statistics(tmp_path / "list.pkl")
    with pytest.raises(FileNotFoundError, match=r"none.npz: there is no such file"):
        read_statistics(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="is one array: give the covariance too"):
        read_statistics(two_files(tmp_path / "two")["path"])


def test_rounding_to_float32_is_no_fault(tmp_path: Path) -> None:
    """200 dimensions of rank 20: rounded, its zero eigenvalues are negative."""
    thin = gauss(20, 200, seed=3)
    rounded = np.cov(thin, rowvar=False).astype(np.float32)
    assert np.linalg.eigvalsh(rounded.astype(float))[0] < 0
    np.savez(tmp_path / "thin.npz", mu=thin.mean(0), sigma=rounded)
    known = read_statistics(tmp_path / "thin.npz")
    assert frechet_distance(thin, known).value <= 1e-5 * float(np.trace(np.cov(thin, rowvar=False)))


# The Fréchet distance to statistics


def test_two_gaussians_have_the_closed_form() -> None:
    """N(0, diag(1, 4, 9)) and N((1, 2, 0), diag(4, 1, 9)): 5 + (1 - 2)^2 + (2 - 1)^2 + 0."""
    one = Statistics(torch.zeros(3).double(), torch.diag(torch.tensor([1.0, 4, 9]).double()))
    other = Statistics(torch.tensor([1.0, 2, 0]).double(), torch.diag(torch.tensor([4.0, 1, 9]).double()))
    found = frechet_distance(one, other)
    assert found.value == pytest.approx(7, abs=1e-12)
    assert np.isnan(found.interval).all()


@pytest.mark.parametrize("n", [40, 500])
def test_the_distance_to_statistics_is_that_to_their_samples(n: int) -> None:
    """Also where there are fewer samples than dimensions. The interval is narrower: it is for one side alone."""
    fake, real = gauss(n, 60, seed=1), gauss(n + 100, 60, seed=2)
    known = Statistics(torch.from_numpy(real.mean(0)), torch.from_numpy(np.cov(real, rowvar=False)))
    whole, beside = frechet_distance(fake, real), frechet_distance(fake, known)
    assert beside.value == pytest.approx(whole.value, rel=1e-6)
    assert beside.interval[1] - beside.interval[0] < whole.interval[1] - whole.interval[0]
    assert beside.interval[0] < beside.value < beside.interval[1]
    backwards = frechet_distance(known, fake)
    assert backwards.value == pytest.approx(whole.value, rel=1e-6)
    assert np.isnan(backwards.interval).all()


def test_the_interval_beside_fixed_statistics_contains_new_draws() -> None:
    """The spread of 100 draws is that of the intervals, within 30 %; by chance it is not in 3 of 100,000 cases."""
    rng = np.random.default_rng(0)
    known = Statistics(torch.zeros(5).double(), torch.eye(5).double())
    found = [frechet_distance(rng.normal(0.5, 1.2, (400, 5)), known) for _ in range(100)]
    half = np.mean([(high - low) / 2 for _, (low, high), *_ in found]) / 1.959964
    assert half == pytest.approx(np.std([one.value for one in found]), rel=0.3)


@pytest.mark.parametrize("scale", [1e-20, 1e15])
def test_statistics_of_any_scale(scale: float) -> None:
    fake, real = gauss(80, 7, seed=1), gauss(90, 7, seed=2)
    known = Statistics(torch.from_numpy(scale * real.mean(0)), torch.from_numpy(scale**2 * np.cov(real, rowvar=False)))
    assert frechet_distance(scale * fake, known).value / scale**2 == pytest.approx(
        frechet_distance(fake, real).value, rel=1e-9
    )


def test_extrapolation_needs_only_the_moments_of_the_reals() -> None:
    fake, real = gauss(400, 8, seed=1), gauss(500, 8, seed=2)
    known = Statistics(torch.from_numpy(real.mean(0)), torch.from_numpy(np.cov(real, rowvar=False)))
    assert frechet_infinity(fake, known).value == pytest.approx(frechet_infinity(fake, real).value, rel=1e-9)
    with pytest.raises(ValueError, match="fake is known by its mean and covariance alone"):
        frechet_infinity(known, real)  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [1.0, 4.0])
def test_statistics_of_ones_own_are_checked_too(other: float) -> None:
    """numpy is taken as tensors are; what is no covariance is refused, whichever side is taken the root of."""
    covariance = np.array([[1.0, 2.0], [2.0, 1.0]])
    fake = other * gauss(50, 2)
    right = Statistics(torch.zeros(2), torch.eye(2))  # float32
    assert frechet_distance(fake, right) == frechet_distance(fake, Statistics(np.zeros(2), np.eye(2)))  # type: ignore[arg-type]
    for bad, message in (
        (covariance, "a covariance has a negative eigenvalue"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "real: the covariance is not symmetric"),
        (np.eye(3), r"real: a mean of shape \[2\] and a covariance of shape \[3, 3\]"),
        (np.full((2, 2), np.nan), "real: the covariance has 4 values that are not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            frechet_distance(fake, Statistics(np.zeros(2), bad))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a covariance has a negative eigenvalue"):
        frechet_distance(Statistics(np.zeros(2), covariance), right)  # type: ignore[arg-type]


def test_other_dimensions_and_other_metrics_are_refused() -> None:
    known = Statistics(torch.from_numpy(MU), torch.from_numpy(SIGMA))
    with pytest.raises(ValueError, match="fake has 5 dimensions, real has 6: statistics are compared with features"):
        frechet_distance(gauss(20, 5), known)
    with pytest.raises(ValueError, match="real has 6 dimensions; FID is of 2048 features of Inception"):
        fid(gauss(20, 2048), known)
    with pytest.raises(ValueError, match="real is known by its mean and covariance alone; this metric needs the"):
        precision(ROWS, known)  # type: ignore[arg-type]
