"""Families of comparisons: Holm's method by its definition, p-values by the intervals they come from, false alarms."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr, ttest_1samp

from assay.harness.core.protocols import Estimate
from assay.harness.stats import intervals
from assay.harness.stats.auroc import area, separation
from assay.harness.stats.families import HOLM, LEVEL, Family, corrected, counted_once, holm, p_values
from assay.harness.stats.ranks import rank_correlations, rank_moments


def table(*estimates: Estimate) -> pd.DataFrame:
    rows = [(estimate.value, *estimate.interval, estimate.n) for estimate in estimates]
    return pd.DataFrame(rows, columns=["value", "low", "high", "n"])


def test_holm_is_the_step_down_method() -> None:
    """Rejected at alpha: the smallest p's as long as each is at most alpha over the number that are left."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(8) ** 4
        adjusted = holm(p)
        for alpha in (0.01, 0.05, 0.2):
            rejected = set()
            for step, at in enumerate(np.argsort(p)):
                if p[at] > alpha / (len(p) - step):
                    break
                rejected.add(int(at))
            assert rejected == set(np.flatnonzero(adjusted <= alpha).tolist())
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_out_what_was_not_tested() -> None:
    found = holm(np.array([math.nan, 0.02, math.nan, 0.01]))
    np.testing.assert_allclose(found, [math.nan, 0.02, math.nan, 0.02])
    assert len(holm(np.array([]))) == 0


def test_p_values_of_means_are_those_of_the_t_test() -> None:
    rng = np.random.default_rng(1)
    terms = [rng.standard_normal(n) + shift for n, shift in ((5, 0.0), (12, 0.8), (40, -0.3), (6, 3.0))]
    frame = table(*(intervals.mean(torch.from_numpy(each)) for each in terms))
    expected = [ttest_1samp(each, 0).pvalue for each in terms]
    np.testing.assert_allclose(p_values(frame, Family(terms="n")), expected, rtol=1e-6)


def test_p_values_of_areas_are_those_of_their_log_odds() -> None:
    rng = np.random.default_rng(2)
    positive = torch.arange(80) < 30
    areas = [area(separation(torch.from_numpy(rng.standard_normal(80)) + d * positive, positive)) for d in (0, 1, -0.5)]
    p = p_values(table(*areas), Family(null=0.5, scale="odds"))
    for estimate, found in zip(areas, p, strict=True):
        low, high = (math.log(end / (1 - end)) for end in estimate.interval)
        z = (low + high) / 2 / ((high - low) / 2 / 1.959963985)
        assert found == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), rel=1e-6)
    whole = area(separation(positive.double(), positive))
    assert whole.value == 1
    assert p_values(table(whole), Family(null=0.5, scale="odds"))[0] == pytest.approx(2 * 0.5**30, rel=1e-9)


@pytest.mark.parametrize("scale", ["plain", "correlation", "odds"])
def test_p_is_below_the_level_where_the_interval_leaves_out_the_null_and_nowhere_else(scale: str) -> None:
    """Also for uneven intervals, values outside of them, ends at the null, and intervals without width."""
    rng = np.random.default_rng(3)
    null = 0.5
    low, high = np.sort(rng.random((2, 4000)), axis=0)
    low[:200], high[:200], low[200:400], high[200:400] = null, 0.9, 0.1, null
    value = low + (high - low) * rng.random(4000)
    frame = pd.DataFrame({"value": value, "low": low, "high": high, "n": 9})
    for terms in ("", "n"):
        p = p_values(frame, Family(null=null, scale=scale, terms=terms))  # type: ignore[arg-type]
        assert ((p >= 0) & (p <= 1)).all()
        assert ((p <= LEVEL) == ((low > null) | (high < null))).all()
    outside = pd.DataFrame({"value": [0.9, 0.45], "low": [0.2, 0.6], "high": [0.8, 0.7]})
    assert p_values(outside, Family(null=null, scale=scale))[0] > LEVEL  # type: ignore[arg-type]
    pointed = pd.DataFrame({"value": [0.7, 0.5], "low": [0.7, 0.5], "high": [0.7, 0.5]})
    assert p_values(pointed, Family(null=null, scale=scale)).tolist() == [0, 1]  # type: ignore[arg-type]
    nothing = pd.DataFrame({"value": [0.9, math.nan], "low": [math.nan] * 2, "high": [math.nan] * 2})
    assert np.isnan(p_values(nothing, Family(null=null, scale=scale))).all()  # type: ignore[arg-type]


def test_families_are_apart_and_rows_that_are_not_compared_do_not_count() -> None:
    one = Estimate(2.2, (0.2, 4.2), 100)
    frame = pd.concat([table(one, one).assign(run="a", kind="gain"), table(one, one).assign(run="b", kind="size")])
    frame = pd.concat([frame, table(one).assign(run="b", kind="gain")], ignore_index=True)
    single = p_values(frame, Family())[0]
    found = corrected(frame, Family(together=["run", "lacking"], tested=lambda rows: rows.kind == "gain"))
    np.testing.assert_allclose(found, [2 * single, 2 * single, math.nan, math.nan, single])
    assert HOLM == "holm_p"


@pytest.mark.parametrize("terms", [8, 200])
def test_no_family_of_true_nulls_has_too_many_false_alarms(terms: int) -> None:
    """40 dependent means, 1,000 times: one false decision or more in at most 5 %; standard error 0.7 %, four of them
    above, so this test alarms for nothing in 3 of 100,000 seeds. Each interval alone: far more."""
    rng = np.random.default_rng(terms)
    alarms = alone = 0
    for _ in range(1000):
        common = rng.standard_normal((terms, 1))
        x = rng.standard_normal((terms, 40)) + common
        half = np.sqrt(x.var(0, ddof=1) / terms) * {8: 2.364624, 200: 1.971957}[terms]
        frame = pd.DataFrame({"value": x.mean(0), "low": x.mean(0) - half, "high": x.mean(0) + half, "n": terms})
        alarms += bool((corrected(frame, Family(terms="n")) <= LEVEL).any())
        alone += bool(((frame.low > 0) | (frame.high < 0)).any())
    assert alarms / 1000 <= 0.05 + 4 * 0.007
    assert alone / 1000 > 0.15


def test_no_family_of_rank_correlations_has_too_many_false_alarms() -> None:
    """20 scores without information beside 2 signals, 100 times, 200 resamples each: at most 5 %; standard error 2.2 %,
    four of them above."""
    generator = torch.Generator().manual_seed(0)
    alarms = 0
    for seed in range(100):
        columns = torch.randn(60, 22, generator=generator, dtype=torch.float64)
        moments = rank_moments(columns, torch.zeros(60), 200, seed)
        values = rank_correlations(moments, list(range(20)), [20, 21])
        low, high = intervals.percentile_interval(values[1:])
        frame = pd.DataFrame(
            {"value": values[0].flatten().numpy(), "low": low.flatten().numpy(), "high": high.flatten().numpy()}
        )
        assert frame.value[0] == pytest.approx(spearmanr(columns[:, 0], columns[:, 20]).statistic)
        alarms += bool((corrected(frame, Family(scale="correlation")) <= LEVEL).any())
    assert alarms / 100 <= 0.05 + 4 * 0.022


def test_what_agrees_counts_once() -> None:
    pairs = {("a", "b"): 0.95, ("b", "c"): 0.95, ("a", "c"): 0.5, ("d", "c"): 0.91, ("e", "a"): math.nan}
    assert counted_once(pairs, list("abcde")) == [["a", "b"], ["c", "d"], ["e"]]
    assert counted_once(pairs, list("abcde"), above=0.99) == [[name] for name in "abcde"]
