"""Correlating scores with signals of quality: what follows what by construction, what is held fixed, and the words."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from assay.harness.arrays.records import read_records
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Estimate, View
from assay.harness.core.registry import extractor, metric
from assay.harness.report.report import report
from assay.harness.report.verdict import Finding, agreeing
from assay.harness.run import Run
from assay.harness.stats.correlations import FEWEST, Correlations
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.correlate import page
from assay.harness.studies.correlate.page import verdict

N = 300
UNDEFINED = (math.nan, math.nan)


class Doubled:
    """Twice the pixels."""

    fingerprint, preprocessing = "doubled elsewhere", "doubled"

    def __call__(self, images: Tensor) -> Tensor:
        return 2 * images.flatten(1)


@pytest.fixture
def run(open_views: Callable[..., Views], tmp_path: Path) -> Run:
    """Latents z ~ N(0, I): `first` is z_0; `quality` follows z_0 and, more closely, z_1, which is `nuisance`."""
    latent = View("fake", "latent")

    @metric(better="lower", kind="sample", source="not published", fake=latent)
    def first_upside_down(fake: Tensor) -> Tensor:
        return -fake[:, 0].double()

    @metric(better="higher", kind="sample", source="not published", fake=latent)
    def nuisance(fake: Tensor) -> Tensor:
        return fake[:, 1].double()

    @metric(better="higher", kind="sample", source="not published", fake=latent)
    def noise(fake: Tensor) -> Tensor:
        return fake[:, 2].double()

    @metric(better="higher", kind="sample", source="not published", fake=latent)
    def quality(fake: Tensor) -> Tensor:
        return (fake[:, 0] + 2 * fake[:, 1] + 0.1 * fake[:, 3]).double()

    @metric(better="neither", kind="sample", source="not published", fake=latent)
    def side(fake: Tensor) -> Tensor:
        return (fake[:, 3] > 0).double()

    @metric(better="neither", kind="sample", source="not published", fake=latent)
    def side_of_some(fake: Tensor) -> Tensor:
        return torch.where(fake[:, 2] > -1, side(fake), torch.nan)

    @metric(better="neither", kind="sample", source="not published", fake=latent)
    def broken(fake: Tensor) -> Tensor:
        raise ValueError("no classes today")

    return Run(
        experiment="correlated", generator="plain", dataset="squares", views=open_views(),
        folder=tmp_path / "correlated", seed=0, n=N, n_real=None,
        scores=("first_upside_down", "nuisance", "noise"), quality_signals=("quality",), classes="side",
        covariates={"nuisance": "nuisance"}, set_metrics=(),
    )  # fmt: skip


def test_correlations_are_those_of_the_scores_turned_so_that_more_is_better(run: Run) -> None:
    records = {record.cell.label: record for record in carry_out(run, "correlate", resamples=50)}
    assert list(records) == [
        *(f"correlate(covariates={name}, resamples=50)" for name in ("nothing", "class", "class + nuisance")),
        "agreement(resamples=50)",
    ]
    raw, _, held, agreement = (record.values for record in records.values())
    first, quality = -run.sample_scores(run.cell("first_upside_down")), run.sample_scores(run.cell("quality"))
    expected = spearmanr(first, quality).statistic
    assert raw["first_upside_down", "quality"].value == pytest.approx(expected)
    assert agreement["quality", "first_upside_down"].value == pytest.approx(expected)
    assert held["first_upside_down", "quality"].interval[0] > expected, "without the nuisance it is nearly all"
    assert math.isnan(held["nuisance", "quality"].value), "it is held fixed"
    assert list(tables_of(run)["correlate"].columns)[4:8] == [
        "covariates", "resamples", "score", "signal",
    ]  # fmt: skip


def test_the_composite_is_a_signal_beside_those_it_is_made_of_and_has_a_ceiling(run: Run) -> None:
    """Of `quality` and `first_upside_down`, which has a part of it."""
    both = dataclasses.replace(run, quality_signals=("quality", "first_upside_down"), scores=("noise", "nuisance"))
    records = carry_out(both, "correlate", resamples=40, composite=True, against=["nuisance"])
    assert [record.status for record in records] == ["ok"] * 16
    tables = tables_of(both)
    raw = tables["correlate"][tables["correlate"].covariates == "nothing"].set_index(["score", "signal"]).value
    assert set(raw["nuisance"].index) == {"composite", "quality", "first_upside_down"}
    columns = {name: run.oriented(run.cell(name)) for name in ("quality", "first_upside_down", "nuisance")}
    mean = rankdata(columns["quality"]) + rankdata(columns["first_upside_down"])
    assert raw["nuisance", "composite"] == pytest.approx(spearmanr(columns["nuisance"], mean).statistic, abs=1e-5)
    ceiling = tables["ceiling"].set_index(["covariates", "signal", "quantity"]).value
    share = tables["share"].set_index(["covariates", "score", "signal"]).value
    assert share["nothing", "nuisance", "composite"] == pytest.approx(
        raw["nuisance", "composite"] / ceiling["nothing", "composite", "ceiling"], abs=1e-4
    )
    gain = tables["gain"][tables["gain"].covariates == "nothing"].set_index(["score", "against", "signal"])
    assert gain.value["noise", "nuisance", "quality"] == pytest.approx(
        raw["noise", "quality"] - raw["nuisance", "quality"], abs=1e-5
    )
    assert gain.holm_p.notna().all()
    page_text = (both.folder / "report.md").read_text()
    assert "the reliability of the composite is" in page_text
    assert "as a share of the ceiling, with class + nuisance held fixed" in (both.folder / "report.html").read_text()
    again = carry_out(both, "correlate", resamples=40)
    assert "composite" not in {row.keys[1] for row in again[0].rows}, "another setting is another record"
    assert set(tables_of(both)["correlate"].composite.fillna(False)) == {True, False}
    assert "composite, partial" in (both.folder / "report.md").read_text(), "the page has the one with it"


def test_what_is_recorded_can_be_chosen_and_has_the_same_numbers(run: Run, tmp_path: Path) -> None:
    both = dataclasses.replace(run, quality_signals=("quality", "first_upside_down"), scores=("noise", "nuisance"))
    few = dataclasses.replace(both, folder=tmp_path / "few")
    options = {"resamples": 40, "composite": True, "against": ["noise"]}
    carry_out(both, "correlate", **options)
    records = carry_out(
        few, "correlate", held=["nothing", "nuisance"], compared=["nuisance"], of=["composite"], agreement=False,
        **options,
    )  # fmt: skip
    assert [(record.cell.metric, record.cell.params["covariates"]) for record in records] == [
        ("correlate", "nothing"), ("signal_agreement", "nothing"), ("correlate", "class + nuisance"),
        ("signal_agreement", "class + nuisance"), ("ceiling", "class + nuisance"), ("share", "class + nuisance"),
        ("gain", "class + nuisance"),
    ]  # fmt: skip
    whole, part = tables_of(both), tables_of(few)
    for name in ("correlate", "share", "gain"):
        frame = part[name]
        assert name == "correlate" or set(frame.signal) == {"composite"}
        keys = [column for column in frame if column not in ("value", "low", "high", "holm_p", "of")]
        pairs = frame.merge(whole[name], on=keys, suffixes=("", "_whole"))
        assert len(pairs) == len(frame) > 0
        assert pairs.value.equals(pairs.value_whole)
    report(few.folder)
    assert "as a share of the ceiling, with class + nuisance held fixed" in (few.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"held": ["sizes"]}, "unknown step in study.correlate.held: 'sizes'"),
        ({"compared": ["sizes"]}, "unknown step in study.correlate.compared: 'sizes'"),
        ({"of": ["qualities"]}, "unknown signal in study.correlate.of: 'qualities'; did you mean quality"),
    ],
)
def test_steps_and_signals_that_are_not_there_are_refused(run: Run, options: dict[str, list[str]], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        carry_out(run, "correlate", **options)


def test_a_score_that_shares_a_space_with_a_signal_is_not_independent_of_the_composite() -> None:
    found = page.with_composite(
        {("realism", "nearest_feature"), ("realism", "rarity")}, ["composite", "nearest_feature"]
    )
    assert found == {("realism", "nearest_feature"), ("realism", "rarity"), ("realism", "composite")}
    assert ("realism", "composite") not in page.with_composite({("realism", "rarity")}, ["composite", "nearest_pixel"])


def tables_of(run: Run) -> dict[str, pd.DataFrame]:
    report(run.folder)
    return {path.stem: pd.read_csv(path) for path in (run.folder / "tables").glob("*.csv")}


def test_the_page_says_what_the_intervals_say(run: Run) -> None:
    carry_out(run, "correlate", resamples=200)
    printed = report(run.folder)
    assert "With class + nuisance held fixed (runs: 1, signals of quality: 1):" in printed
    assert f"  {Finding(['first_upside_down'], page.EVERY)}\n" in printed
    assert f"  {Finding(['nuisance'], page.DETERMINED)}\n" in printed
    assert "noise: " in printed
    html = (run.folder / "report.html").read_text()
    assert html.count('<figure class="plot"') == 2
    assert "quality, partial" in html


def test_another_number_of_resamples_takes_the_place_of_the_first_on_the_page(run: Run) -> None:
    for resamples in (20, 30):
        carry_out(run, "correlate", resamples=resamples)
    report(run.folder)
    assert "30 bootstrap resamples" in (run.folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        ("broken", f"the class of {N} of {N} samples is not known"),
        ("side_of_some", r"the class of \d\d of 300 samples is not known"),
    ],
)
def test_without_the_class_of_every_sample_only_what_holds_it_fixed_fails(run: Run, classes: str, why: str) -> None:
    without = dataclasses.replace(run, classes=classes)
    records = carry_out(without, "correlate", resamples=20)
    assert [record.status for record in records] == ["ok", "failed", "failed", "ok"]
    assert all(re.match(why, str(record.error)) for record in records[1:3])
    assert "With nothing held fixed (runs: 1, signals of quality: 1):" in report(run.folder)
    assert [record.status for record in carry_out(run, "correlate", resamples=20)] == ["ok"] * 4


def test_without_a_metric_of_classes_the_covariates_are_held_fixed_alone(run: Run) -> None:
    without = dataclasses.replace(run, classes=None)
    records = carry_out(without, "correlate", resamples=20)
    assert [record.status for record in records] == ["ok"] * 3
    held = [record.cell.params["covariates"] for record in records if record.cell.metric == "correlate"]
    assert len(held) == 2
    assert not any("class" in str(name) for name in held)


def test_a_signal_that_cannot_be_read_spoils_no_other_and_is_taken_up_once_it_can(run: Run) -> None:
    @metric(better="higher", kind="sample", source="not published", fake=View("fake", "elsewhere"))
    def unread(fake: Tensor) -> Tensor:
        return fake[:, 0].double()

    both = dataclasses.replace(run, quality_signals=("quality", "unread"))
    records = carry_out(both, "correlate", resamples=20)
    assert [record.status for record in records] == ["ok"] * 7
    assert records[0].values["noise", "unread"].interval == pytest.approx(UNDEFINED, nan_ok=True)
    assert records[0].values["noise", "quality"].interval != UNDEFINED
    assert "noise" in report(run.folder)

    @extractor
    def elsewhere(dataset: str) -> Doubled:
        return Doubled()

    found = carry_out(both, "correlate", resamples=20)[0].values
    assert found["noise", "quality"] == records[0].values["noise", "quality"]
    assert math.isfinite(found["noise", "unread"].value)


def test_signals_are_compared_with_each_other_once(run: Run) -> None:
    both = dataclasses.replace(run, quality_signals=("quality", "noise", "nuisance"))
    records = carry_out(both, "correlate", resamples=50)
    records = [record for record in records if record.cell.metric == "signal_agreement"]
    raw, _, held = (record.values for record in records)
    assert list(raw) == [("quality", "noise"), ("quality", "nuisance"), ("noise", "nuisance")]
    quality, nuisance = (run.sample_scores(run.cell(name)) for name in ("quality", "nuisance"))
    assert raw["quality", "nuisance"].value == pytest.approx(spearmanr(quality, nuisance).statistic)
    assert raw["quality", "nuisance"].value > 0.8
    assert math.isnan(held["quality", "nuisance"].value), "it is held fixed"
    printed = report(run.folder)
    assert "Rank correlations of the signals with each other: " in printed
    table = tables_of(run)
    assert {"holm_p"} <= set(table["correlate"].columns) & set(table["signal_agreement"].columns)


def test_signals_that_say_the_same_are_one() -> None:
    pairs = [("a", "b", 0.95, "one"), ("a", "b", 0.93, "two"), ("b", "c", 0.95, "one"), ("b", "c", 0.85, "two")]
    table = pd.DataFrame(pairs, columns=["signal", "other", "value", "run"]).assign(covariates="nothing")
    assert page.agreement_of_signals(table, "nothing") == [
        "Rank correlations of the signals with each other: 0.85 to 0.95 with nothing held fixed.",
        "a and b are one signal, not several: their raw rank correlation is over 0.9.",
    ]


def test_a_space_is_shared_whoever_is_seen_in_it(run: Run) -> None:
    """Real samples or generated ones, by any name of the space; codes and pictures as they are do not count."""

    @metric(better="higher", kind="sample", source="not published", fake=View("fake", "doubled"))
    def sees_generated(fake: Tensor) -> Tensor:
        return fake[:, 0].double()

    real = View("real", "features")

    @metric(better="higher", kind="sample", source="not published", fake=View("fake", "features"), real=real)
    def sees_both(fake: Tensor, real: Tensor) -> Tensor:
        return fake[:, 0].double() - real.mean()

    @metric(better="higher", kind="sample", source="not published", fake=View("fake", "images"))
    def sees_pictures(fake: Tensor) -> Tensor:
        return fake.flatten(1)[:, 0].double()

    names = ["sees_generated", "sees_both", "sees_pictures", "noise"]
    records = [run.evaluate(run.cell(name)) for name in names]
    between = {pair for pair in page.shared_spaces(records) if pair[0] < pair[1]}
    assert between == {("sees_both", "sees_generated")}


def test_two_metrics_of_classes_are_refused(run: Run) -> None:
    two = dataclasses.replace(run, classes={"metric": "k_of_classes", "k": [1, 2]})

    @metric(better="neither", kind="sample", source="not published", fake=View("fake", "latent"))
    def k_of_classes(fake: Tensor, k: int = 1) -> Tensor:
        return (fake[:, 0] > k).double()

    with pytest.raises(ValueError, match="names 2 metrics; name one"):
        carry_out(two, "correlate")


def test_a_run_without_signals_tells_how_scores_agree(run: Run) -> None:
    carry_out(dataclasses.replace(run, quality_signals=()), "correlate", resamples=20)
    assert all(record.status == "ok" for record in read_records(run.folder))
    report(run.folder)
    assert "How the scores agree" in (run.folder / "report.html").read_text()


def correlations(rows: Iterable[tuple[str, str, tuple[float, float], int]]) -> pd.DataFrame:
    """A table of one run: score, signal, interval, and missing samples."""
    return pd.DataFrame(
        [("run", score, signal, (low + high) / 2, low, high, missing) for score, signal, (low, high), missing in rows],
        columns=["run", "score", "signal", "value", "low", "high", "missing"],
    )


def test_every_answer_in_words() -> None:
    up, no, down = (0.1, 0.3), (-0.1, 0.1), (-0.3, -0.1)
    rows = {
        "every": (up, up), "some": (up, no), "mixed": (up, down), "falling": (no, down), "chance": (no, no),
        "close": (UNDEFINED, up), "held": (UNDEFINED, UNDEFINED), "constant": (UNDEFINED, UNDEFINED),
    }  # fmt: skip
    pairs = [(score, signal, two[i], 0) for score, two in rows.items() for i, signal in enumerate("ab")]
    held = correlations(pairs)
    raw = correlations([(a, b, UNDEFINED if a == "constant" else up, missing) for a, b, _, missing in pairs])
    shared = {("close", "a"), ("close", "b"), ("every", "b")}
    said = dict(str(line)[:-1].split(": ", 1)[::-1] for line in verdict(held, raw, shared))
    assert said == {
        agreeing(answer, 1): score for answer, score in {
            page.EVERY: "every", page.SOME: "some", page.MIXED: "mixed", page.FALLING: "falling", page.CHANCE: "chance",
            page.NOT_INDEPENDENT: "close", page.DETERMINED: "held", page.UNDEFINED: "constant",
        }.items()
    }  # fmt: skip


def test_where_no_score_of_every_sample_has_a_correlation_the_reason_stays_open() -> None:
    """A covariate may be undefined for some samples then, or be the score: the table cannot tell."""
    held = correlations([("whole", "a", UNDEFINED, 0), ("patchy", "a", (0.1, 0.2), 50)])
    raw = correlations([("whole", "a", (0.1, 0.2), 0), ("patchy", "a", (0.1, 0.2), 50)])
    assert verdict(held, raw, set()) == [Finding(["patchy"], page.EVERY), Finding(["whole"], page.NOTHING_LEFT)]


def test_a_score_is_compared_where_it_is_defined() -> None:
    generator = torch.Generator().manual_seed(0)
    whole, other, covariate = torch.randn(3, 40, generator=generator, dtype=torch.float64)
    patchy, few = whole.clone(), torch.full_like(whole, torch.nan)
    patchy[10:] = torch.nan
    few[: FEWEST - 1] = whole[: FEWEST - 1]
    covariate[:5] = torch.nan
    columns = {"whole": whole, "patchy": patchy, "few": few, "other": other, "covariate": covariate}
    found = Correlations(columns, torch.zeros(40), 20, 0)
    values = found.of(["whole", "patchy", "few"], ["other", "patchy"])
    assert set(values) == {(score, other) for score in ("whole", "patchy", "few") for other in ("other", "patchy")}
    assert values["whole", "other"].value == pytest.approx(spearmanr(whole, other).statistic)
    assert values["patchy", "other"].value == pytest.approx(spearmanr(patchy[:10], other[:10]).statistic)
    assert values["patchy", "other"][2:] == (10, 30)
    for pair in (("whole", "patchy"), ("few", "other")):
        assert math.isnan(values[pair].value), pair
    assert math.isnan(found.of(["whole"], ["other"], ["covariate"])["whole", "other"].value)
    assert found.of(["whole"], []) == {}
    assert isinstance(values["whole", "other"], Estimate)
