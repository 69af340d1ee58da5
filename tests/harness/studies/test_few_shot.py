"""The run `few_shot` on features whose truth is known: gains by construction, none where there is none to have."""

import dataclasses
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.harness.arrays.records import USED, read_records
from assay.harness.arrays.schema2 import OLD
from assay.harness.arrays.store import Store
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Dataset, Estimate, Samples, Split
from assay.harness.core.registry import DATASETS, METRICS, discover
from assay.harness.report.report import report
from assay.harness.report.tables import PUBLISHED
from assay.harness.run import MetricSpec, Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.few_shot.measure import fingerprint, ratio

C, EACH = 12, 40
DENSE, NORM, KNN = "latent_density(bandwidth=0.5)", "negative_norm", "latent_knn"
SCORES: Sequence[MetricSpec] = ({"metric": "latent_density", "bandwidth": 0.5}, NORM, KNN)
TINY: dict[str, Any] = {"features": "pixels", "novel": 6, "episodes": 120, "pools": 10, "logistic": 0, "splits": [0, 1]}


class Blobs:
    """Images [1, 4, 4] of twelve classes, each its own picture and noise; attributes tell the picture."""

    name, classes, kinds = "blobs", [f"blob {i}" for i in range(C)], ["blob"] * C

    def __init__(self) -> None:
        self.fingerprint = f"blobs {uuid.uuid4()}"
        rng = np.random.default_rng(0)
        self.attributes = torch.from_numpy(rng.normal(size=(C, 3))).float()
        pictures = 0.5 + 0.08 * self.attributes @ torch.from_numpy(rng.normal(size=(3, 16))).float()
        self.labels = torch.arange(C * EACH) % C
        noise = 0.2 * torch.from_numpy(rng.normal(size=(C * EACH, 16))).float()
        self.images = ((pictures[self.labels] + noise).clamp(0, 1) * 255).round().byte().view(-1, 1, 4, 4)

    def count(self, split: Split) -> int:
        return len(self.labels) if split == "train" else 0

    def take(self, split: Split, start: int, stop: int) -> Samples:
        return Samples(self.images[start:stop], self.labels[start:stop])


class Linear:
    """Features of a class from its semantics by least squares; of a code with z_0 < 0 they are those of a wrong class.

    Real features have codes round z_0 = 1.5. Without `spoils` a code only adds noise, whatever it is.
    """

    spaces: Sequence[str] = ("z",)

    def __init__(self, spoils: bool = True):
        self.spoils, self.fingerprint, self.learned = spoils, f"linear {uuid.uuid4()}", 0

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        return torch.from_numpy(np.stack([np.random.default_rng(seed).standard_normal(3) for seed in seeds])).float()

    def decode(self, latents: Tensor, space: str) -> Tensor:
        raise ValueError("features only")

    def learn(
        self, features: Tensor, conditions: Tensor, seed: int, state: Mapping[str, Tensor] | None = None
    ) -> "Learned":
        if state is None:
            self.learned += 1
            with_one = torch.cat([conditions, torch.ones(len(conditions), 1)], 1)
            state = {"map": torch.linalg.lstsq(with_one, features).solution, "mean": features.mean(0)}
        return Learned(state, self.spoils)


class Learned:
    def __init__(self, state: Mapping[str, Tensor], spoils: bool):
        self.state, self.spoils = state, spoils

    def posterior(self, features: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        mean = 0.3 * torch.tanh(features[:, :3] - features[:, :3].mean(0)) + torch.tensor([1.5, 0.0, 0.0])
        return mean, torch.full_like(mean, -2.0)

    def decode(self, latents: Tensor, conditions: Tensor) -> Tensor:
        good = torch.cat([conditions, torch.ones(len(conditions), 1)], 1) @ self.state["map"]
        wrong = 2 * self.state["mean"] - good
        if self.spoils:
            good = torch.where(latents[:, :1] < 0, wrong, good)
        return good + 0.3 * torch.sin(20 * latents @ torch.ones(3, 16))

    def assess(self, features: Tensor, conditions: Tensor) -> dict[str, float]:
        return {"rows": float(len(features))}


Found = Mapping[tuple[int, str, str, str], Estimate]


@pytest.fixture
def open_run(tmp_path: Path) -> Callable[..., Run]:
    discover()
    data = Blobs()

    def build(
        generator: Linear | None = None,
        folder: str = "few_shot",
        seed: int = 0,
        scores: Sequence[MetricSpec] = SCORES,
        data: Dataset = data,
    ) -> Run:
        model = generator or Linear()
        views = Views(data, model, "pixels", Store(tmp_path / "store"), torch.device("cpu"))
        return Run(
            experiment="few_shot", generator="linear", dataset="blobs", views=views, folder=tmp_path / folder,
            seed=seed, n=40, n_real=None, scores=scores, quality_signals=(), classes="predicted_class", covariates={},
            set_metrics=(),
        )  # fmt: skip

    return build


def numbers(run: Run, metric: str = "few_shot_splits", classifier: str = "nearest prototype") -> Found:
    """Estimates by shots, share, selection and quantity, at all n generated features (or at none)."""
    records = [record for record in read_records(run.folder) if record.cell.metric == metric]
    assert all(record.status == "ok" for record in records), [record.error for record in records]
    found = {}
    for record in records:
        if record.cell.params["classifier"] == classifier:
            for (generated, share, selection, quantity), estimate in record.values.items():
                if generated in ("0", str(run.n)):
                    found[record.cell.params["shots"], share, selection, quantity] = estimate
    return found


def test_a_gain_by_construction_is_found_and_the_norm_has_none(open_run: Callable[..., Run]) -> None:
    """Half of what is generated is wrong, and its codes lie off the real ones, in one direction: the norm is blind."""
    here = open_run()
    carry_out(here, "few_shot", **TINY)
    found = numbers(here)
    for shots in (1, 5):
        for score in (DENSE, KNN):
            top, bottom = (
                found[shots, "0.2", f"{end} {score}", "gain over random, these splits"] for end in ("top", "bottom")
            )
            assert top.interval[0] > 0
            assert bottom.interval[1] < 0
        assert found[shots, "0.2", f"top {DENSE}", "gain over norm, these splits"].interval[0] > 0
        blind = found[shots, "0.2", f"top {NORM}", "gain over random, these splits"]
        assert abs(blind.value) < top.value / 3
        # A gain is the difference of two accuracies over the same episodes.
        gain = found[shots, "0.2", f"top {DENSE}", "gain over random"]
        by_chance = found[shots, "0.2", "random", "accuracy"]
        assert gain.value == pytest.approx(found[shots, "0.2", f"top {DENSE}", "accuracy"].value - by_chance.value)
    best = found[1, "0.2", f"top {DENSE}", "accuracy"].value
    assert best > found[1, "0", "none", "accuracy"].value
    assert best > found[1, "1", "all", "accuracy"].value
    one, five = (found[shots, "0.2", f"top {DENSE}", "gain over random"].value for shots in (1, 5))
    assert one > five, "the more shots, the less a prototype leans on what is generated"


def test_a_gain_is_a_share_of_the_oracles(
    open_run: Callable[..., Run],
) -> None:
    here = open_run()
    carry_out(here, "few_shot", **TINY | {"shots": [1]})
    found = numbers(here)
    gains = {selection: each for (_, share, selection, quantity), each in found.items()
             if quantity == "gain over random, these splits" and share == "0.2"}  # fmt: skip
    assert gains["oracle"].interval[0] > 0
    assert gains["oracle"].value > 2 * gains[f"top {NORM}"].value
    for selection in (f"top {DENSE}", f"bottom {NORM}"):
        for pooled in ("", ", these splits"):
            of_oracle = found[1, "0.2", selection, f"share of the oracle's gain{pooled}"]
            assert of_oracle.value == pytest.approx(gains[selection].value / gains["oracle"].value)
            assert of_oracle.interval[0] < of_oracle.value < of_oracle.interval[1]
    assert "% of what an oracle gains that knows the true class mean" in report(here.folder)


def test_where_all_are_kept_the_oracle_gains_nothing_and_there_is_no_share_of_it(open_run: Callable[..., Run]) -> None:
    here = open_run()
    carry_out(here, "few_shot", **TINY | {"share": 1.0, "shots": [1]})
    assert not any(quantity.startswith("share of") for _, _, _, quantity in numbers(here))
    assert "Even an oracle that knows the true class mean gains 0 (0 to 0)" in report(here.folder)


def test_intervals_of_a_ratio_cover() -> None:
    """Pairs of means over 10, correlated, the second clear of 0: 95 % of 2,000, standard error 0.5 %; four of them."""
    generator, covered = torch.Generator().manual_seed(0), 0
    for _ in range(2000):
        others = 1 + 0.5 * torch.randn(10, generator=generator, dtype=torch.float64)
        values = 0.3 * others + 0.4 * torch.randn(10, generator=generator, dtype=torch.float64)
        low, high = ratio(values, others).interval
        covered += low <= 0.3 <= high
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)
    assert ratio(torch.ones(3), torch.ones(3) * 4).value == 0.25
    assert math.isnan(ratio(torch.ones(3), torch.zeros(3)).value)


def test_logistic_regression_finds_it_too(open_run: Callable[..., Run]) -> None:
    here = open_run(scores=SCORES[:1])
    carry_out(here, "few_shot", **TINY | {"shots": [1], "logistic": 60, "pools": 6})
    found = numbers(here, classifier="logistic regression")
    assert found[1, "0.2", f"top {DENSE}", "gain over random, these splits"].interval[0] > 0
    assert found[1, "0.2", f"bottom {DENSE}", "gain over random, these splits"].interval[1] < 0


def test_no_gain_is_found_where_there_is_none(open_run: Callable[..., Run]) -> None:
    """Every feature of a class is as good as another: intervals of gains leave out 0 in 5 % of cases.

    8 seeds, 2 shots, tops and bottoms of 3 scores over pools: 96 intervals, of which 4.8 are expected to leave out 0.
    They are correlated (the same random share, opposite ends): if only 16 counted as independent, 18 or more of 96
    would come about once in 1,000.
    """
    alarms = total = 0
    for seed in range(8):
        here = open_run(Linear(spoils=False), f"seed {seed}", seed)
        carry_out(here, "few_shot", **TINY | {"splits": [0]})
        for (_, _, selection, quantity), estimate in numbers(here, "few_shot").items():
            if quantity == "gain over random" and selection.split()[0] in ("top", "bottom"):
                total += 1
                alarms += not estimate.interval[0] <= 0 <= estimate.interval[1]
    assert total == 96
    assert alarms <= 17


def test_everything_kept_is_all_and_episodes_are_shared(open_run: Callable[..., Run]) -> None:
    here = open_run()
    carry_out(here, "few_shot", **TINY | {"share": 1.0, "shares": [0.5], "numbers": [20]})
    found = numbers(here, "few_shot")
    whole = found[1, "1", "all", "accuracy"]
    for selection in ("random", f"top {DENSE}", f"bottom {NORM}"):
        assert found[1, "1", selection, "accuracy"] == whole
    assert found[1, "1", f"top {DENSE}", "gain over random"].interval == (0, 0)
    assert found[1, "0.5", f"top {DENSE}", "gain over random"].interval[0] > 0
    assert (1, "0.5", f"top {DENSE}", "accuracy") not in found, "points of the plots have gains alone"


def test_every_score_that_can_be_had_takes_part(
    open_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    here = open_run(scores=[NORM, "random_score"])
    carry_out(here, "few_shot", **TINY | {"every": True, "shots": [1], "splits": [0], "episodes": 20, "logistic": 10})
    found = {selection for _, _, selection, _ in numbers(here)}
    expected = {"latent_density", "pseudo_density", "realism", "rarity", "cycle_consistency", "aggregate_posterior"}
    assert {f"top {name}" for name in expected} <= found
    assert f"top {NORM}" in found
    assert not any("judge" in name or "mean_intensity" in name for name in found)
    assert "random_score is left out: generated features have no view of fake images" in capsys.readouterr().err
    asked = {selection for _, _, selection, _ in numbers(here, classifier="logistic regression")}
    assert asked == {"none", "all", "random", "oracle", f"top {NORM}", f"bottom {NORM}"}


def test_the_page_and_a_second_run(open_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Linear()
    here = open_run(generator)
    carry_out(here, "few_shot", **TINY | {"shares": [0.5], "numbers": [10]})
    printed = report(here.folder)
    said = [line for line in printed.splitlines() if f"the top {DENSE} share against a random one" in line]
    assert ["helps" in line or "has no effect that can be detected" in line for line in said] == [True, True]
    assert '<figure class="plot"' in (here.folder / "report.html").read_text()
    table = (here.folder / "tables" / "few_shot_splits.csv").read_text()
    assert f"top {DENSE},gain over norm" in table
    assert generator.learned == 2, "one for each split, whatever is asked of it"
    before = {path: path.read_bytes() for path in (here.folder / "records").rglob("*.json")}
    monkeypatch.setattr("assay.harness.studies.few_shot.measure.nearest_prototype", None)  # a second run judges nothing
    carry_out(here, "few_shot", **TINY | {"shares": [0.5], "numbers": [10]})
    assert {path: path.read_bytes() for path in before} == before
    assert generator.learned == 2
    lost = next(path for path in before if path.name.startswith("few_shot-"))
    lost.unlink()
    monkeypatch.undo()
    carry_out(here, "few_shot", **TINY | {"shares": [0.5], "numbers": [10]})
    assert {path: path.read_bytes() for path in before} == before
    assert generator.learned == 2, "its weights were kept"


def test_a_score_that_is_undefined_has_no_numbers(open_run: Callable[..., Run]) -> None:
    here = open_run(scores=[NORM, {"metric": "latent_knn", "k": 5000}])
    carry_out(here, "few_shot", **TINY | {"splits": [0]})
    found = numbers(here, "few_shot")
    assert np.isnan(found[1, "0.2", "top latent_knn(k=5000)", "accuracy"].value)
    assert np.isfinite(found[1, "0.2", f"top {NORM}", "accuracy"].value)


def test_a_file_of_published_data_has_published_accuracies_beside_it(
    open_run: Callable[..., Run], tmp_path: Path
) -> None:
    data = Blobs()
    file = tmp_path / "miniImageNet.npz"
    split = np.array(["base"] * 6 + ["novel"] * 6)
    np.savez(
        file, features=data.images.flatten(1).numpy().astype(np.float32), labels=data.labels.numpy(),
        names=np.array(data.classes), split=split, semantics=data.attributes.numpy(),
    )  # fmt: skip
    with pytest.raises(ValueError, match="not of 'blobs': add dataset=none"):
        carry_out(open_run(), "few_shot", path=str(file))
    here = open_run(data=DATASETS["none"].function())
    carry_out(here, "few_shot", path=str(file), episodes=20, pools=10, logistic=0)
    report(here.folder)
    page = (here.folder / "report.html").read_text()
    assert page.count("secondary source") == 2, "one for each number of shots, of this data set alone"
    assert "0.7484" in page
    assert "0.8328" in page
    assert {key[2] for key in numbers(here)} >= {"none", "all", "random", f"top {DENSE}"}


def test_published_means_over_splits_are_still_of_the_published_numbers() -> None:
    """A change of the fingerprint would compute them again."""
    records = read_records(PUBLISHED / "few_shot")
    of_splits = {
        (record.cell.generator, record.cell.label): record
        for record in records
        if record.cell.metric == "few_shot_splits"
    }
    assert of_splits
    for whole in of_splits.values():
        kind = {name: whole.cell.params[name] for name in ("shots", "classifier", "episodes")}
        parts = [
            record for record in records
            if record.cell.metric == "few_shot" and kind.items() <= record.cell.params.items()
            and record.cell.generator == whole.cell.generator
        ]  # fmt: skip
        read = {name: value for name, value in whole.inputs.items() if not name.startswith(USED)}  # not its code
        inputs = {name.removeprefix(OLD): value for name, value in read.items()}
        assert {part.cell.params["features"]: fingerprint(part) for part in parts} == inputs


def test_bad_options(open_run: Callable[..., Run]) -> None:
    assert "few_shot" not in METRICS
    for options, said in (
        ({"representatives": "some"}, "representatives='some' must be one of nearest, chi_square, all"),
        ({"pools": 1}, "must be at least pools=1, and that 2"),
        ({"share": 0.001}, "a share of 0.001 of 40 generated features keeps none"),
        ({"ways": 7}, "7 ways need as many novel classes; there are 6"),
        ({"queries": 36}, "40 images, an episode takes 41"),
    ):
        with pytest.raises(ValueError, match=said):
            carry_out(open_run(folder="bad"), "few_shot", **TINY | options)


def test_a_generator_of_images_is_refused(open_views: Callable[..., Views], open_run: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match="choose generator=conditional_vae"):
        carry_out(dataclasses.replace(open_run(), views=open_views()), "few_shot")
