"""Selecting by a score: groups of equal number compared as sets, the random one too, and a gallery of the extremes."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Estimate, View
from assay.harness.core.registry import METRICS, metric
from assay.harness.evaluate import estimates
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.groups import measure

N = 60


@pytest.fixture
def open_groups(open_views: Callable[..., Views], tmp_path: Path) -> Callable[..., Run]:
    latent = View("fake", "latent")

    @metric(better="lower", kind="sample", source="not published", fake=latent)
    def negated(fake: Tensor) -> Tensor:
        return -fake[:, 0].double()

    @metric(better="higher", kind="sample", source="not published", fake=latent)
    def nowhere(fake: Tensor) -> Tensor:
        return torch.full((len(fake),), torch.nan)

    @metric(better="higher", kind="set", source="not published", fake=latent, real=View("real", "pixels"))
    def mean_and_counts(fake: Tensor, real: Tensor) -> dict[str, float]:
        return {"mean": float(fake[:, 0].mean()), "generated": len(fake), "real": len(real), "first": float(fake[0, 0])}

    @metric(better="higher", kind="set", source="not published", fake=latent)
    def of_high(fake: Tensor) -> float:
        if fake[:, 0].mean() < 0.5:
            raise ValueError("only of high ones")
        return 1.0

    def build(*scores: str) -> Run:
        return Run(
            experiment="grouped", generator="plain", dataset="squares", views=open_views(),
            folder=tmp_path / "grouped", seed=0, n=N, n_real=None, scores=scores, quality_signals=(), classes=None,
            covariates={}, set_metrics=("mean_and_counts", "of_high"),
        )  # fmt: skip

    return build


def test_groups_are_the_best_the_middle_the_worst_and_random_ones(open_groups: Callable[..., Run]) -> None:
    run = open_groups("negated")
    (record,) = carry_out(run, "groups", share=0.2)
    assert record.cell.label == "groups(score=negated, size=12)"
    values = {keys: estimate.value for keys, estimate in record.values.items()}
    z = run.views.tensor(View("fake", "latent"), 0, N)[:, 0].sort(descending=True).values
    expected = {"top": z[:12], "middle": z[24:36], "bottom": z[-12:]}
    for group, members in expected.items():
        assert values[group, "mean"] == pytest.approx(float(members.mean()), abs=1e-6), group
        assert values[group, "generated"] == values[group, "real"] == 12
    assert values["bottom", "mean"] < values["random", "mean"] < values["top", "mean"]
    assert values["top", "of_high"] == 1
    assert math.isnan(values["bottom", "of_high"]), "a group for which a metric is undefined spoils no other"


def test_a_group_is_compared_in_the_order_of_the_samples(open_groups: Callable[..., Run]) -> None:
    """Halves of a set go by position: scores that tie but for rounding must not decide which samples are in a half."""
    run = open_groups("negated")
    (record,) = carry_out(run, "groups", share=0.2)
    z = run.views.tensor(View("fake", "latent"), 0, N)[:, 0]
    first = min(z.argsort()[:12])
    assert record.values["bottom", "first"].value == pytest.approx(float(z[first]), abs=1e-6)
    assert first != z.argmin(), "the worst is not the first of them"


def test_the_study_can_have_scores_of_its_own(open_groups: Callable[..., Run]) -> None:
    run = open_groups("nowhere")
    (record,) = carry_out(run, "groups", share=0.2, scores=["negated"])
    assert record.cell.label == "groups(score=negated, size=12)"


def test_the_page_has_a_gallery_of_each_score(open_groups: Callable[..., Run]) -> None:
    run = open_groups("negated", "nowhere")
    carry_out(run, "groups", share=0.2)
    (picture,) = (run.folder / "figures").glob("gallery-*.png")
    with Image.open(picture) as strips:
        assert strips.size == (12 * 4 - 2, 3 * 4 - 2)
    report(run.folder)
    page = (run.folder / "report.html").read_text()
    assert "groups of 12 samples" in page
    assert "best, median and worst samples" in page
    assert page.count("<img alt=") == 1


def test_a_score_that_is_nowhere_defined_has_no_groups(open_groups: Callable[..., Run]) -> None:
    (record,) = carry_out(open_groups("nowhere"), "groups")
    assert record.status == "ok"
    assert {group for group, _ in record.values} == {"top", "middle", "bottom", "random"}
    assert all(math.isnan(estimate.value) for estimate in record.values.values())


def test_groups_are_found_again_until_their_metric_changes(open_groups: Callable[..., Run]) -> None:
    run = open_groups("negated")
    carry_out(run, "groups")
    written = len(run.written)
    carry_out(run, "groups")
    assert len(run.written) == written

    @metric(better="higher", kind="set", source="not published", version=2, fake=View("fake", "latent"))
    def of_high(fake: Tensor) -> float:
        return 2.0

    (record,) = carry_out(run, "groups")
    assert record.values["top", "of_high"].value == 2
    assert METRICS["of_high"].version == 2


@pytest.mark.parametrize(("share", "fix"), [(0.01, r"choose it in \[0.033, 0.33\]"), (0.5, "makes groups of 30")])
def test_groups_of_one_and_groups_that_overlap_are_refused(
    open_groups: Callable[..., Run], share: float, fix: str
) -> None:
    with pytest.raises(ValueError, match=fix):
        carry_out(open_groups("negated"), "groups", share=share)


def test_groups_of_the_same_samples_are_compared_once(
    open_groups: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The random group is the same for every score, and so are its values."""
    computed: list[str] = []

    def counted(name: str, *others: object) -> dict[str, Estimate]:
        computed.append(name)
        found: dict[str, Estimate] = estimates(name, *others)
        return found

    monkeypatch.setattr(measure, "estimates", counted)
    records = carry_out(open_groups("negated", "negative_norm"), "groups", share=0.2)
    assert computed.count("mean_and_counts") == 2 * 3 + 1
    one, other = ({keys: found for keys, found in record.values.items() if keys[0] == "random"} for record in records)
    assert one == other
    assert len(one) == 5
