"""Promises: how often they are broken, by simulation; the number of labels; what they do at the borders."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom

from assay.harness.stats.promise import Promise, draw_labelled, labels_needed, promise

REPEATS = 1000


def simulated(alpha: float, delta: float, labels: int, slope: float, seed: int) -> tuple[int, int]:
    """In how many of the repeats a promise was broken, and in how many none was made.

    A sample with score u in [0, 1] is bad with chance (1 - u)^slope, so that of those above t
    (1 - t)^slope / (slope + 1) are bad.
    """
    rng = np.random.default_rng(seed)
    broken = abstained = 0
    for _ in range(REPEATS):
        scores, others = rng.random(labels), rng.random(2000)
        bad = rng.random(labels) < (1 - scores) ** slope
        made = promise(torch.tensor(scores), torch.tensor(bad), torch.tensor(others), alpha, delta)
        abstained += made.abstains
        broken += not made.abstains and (1 - made.threshold) ** slope / (slope + 1) > alpha
    return broken, abstained


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_a_promise_is_broken_no_more_often_than_it_says(alpha: float) -> None:
    """A sound method fails this with chance 1e-6 at most, since its number of broken promises is binomial."""
    broken, abstained = simulated(alpha, 0.1, 300, 3.0, seed=7)
    assert broken <= binom.ppf(1 - 1e-6, REPEATS, 0.1)
    assert abstained < REPEATS / 2  # it is worth something: it often keeps samples


def test_the_naive_threshold_breaks_its_word() -> None:
    """The loosest threshold at which the labelled samples keep to alpha breaks the promise nearly every other time."""
    rng, broken = np.random.default_rng(1), 0
    for _ in range(200):
        scores = np.sort(rng.random(300))[::-1]
        bad = rng.random(300) < 1 - scores
        within = np.cumsum(bad) / np.arange(1, 301) <= 0.1
        broken += (1 - scores[np.flatnonzero(within)[-1]]) / 2 > 0.1 if within.any() else 0
    assert broken > 60


def test_a_score_that_knows_nothing_promises_only_what_holds_for_all() -> None:
    rng = torch.Generator().manual_seed(0)
    scores, others = torch.rand(400, generator=rng), torch.rand(2000, generator=rng)
    bad = torch.rand(400, generator=rng) < 0.1
    assert promise(scores, bad, others, 0.05, 0.1).abstains
    whole = promise(scores, bad, others, 0.2, 0.1)
    assert whole.share == 1
    assert whole.labelled == 400


def test_the_last_threshold_is_the_loosest_that_passes() -> None:
    """Samples are bad exactly below 0.4, so by hand: of 200 labels, the test passes while few of them are kept."""
    scores = torch.linspace(0, 1, 200, dtype=torch.float64)
    made = promise(scores, scores < 0.4, torch.linspace(0, 1, 1001, dtype=torch.float64), 0.1, 0.1)
    kept = scores >= made.threshold
    assert (made.labelled, made.bad) == (int(kept.sum()), int((kept & (scores < 0.4)).sum()))
    assert binom.cdf(made.bad, made.labelled, 0.1) <= 0.1 / 4
    looser = scores >= made.threshold - 0.01
    assert binom.cdf(int((looser & (scores < 0.4)).sum()), int(looser.sum()), 0.1) > 0.1 / 4


def test_numbers_of_labels_by_hand() -> None:
    """Without a bad one, k kept labels pass where (1 - alpha)^k <= level; 36 for .1 and .025. Half are kept."""
    assert labels_needed(1.0, 0.0, 0.1, 0.025) == math.ceil(math.log(0.025) / math.log(0.9)) == 36
    assert labels_needed(0.5, 0.0, 0.1, 0.025) == 72
    assert math.isnan(labels_needed(0.5, 0.1, 0.1, 0.025))
    assert labels_needed(1.0, 0.05, 0.1, 0.025) > 100


def test_as_many_labels_as_are_said_to_be_needed_do() -> None:
    few = promise(torch.rand(20), torch.zeros(20, dtype=torch.bool), torch.rand(500), 0.05, 0.1)
    assert few.abstains
    enough = int(few.needed)
    many = promise(torch.rand(enough * 2), torch.zeros(enough * 2, dtype=torch.bool), torch.rand(500), 0.05, 0.1)
    assert not many.abstains


def test_samples_without_a_score_are_never_kept() -> None:
    scores = torch.tensor([math.nan] * 50 + [1.0] * 50)
    made = promise(scores, torch.zeros(100, dtype=torch.bool), scores, 0.1, 0.1)
    assert made.labelled == 50
    assert made.share == 0.5


@pytest.mark.parametrize(("alpha", "delta", "name"), [(0.0, 0.1, "alpha"), (1.0, 0.1, "alpha"), (0.1, 1.5, "delta")])
def test_shares_outside_their_range_are_refused(alpha: float, delta: float, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        promise(torch.rand(9), torch.zeros(9, dtype=torch.bool), torch.rand(9), alpha, delta)


def test_labels_must_be_as_many_as_scores() -> None:
    with pytest.raises(ValueError, match="9 scores and bad has 8"):
        promise(torch.rand(9), torch.zeros(8, dtype=torch.bool), torch.rand(9), 0.1, 0.1)


def test_thresholds_need_samples_without_labels() -> None:
    with pytest.raises(ValueError, match="unlabelled is empty"):
        promise(torch.rand(9), torch.zeros(9, dtype=torch.bool), torch.rand(0), 0.1, 0.1)


def test_labelled_samples_are_drawn_without_repeats() -> None:
    drawn = draw_labelled(100, 30, torch.Generator().manual_seed(0))
    assert int(drawn.sum()) == 30
    assert drawn.shape == (100,)
    assert int(draw_labelled(10, 30, torch.Generator()).sum()) == 10


def test_what_abstains_keeps_nothing() -> None:
    assert Promise(0.1, 0.1, math.nan, 0.0, 0, 0, math.nan).abstains
