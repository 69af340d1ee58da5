"""The study of faulty samples: on a generator whose scores follow what they follow by construction, and on digits."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor

from assay.harness.arrays.records import read_records
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Estimate, Truth, View
from assay.harness.core.registry import metric
from assay.harness.report.figures import SHEET
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.conditions import CLASS, NOTHING
from assay.harness.studies.detect.names import ANY, BY_SORT, OTHER, RARE
from assay.harness.studies.detect.page import verdict
from assay.harness.studies.gallery.measure import MARK

N = 600
Found = dict[tuple[str, str, str], Estimate]


class Told:
    """Codes [N, 4]: sound or not, how typical, nothing, the class. What is rare is faulty more often."""

    spaces: Sequence[str] = ("z",)
    states, kinds = ("sound", "cracked", "bent"), ("left", "right")

    def __init__(self, typical: bool = True) -> None:
        self.typical, self.fingerprint = typical, f"told {typical}"

    def truth(self, numbers: Sequence[int]) -> Truth:
        state, kind, typicality = zip(*(self._facts(number)[:3] for number in numbers), strict=True)
        known = torch.tensor(typicality, dtype=torch.float64)
        return Truth(
            torch.tensor(state), torch.tensor(kind), known if self.typical else torch.full_like(known, torch.nan)
        )

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        rows = []
        for state, kind, typicality, noise in map(self._facts, seeds):
            rows.append([(state == 0) + 0.5 * noise[0], 3 * typicality + 0.3 * noise[1], noise[2], kind])
        return torch.tensor(np.array(rows), dtype=torch.float32)

    def decode(self, latents: Tensor, space: str) -> Tensor:
        return (latents / 8 + 0.5).reshape(-1, 1, 2, 2)

    @staticmethod
    def _facts(number: int) -> tuple[int, int, float, "np.ndarray[tuple[int], np.dtype[np.float64]]"]:
        rng = np.random.default_rng(number)
        kind, rare = int(rng.integers(2)), bool(rng.random() < 0.4)
        state = int(rng.integers(1, 3)) if rng.random() < (0.8 if rare else 0.2) else 0
        return state, kind, 0.1 if rare else 0.9, rng.standard_normal(3)


@pytest.fixture
def open_told(open_views: Callable[..., Views], tmp_path: Path) -> Callable[..., Run]:
    latent = View("fake", "latent")

    @metric(better="higher", kind="sample", source="not published", fake=latent)
    def sees_faults(fake: Tensor) -> Tensor:
        return fake[:, 0].double()

    @metric(better="lower", kind="sample", source="not published", fake=latent)
    def sees_faults_upside_down(fake: Tensor) -> Tensor:
        return -fake[:, 0].double()

    @metric(better="higher", kind="sample", source="not published", fake=latent)
    def sees_rarity(fake: Tensor) -> Tensor:
        return fake[:, 1].double()

    @metric(better="neither", kind="sample", source="not published", fake=latent)
    def sees_nothing(fake: Tensor) -> Tensor:
        return fake[:, 2].double()

    @metric(better="higher", kind="sample", source="not published", fake=latent)
    def patchy(fake: Tensor) -> Tensor:
        scores = fake[:, 0].double()
        scores[::3] = torch.nan
        return scores

    @metric(better="neither", kind="sample", source="not published", fake=latent)
    def tells_class(fake: Tensor) -> Tensor:
        return fake[:, 3].double()

    def build(generator: object = None, scores: Sequence[str] = ()) -> Run:
        every = ("sees_faults", "sees_faults_upside_down", "sees_rarity", "sees_nothing")
        return Run(
            experiment="told", generator="told", dataset="squares", views=open_views(generator or Told()),
            folder=tmp_path / "told", seed=0, n=N, n_real=None, scores=scores or every, classes="tells_class",
            quality_signals=() if scores else ("patchy",), covariates={}, set_metrics=(),
        )  # fmt: skip

    return build


def numbers(run: Run, name: str) -> Found:
    """Estimates by what is held fixed, score, and what it is told from."""
    return {
        (str(record.cell.params["covariates"]), *keys): estimate
        for record in read_records(run.folder)
        if record.cell.metric == name
        for keys, estimate in record.values.items()
    }


def test_areas_are_those_of_the_scores(open_told: Callable[..., Run]) -> None:
    told = open_told()
    carry_out(told, "detect", also=["tells_class"], against=["sees_nothing"], resamples=20)
    found, truth = numbers(told, "detect"), Told().truth(range(N))
    codes = Told().latents(range(N), "z").double()
    broken = truth.state > 0
    assert found[NOTHING, "sees_faults", ANY].value == pytest.approx(roc_auc_score(broken, -codes[:, 0]))
    assert found[NOTHING, "sees_faults_upside_down", ANY] == found[NOTHING, "sees_faults", ANY]
    rows = truth.state != 1
    bent = roc_auc_score(truth.state[rows] == 2, -codes[rows, 0])
    assert found[NOTHING, "sees_faults", "bent"].value == pytest.approx(bent)
    assert found[NOTHING, "sees_faults", "bent"].n == int(rows.sum())
    sound = ~broken
    rare = roc_auc_score(truth.typicality[sound] < 0.2, -codes[sound, 1])
    assert found[NOTHING, "sees_rarity", RARE].value == pytest.approx(rare)
    assert found[NOTHING, "patchy", ANY].missing == N // 3
    assert found[CLASS, "tells_class", ANY].value == 0.5
    assert (BY_SORT, "sees_rarity", RARE) not in found


def test_areas_by_the_number_of_reals_are_those_of_scores_that_see_no_more(open_told: Callable[..., Run]) -> None:
    images = View("fake", "images"), View("real", "images", n="all")

    @metric(better="higher", kind="sample", source="not published", fake=images[0], real=images[1])
    def nearest(fake: Tensor, real: Tensor) -> Tensor:
        return -torch.cdist(fake.flatten(1).double(), real.flatten(1).double()).min(1).values

    told = dataclasses.replace(open_told(), scores=("nearest", "sees_nothing"), quality_signals=())
    carry_out(told, "detect", against=["sees_nothing"], resamples=20, n_real=[3, 40])
    (record,) = (each for each in read_records(told.folder) if each.cell.metric == "detect_reals")
    assert set(record.values) == {("nearest", 3), ("nearest", 40)}, "the others read none"
    fewer = dataclasses.replace(told, n_real=3, folder=told.folder.parent / "fewer")
    carry_out(fewer, "detect", against=["sees_nothing"], resamples=20)
    assert (
        numbers(fewer, "detect")[str(record.cell.params["covariates"]), "nearest", ANY] == record.values["nearest", 3]
    )
    report(told.folder)
    assert "AUROC for all faults by how many real samples" in (told.folder / "report.md").read_text()
    with pytest.raises(ValueError, match=r"n_real=\[0\] must be numbers of real samples, 1 or more"):
        carry_out(told, "detect", n_real=[0])


def test_typicality_held_fixed_tells_broken_from_rare(open_told: Callable[..., Run]) -> None:
    """Rare samples are faulty more often here, so a score of rarity finds faults, and only until it is held fixed.

    The intervals of a score without information leave 0.5 once in 20 times; the seed is fixed.
    """
    told = open_told()
    carry_out(told, "detect", against=["sees_nothing"], resamples=200)
    found, followed = numbers(told, "detect"), numbers(told, "detect_followed")
    assert found[NOTHING, "sees_rarity", ANY].interval[0] > 0.65
    low, high = found[BY_SORT, "sees_rarity", ANY].interval
    assert low < 0.5 < high
    assert found[BY_SORT, "sees_faults", ANY].interval[0] > 0.8
    assert found[CLASS, "sees_rarity", RARE].interval[0] > 0.9
    low, high = found[CLASS, "sees_faults", RARE].interval
    assert low < 0.5 < high
    assert followed[OTHER, "sees_rarity", "typicality"].interval[0] > 0.5
    assert followed[OTHER, "sees_faults", "soundness"].interval[0] > 0.4
    for score, fact in (("sees_rarity", "soundness"), ("sees_faults", "typicality"), ("sees_nothing", "soundness")):
        low, high = followed[OTHER, score, fact].interval
        assert low < 0 < high, (score, fact)
    assert followed[NOTHING, "sees_rarity", "soundness"].interval[0] > 0.2
    gain = numbers(told, "detect_gain")[BY_SORT, "sees_faults", "sees_nothing"]
    assert gain.interval[0] > 0.2


def test_the_page_says_so(open_told: Callable[..., Run]) -> None:
    told = open_told()
    carry_out(told, "detect", against=["sees_nothing"], resamples=20)
    printed = report(told.folder)
    assert (
        "patchy, sees_faults, sees_faults_upside_down: find every kind of fault, within class + typicality" in printed
    )
    assert "sees_rarity: ranks rare sound samples below common ones" in printed
    assert "AUROC" in (told.folder / "report.html").read_text()
    areas = pd.read_csv(told.folder / "tables" / "detect.csv")
    assert set(areas.fault) == {ANY, RARE, "cracked", "bent"}


def test_where_typicality_is_not_known_the_class_is_held_fixed(open_told: Callable[..., Run]) -> None:
    told = open_told(Told(typical=False), ["sees_faults"])
    carry_out(told, "detect", against=["sees_nothing"], resamples=20)
    assert {held for held, _, _ in numbers(told, "detect")} == {NOTHING, CLASS}
    assert {fact for _, _, fact in numbers(told, "detect_followed")} == {"soundness"}
    assert "within class" in report(told.folder)


def test_a_generator_that_knows_nothing_is_left_out(
    open_told: Callable[..., Run], plain: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert carry_out(open_told(plain), "detect") == []
    assert "generator=faulty knows" in capsys.readouterr().err


def test_a_second_time_nothing_is_computed(open_told: Callable[..., Run]) -> None:
    told = open_told()
    carry_out(told, "detect", resamples=20, against=["sees_nothing"])
    before = {path: path.stat().st_mtime_ns for path in told.folder.rglob("*.json")}
    carry_out(told, "detect", resamples=20, against=["sees_nothing"])
    assert {path: path.stat().st_mtime_ns for path in told.folder.rglob("*.json")} == before


def test_verdicts_in_words() -> None:
    rows = {
        "all": [(0.6, 0.9), (0.51, 0.7)], "one": [(0.6, 0.9), (0.4, 0.7)], "none": [(0.4, 0.6), (0.45, 0.7)],
        "wrong": [(0.6, 0.9), (0.2, 0.49)], "undefined": [(math.nan, math.nan), (math.nan, math.nan)],
    }  # fmt: skip
    fixed = pd.DataFrame(
        [
            (score, fault, (low + high) / 2, low, high)
            for score, two in rows.items()
            for fault, (low, high) in zip("ab", two, strict=True)
        ],
        columns=["score", "fault", "value", "low", "high"],
    )
    rare = pd.DataFrame([("one", RARE, 0.1, 0.4), ("all", RARE, 0.6, 0.8)], columns=["score", "fault", "low", "high"])
    assert list(map(str, verdict(fixed, rare, "class"))) == [
        "all: finds every kind of fault, within class.",
        "one (a): finds some kinds.",
        "none: finds none.",
        "wrong (b): ranks samples with some fault above sound ones.",
        "undefined: not defined for enough samples to tell.",
        "all: ranks rare sound samples below common ones.",
        "one: ranks rare sound samples above common ones.",
    ]


def test_a_gallery_has_the_best_and_the_worst_of_each_class(open_told: Callable[..., Run]) -> None:
    told = open_told(scores=["sees_faults"])
    carry_out(told, "gallery", shown=5)
    (record,) = (record for record in read_records(told.folder) if record.cell.metric == "gallery")
    assert set(record.values) == {(kind, group) for kind in Told.kinds for group in ("top", "middle", "bottom")}
    assert record.values["left", "top"].value == 1, "the five with the highest scores are sound"
    assert record.values["right", "bottom"].value == 0
    (path,) = (told.folder / "figures").glob("classes-*.png")
    with Image.open(path) as picture:
        assert picture.size == (5 * 4 - 2, 6 * 4 - 2)
        edged = (np.array(picture.convert("RGB")) == MARK).all(2).sum()
    assert edged % 4 == 0, "all of a picture of 2 x 2 pixels is edge"
    assert 10 * 4 <= edged <= 20 * 4
    report(told.folder)
    assert "left: top, middle, bottom; right: top, middle, bottom" in (told.folder / "report.html").read_text()


def test_a_sheet_is_one_picture_by_several_scores(open_told: Callable[..., Run]) -> None:
    told = open_told(scores=["sees_faults"])
    carry_out(told, "gallery", shown=5, sheet=["sees_faults", "random_score"])
    (path,) = (told.folder / "figures").glob("sheet-*.png")
    with Image.open(path) as picture:
        assert picture.size == (5 * 34 - 2, 2 * 3 * 34 - 2), "images of 2 x 2 pixels are shown 32 wide"
        said = json.loads(picture.text[SHEET])["labels"]
    assert [row[0].split(":")[0] for row in said] == [
        f"{score}, {group}" for score in ("sees_faults", "random_score") for group in ("top", "middle", "bottom")
    ]
    assert f"picture: {path}" in report(told.folder)


class Classes:
    """The same samples of two classes, told by the last latent; what is wrong with them is not known."""

    spaces: Sequence[str] = ("z",)
    fingerprint = "classes"

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        return Told().latents(seeds, space)

    def decode(self, latents: Tensor, space: str) -> Tensor:
        return Told().decode(latents, space)


def test_a_gallery_of_samples_that_are_not_known(open_told: Callable[..., Run]) -> None:
    told = open_told(Classes(), ["sees_faults"])
    carry_out(told, "gallery", shown=3)
    (record,) = (record for record in read_records(told.folder) if record.cell.metric == "gallery")
    codes = Told().latents(range(N), "z").double()
    left = codes[codes[:, 3] == 0, 0].sort(descending=True).values
    assert record.values["a", "top"].value == pytest.approx(float(left[:3].mean()))  # "a" is the data set's first class
    assert record.values["a", "bottom"].value == pytest.approx(float(left[-3:].mean()))
    assert math.isfinite(record.values["b", "middle"].value)


@pytest.mark.parametrize("classes", [None, "patchy"])
def test_without_the_class_of_every_sample_a_gallery_has_one_class(
    open_told: Callable[..., Run], classes: str | None
) -> None:
    run = dataclasses.replace(open_told(Classes(), ["sees_faults"]), classes=classes)
    (record,) = carry_out(run, "gallery", shown=2)
    assert {kind for kind, _ in record.values} == {"all"}
    best = Told().latents(range(N), "z")[:, 0].double().sort(descending=True).values[:2]
    assert record.values["all", "top"].value == pytest.approx(float(best.mean()))
    assert ("patchy fake" in record.inputs) == (classes == "patchy")
