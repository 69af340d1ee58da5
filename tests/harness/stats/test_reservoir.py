"""A reservoir keeps a uniform sample, whatever the batches are and however many processes see them."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from assay.harness.stats.reservoir import Reservoir


def kept(reservoir: Reservoir) -> list[int]:
    assert reservoir.rows is not None
    return [int(row) for row in reservoir.rows[:, 0]]


def filled(size: int, count: int, batch: int, stream: int = 5, first: int = 0) -> Reservoir:
    reservoir = Reservoir(size, stream)
    for part in torch.arange(first, first + count, dtype=torch.float64)[:, None].split(batch):
        reservoir.add(part)
    return reservoir


@pytest.mark.parametrize("batch", [1, 7, 64, 300])
def test_batches_change_nothing(batch: int) -> None:
    assert kept(filled(20, 300, batch)) == kept(filled(20, 300, 300))
    assert kept(filled(300, 300, batch)) == list(range(300))
    assert filled(300, 300, batch).complete
    assert not filled(299, 300, batch).complete


def test_places_keep_together_what_one_keeps() -> None:
    """Rows dealt to three places, unevenly at the end, one of which got nothing more."""
    rows = torch.arange(200.0)[:, None]
    whole = Reservoir(30, 5)
    for place in (2, 0, 1):
        part = Reservoir(30, 5)
        for batch in rows[place::3].split(11):
            part.add(batch, place, 3)
        whole.join(part)
    assert whole.seen == 200
    assert kept(whole) == kept(filled(30, 200, 50))


def test_what_is_merged_and_complete_is_as_if_seen_next() -> None:
    one = filled(20, 100, 9)
    one.merge(filled(20, 15, 4, first=100))
    assert kept(one) == kept(filled(20, 115, 115))


def test_each_row_is_equally_likely_to_be_kept() -> None:
    """In a stream, and in a merge of an overflowed part of 60 rows into one of 140.

    False alarms: each of 2 chi-square tests at 1e-6. Counts of one reservoir repel each other, which makes them rarer.
    """
    streamed, merged = np.zeros(200), np.zeros(200)
    for stream in range(1000):
        streamed[kept(filled(20, 200, 37, stream))] += 1
        one = filled(20, 140, 140, stream)
        one.merge(filled(20, 60, 60, stream, first=140))
        assert one.seen == 200
        merged[kept(one)] += 1
    for counts in (streamed, merged):
        assert counts.sum() == 20 * 1000
        assert chisquare(counts).pvalue > 1e-6


def test_values_are_kept_as_they_are() -> None:
    """A later batch in float64 makes float32 rows float64; a state goes on as if nothing had happened."""
    reservoir = Reservoir(4, 0)
    reservoir.add(torch.tensor([[0.1]]))
    reservoir.add(torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64))
    assert reservoir.rows is not None
    assert reservoir.rows[:, 0].tolist() == [float(np.float32(0.1)), 0.1, 0.2, 0.3]
    again = Reservoir(4, 0)
    state = reservoir.state()
    before = state["rows"].clone()
    again.load(state)
    for one in (again, reservoir):
        one.add(torch.arange(9.0)[:, None])
    assert kept(again) == kept(reservoir)
    assert again.rows is not None
    assert len(again.rows) == 4
    assert torch.equal(state["rows"], before)


def test_size_zero_counts_alone() -> None:
    reservoir = filled(0, 10, 3)
    assert (reservoir.seen, reservoir.rows, reservoir.complete) == (10, None, False)
