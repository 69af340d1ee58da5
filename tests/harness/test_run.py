"""What a run makes of the names in its config: cells, with the views that they read, and labels that differ."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import assay
from assay.harness.arrays.records import find_record
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Cell, View
from assay.harness.core.registry import METRICS, metric
from assay.harness.report.behind import command
from assay.harness.run import Run, failed_record

TAKE_ENCODE = {
    "density_ratio", "gaussian_log_density", "latent_density", "latent_knn", "mixture_log_density",
    "negative_distance_to_mean", "reconstruction_error", "reconstruction_residual",
}  # fmt: skip
"""Metrics that read codes of one sort."""
SEVERAL_SORTS = {"active_latent_density", "aggregate_posterior", "aggregate_posterior_ratio"}
"""Metrics that read means beside samples or log variances."""


@pytest.fixture
def run(open_views: Callable[..., Views], with_encoder: Any, tmp_path: Path) -> Run:
    return Run("study", "plain", "squares", open_views(with_encoder), tmp_path, seed=0, n=20)


def encodings(cell: Cell) -> dict[str, str]:
    return {name: view.encode for name, view in cell.views.items()}


def test_encode_changes_reference_codes_alone(run: Run) -> None:
    """Of the generated samples' own codes there is one sort."""
    cell = run.cell("latent_density", encode="sample")
    assert encodings(cell) == {"fake": "mean", "reference": "sample"}
    assert cell.label == "latent_density(encode=sample)"
    assert encodings(run.cell("reconstruction_error", encode="inversion")) == {"residual": "inversion"}


def test_every_metric_takes_encode_or_refuses_it(run: Run) -> None:
    ours = [name for name, entry in METRICS.items() if entry.function.__module__.startswith("assay.metrics.")]
    assert len(ours) > 50
    for name in ours:
        if name in TAKE_ENCODE:
            assert run.takes_encode(name)
            changed, declared = run.cell(name, encode="prior").views, METRICS[name].views
            assert changed != declared
            assert {view.encode for key, view in changed.items() if view != declared[key]} == {"prior"}
            assert all(view == declared[key] for key, view in changed.items() if view.encode != "prior")
        else:
            assert not run.takes_encode(name), name
            with pytest.raises(ValueError, match=r"does not apply to|so leave out space and encode"):
                run.cell(name, encode="sample")


@pytest.mark.parametrize("name", sorted(SEVERAL_SORTS))
def test_a_metric_that_needs_codes_of_several_sorts_keeps_them(run: Run, name: str) -> None:
    """Else it would read samples as log variances, and tell a wrong number without a word."""
    assert len(set(encodings(run.cell(name)).values())) == 2
    with pytest.raises(ValueError, match=f"encode=sample does not apply to {name}"):
        run.cell(name, encode="sample")


def test_features_have_no_encoding_until_they_are_codes(run: Run) -> None:
    with pytest.raises(ValueError, match="does not apply to pseudo_density"):
        run.cell("pseudo_density", encode="sample")
    assert run.takes_encode("pseudo_density", space="latent")
    cell = run.cell("pseudo_density", space="latent", encode="sample")
    assert encodings(cell) == {"fake": "mean", "reference": "sample"}
    assert cell.label == "pseudo_density(space=latent, encode=sample)"


@pytest.mark.parametrize("encode", ["logvar", "smaple"])
def test_log_variances_are_no_codes_and_unknown_ones_are_told(run: Run, encode: str) -> None:
    with pytest.raises(ValueError, match=f"unknown encode '{encode}'.* mean, sample, prior, inversion"):
        run.cell("latent_density", encode=encode)


def test_a_space_replaces_one_space_not_two(run: Run) -> None:
    assert {view.space for view in run.cell("precision", space="pixels").views.values()} == {"pixels"}
    with pytest.raises(ValueError, match="cycle_consistency compares latent with reencoded, so leave out space"):
        run.cell("cycle_consistency", space="pixels")
    with pytest.raises(ValueError, match="fid is defined in inception alone"):
        run.cell("fid", space="pixels")


def test_what_changes_nothing_is_not_in_the_label(run: Run) -> None:
    assert run.cell("latent_density", space="latent", encode="mean") == run.cell("latent_density")
    assert run.cell("latent_density", space="latent", encode="sample").label == "latent_density(encode=sample)"
    assert run.cell("precision", k=METRICS["precision"].options["k"]) == run.cell("precision")


def test_a_generator_without_encoder_is_compared_with_its_prior(
    open_views: Callable[..., Views], tmp_path: Path
) -> None:
    run = Run("study", "plain", "squares", open_views(), tmp_path, seed=0, n=20)
    cell = run.cell("latent_density", bandwidth=0.5)
    assert encodings(cell) == {"fake": "mean", "reference": "prior"}
    assert cell.label == "latent_density(bandwidth=0.5, encode=prior)"
    assert run.cell("precision").label == "precision"


def test_an_entry_with_lists_gives_a_cell_for_each_combination(run: Run) -> None:
    cells = run.cells(
        ["precision", {"metric": "latent_density", "bandwidth": [0.1, 0.5], "encode": ["mean", "sample"]}]
    )
    assert [cell.label for cell in cells] == [
        "precision", "latent_density(bandwidth=0.1)", "latent_density(bandwidth=0.1, encode=sample)",
        "latent_density(bandwidth=0.5)", "latent_density(bandwidth=0.5, encode=sample)",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="names no metric"):
        run.cells({"bandwidth": 0.1})
    with pytest.raises(ValueError, match="unknown option of metric precision: 'q'"):
        run.cells({"metric": "precision", "q": 1})


def test_equal_cells_of_a_list_are_one_and_null_is_what_is_declared(run: Run) -> None:
    entry = {
        "metric": "latent_knn",
        "encode": [None, "mean", "sample"],
        "space": [None, "latent:z"],
        "n_real": [None, 7],
    }
    cells = run.cells(entry)
    assert [cell.label for cell in cells] == [
        "latent_knn", "latent_knn(n_real=7)", "latent_knn(space=latent:z)", "latent_knn(space=latent:z, n_real=7)",
        "latent_knn(encode=sample)", "latent_knn(encode=sample, n_real=7)",
        "latent_knn(space=latent:z, encode=sample)", "latent_knn(space=latent:z, encode=sample, n_real=7)",
    ]  # fmt: skip
    assert [cell.views["reference"].n for cell in cells] == ["all", 7] * 4
    told = command(failed_record(cells[1], "no reason"))
    assert "metric=latent_knn n_real=7 " in told, "the command behind a number limits real samples for all"
    few = dataclasses.replace(run, n_real=5)
    assert [cell.views["reference"].n for cell in few.cells(entry)] == [5, 7] * 4


def test_what_cannot_be_had_is_left_out_where_that_is_asked_for(
    open_views: Callable[..., Views], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """This generator has one latent space, and neither an encoder nor a discriminator; its samples are images."""
    entries = [
        {"metric": "latent_knn", "space": [None, "latent:elsewhere"], "encode": [None, "prior", "sample"]},
        "discriminator_logit", "components", "aggregate_posterior", "random_score",
    ]  # fmt: skip
    run = Run("study", "plain", "squares", open_views(), tmp_path, seed=0, n=20)
    assert len(run.cells(entries)) == 8, "where it is not, each has a cell, and fails"
    lenient = dataclasses.replace(run, unavailable="leave_out")
    assert [cell.label for cell in lenient.cells(entries)] == ["latent_knn(encode=prior)", "random_score"]
    told = capsys.readouterr().err
    assert "plain: left out: components: made for shapes, and these samples are images" in told
    assert "latent_knn(space=latent:elsewhere, encode=prior)" in told
    meant = [{"metric": "random_score", "modality": "shape"}, {"metric": "latent_knn", "modality": "image", "k": 3}]
    assert [cell.label for cell in run.cells(meant)] == ["latent_knn(k=3, encode=prior)"]
    with pytest.raises(ValueError, match="modality='sound' of random_score must be one of image, shape, any"):
        run.cells({"metric": "random_score", "modality": "sound"})
    with pytest.raises(ValueError, match="unknown option of metric latent_knn: 'kk'"):
        lenient.cells({"metric": "latent_knn", "kk": 3})


def test_scores_are_turned_so_that_more_is_better(run: Run) -> None:
    @metric(better="lower", kind="sample", source="not published", fake=View("fake", "latent"))
    def distance(fake: Tensor) -> Tensor:
        return fake[:, 0].double()

    cell = run.cell("distance")
    torch.testing.assert_close(run.oriented(cell), -run.sample_scores(cell))
    with pytest.raises(ValueError, match="'precision' is no per-sample score"):
        run.sample_scores(run.cell("precision"))


def test_a_cell_that_fails_here_has_failed_though_an_older_answer_stays(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = run.cell("negative_norm")
    assert run.evaluate(cell).status == "ok"

    def gone(view: View, seed: int, n: int) -> str:
        raise ValueError("no codes any more")

    monkeypatch.setattr(run.views, "digest", gone)
    assert run.evaluate(cell).status == "failed"
    kept = find_record(run.folder, cell)
    assert kept is not None
    assert kept.status == "ok"
    assert run.failed(cell)


def test_one_cell_from_a_notebook(tmp_path: Path) -> None:
    record = assay.evaluate(
        "precision", "vae", "digits", tmp_path / "run", space="pixels", options={"k": 3}, n=40, store=tmp_path / "store"
    )
    assert (record.status, record.cell.label, record.cell.n) == ("ok", "precision(k=3, space=pixels)", 40)
    assert find_record(tmp_path / "run", record.cell) is not None
    with pytest.raises(ValueError, match="encode=sample does not apply to precision"):
        assay.evaluate("precision", "vae", "digits", tmp_path / "run", encode="sample", n=40, store=tmp_path / "store")
    points = torch.arange(8.0)[:, None]
    assert assay.score("precision", points, points + 0.1, k=2).value == 1
