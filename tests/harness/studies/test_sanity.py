"""The 15 checks: sets as they are meant to be, criteria by hand, published verdicts, and metrics broken on purpose."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from assay.harness.arrays.records import read_records
from assay.harness.core.protocols import Record, View
from assay.harness.core.registry import METRICS, discover, metric
from assay.harness.open_run import open_run
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.sanity import checks, criteria
from assay.harness.studies.sanity.demands import demands
from assay.harness.studies.sanity.measure import Measured, standardised
from assay.harness.studies.sanity.metrics import KINDS, UnderTest, cover_k, under_test
from assay.harness.studies.sanity.page import _fewer
from assay.harness.studies.sanity.published import COVERS, EMBEDDED, NOT_PUBLISHED, cells, overall, why

discover()
CHECKS = {check.name: check for check in checks.CHECKS}
MODES = ("simultaneous mode dropping", "sequential mode dropping")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run({"none": None}, {"none": None}, tmp_path / "sane", store=tmp_path / "store")


def verdicts(records: Sequence[Record]) -> dict[tuple[str, str], str]:
    """Of whole checks, by metric and check."""
    return {
        (str(record.cell.params["metric"]), str(record.cell.params["check"])): str(keys[2])
        for record in records
        if record.cell.metric == "sanity"
        for keys in record.values
        if keys[0] == "all"
    }


def single(records: Sequence[Record]) -> dict[tuple[str, ...], tuple[str, str]]:
    """Verdict and published verdict of each criterion, by metric, check, case and criterion."""
    return {
        (str(record.cell.params["metric"]), str(record.cell.params["check"]), str(keys[0]), str(keys[1])): (
            str(keys[2]),
            str(keys[3]),
        )
        for record in records
        if record.cell.metric == "sanity"
        for keys in record.values
        if keys[0] != "all"
    }


def pair(check: str, case: str, at: float, size: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [each for each in CHECKS[check].cases(size) if each.name == case]
    (sets,) = found.draw(np.random.default_rng(seed), [at])
    return sets


# The sets


def test_every_published_cell_has_its_place_among_ours() -> None:
    asked = {
        (check.published, case.name, criterion.name)
        for check in checks.CHECKS
        for case in check.cases(1000)
        for kind in ("fidelity", "diversity")
        for criterion in demands(check, case, kind, 1000)  # type: ignore[arg-type]
    }
    assert len(checks.CHECKS) == 15
    assert {(check, case, criterion) for check, case, criterion, _ in cells()} == asked
    assert len(asked) == 120
    assert {name for _, _, _, name in cells()} < set(KINDS)


def test_values_are_those_of_the_paper() -> None:
    grids = {check.name: [len(case.at) for case in check.cases(1000)] for check in checks.CHECKS}
    assert grids["mean difference"] == [51] * 3
    assert grids["mean difference with outlier"] == [51] * 6
    assert grids["simultaneous mode dropping"] == [50] * 3
    sizes = CHECKS["hypercube, fake size"].cases(1000)[0].at
    assert (sizes[0], sizes[-1], len(sizes)) == (100, 10000, 20)
    std = CHECKS["std difference"].cases(1000)[0]
    assert std.at[0] == pytest.approx(1e-3)
    assert std.thinned(3) == [std.at[0], 1.0, std.at[-1]]


@pytest.mark.parametrize("dimension", [1, 8, 64])
def test_cubes_share_a_fifth(dimension: int) -> None:
    real, fake = pair("hypercube, both sizes", f"dim {dimension}", 10000)
    assert real.shape == fake.shape == (10000, dimension)
    inside = (fake <= 1).all(1).mean()
    assert abs(inside - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 10000)  # false alarm: 6e-5


def test_the_sphere_is_inside_the_torus_and_does_not_touch_it() -> None:
    ball, torus = pair("sphere and torus", "real sphere", 2000)
    assert np.linalg.norm(ball, axis=1).max() <= 0.8
    assert np.linalg.norm(torus, axis=1).min() >= 0.9
    from_ring = np.hypot(np.hypot(torus[:, 0], torus[:, 1]) - 1, torus[:, 2])
    assert from_ring.max() <= 0.1
    assert np.mean(from_ring <= 0.05) == pytest.approx(0.25, abs=0.04)  # false alarm: 4e-5


def test_dropped_modes_are_gone() -> None:
    real, fake = pair("sequential mode dropping", "dim 1", 3)
    centres = np.linspace(0, 10, 10)
    nearest = [np.abs(x - centres).argmin(1) for x in (real, fake)]
    assert set(nearest[0]) == set(range(10))
    assert set(nearest[1]) == set(range(7))
    _, alone = pair("simultaneous mode dropping", "dim 1", 1.0)
    assert np.abs(alone).max() < 6 / 6


def test_two_modes_and_one_have_the_same_variance() -> None:
    real, fake = pair("one or two modes", "dim 8", 3.0, size=20000)
    assert real.var() == pytest.approx(1 + 9 / 4, rel=0.02)
    assert fake.var() == pytest.approx(1 + 9, rel=0.02)


def test_the_outlier_is_in_the_set_that_is_named() -> None:
    real, fake = pair("mean difference with outlier", "real outlier, dim 8", 0.0)
    assert (real.shape, fake.shape) == ((1001, 8), (1000, 8))
    assert (real[-1] == 3).all()
    real, fake = pair("mean difference with outlier", "fake outlier, dim 64", 0.0)
    assert (real.shape, fake.shape) == ((1000, 64), (1001, 64))
    assert (fake[-1] == 1).all()


def test_the_same_seed_gives_the_same_sets() -> None:
    for check in checks.CHECKS:
        for case in check.cases(50):
            one, other = ([*case.draw(np.random.default_rng(3), case.at[:2])] for _ in range(2))
            for (a, b), (c, d) in zip(one, other, strict=True):
                assert np.array_equal(a, c)
                assert np.array_equal(b, d)


def test_sets_are_standardised_by_the_real_one() -> None:
    given = np.array([[1.0, 5.0], [3.0, 5.0]])
    fake = np.array([[2.0, 5.0], [6.0, 7.0]])
    (real, one), (again, _) = standardised(iter([(given, fake), (given, fake)]))
    assert real.tolist() == [[-1, 0], [1, 0]]
    assert one.tolist() == [[0, 0], [4, 2]]
    assert again is real


# The criteria


def margin(of: criteria.Margin, *y: float) -> float:
    return of(criteria.Curve(list(map(float, range(len(y)))), y))


def test_margins_by_hand() -> None:
    assert margin(criteria.bell(2), 0, 0.5, 1, 0.5, 0) == pytest.approx(0.1)  # 0.1 from the largest and from the least
    assert margin(criteria.bell(2), 0.9, 0.9, 1, 0.5, 0) == pytest.approx(-0.1)  # of 0.2 that it must be above an end
    assert margin(criteria.bell(2), 0, 1, 0.85, 0.5, 0) == pytest.approx(-0.05)
    assert margin(criteria.falling, 1, 0.5, 0.75) == pytest.approx(-0.15)  # the end is 0.25 above the least
    assert margin(criteria.rising, 0, 0.5, 0.25) == pytest.approx(-0.15)
    assert margin(criteria.rising, 0, 0.5, 1) == pytest.approx(0.1)
    assert margin(criteria.falling_by(1), 1, 0.95, 0) == pytest.approx(-0.05)
    assert margin(criteria.flat, 1, 0.97, 1) == pytest.approx(0.02)
    assert margin(criteria.flat_since(1), 0, 1, 0.97) == pytest.approx(0.02)


def test_a_number_without_range_is_judged_by_shares() -> None:
    curve = criteria.Curve([0, 1, 2], [-300, 0, -300])
    bell = criteria.shape(criteria.bell(1))
    assert bell.margin(curve, bounded=False) == (pytest.approx(0.1), "")
    level = criteria.level(criteria.flat)
    assert level.margin(criteria.Curve([0, 1], [100, 102]), bounded=False)[0] == pytest.approx(0.05 - 2 / 101)
    assert math.isnan(bell.margin(criteria.Curve([0, 1], [1, math.nan]), bounded=True)[0])


def test_high_and_low_together_are_no_pass() -> None:
    assert overall(["pass", "low"]) == "low"
    assert overall(["high", "low", "pass"]) == "fail"
    assert overall([NOT_PUBLISHED]) == NOT_PUBLISHED


# The metrics


@pytest.mark.parametrize(
    ("ours", "interval", "expected"),
    [
        ("pass", (-0.1, 0.2), "within the spread of repeats"),
        ("fail", (-0.2, -0.1), "open"),
        ("undefined", (math.nan, math.nan), "the metric has no value for some of these sets"),
        ("pass", (math.nan, math.nan), "one repeat, whose spread is not known"),
    ],
)
def test_each_difference_from_the_paper_has_its_reason(ours: str, interval: tuple[float, float], expected: str) -> None:
    theirs = "pass" if ours == "fail" else "fail"
    assert why("density", ours, theirs, *interval) == expected
    assert why("density", theirs, theirs, *interval) == why("density", ours, NOT_PUBLISHED, *interval) == ""


def test_neighbours_of_the_cover_grow_with_the_number_of_samples() -> None:
    assert [cover_k(n) for n in (100, 1000, 10000)] == [4, 5, 6]


def test_what_a_metric_measures_must_be_said() -> None:
    @metric(better="higher", kind="set", source="not published", fake=View("fake", "features"))
    def mine(fake: Tensor) -> float:
        return 1.0

    @metric(better="lower", kind="set", source="not published", fake=View("fake", "latent"))
    def of_codes(fake: Tensor) -> float:
        return 1.0

    with pytest.raises(ValueError, match=r"give study\.sanity\.kind=fidelity, or one of diversity"):
        under_test("mine")
    with pytest.raises(ValueError, match="reads fake latent; this study has features of fake, real samples alone"):
        under_test("of_codes")
    assert under_test("mine", "unbounded diversity").kind == "diversity"
    assert under_test({"metric": "precision", "k": 7}).options == {"k": 7}
    assert under_test("precision").described == "k=3"


def put_through(run: Run, kinds: Mapping[str, str], **options: Any) -> list[Record]:
    """Metrics by what they are said to measure."""
    usual = {"points": 3, "repeats": 1, "large": 1, "size": 60} | options
    return [
        record
        for name, kind in kinds.items()
        for record in carry_out(run, "sanity", metrics=[name], kind=kind, **usual)
    ]


def test_a_constant_passes_only_what_asks_for_a_constant(run: Run) -> None:
    """A fidelity of 1 whatever the samples is right about dropped modes alone, such a diversity about merged modes."""

    @metric(better="higher", kind="set", source="not published", fake=View("fake", "features"))
    def constant(fake: Tensor) -> float:
        return 1.0

    found = verdicts(put_through(run, {"constant": "fidelity"}))
    assert len(found) == 15
    assert {check for (_, check), verdict in found.items() if verdict != "fail"} == set(MODES)
    found = verdicts(put_through(run, {"constant": "diversity"}))
    assert {check: verdict for (_, check), verdict in found.items() if verdict != "fail"} == {
        "one or two modes": "high"
    }


def test_fidelity_and_diversity_exchanged_are_noticed(run: Run) -> None:
    """Each passes a shape under its own name, and fails it under the other's."""
    chosen = ["std difference", *MODES, "mode dropping and invention"]
    right = single(put_through(run, {"precision": "fidelity", "recall": "diversity"}, checks=chosen, size=300))
    wrong = single(put_through(run, {"precision": "diversity", "recall": "fidelity"}, checks=chosen, size=300))
    of_shape = {key for key in right if key[3] == "shape" and key[1] != MODES[0]}
    assert {right[key][0] for key in of_shape} <= {"pass", "high"}
    assert {wrong[key][0] for key in of_shape} == {"fail"}


def test_published_verdicts_on_modes_come_out(run: Run) -> None:
    """At the paper's size, for two metrics of which no cell is near a threshold."""
    asked, checked = {"precision": "fidelity", "recall": "diversity"}, ["mode dropping and invention"]
    found = single(put_through(run, asked, checks=checked, size=1000))
    assert len(found) == 6
    assert {key: ours for key, (ours, theirs) in found.items() if ours != theirs} == {}


def test_what_a_metric_refuses_is_undefined_and_no_zero(run: Run) -> None:
    """Topological precision needs 161 rows in 32 dimensions or more, and gets 60."""
    records = put_through(run, {"topological_precision": "fidelity"}, checks=["one disjoint dimension"])
    assert verdicts(records) == {("topological_precision", "one disjoint dimension"): "undefined"}
    (curve,) = [record for record in records if record.cell.metric == "sanity_curve"]
    last = curve.values["1 to 1000 dims", 1000.0]
    assert math.isnan(last.value)
    assert (last.n, last.missing) == (0, 1)


def test_a_distance_is_asked_for_shapes_alone(run: Run) -> None:
    found = single(
        put_through(run, {"frechet_distance": "distance"}, checks=["mean difference", "discrete and continuous"])
    )
    assert set(found.values()) == {("pass", NOT_PUBLISHED)}
    assert {key[1:] for key in found} == {("mean difference", f"dim {d}", "shape") for d in (1, 8, 64)}


def test_a_second_run_computes_nothing(run: Run) -> None:
    asked, checked = {"frechet_distance": "distance"}, ["scale of one dimension"]
    first = put_through(run, asked, checks=checked, repeats=3)
    written = len(run.written)
    again = put_through(run, asked, checks=checked, repeats=3)
    assert [dict(record.values) for record in again] == [dict(record.values) for record in first]
    assert len(run.written) == written == 2
    assert torch.tensor([e.interval for record in first for e in record.values.values()]).isfinite().all()


def test_what_was_killed_goes_on_and_computes_what_is_lacking_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that are done stay; of a check with a new metric, the new one alone is computed."""
    asked = {"metrics": ["frechet_distance", "sliced_distance"], "points": 3, "repeats": 2, "size": 40}
    names = ["scale of one dimension", "mean difference with Pareto"]
    whole, calls = Measured._value, list[tuple[str, str]]()

    def counted(self: Measured, one: UnderTest, *rest: Any) -> float:
        calls.append((self.check.name, one.metric.name))
        if len(calls) == 18:
            raise KeyboardInterrupt
        return whole(self, one, *rest)

    monkeypatch.setattr(Measured, "_value", counted)
    with pytest.raises(KeyboardInterrupt):
        carry_out(run, "sanity", checks=names, **asked)
    assert {check for check, _ in calls[:12]} == {names[0]}
    done = len(run.written)
    assert done == 4  # verdicts and curves of two metrics
    records = carry_out(run, "sanity", checks=names, **asked)
    assert {check for check, _ in calls[18:]} == {names[1]}
    assert (len(records), len(run.written)) == (8, 8)
    count = len(calls)
    carry_out(run, "sanity", checks=names, **asked | {"metrics": ["frechet_distance", "sliced_distance", "cmmd"]})
    assert {metric for _, metric in calls[count:]} == {"cmmd"}


def test_what_costs_more_may_have_fewer_repeats(run: Run) -> None:
    asked = {"metrics": ["frechet_distance", "precision"], "points": 3, "repeats": 3, "size": 40}
    records = carry_out(run, "sanity", checks=["scale of one dimension"], fewer={"precision": 1}, **asked)
    curves = {str(r.cell.params["metric"]): r for r in records if r.cell.metric == "sanity_curve"}
    assert {name: record.cell.params["repeats"] for name, record in curves.items()} == {
        "frechet_distance": 3, "precision": 1,
    }  # fmt: skip
    assert {estimate.n for estimate in curves["precision"].values.values()} == {1}
    assert {estimate.n for estimate in curves["frechet_distance"].values.values()} == {3}
    (alone,) = [
        record
        for record in carry_out(run, "sanity", checks=["scale of one dimension"], **asked | {"repeats": 1})
        if record.cell.metric == "sanity_curve" and record.cell.params["metric"] == "precision"
    ]
    assert dict(alone.values) == dict(curves["precision"].values)
    found = pd.DataFrame({"check": ["a", "a"], "metric": ["x", "y"], "repeats": [10, 2]})
    assert _fewer(found) == ["y 2 of 10"]


def test_all_known_metrics_are_there() -> None:
    assert set(KINDS) <= set(METRICS)


# The published run


def test_the_finding_counts_what_the_records_say() -> None:
    folder = Path(__file__).parents[3] / "results" / "sanity"
    every = [
        (str(record.cell.params["metric"]), keys)
        for record in read_records(folder)
        if record.cell.metric == "sanity"
        for keys in record.values
        if keys[3] != NOT_PUBLISHED
    ]
    text = (folder / "README.md").read_text()
    counts = []
    for whole in (False, True):
        some = [keys for _, keys in every if (keys[0] == "all") == whole]
        counts += [sum(keys[2] == keys[3] for keys in some), len(some)]
    assert (
        "**{} of {} published verdicts on single criteria are ours too**, and {} of {} on whole".format(*counts) in text
    )
    others = [keys for name, keys in every if name not in (*EMBEDDED, *COVERS) and keys[0] != "all"]
    assert f"it is {sum(keys[2] == keys[3] for keys in others)} of {len(others)}." in text
