"""The study of promises, on a generator whose faults are known: what is kept and written, which labels it takes."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Estimate, Record, Truth, View
from assay.harness.core.registry import metric
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.stats.promise import draw_labelled
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.guarantee.page import promise_folder

N = 1000


class Cracked:
    """Codes [N, 4]: the first is the soundness of a sample, in [0, 1); a sample is cracked where it is below 0.3."""

    spaces: Sequence[str] = ("z",)
    states, kinds, fingerprint = ("sound", "cracked"), ("",), "cracked"

    def truth(self, numbers: Sequence[int]) -> Truth:
        state = (self.latents(numbers, "z")[:, 0] < 0.3).long()
        return Truth(
            state, torch.zeros(len(numbers), dtype=torch.long), torch.full((len(numbers),), torch.nan).double()
        )

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        return torch.stack([torch.rand(4, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def decode(self, latents: Tensor, space: str) -> Tensor:
        return latents.reshape(-1, 1, 2, 2)


class Unknown:
    """The same, without a word on what is wrong with its samples."""

    spaces: Sequence[str] = ("z",)
    fingerprint = "unknown"
    latents, decode = Cracked.latents, Cracked.decode


@pytest.fixture
def open_cracked(open_views: Callable[..., Views], tmp_path: Path) -> Callable[..., Run]:
    latent = View("fake", "latent")

    @metric(better="higher", kind="sample", source="not published", fake=latent)
    def soundness(fake: Tensor) -> Tensor:
        return fake[:, 0].double()

    @metric(better="lower", kind="sample", source="not published", fake=latent)
    def damage(fake: Tensor) -> Tensor:
        return -fake[:, 0].double()

    @metric(better="higher", kind="sample", source="not published", fake=latent)
    def nothing(fake: Tensor) -> Tensor:
        return fake[:, 1].double()

    def build(generator: object = None, scores: Sequence[str] = ("soundness",)) -> Run:
        return Run(
            experiment="kept", generator="cracked", dataset="squares", views=open_views(generator or Cracked()),
            folder=tmp_path / "kept", seed=0, n=N, scores=scores,
        )  # fmt: skip

    return build


def numbers(records: Sequence[Record]) -> dict[tuple[str, float, str], Estimate]:
    return {
        (str(record.cell.params["score"]), *keys): value for record in records for keys, value in record.values.items()
    }


def test_a_score_that_knows_the_faults_keeps_all_that_is_sound(open_cracked: Callable[..., Run]) -> None:
    run = open_cracked(scores=("soundness", "damage", "nothing"))
    found = numbers(carry_out(run, "guarantee", alpha=[0.1], count=300, splits=200))
    assert 0.65 < found["soundness", 0.1, "share kept"].value < 0.78  # 70 % are sound, 7 % more may be kept
    assert found["soundness", 0.1, "bad among the kept"].value <= 0.1
    assert found["damage", 0.1, "share kept"] == found["soundness", 0.1, "share kept"]
    assert found["nothing", 0.1, "share kept"].value == 0
    assert found["nothing", 0.1, "bad without a choice"].value == pytest.approx(0.3, abs=0.05)
    assert found["soundness", 0.1, "broken promises"].value <= 0.1
    assert found["nothing", 0.1, "no promise"].value > 0.8


def test_what_is_kept_is_written_with_its_certificate(open_cracked: Callable[..., Run]) -> None:
    run = open_cracked()
    (record,) = carry_out(run, "guarantee", alpha=[0.2], count=300)
    found = numbers([record])
    folder = promise_folder(run.folder, run.title, "soundness", 0.2)
    kept = pd.read_csv(folder / "kept.csv")
    threshold = found["soundness", 0.2, "threshold"].value
    soundness = Cracked().latents(range(N), "z")[:, 0].double()
    labelled = draw_labelled(N, 300, torch.Generator().manual_seed(0))
    wanted = (soundness >= threshold) & ~(labelled & (soundness < 0.3))  # who labelled a sample bad does not want it
    assert sorted(kept["sample"]) == wanted.nonzero()[:, 0].tolist()
    assert kept["soundness"].is_monotonic_decreasing
    certificate = json.loads((folder / "certificate.json").read_text())
    assert certificate["threshold"] == threshold
    assert certificate["labels"] == 300
    assert certificate["promise"] == "with confidence 0.9, at most 20% of the kept are bad"
    assert certificate["bad means"] == "has a known fault"
    assert certificate["bad"] == int((labelled & (soundness >= threshold) & (soundness < 0.3)).sum()) > 0
    assert certificate["keep"] == f"soundness >= {threshold}"
    assert certificate["kept"] == len(kept)
    carry_out(run, "guarantee", alpha=[0.2], count=10)
    assert not (folder / "kept.csv").exists()  # ten labels promise nothing


def test_the_rule_of_a_certificate_is_in_the_units_of_the_score(open_cracked: Callable[..., Run]) -> None:
    run = open_cracked(scores=("damage",))
    carry_out(run, "guarantee", alpha=[0.025], count=500)
    folder = promise_folder(run.folder, run.title, "damage", 0.025)
    certificate, kept = json.loads((folder / "certificate.json").read_text()), pd.read_csv(folder / "kept.csv")
    score, sign, threshold = certificate["keep"].split()
    assert (score, sign) == ("damage", "<=")
    assert kept["damage"].max() == pytest.approx(float(threshold), abs=0.02)
    assert (kept["damage"] <= float(threshold)).all()
    assert "at most 2.5% of" in certificate["promise"]


def test_kept_samples_are_written_as_pictures(open_cracked: Callable[..., Run]) -> None:
    run = open_cracked()
    carry_out(run, "guarantee", alpha=[0.2], count=300, write=True)
    folder = promise_folder(run.folder, run.title, "soundness", 0.2)
    kept = pd.read_csv(folder / "kept.csv")
    assert sorted(path.name for path in folder.glob("*.png")) == kept["file"].tolist()
    for sample, name in kept[["sample", "file"]].iloc[[0, -1]].itertuples(index=False):
        wanted = Cracked().latents([sample], "z").view(2, 2).mul(255).round().byte().numpy()
        assert (np.asarray(Image.open(folder / name)) == wanted).all()
        assert name.endswith(f"-{sample}.png")
    carry_out(run, "guarantee", alpha=[0.2], count=10, write=True)
    assert list(folder.iterdir()) == []


def test_labels_of_people(open_cracked: Callable[..., Run], tmp_path: Path) -> None:
    run, rows = open_cracked(Unknown()), list(range(0, N, 2))
    bad = (Cracked().truth(rows).state != 0).int()
    pd.DataFrame({"sample": rows, "bad": bad}).to_csv(tmp_path / "labels.csv", index=False)
    found = numbers(carry_out(run, "guarantee", alpha=[0.1], count=400, labels=str(tmp_path / "labels.csv"), splits=9))
    assert 0.6 < found["soundness", 0.1, "share kept"].value < 0.78
    assert found["soundness", 0.1, "bad among the kept"].n < 100  # of the 100 labels that were not used
    assert ("soundness", 0.1, "broken promises") not in found  # what the kept are in fact is not known


def test_a_score_of_quality_says_what_is_bad_where_nothing_else_does(open_cracked: Callable[..., Run]) -> None:
    found = numbers(carry_out(open_cracked(Unknown()), "guarantee", alpha=[0.1], quality="soundness", least=0.5))
    assert found["soundness", 0.1, "bad without a choice"].value == pytest.approx(0.5, abs=0.06)
    assert 0.45 < found["soundness", 0.1, "share kept"].value < 0.57


def filled(path: Path, bad: Sequence[object]) -> None:
    pd.read_csv(path).assign(bad=bad).to_csv(path, index=False)


def test_samples_to_be_labelled_are_written_and_taken_up(open_cracked: Callable[..., Run], tmp_path: Path) -> None:
    path, run = tmp_path / "my labels.csv", open_cracked(Unknown())
    options = {"alpha": [0.1], "count": 300, "labels": str(path)}
    assert carry_out(run, "guarantee", **options) == []
    asked = pd.read_csv(path)
    assert asked["bad"].isna().all()
    assert asked["sample"].nunique() == 300
    assert asked["sample"].between(0, N - 1).all()
    # The mean of 300 numbers drawn from 0 to 999 without repeats; false alarm 1e-6.
    assert abs(asked["sample"].mean() - 499.5) < 4.9 * (N**2 / 12 / 300 * (1 - 300 / N)) ** 0.5
    for sample, picture in asked[["sample", "picture"]].itertuples(index=False):
        wanted = Cracked().latents([sample], "z").view(2, 2).mul(255).round().byte().numpy()
        assert (np.asarray(Image.open(tmp_path / picture)) == wanted).all()
    with pytest.raises(ValueError, match="bad is empty in line 2; 300 of 300 samples have no label"):
        carry_out(run, "guarantee", **options)
    truth = (Cracked().truth(asked["sample"].tolist()).state != 0).int().tolist()
    filled(path, truth)
    found = numbers(carry_out(run, "guarantee", **options))
    with_truth = numbers(carry_out(open_cracked(), "guarantee", alpha=[0.1], count=300))
    assert found["soundness", 0.1, "threshold"] == with_truth["soundness", 0.1, "threshold"]  # the same ones are drawn
    path.unlink()
    carry_out(run, "guarantee", **options)
    pd.testing.assert_frame_equal(pd.read_csv(path), asked)


def test_labels_of_other_samples_are_refused(open_cracked: Callable[..., Run], tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    options = {"alpha": [0.1], "count": 100, "labels": str(path)}
    carry_out(open_cracked(Unknown()), "guarantee", **options)
    with pytest.raises(ValueError, match="line 2 is a sample of another generator"):
        carry_out(open_cracked(Cracked()), "guarantee", **options)
    filled(path, [0] * 63 + [None] * 37)
    with pytest.raises(ValueError, match="bad is empty in line 65; 37 of 100 samples"):
        carry_out(open_cracked(Unknown()), "guarantee", **options)
    filled(path, [0] * 100)
    sample = pd.read_csv(path)["sample"][0]
    with pytest.raises(
        ValueError, match=f"sample {sample} is none of the 1,000 samples here, in line 2; give the seed"
    ):
        carry_out(replace(open_cracked(Unknown()), seed=1), "guarantee", **options)


def test_labels_as_spreadsheets_write_them(open_cracked: Callable[..., Run], tmp_path: Path) -> None:
    rows, found = list(range(400)), []
    bad = (Cracked().truth(rows).state != 0).int().tolist()
    for i, (between, number, start) in enumerate(((",", "{}", ""), (";", "{}.0", "\ufeff"))):
        lines = [
            between.join(("sample", "bad")),
            *(f"{row}{between}{number.format(b)}" for row, b in zip(rows, bad, strict=True)),
        ]
        path = tmp_path / f"{i}.csv"
        path.write_text(start + "\n".join(lines) + "\n\n", encoding="utf-8")
        found.append(numbers(carry_out(open_cracked(Unknown()), "guarantee", alpha=[0.1], count=400, labels=str(path))))
    assert found[0] == found[1]
    assert found[0]["soundness", 0.1, "share kept"].value > 0.6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sample,worse\n1,0\n", "give `sample` or `name`, and `bad`"),
        ("sample,bad\n1,0\n2,2\n", "bad is 2 in line 3"),
        ("sample,bad\n1,0\n2,yes\n", "bad is yes in line 3"),
        ("sample,bad\n1,0\n2\n", "bad is empty in line 3"),
        ("sample,bad\n1,0\n\n2,1\n", "bad is empty in line 3"),
        ("sample,bad\n1,0\n1,1\n", "sample 1 has more than one label, in line 3"),
        ("sample,bad\n1,0\n5000,1\n", "sample 5000 is none of the 1,000 samples here, in line 3"),
    ],
)
def test_wrong_labels_are_named(open_cracked: Callable[..., Run], tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        carry_out(open_cracked(), "guarantee", labels=str(tmp_path / "labels.csv"))


def test_a_folder_for_labels_must_be_there(open_cracked: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the folder .*absent does not exist"):
        carry_out(open_cracked(), "guarantee", labels=str(tmp_path / "absent" / "labels.csv"))


def test_not_all_samples_may_be_labelled(open_cracked: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match="must be less than the 1,000 samples"):
        carry_out(open_cracked(), "guarantee", count=N)


def test_the_page_says_which_score_keeps_most(open_cracked: Callable[..., Run]) -> None:
    run = open_cracked(scores=("soundness", "nothing"))
    carry_out(run, "guarantee", alpha=[0.1, 0.01], count=300)
    report(run.folder)
    text = (run.folder / "report.html").read_text()
    assert "At most 10% bad: 1 of 2 scores can promise it; soundness keeps the most" in text
    assert "bad: has a known fault" in text
    assert re.search(r"At most 1% bad: no score can promise it; about \d[\d,]* labels would do", text)


def test_of_one_score_the_page_says_what_it_can(open_cracked: Callable[..., Run]) -> None:
    for count, sentence in (
        (300, r"At most 10% bad: it can be promised; soundness keeps \d\d% of the samples\."),
        (20, r"At most 10% bad: soundness cannot promise it; about \d+ labels would do\."),
    ):
        run = open_cracked()
        carry_out(run, "guarantee", alpha=[0.1], count=count)
        assert re.search(sentence, report(run.folder))
