"""Metrics against people: the published correlations, the ceiling against simulated truth, and folders of samples."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.harness.arrays.records import read_records
from assay.harness.core.registry import discover
from assay.harness.open_run import open_run
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.stats.few import exact_p, spearman
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.humans.agreement import bootstrap, ceiling, pairs
from assay.harness.studies.humans.facts import PRINTED, read_models
from assay.harness.studies.humans.names import (
    AGREEMENT,
    ALL,
    COMPUTED,
    HOLM_P,
    OPEN,
    PUBLISHED,
    RAW,
    SAME,
    P,
)  # fmt: skip

discover()
MODELS = {models.images: models for models in read_models()}
CORRELATIONS = {
    "CIFAR-10": (-0.97, -0.97, -0.96, -0.39, 0.94, -0.56, 0.98, 0.55),
    "ImageNet 256": (-0.84, -0.84, -0.83, 0.67, 0.31, 0.55, 0.85, -0.77),
    "LSUN Bedroom": (-0.98, -0.98, -1.00, 0.45, 0.95, 0.29, 0.95, -0.69),
    "FFHQ 256": (-0.38, -0.38, -0.33, -0.10, 0.08, -0.07, 0.25, 0.10),
}
"""Spearman's, of the printed values and human errors of three digits, in the order of the file's columns."""


def test_the_facts_are_those_of_the_paper() -> None:
    assert {images: len(models.names) for images, models in MODELS.items()} == {
        "CIFAR-10": 13, "FFHQ 256": 9, "ImageNet 256": 11, "LSUN Bedroom": 8,
    }  # fmt: skip
    assert sum(len(each) for models in MODELS.values() for each in models.wrong) == 1036
    error = dict(zip(MODELS["CIFAR-10"].names, MODELS["CIFAR-10"].error, strict=True))
    assert error["ReACGAN"] == pytest.approx(0.3356)
    assert error["MHGAN"] == pytest.approx(0.3362)


@pytest.mark.parametrize("images", CORRELATIONS)
def test_correlations_with_human_error_are_the_known_ones(images: str) -> None:
    models = MODELS[images]
    found = [spearman(models.printed[metric], models.error.round(3)) for metric in PRINTED.values()]
    assert [f"{value:.2f}" for value in found] == [f"{value:.2f}" for value in CORRELATIONS[images]]


def test_on_faces_the_frechet_distance_tells_nothing() -> None:
    models = MODELS["FFHQ 256"]
    assert exact_p(models.printed["frechet_distance"], models.error) == pytest.approx(0.31, abs=0.005)


def test_the_ceiling_is_what_the_truth_would_reach() -> None:
    """Mean of 500 data sets of 10 models with 25 participants each, who differ as those of the facts do: the predicted
    ceiling is the true one within .01. It is .004 below it, and the standard error of the difference is .002, so that
    another seed would fail in fewer than 1 of 100 cases.
    """
    rng = np.random.default_rng(0)
    predicted, true = [], []
    for _ in range(500):
        truth = rng.normal(0.25, 0.08, 10)
        wrong = truth[:, None] + rng.normal(0, 0.1, (10, 25))
        error, variance = wrong.mean(1), wrong.var(1, ddof=1) / 25
        true.append(spearman(truth, error))
        predicted.append(ceiling(error, variance, 100, 0).value)
    assert 0.9 < np.mean(true) < 0.95
    assert np.mean(predicted) == pytest.approx(np.mean(true), abs=0.01)


def test_models_that_people_cannot_tell_apart_have_no_ceiling() -> None:
    found = ceiling(np.array([0.2, 0.21, 0.2, 0.19]), np.full(4, 0.01), 100, 0)
    assert math.isnan(found.value)


def test_resamples_are_those_of_participants_too() -> None:
    """Five models in a perfect order: participants who agree leave it perfect, others do not."""
    values = np.arange(5.0)
    agreed = [np.full(20, 0.1 * i) for i in range(5)]
    torn = [answers + np.tile([-0.4, 0.4], 10) for answers in agreed]
    low, high = bootstrap(values, agreed, 500, 0)
    assert (low, high) == (pytest.approx(1), pytest.approx(1))
    assert bootstrap(values, torn, 500, 0)[0] < 0.5


def test_pairs_are_counted_by_both_intervals() -> None:
    error, variance = np.array([0.1, 0.2, 0.21, 0.4]), np.full(4, 0.01**2)
    found = pairs(np.array([1.0, 3.0, 2.0, 2.0]), np.zeros(4), error, variance, [25] * 4)
    # People tell all apart but the second and third; the metric has the last below the second and level with the third.
    assert found == (6, 5, 3, 1)
    assert found.undecided == 1
    wide = pairs(np.array([1.0, 3.0, 2.0, 2.0]), np.array([0.0, 1.5, 0.0, 0.0]), error, variance, [25] * 4)
    assert wide == (6, 5, 3, 0)  # 3 - 2 is within 1.5; 3 - 1 is not


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny images of four models; the harder to tell from real by people, the less they are darkened."""
    folder, rng = tmp_path_factory.mktemp("cifar10"), np.random.default_rng(0)
    for name, dark in {"real": 0, "RESFLOW": 90, "nvae": 60, "big-gan": 30, "PFGM++": 10}.items():
        (folder / name).mkdir()
        for i in range(30):
            pixels = np.clip(rng.integers(100, 156, (8, 8, 3)) - dark, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def open_it(folder: Path, **more: object) -> Run:
    return open_run(
        {"none": {}}, {"none": {}}, folder / "humans", store=folder / "store", features="pixels", **more  # type: ignore[arg-type]
    )  # fmt: skip


def test_folders_of_samples_add_columns(folders: Path, tmp_path: Path) -> None:
    run = open_it(tmp_path, set_metrics=["frechet_distance", "vendi_score"])
    records = carry_out(run, "humans", folders={"cifar10": str(folders)}, resamples=200)
    values = {r.cell.params["images"]: r.values for r in records if r.cell.metric == "humans"}["CIFAR-10"]
    distance = values["frechet_distance", COMPUTED, RAW]
    assert (distance.value, distance.n, distance.missing) == (pytest.approx(-1), 4, 9)
    assert values["frechet_distance", COMPUTED, AGREEMENT].value == pytest.approx(1)
    assert values["frechet_distance", COMPUTED, P].value == pytest.approx(2 / 24)
    assert values["frechet_distance", COMPUTED, HOLM_P].value == pytest.approx(4 / 24)  # two metrics were computed
    cells = {record.cell.generator: record for record in read_records(run.folder) if record.kind == "set"}
    assert len(cells) == 4
    assert values["frechet_distance", COMPUTED, SAME].value + values[
        "frechet_distance", COMPUTED, OPEN
    ].value == pytest.approx(1)
    assert "frechet_distance, computed" in report(run.folder)
    run.written.clear()
    carry_out(run, "humans", folders={"cifar10": str(folders)}, resamples=200)
    assert run.written == []


def test_wrong_folders_are_refused(folders: Path, tmp_path: Path) -> None:
    run = open_it(tmp_path, set_metrics=["precision"])
    few = tmp_path / "few"
    for name in ("real", "NVAE"):
        (few / name).mkdir(parents=True)
    other = tmp_path / "other"
    for name in ("real", "DALL-E"):
        (other / name).mkdir(parents=True)
    for given, error, words in (
        ({"cifar": "x"}, LookupError, r"unknown data set of study.humans.folders: 'cifar'; did you mean cifar10"),
        ({"cifar10": str(tmp_path)}, FileNotFoundError, "has no folder 'real'"),
        ({"cifar10": str(few)}, ValueError, "samples of 1 models; the order of 4 or more"),
        ({"CIFAR-10": str(other)}, LookupError, "no model 'DALL-E' of CIFAR-10 was shown to people"),
    ):
        with pytest.raises(error, match=words):
            carry_out(run, "humans", folders=given)
    with pytest.raises(ValueError, match="no metrics to compute"):
        carry_out(open_it(tmp_path), "humans", folders={"cifar10": str(folders)})


def test_published_values_need_no_samples(tmp_path: Path) -> None:
    run = open_it(tmp_path)
    records = carry_out(run, "humans", resamples=200)
    assert [record.status for record in records] == ["ok"] * 9
    (all_of_them,) = [r for r in records if r.cell.params["images"] == ALL]
    found = all_of_them.values["frechet_distance", PUBLISHED, AGREEMENT]
    assert found.value == pytest.approx(np.mean([-spearman(m.printed["frechet_distance"], m.error)
                                                 for m in MODELS.values()]))  # fmt: skip
    text = report(run.folder)
    assert "FFHQ 256:\n  coverage, density, frechet_distance" in text
