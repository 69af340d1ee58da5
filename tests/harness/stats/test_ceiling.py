"""The mean rank of several truths, what they share, and correlations as a share of that."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from assay.harness.stats.correlations import CEILING, COMPOSITE, MEAN, RELIABILITY, REST, Correlations
from assay.harness.stats.ranks import _resamples, rank_correlations, rank_moments, reliability

TRUTHS = ["a", "b", "c", "d"]


def test_the_mean_rank_is_found_anew_in_every_resample() -> None:
    """Against scipy on the rows of each resample, written out as often as they were drawn; columns have ties."""
    rng = np.random.default_rng(0)
    columns = torch.from_numpy(rng.integers(0, 6, (40, 4)).astype(float))
    moments = rank_moments(columns, torch.zeros(40), resamples=20, seed=3, composites=[[1, 2, 3], [0, 3]])
    found = rank_correlations(moments, [0, 1], [4, 5])
    for i, weights in enumerate(torch.cat(list(_resamples(40, 20, 3)))):
        rows = columns.repeat_interleave(weights.long(), 0).numpy()
        ranks = np.stack([rankdata(column) for column in rows.T])
        for j, members in enumerate(([1, 2, 3], [0, 3])):
            mean = ranks[members].sum(0)
            expected = [spearmanr(rows[:, column], mean).statistic for column in (0, 1)]
            assert found[i, :, j].tolist() == pytest.approx(expected, abs=1e-12)


def test_reliability_is_the_formula_of_spearman_and_brown_for_equal_variances() -> None:
    for k, r in ((2, 0.5), (4, 0.2), (5, 0.9)):
        same = torch.full((1, k, k), r, dtype=torch.float64).diagonal_scatter(torch.ones(1, k), dim1=1, dim2=2)
        assert float(reliability(same)) == pytest.approx(k * r / (1 + (k - 1) * r))
    measures = torch.full((1, 3, 3), 2.0).double() + torch.diag(torch.tensor([1.0, 4.0, 7.0])).double()
    assert float(reliability(measures)) == pytest.approx(18 / 30), "9 · 2 of the shared quantity in 9 · 2 + 12"
    assert reliability(torch.eye(3)[None]).isnan().all(), "they share nothing"
    assert reliability(torch.eye(1)[None]).isnan().all(), "of one nobody knows"


def measured(n: int, noise: float = 1.0, seed: int = 0) -> dict[str, Tensor]:
    """A quantity, four measures of it with independent errors, and a nuisance that is in all of them."""
    rng = np.random.default_rng(seed)
    quantity, nuisance = rng.standard_normal(n), rng.standard_normal(n)
    columns = {name: quantity + nuisance + noise * rng.standard_normal(n) for name in TRUTHS}
    columns |= {"quantity": quantity, "nuisance": nuisance, "chance": rng.standard_normal(n)}
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def test_a_perfect_score_has_all_of_the_ceiling_and_no_other_score_has() -> None:
    """Of normal measures whose errors have variance 1, the reliability of the mean is 4 / 5.

    Rank correlations of normals are lower, 6/π asin(r/2) for r, and so is the ceiling of ranks, by 0.01 at most. At
    20,000 rows its standard error is 0.002, that of a share 0.003: the bounds fail once in a million seeds.
    """
    columns = {name: column - measured(20_000)["nuisance"] for name, column in measured(20_000).items()}
    columns["quantity"] = measured(20_000)["quantity"]
    columns["chance"] = measured(20_000)["chance"]
    correlations = Correlations(columns, torch.zeros(20_000), 60, 0, TRUTHS)
    ceilings = correlations.ceilings()
    assert ceilings[COMPOSITE, MEAN].value == pytest.approx(6 / math.pi * math.asin(0.5 / 2), abs=0.02)
    assert ceilings[COMPOSITE, RELIABILITY].value == pytest.approx(0.8, abs=0.03)
    assert ceilings[COMPOSITE, CEILING].value == pytest.approx(math.sqrt(ceilings[COMPOSITE, RELIABILITY].value))
    assert ceilings["a", REST].value == pytest.approx(math.sqrt(1 / 2 * 3 / 4), abs=0.03)
    assert ceilings["a", CEILING].value == pytest.approx(math.sqrt(1 / 2), abs=0.03)
    shares = correlations.shares(["quantity", "chance"])
    for name in (COMPOSITE, *TRUTHS):
        assert shares["quantity", name].value == pytest.approx(1, abs=0.02)
        assert abs(shares["chance", name].value) < 0.04
        low, high = shares["quantity", name].interval
        assert low < shares["quantity", name].value < high < low + 0.05


def test_with_a_covariate_fixed_a_perfect_score_has_nearly_all() -> None:
    """Ranks of sums are no sums of ranks: with a nuisance as strong as the quantity 5 % of the share are lost."""
    shares = Correlations(measured(20_000), torch.zeros(20_000), 20, 0, TRUTHS).shares(["quantity"], ["nuisance"])
    assert 0.94 < shares["quantity", COMPOSITE].value < 0.97


def test_a_share_is_the_correlation_over_the_ceiling_in_the_sample_and_in_its_resamples() -> None:
    columns = measured(200, noise=2)
    correlations = Correlations(columns, torch.arange(200) % 3, 200, 5, TRUTHS)
    for held in ((["nuisance"], True), ([], False)):
        ceilings, shares = correlations.ceilings(*held), correlations.shares(["quantity"], *held)
        plain = correlations.of(["quantity"], [COMPOSITE, "b"], *held)
        for name in (COMPOSITE, "b"):
            assert shares["quantity", name].value == pytest.approx(
                plain["quantity", name].value / ceilings[name, CEILING].value
            )
    names, moments = correlations._moments_on(torch.ones(200, dtype=torch.bool))
    at = names.index
    r = rank_correlations(moments, [at("quantity")], [at(COMPOSITE)])[1:, 0, 0]
    pairs = rank_correlations(moments, [at(name) for name in TRUTHS], [at(name) for name in TRUTHS])[1:]
    mean = (pairs.sum((1, 2)) - 4) / 12
    shares_of_resamples = r / (4 * mean / (1 + 3 * mean)).sqrt()  # without ties all ranks have one variance
    assert list(shares["quantity", COMPOSITE].interval) == pytest.approx(
        torch.quantile(shares_of_resamples, torch.tensor([0.025, 0.975]).double()).tolist(), abs=0.01
    )


def test_truths_that_share_nothing_have_no_ceiling() -> None:
    """Two opposite ones: their mean correlation is -1."""
    x = torch.arange(50.0).double()
    correlations = Correlations({"a": x, "b": -x, "score": x}, torch.zeros(50), 20, 0, ["a", "b"])
    assert math.isnan(correlations.ceilings()[COMPOSITE, CEILING].value)
    assert math.isnan(correlations.shares(["score"])["score", COMPOSITE].value)


def test_of_two_truths_only_the_composite_has_a_ceiling() -> None:
    columns = measured(300)
    ceilings = Correlations(columns, torch.zeros(300), 20, 0, ["a", "b"]).ceilings()
    agreement = float(spearmanr(columns["a"], columns["b"]).statistic)
    assert [ceilings[COMPOSITE, MEAN].value, ceilings["a", REST].value] == pytest.approx([agreement] * 2)
    assert ceilings[COMPOSITE, RELIABILITY].value == pytest.approx(2 * agreement / (1 + agreement))
    assert math.isnan(ceilings["a", CEILING].value)


def test_where_a_truth_is_undefined_so_is_the_composite() -> None:
    columns = measured(300)
    columns["a"][:30] = torch.nan
    columns["some"] = torch.where(torch.arange(300) < 30, torch.nan, columns["quantity"])
    correlations = Correlations(columns, torch.zeros(300), 20, 0, TRUTHS)
    found, shares = (correlations.of(["quantity", "some"], [COMPOSITE, "b"]), correlations.shares(["quantity", "some"]))
    assert math.isnan(found["quantity", COMPOSITE].value)
    assert math.isnan(shares["quantity", "b"].value)
    assert found["quantity", "b"].value > 0.3
    ranks = sum(rankdata(columns[name][30:]) for name in TRUTHS)
    assert found["some", COMPOSITE].value == pytest.approx(spearmanr(columns["some"][30:], ranks).statistic)
    assert (found["some", COMPOSITE].n, found["some", COMPOSITE].missing) == (270, 30)
    assert correlations.ceilings()[COMPOSITE, CEILING].n == 270


def test_a_gain_is_the_difference_of_two_correlations_and_paired() -> None:
    columns = measured(400)
    columns["nearly"] = columns["quantity"] + 1e-9 * columns["chance"]
    columns["some"] = torch.where(torch.arange(400) < 30, torch.nan, columns["quantity"])
    correlations = Correlations(columns, torch.arange(400) % 2, 100, 0, TRUTHS)
    found = correlations.gains(
        ["quantity", "chance", "some"], ["chance", "nearly"], [COMPOSITE, "a"], ["nuisance"], True
    )
    plain = correlations.of(["quantity", "chance"], [COMPOSITE, "a"], ["nuisance"], True)
    for name in (COMPOSITE, "a"):
        gain = found["quantity", "chance", name]
        assert gain.value == pytest.approx(plain["quantity", name].value - plain["chance", name].value)
        assert gain.interval[0] < gain.value < gain.interval[1]
        low, high = found["quantity", "nearly", name].interval
        assert -1e-9 < low <= 0 <= high < 1e-9, "the same in every resample"
        assert math.isnan(found["some", "chance", name].value), "not the same samples"
    assert ("chance", "chance", COMPOSITE) not in found


def test_the_class_must_be_known_where_it_is_held_fixed() -> None:
    columns, classes = measured(50), torch.zeros(50)
    classes[3] = torch.nan
    correlations = Correlations(columns, classes, 5, 0, TRUTHS)
    for ask in (correlations.ceilings, lambda *held: correlations.shares(["quantity"], *held)):
        with pytest.raises(ValueError, match="the class of 1 of 50 samples is not known"):
            ask([], True)
