"""Edits along directions: linear models, curves with one maximum, rank correlation along curves, and when to stop."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from assay.generators.sampling.editing import agreement, attribute_direction, one_maximum, stops


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_direction_is_the_slope_of_a_linear_attribute() -> None:
    """Latents of unequal spread: the slope, not the correlation with each coordinate, is the way to go."""
    z = rows(2000, 3) * torch.tensor([3.0, 1.0, 0.1])
    slope = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    found = attribute_direction(z, z @ slope + 5)
    torch.testing.assert_close(found.unit, slope / 3, atol=0.02, rtol=0)  # the ridge holds back the third
    assert found.scale == pytest.approx(float((z @ found.unit).std()))
    assert found.fit == pytest.approx(1, abs=1e-3)


def test_the_fit_is_that_of_what_the_model_has_not_seen() -> None:
    """Noise of the variance of the signal: R^2 is 1/2; noise alone: below 0."""
    z = rows(4000, 5)
    assert attribute_direction(z, z[:, 0] + rows(4000, seed=1)).fit == pytest.approx(0.5, abs=0.05)
    assert attribute_direction(z, rows(4000, seed=2)).fit < 0


def test_what_has_no_value_is_left_out_and_what_has_no_direction_refused() -> None:
    z = rows(100, 2)
    attribute = z[:, 0].clone()
    attribute[::2] = torch.nan
    torch.testing.assert_close(attribute_direction(z, attribute).unit, attribute_direction(z[1::2], z[1::2, 0]).unit)
    for bad in (torch.ones(100), torch.full((100,), torch.nan)):
        with pytest.raises(ValueError, match=r"the attribute has (100|0) values; a direction needs 10 or more"):
            attribute_direction(z, bad)


def test_one_maximum_by_counting() -> None:
    """Of the 120 orders of five values, 2^4 rise to the largest and fall from it."""
    curves = torch.tensor(list(itertools.permutations(range(5))), dtype=torch.float64)
    assert int(one_maximum(curves).sum()) == 16
    flat = torch.tensor([[0.0, 1, 1, 0], [1, 1, 1, 1], [0, 1, 0, 0], [1, 0, 0, 1]])
    assert one_maximum(flat).tolist() == [True, True, True, False]


def test_agreement_is_spearmans_of_every_row() -> None:
    a, b = rows(6, 9), rows(6, 9, seed=1)
    b[0] = (b[0] > 0).double()  # ties
    expected = [spearmanr(x, y).statistic for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    np.testing.assert_allclose(agreement(a, b).numpy(), expected, atol=1e-12)
    b[1], a[2, 3] = 4.0, torch.nan
    assert agreement(a, b).isnan().tolist() == [False, True, True, False, False, False]


def test_walks_stop_where_their_scores_have_fallen_equally_far() -> None:
    """One walk falls twice as fast as the other: at the same fall the other has gone twice as far."""
    at = torch.arange(9, dtype=torch.float64)
    scores, change = -torch.stack([2 * at, at]), torch.stack([at, at])
    assert stops(scores, change, 3.0).tolist() == [2, 4]
    assert stops(scores, change, 0.0).tolist() == [0, 0]
    assert stops(scores, change, 99.0).tolist() == [8, 8]


def test_a_walk_does_not_go_on_through_a_valley_or_past_what_has_no_score() -> None:
    scores = torch.tensor([[0.0, -9, 0, 0, 0], [0, 0, -1, -1, -1], [0, 0, math.nan, 0, 0]])
    change = torch.arange(5.0).expand(3, 5)
    assert stops(scores, change, 5 / 3).tolist() == [0, 4, 1]
    none = torch.full((2, 5), math.nan)
    assert stops(none, change[:2], 2.0).tolist() == [0, 0]


def test_a_score_that_knows_how_quality_falls_stops_at_better_samples() -> None:
    """Quality falls by a rate of each walk; stopping by it beats half the way, stopping at random does not."""
    rate = rows(500, seed=3).abs()[:, None]
    at = torch.arange(9, dtype=torch.float64)
    quality, change = -rate * at, at.expand(500, 9)
    stopped = stops(quality, change, 4.0)
    gain = quality.gather(1, stopped[:, None])[:, 0] - quality[:, 4]
    assert float(gain.mean()) > 0.5
    assert float(change.gather(1, stopped[:, None]).mean()) == pytest.approx(4, abs=0.05)
    blind = stops(rows(500, 9, seed=4), change, 4.0)
    loss = quality.gather(1, blind[:, None])[:, 0] - quality[:, 4]
    assert abs(float(loss.mean())) < 4 * float(loss.std()) / 500**0.5
