"""The trade-off of precision and recall: its arithmetic, and choices whose effect is known."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from assay.generators.sampling.selection import acceptance_rate
from assay.harness.arrays.records import read_records
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Estimate
from assay.harness.core.registry import METRICS, STUDIES
from assay.harness.report.report import report
from assay.harness.report.tables import PUBLISHED
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.tradeoff import names
from assay.harness.studies.tradeoff.beside import over_truncation
from assay.harness.studies.tradeoff.measure import hypervolume
from assay.harness.studies.tradeoff.page import frontier

SCORE = "pseudo_density"
TINY = {
    "quantiles": [0.05], "weights": [0.05, 1, 20], "shares": [0.5, 1], "psis": [0.0, 1.0], "rhos": [-1, 1],
    "volume": 1, "percentiles": [0.5], "rates": [0.5, 1], "lengths": [2], "steps": [2], "step_sizes": [0.1],
    "thresholds": [0.1, 9], "halves": 10, "nulls": 2,
}  # fmt: skip
"""Few settings of everything; quantiles and weights are those that tests ask for by name."""
BY_SCORE = {"psis": [], "thresholds": [], "rhos": [], "lengths": [], "steps": []}
"""What leaves out methods that need more than scores."""


class Noisy:
    """Grey images like the real ones, half of them with noise. Its discriminator knows which."""

    spaces: Sequence[str] = ("z",)

    def __init__(self) -> None:
        self.fingerprint = f"noisy {uuid.uuid4()}"

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        return torch.from_numpy(np.stack([np.random.default_rng(seed).standard_normal(6) for seed in seeds])).float()

    def decode(self, latents: Tensor, space: str) -> Tensor:
        grey = torch.special.ndtr(latents[:, :1])
        return (grey + 0.2 * latents[:, 1:2].clamp(min=0) * latents[:, 2:]).view(-1, 1, 2, 2)

    def discriminate(self, images: Tensor) -> Tensor:
        return -10 * images.flatten(1).std(1)


@pytest.fixture
def build(open_views: Callable[..., Views], tmp_path: Path) -> Callable[..., Run]:
    def open_run(folder: str = "tradeoff", n: int = 800, scores: Sequence[str] = (SCORE,), seed: int = 1) -> Run:
        return Run(
            experiment="tradeoff", generator="noisy", dataset="squares", views=open_views(Noisy()),  # type: ignore[arg-type]
            folder=tmp_path / folder, seed=seed, n=n, n_real=1000, scores=scores, quality_signals=(),
            classes="predicted_class", covariates={}, set_metrics=(),
        )  # fmt: skip

    return open_run


def numbers(run: Run) -> Mapping[tuple[str, str, str], Estimate]:
    """Estimates by method, setting and quantity."""
    records = [record for record in read_records(run.folder) if record.cell.metric == "tradeoff"]
    assert all(record.status == "ok" for record in records), [record.error for record in records]
    return {(r.cell.params["method"], *keys): e for r in records for keys, e in r.values.items()}


def test_hypervolume_is_the_area_of_a_staircase() -> None:
    precision, recall = torch.tensor([[0.5, 0.9, 0.4, 0.2]]), torch.tensor([[0.6, 0.2, 0.5, 1.0]])
    assert hypervolume(precision, recall).item() == pytest.approx(0.2 * 0.9 + 0.4 * 0.5 + 0.4 * 0.2)
    rng = np.random.default_rng(0)
    p, r = rng.random((3, 9)), rng.random((3, 9))
    at = rng.random((200_000, 2))
    inside = (at[None, :, :1] <= r[:, None]) & (at[None, :, 1:] <= p[:, None])
    share = inside.any(2).mean(1)
    # Monte Carlo: standard error at most 0.0012; 5 of them, false alarm below 1 in 10^5.
    np.testing.assert_allclose(hypervolume(torch.tensor(p), torch.tensor(r)).numpy(), share, atol=0.006)
    alone = hypervolume(precision[:, :1], recall[:, :1]).item()
    assert alone == pytest.approx(0.3)


def test_frontier() -> None:
    points = pd.DataFrame(
        {"recall": [0.6, 0.2, 0.5, 1.0, 0.6], "precision": [0.5, 0.9, 0.4, 0.2, 0.3]},
        ["a", "b", "beaten", "c", "level"],
    )
    assert list(frontier(points).index) == ["b", "a", "c"]
    assert list(frontier(points.loc[["level", "level", "beaten"]]).index) == ["beaten", "level", "level"]


def test_precision_over_truncation_is_read_off_its_line_at_equal_recall() -> None:
    def point(precision: float, recall: float) -> Tensor:
        return torch.tensor([[precision, recall]] * 4, dtype=torch.float64)

    line = [point(0.9, 0.2), point(0.4, 0.6), point(0.5, 0.4)]
    assert over_truncation(point(0.7, 0.5), line, 50) == Estimate(
        pytest.approx(0.7 - 0.45), pytest.approx((0.25,) * 2), 50
    )
    assert over_truncation(point(0.7, 0.3), line, 50).value == pytest.approx(0.7 - 0.7)
    for recall in (0.1, 0.7):
        assert np.isnan(over_truncation(point(0.7, recall), line, 50).value)


def test_what_a_choice_is_worth_beside_chance_and_truncation(build: Callable[..., Run]) -> None:
    run = build(n=600, seed=3)
    options = {"keep": 0.25, "shares": [0.5, 1], "sides": ["top"], "psis": [0.3, 0.6, 1.5], "halves": 10, "nulls": 1,
               "scores": [SCORE, "random_score"], "judge_space": ["judge", "pixels"]}  # fmt: skip
    left_out = {name: [] for name in ("quantiles", "thresholds", "percentiles", "rates", "lengths", "steps")}
    carry_out(run, "tradeoff", beside=True, **options, **left_out)
    found = numbers(run)
    assert {method for method, _, _ in found} == {f"top {SCORE}", "top random_score", "truncation z"}
    top = f"top {SCORE}", "share 0.5"
    assert (
        found[*top, "frechet_distance saved"].value
        > found["top random_score", "share 0.5", "frechet_distance saved"].value
    )
    chance = found["top random_score", "share 1", "frechet_distance saved"]
    assert chance.interval[0] < 0 < chance.interval[1]  # in 95 % of seeds; this one is fixed
    assert abs(found["truncation z", "psi 0.6", "precision over truncation"].value) < 1e-12
    records = [record for record in read_records(run.folder) if record.cell.metric == "tradeoff"]
    assert {record.cell.params["judge_space"] for record in records} == {"pixels"}, "these images have no judge"
    with pytest.raises(ValueError, match=r"sides=.*up.* must be among top, bottom"):
        carry_out(run, "tradeoff", sides=["up"])


def test_choices_do_what_they_must(build: Callable[..., Run]) -> None:
    here = build(n=1000, seed=3)
    carry_out(here, "tradeoff", keep=0.15, **TINY)
    found = numbers(here)
    by_density = f"importance {SCORE}"
    for method in (by_density, f"top {SCORE}", "truncation z", "polarity", "discriminator rejection"):
        assert found[method, "plain", "precision"] == found[by_density, "plain", "precision"]
        assert found[method, "plain", "precision"].n == found[method, "plain", "recall"].n == 150
        assert found[method, "all", "hypervolume"].value >= found[method, "plain", "precision"].value * (
            found[method, "plain", "recall"].value - 1e-12
        )
    # Nothing chosen: the very same samples, whose gain is that of one set by chance.
    nothing = by_density, "tau 0.05 w 1"
    for method, setting in (
        nothing, (f"top {SCORE}", "share 1"), (f"bottom {SCORE}", "share 1"),
        ("truncation z", "psi 1"), ("redrawn z", "threshold 9"), ("optimal budgeted rejection", "rate 1"),
    ):  # fmt: skip
        for quantity in ("precision", "recall", "frechet_distance"):
            assert found[method, setting, quantity].value == pytest.approx(found[*nothing, quantity].value, rel=1e-4)
        for quantity in ("precision gain", "recall gain"):
            low, high = found[method, setting, quantity].interval
            assert low < 0 < high  # both hold in 90 % of seeds; this one is fixed
        assert found[method, setting, "calls"].value == 1
    # Dense samples are precise, and so are those that the discriminator takes for real.
    assert found[by_density, "tau 0.05 w 20", "precision gain"].interval[0] > 0
    assert found[f"top {SCORE}", "share 0.5", "precision gain"].interval[0] > 0
    assert found[f"bottom {SCORE}", "share 0.5", "precision gain"].interval[1] < 0
    assert found["discriminator rejection", "gamma 0.5", "precision gain"].interval[0] > 0
    assert found["optimal budgeted rejection", "rate 0.5", "precision gain"].interval[0] > 0
    # All codes at their mean: one image, which holds no real but its like.
    assert found["truncation z", "psi 0", "recall"].value < 0.1
    # All codes equal, coordinate by coordinate: fewer kinds of image, of the precise kind.
    assert found["redrawn z", "threshold 0.1", "recall gain"].interval[1] < 0
    assert found["redrawn z", "threshold 0.1", "precision gain"].interval[0] > 0
    # Chains and transport follow the discriminator, and cost what they must.
    assert found["Metropolis-Hastings", "length 2", "precision gain"].interval[0] > 0
    assert found["Metropolis-Hastings", "length 2", "calls"].value == 2
    assert found["transport", "steps 2 size 0.1", "precision gain"].value > 0
    assert found["transport", "steps 2 size 0.1", "calls"].value == pytest.approx(3 + 200 / 150)
    # Each side of importance sampling as a whole.
    assert found[by_density, "all w > 1", "precision gain"].interval[0] > 0
    assert found[by_density, "all w > 1", "precision gain"] == found[by_density, "tau 0.05 w 20", "precision gain"]
    assert ("top " + SCORE, "all w > 1", "precision gain") not in found
    # Whatever polarity draws, the whole pool was made for it.
    assert found["polarity", "rho -1", "calls"].value == pytest.approx(1000 / 150)


def test_the_best_of_many_by_chance_is_no_gain(build: Callable[..., Run]) -> None:
    """By a random score: above plain sampling, no better than chance; by a real score: better than chance."""
    ratios, alarms, ahead = [], 0, 0
    for seed in range(8):
        here = build(f"chance {seed}", n=1000, scores=("random_score", SCORE), seed=seed)
        few = TINY | BY_SCORE | {"weights": [0.5, 2, 5, 10], "percentiles": [], "rates": []}
        carry_out(here, "tradeoff", keep=0.15, **few)
        found, method = numbers(here), "importance random_score"
        plain = found[method, "plain", "precision"].value * found[method, "plain", "recall"].value
        ratios.append(found[method, "all", "hypervolume"].value / plain)
        alarms += found[method, "all", "hypervolume gain"].interval[0] > 0
        gains = [found[f"importance {score}", "all", "hypervolume gain"].value for score in (SCORE, "random_score")]
        ahead += gains[0] > gains[1]
    ratio = torch.tensor(ratios)
    assert ratio.mean() > 1 + 2 * ratio.std() / len(ratio) ** 0.5  # by chance once in 20: the seeds are fixed
    assert alarms <= 3  # each 2.5 % by design: four or more of 8 happen once in 40,000
    assert ahead == 8  # by chance once in 256


def test_gains_by_a_random_score_are_as_rare_as_they_should_be(build: Callable[..., Run]) -> None:
    """Recall depends on all balls together: without the difference of one set by chance, half would leave out 0."""
    alarms: dict[str, int] = dict.fromkeys(("precision gain", "recall gain"), 0)
    few = TINY | BY_SCORE | {"quantiles": [0.5], "weights": [0.5, 2], "percentiles": [], "rates": []}
    for seed in range(12):
        here = build(f"by chance {seed}", n=600, scores=("random_score",), seed=seed)
        carry_out(here, "tradeoff", keep=0.1, **few)
        found = numbers(here)
        for quantity in alarms:
            for side in ("all w > 1", "all w < 1"):
                low, high = found["importance random_score", side, quantity].interval
                alarms[quantity] += not low <= 0 <= high
    # 24 intervals of 95 %, in pairs from one pool: more than 6 alarms by chance once in 1,000 were they independent.
    assert max(alarms.values()) <= 6, alarms


def test_calls_are_those_of_the_formula(build: Callable[..., Run]) -> None:
    """Thresholds from the pool where reals cannot be scored, so the share below is the quantile itself."""
    here = build(n=1500, scores=("negative_norm",))
    carry_out(here, "tradeoff", keep=0.1, **TINY | BY_SCORE | {"quantiles": [0.25]})
    found = numbers(here)
    for weight in (20, 0.05):
        calls = found["importance negative_norm", f"tau 0.25 w {weight:g}", "calls"].value
        # 150 accepted: the relative standard deviation of their number is at most 1 / sqrt(150) = 8 %; 5 allowed.
        assert calls == pytest.approx(1 / acceptance_rate(0.25, weight), rel=0.41)


def test_samples_that_are_shown_again_are_chosen_by_their_scores_alone(build: Callable[..., Run]) -> None:
    here = build(n=100)
    here.views.generator.spaces = ("sample",)
    carry_out(here, "tradeoff", keep=0.5, **TINY)
    methods = {method for method, *_ in numbers(here)}
    assert f"importance {SCORE}" in methods
    assert not {"truncation z", "redrawn z", "polarity"} & methods


def test_a_spent_pool_has_no_numbers(build: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    here = build(n=100)
    carry_out(here, "tradeoff", keep=0.9, **TINY | BY_SCORE)
    found = numbers(here)
    assert np.isnan(found[f"importance {SCORE}", "tau 0.05 w 20", "precision"].value)
    assert (f"importance {SCORE}", "tau 0.05 w 20", "recall") not in found
    assert "fewer than 90 of 100 samples were accepted" in capsys.readouterr().err


def test_the_page_and_a_second_run(build: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    here = build("pseudo_density", n=200)
    carry_out(here, "tradeoff", **TINY)
    printed = report(here.folder)
    assert printed.count("hypervolume over its null") > 0
    assert f"importance {SCORE}, w > 1 raises precision: " in printed
    assert f"importance {SCORE}, w < 1 raises recall: " in printed
    (picture,) = (here.folder / "figures").glob("tradeoff-*.png")
    text = (here.folder / "report.html").read_text()
    assert '<figure class="plot"' in text
    assert f"top {SCORE}" in text
    ours, papers = text.split("As papers print it")
    assert "StyleGAN3-T" in papers
    assert "digitised" in papers
    assert "StyleGAN3-T" not in ours, "what others printed stays apart"
    assert "StyleGAN3-T" not in (here.folder / "tables" / "tradeoff.csv").read_text()
    before = {path: path.read_bytes() for path in (here.folder / "records").rglob("*.json")} | {
        picture: picture.read_bytes()
    }
    monkeypatch.setattr("assay.harness.studies.judged.neighbour_pass", None)  # a second run judges nothing
    carry_out(here, "tradeoff", **TINY)
    report(here.folder)
    assert {path: path.read_bytes() for path in before} == before


def test_a_metric_of_another_version_is_computed_again(
    build: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, few = build(n=200), TINY | BY_SCORE | {"percentiles": [], "rates": []}
    carry_out(here, "tradeoff", **few)
    studies = [record for record in here.written if record.kind == "study"]
    for metric, parts in (
        ("precision", len(studies)),
        ("recall", len(studies)),
        ("frechet_distance", len(studies)),
        ("density", 0),
    ):
        here.written.clear()
        monkeypatch.setitem(METRICS, metric, replace(METRICS[metric], version=99))
        carry_out(here, "tradeoff", **few)
        assert len(here.written) == parts, metric
    carry_out(here, "tradeoff", **few)
    assert len(here.written) == 0


def test_a_setting_holds_the_options_of_its_method_alone(build: Callable[..., Run]) -> None:
    here = build(n=200)
    records = carry_out(here, "tradeoff", k=4, judge_space="pixels", **TINY | {"halves": 4})
    settings = {record.cell.params["method"]: record.cell.params for record in records}
    common = {"k": 4, "kept": 40, "halves": 4, "judge_space": "pixels"}
    for method, knobs in (
        (f"importance {SCORE}", {"quantiles": "[0.05]", "weights": "[0.05, 1, 20]"}),
        (f"bottom {SCORE}", {"shares": "[0.5, 1]"}),
        ("truncation z", {"psis": "[0.0, 1.0]"}),
        ("polarity", {"rhos": "[-1, 1]", "volume": "1"}),
        ("Metropolis-Hastings", {"lengths": "[2]", "calibrated": "by 40 held-out images"}),
        ("transport", {"steps": "[2]", "step_sizes": "[0.1]"}),
    ):
        nulls = {"nulls": 2} if method.split()[0] in ("importance", "bottom", "Metropolis-Hastings") else {}
        assert settings[method] == common | {"method": method} | knobs | nulls


def test_published_records_have_the_settings_of_today() -> None:
    every = [r for r in read_records(PUBLISHED / "pseudo_density") if r.cell.metric == "tradeoff"]
    records = [r for r in every if r.version == STUDIES["tradeoff"].version]  # older ones wait for their command
    assert len(every) > 40
    for record in records:
        assert list(record.cell.params) == [name for name in names.SETTING if name in record.cell.params]
        assert record.columns == ["setting", "quantity"]


def test_bad_options(build: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match=r"keep=0.001 of n=800 keeps 1 samples; 10 are needed"):
        carry_out(build(), "tradeoff", keep=0.001)
    with pytest.raises(ValueError, match="halves=1 must be 2 or more, and nulls=5 1 or more"):
        carry_out(build(), "tradeoff", halves=1)
    with pytest.raises(ValueError, match="space='w' is not one of this generator's: z"):
        carry_out(build(scores=()), "tradeoff", space="w")
