"""The area under the ROC curve against scikit-learn, a slow version, closed forms, and its interval against chance."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torch import Tensor

from assay.harness.stats.auroc import area, difference, separation


def drawn(count: int, shift: float, seed: int, levels: int = 0) -> tuple[Tensor, Tensor]:
    """Scores and which are positive; rounded to `levels` steps they have ties."""
    rng = np.random.default_rng(seed)
    positive = torch.arange(count) % 2 == 0
    scores = torch.from_numpy(rng.standard_normal(count)) + shift * positive
    return (scores * levels).round() if levels else scores, positive


@pytest.mark.parametrize("levels", [0, 2])
def test_scikit_learn_agrees(levels: int) -> None:
    scores, positive = drawn(101, 0.7, 0, levels)
    assert separation(scores, positive).value == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_strata_and_variance_are_their_formulas() -> None:
    scores, positive = drawn(60, 0.5, 1, levels=3)
    strata = torch.arange(60) % 7 // 2
    strata[:2] = torch.tensor([8, 9])  # each alone: they take no part
    won, pairs, variance = 0.0, 0, 0.0
    for s in range(4):
        ones, others = ([float(x) for x in scores[(strata == s) & side]] for side in (positive, ~positive))
        wins = np.array([[0.5 * (a == b) + (a > b) for b in others] for a in ones])
        won, pairs = won + wins.sum(), pairs + wins.size
        s10, s01 = wins.mean(1).var(ddof=1), wins.mean(0).var(ddof=1)
        variance += wins.size**2 * (s10 / len(ones) + s01 / len(others))
    found = separation(scores, positive, strata)
    assert found.value == pytest.approx(won / pairs, abs=1e-12)
    assert float(found.influence.square().sum()) == pytest.approx(variance / pairs**2, rel=1e-10)
    assert found.positive + found.negative == 58
    assert not found.influence[:2].any()


def test_an_example_by_hand() -> None:
    """Areas by hand: of 3 positives and 4 negatives, 12 pairs; DeLong's variance written out."""
    scores, positive = torch.tensor([0.9, 0.6, 0.3, 0.7, 0.5, 0.2, 0.1]), torch.tensor([1, 1, 1, 0, 0, 0, 0]).bool()
    found = separation(scores, positive)
    assert found.value == pytest.approx(9 / 12)
    beaten, beating = np.array([4, 3, 2]) / 4, np.array([1, 2, 3, 3]) / 3
    expected = beaten.var(ddof=1) / 3 + beating.var(ddof=1) / 4
    assert float(found.influence.square().sum()) == pytest.approx(expected)


def test_two_normal_distributions_have_a_known_area() -> None:
    """Phi(shift / sqrt 2); 20,000 of each leave a standard error of 0.0025 (five of them: false alarm 6e-7)."""
    scores, positive = drawn(40_000, 1.0, 0)
    found = area(separation(scores, positive))
    assert found.value == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=0.0125)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_the_interval_holds_the_truth_in_95_of_100(shift: float) -> None:
    """At 95 %, fewer than 180 of 200 has a chance of 2e-3 for each shift; more than 199 one of 4e-4."""
    truth = norm.cdf(shift / math.sqrt(2))
    held = 0
    for seed in range(200):
        low, high = area(separation(*drawn(60, shift, seed))).interval
        held += low <= truth <= high
    assert 180 <= held <= 199


def test_strata_take_away_what_only_tells_strata_apart() -> None:
    """A score that knows the stratum alone separates groups of unequal mix, and not within strata."""
    rng = np.random.default_rng(0)
    strata = torch.from_numpy(rng.integers(0, 2, 4000))
    positive = torch.from_numpy(rng.random(4000) < np.where(strata.numpy() == 1, 0.8, 0.2))
    scores = strata + 0.1 * torch.from_numpy(rng.standard_normal(4000))
    assert area(separation(scores, positive)).interval[0] > 0.7
    low, high = area(separation(scores, positive, strata)).interval
    assert low < 0.5 < high


def test_groups_that_do_not_overlap() -> None:
    scores, positive = torch.arange(10.0), torch.arange(10) >= 6
    low, high = area(separation(scores, positive)).interval
    assert (low, high) == (pytest.approx(0.025 ** (1 / 4)), 1)
    assert area(separation(-scores, positive)).interval == (0, pytest.approx(1 - 0.025 ** (1 / 4)))
    constant = area(separation(torch.zeros(10), positive))
    assert constant[:2] == (0.5, (0.5, 0.5))


def test_nothing_to_compare_is_undefined() -> None:
    found = area(separation(torch.arange(4.0), torch.tensor([True, False, False, False])), missing=3)
    assert math.isnan(found.value)
    assert all(map(math.isnan, found.interval))
    assert (found.n, found.missing) == (0, 3)


def test_a_difference_is_paired() -> None:
    """Two scores that err together differ far more surely than two that err apart; and one from itself, not at all."""
    scores, positive = drawn(400, 1.0, 0)
    noise = [torch.from_numpy(np.random.default_rng(seed).standard_normal(400)) for seed in (1, 2)]
    one, near, far = (separation(x, positive) for x in (scores, scores + 0.1 * noise[0], positive + noise[1]))
    assert difference(one, one)[:2] == (0, (0, 0))
    widths = [difference(one, other).interval[1] - difference(one, other).interval[0] for other in (near, far)]
    assert widths[0] < 0.3 * widths[1]
    apart = math.hypot(*(float(each.influence.norm()) for each in (one, far)))
    assert widths[1] == pytest.approx(2 * 1.96 * apart, rel=0.15)
    pairs = itertools.product(scores[positive].tolist(), scores[~positive].tolist())
    assert one.value == pytest.approx(np.mean([a > b for a, b in pairs]))
