"""The study of promises, on a generator whose faults are known: what is kept and written, which labels it takes."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Estimate, Record, Truth, View
from assay.harness.core.registry import metric
from assay.harness.report.report import report
from assay.harness.run import Run
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
    assert sorted(kept["sample"]) == (soundness >= threshold).nonzero()[:, 0].tolist()
    assert kept["soundness"].is_monotonic_decreasing
    certificate = json.loads((folder / "certificate.json").read_text())
    assert certificate["threshold"] == threshold
    assert certificate["labels"] == 300
    assert certificate["promise"] == "with confidence 0.9, at most 20% of the kept are bad"
    carry_out(run, "guarantee", alpha=[0.2], count=10)
    assert not (folder / "kept.csv").exists()  # ten labels promise nothing


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sample,worse\n1,0\n", "give `sample` or `name`, and `bad`"),
        ("sample,bad\n1,0\n2,2\n", "bad is 2 in row 3"),
        ("sample,bad\n1,0\n1,1\n", "sample 1 has more than one label"),
        ("sample,bad\n1,0\n5000,1\n", "sample 5000 is none of the 1,000 samples"),
    ],
)
def test_wrong_labels_are_named(open_cracked: Callable[..., Run], tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        carry_out(open_cracked(), "guarantee", labels=str(tmp_path / "labels.csv"))


def test_not_all_samples_may_be_labelled(open_cracked: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match="must be less than the 1,000 samples"):
        carry_out(open_cracked(), "guarantee", count=N)


def test_the_page_says_which_score_keeps_most(open_cracked: Callable[..., Run]) -> None:
    run = open_cracked(scores=("soundness", "nothing"))
    carry_out(run, "guarantee", alpha=[0.1, 0.01], count=300)
    report(run.folder)
    text = (run.folder / "report.html").read_text()
    assert "At most 10% bad: 1 of 2 scores can promise it; soundness keeps the most" in text
    assert re.search(r"At most 1% bad: no score can promise it; about \d[\d,]* labels would do", text)
