"""The latent space in which a score of codes is computed."""

from pathlib import Path

import pytest

from assay.harness.core.registry import discover
from assay.harness.open_run import open_run
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.spaces import in_latent_space

discover()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    scores = ({"metric": "latent_density", "bandwidth": 0.5}, "negative_norm", "pseudo_density")
    return open_run(
        {"digits": {}}, {"stylegan2": {}}, tmp_path / "w", n=120, n_real=100, store=tmp_path / "store", scores=scores
    )


def test_scores_of_codes_read_codes_of_that_space_and_all_others_what_they_read(run: Run) -> None:
    density, norm, pseudo = (in_latent_space(run, cell, "w") for cell in run.cells(run.scores))
    assert density.label == "latent_density(bandwidth=0.5, space=latent:w, encode=prior)"
    assert {view.space for view in density.views.values()} == {"latent:w"}
    assert norm.views["fake"].space == "latent:w"
    assert pseudo == run.cell("pseudo_density")
    assert [in_latent_space(run, cell, "z") for cell in run.cells(run.scores)] == run.cells(run.scores)


def test_tradeoff_takes_w_where_there_is_one(run: Run) -> None:
    few = {"shares": [0.5], "quantiles": [0.5], "weights": [2], "psis": [], "thresholds": [], "lengths": [],
           "percentiles": [], "rates": [], "steps": [], "halves": 2, "nulls": 1}  # fmt: skip
    methods = {record.cell.params["method"] for record in carry_out(run, "tradeoff", keep=0.25, **few)}
    assert "top latent_density(bandwidth=0.5, space=latent:w, encode=prior)" in methods
    assert "top pseudo_density" in methods
    methods = {record.cell.params["method"] for record in carry_out(run, "tradeoff", keep=0.25, latent="z", **few)}
    assert "top latent_density(bandwidth=0.5, encode=prior)" in methods
