"""Volume scores of linear decoders in closed form, and what a cell of them reads."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import multivariate_normal, rankdata
from torch import Tensor

from assay.harness.arrays.views import Views
from assay.harness.core.protocols import View
from assay.harness.run import Run
from assay.harness.stats.jacobians import singular_values, squared_stretch
from assay.metrics.density_ratio import density_ratio
from assay.metrics.latent_density import aggregate_posterior, aggregate_posterior_ratio, gaussian_log_density
from assay.metrics.volume import log_volume, volume_corrected_density


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_volume_of_a_linear_decoder_is_that_of_its_matrix() -> None:
    matrix, codes = gauss(5, 30), gauss(7, 5, seed=1)
    volume = log_volume(singular=singular_values(lambda z: z @ matrix, codes), form="logdet")
    wanted = 0.5 * torch.logdet(matrix @ matrix.T)
    torch.testing.assert_close(volume, wanted.expand(7), rtol=1e-5, atol=0)
    norm = log_volume(squared_stretch(lambda z: z @ matrix, codes))
    torch.testing.assert_close(norm, matrix.norm().log().expand(7), rtol=1e-5, atol=0)


def test_the_density_of_a_linear_decoder_is_that_of_its_samples() -> None:
    """Of z ~ N(m, S) and x = z A, whose density SciPy knows, for any q that is this normal."""
    matrix, codes, mean = gauss(4, 4), gauss(50, 4, seed=1), gauss(1, 4, seed=2)
    logvar = torch.tensor([[0.5, -1.0, 0.0, 2.0]], dtype=torch.float64)
    values = singular_values(lambda z: z @ matrix, codes)
    found = volume_corrected_density(codes, singular=values, mean=mean, logvar=logvar, volume="logdet")
    covariance = matrix.T @ torch.diag(logvar[0].exp()) @ matrix
    wanted = multivariate_normal((mean @ matrix)[0].numpy(), covariance.numpy()).logpdf((codes @ matrix).numpy())
    torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=1e-5, atol=1e-5)


def test_the_norm_stands_for_the_volume_of_a_decoder_that_stretches_all_directions_alike_and_is_above_any_other() -> (
    None
):
    codes, q = gauss(6, 5), {"mean": gauss(3, 5), "logvar": gauss(3, 5)}
    rotation = 2.5 * torch.linalg.qr(gauss(5, 5, seed=1)).Q
    for matrix, equal in ((rotation, True), (gauss(5, 9, seed=2), False)):
        by_norm = volume_corrected_density(codes, squared_stretch(lambda z, m=matrix: z @ m, codes), **q)
        values = singular_values(lambda z, m=matrix: z @ m, codes)
        exact = volume_corrected_density(codes, singular=values, volume="logdet", **q)
        if equal:
            torch.testing.assert_close(by_norm, exact, rtol=1e-5, atol=1e-5)
        else:
            assert (by_norm < exact - 0.1).all()


def test_each_q_is_the_metric_of_its_name() -> None:
    codes, stretch, others = gauss(40, 3), gauss(40, 3, seed=1).square(), gauss(60, 3, seed=2)
    logvar = 0.1 * gauss(60, 3, seed=3)
    volume = 3 * (log_volume(stretch) - 0.5 * math.log(3))
    posterior = {"mean": others, "logvar": logvar}
    for q, given, wanted in (
        ("auto", posterior, aggregate_posterior(codes, others, logvar)),
        ("posterior", posterior, aggregate_posterior(codes, others, logvar)),
        ("posterior_ratio", posterior, aggregate_posterior_ratio(codes, others, logvar)),
        ("auto", {"prior": others}, gaussian_log_density(codes, others)),
        ("prior", {"prior": others, **posterior}, gaussian_log_density(codes, others)),
        (
            "ratio",
            {"reference": others, "prior": gauss(50, 3, seed=4)},
            density_ratio(codes, others, gauss(50, 3, seed=4)),
        ),
    ):
        torch.testing.assert_close(volume_corrected_density(codes, stretch, q=q, **given) + volume, wanted)


def test_the_standardised_form_is_the_mean_of_two_ranks() -> None:
    codes, stretch, mean, logvar = gauss(30, 3), gauss(30, 3, seed=1).square(), gauss(9, 3), 0 * gauss(9, 3)
    stretch[4] = 0
    score = volume_corrected_density(codes, stretch, mean=mean, logvar=logvar, form="standardised")
    assert score.isnan().nonzero().tolist() == [[4]]
    kept = torch.arange(30) != 4
    density, volume = aggregate_posterior(codes, mean, logvar)[kept], log_volume(stretch)[kept]
    wanted = torch.from_numpy(rankdata(density) + rankdata(-volume)) / 29 / 2
    torch.testing.assert_close(score[kept], wanted)
    units = volume_corrected_density(codes, 7 * stretch, mean=mean, logvar=logvar, form="standardised")
    torch.testing.assert_close(units, score, equal_nan=True)


def test_a_volume_that_may_be_rounding_is_no_volume() -> None:
    values = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 2e-5], [3.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    assert log_volume(singular=values, form="logdet").isnan().tolist() == [False, True, True, True]
    assert log_volume(torch.tensor([[1.0, 3.0], [0.0, 0.0]])).isnan().tolist() == [False, True]


@pytest.fixture
def open_run(open_views: Callable[..., Views], tmp_path: Path) -> Callable[[Any], Run]:
    return lambda generator: Run("study", "plain", "squares", open_views(generator), tmp_path, seed=0, n=20)


def test_a_cell_reads_what_its_options_need(open_run: Callable[[Any], Run], plain: Any, with_encoder: Any) -> None:
    encoding, without = open_run(with_encoder), open_run(plain)
    for run, options, read in (
        (encoding, {}, {"fake", "stretch", "mean", "logvar"}),
        (encoding, {"volume": "logdet"}, {"fake", "singular", "mean", "logvar"}),
        (encoding, {"q": "ratio"}, {"fake", "stretch", "reference", "prior"}),
        (encoding, {"q": "prior"}, {"fake", "stretch", "prior"}),
        (without, {"q": "posterior_ratio"}, {"fake", "stretch", "mean", "logvar"}),
        (without, {"q": "prior"}, {"fake", "stretch", "prior"}),
    ):
        assert set(run.cell("volume_corrected_density", **options).views) == read
    assert set(encoding.cell("log_volume").views) == {"stretch"}
    assert set(encoding.cell("log_volume", form="logdet").views) == {"singular"}


def test_without_an_encoder_q_is_the_prior(open_run: Callable[[Any], Run], plain: Any) -> None:
    run = open_run(plain)
    cell = run.cell("volume_corrected_density")
    assert set(cell.views) == {"fake", "stretch", "prior"}
    codes = run.views.tensor(View("fake", "latent"), 0, 20)
    # z ~ N(0, I) and x = z / 2 + 0.5 in four dimensions; 10,000 codes tell the Gaussian to a few hundredths.
    wanted = -0.5 * codes.double().square().sum(1) - 2 * math.log(2 * math.pi) - 4 * math.log(0.5)
    torch.testing.assert_close(run.sample_scores(cell), wanted, rtol=0, atol=0.3)
    failed = run.evaluate(run.cell("volume_corrected_density", q="posterior"))
    assert failed.status == "failed"
    assert "no encoder" in str(failed.error)


def test_scores_of_a_generator_in_each_of_its_spaces(open_run: Callable[[Any], Run], plain: Any) -> None:
    run = open_run(plain)  # its output is z / 2 + 0.5, outside [0, 1] too, in both spaces
    for space in ("latent:z", "latent:w"):
        norms = run.sample_scores(run.cell("log_volume", space=space))
        torch.testing.assert_close(norms, torch.zeros(20, dtype=torch.float64), rtol=0, atol=1e-6)
        volumes = run.sample_scores(run.cell("log_volume", form="logdet", space=space))
        torch.testing.assert_close(volumes, torch.full((20,), -4 * math.log(2), dtype=torch.float64))
    cell = run.cell("volume_corrected_density", space="latent:w")
    assert {view.space for view in cell.views.values()} == {"latent:w", "stretch:w"}
    assert cell.label == "volume_corrected_density(space=latent:w)"


def test_more_samples_are_the_same_samples_and_codes_learned_from_are_others(
    open_views: Callable[..., Views], plain: Any
) -> None:
    views = open_views(plain)
    few, many = (views.tensor(View("fake", "stretch"), 0, n) for n in (10, 20))
    assert torch.equal(few, many[:10])
    prior = View("real", "stretch", n=30, encode="prior")
    assert views.tensor(prior, 0, 10).shape == (30, 4)
    assert views.digest(prior, 0, 30) != views.digest(View("fake", "stretch"), 0, 30)
    with pytest.raises(ValueError, match="stretch describes the decoder at codes of the generator itself"):
        views.tensor(View("real", "stretch"), 0, 10)


def test_refusals() -> None:
    codes, stretch = gauss(5, 3), gauss(5, 3).square()
    with pytest.raises(ValueError, match="singular is not given, and form=logdet needs it"):
        log_volume(stretch, form="logdet")
    with pytest.raises(ValueError, match="stretch is not given, and form=norm needs it"):
        log_volume(singular=stretch)
    with pytest.raises(ValueError, match="prior is not given, and q=prior needs it"):
        volume_corrected_density(codes, stretch)
    with pytest.raises(ValueError, match="stretch: 5 rows are negative"):
        log_volume(-stretch)
    with pytest.raises(ValueError, match="fake has 5 rows, of volumes there are 4"):
        volume_corrected_density(codes, stretch[:4], prior=codes)
