"""Quality signals on logits and distances with known answers."""

import math

import pytest
import torch

from assay.metrics.quality import judge_confidence, judge_entropy, nearest_feature, nearest_pixel, predicted_class


def test_a_sure_and_an_undecided_judge() -> None:
    logits = torch.tensor([[100.0, 0, 0, 0], [1, 1, 1, 1], [0, 0, math.log(2), 0]])
    assert judge_confidence(logits).tolist() == pytest.approx([1, 0.25, 0.4])
    expected = -(3 * 0.2 * math.log(0.2) + 0.4 * math.log(0.4))
    assert judge_entropy(logits).tolist() == pytest.approx([0, math.log(4), expected])
    assert predicted_class(logits)[[0, 2]].tolist() == [0, 2]


def test_large_logits_do_not_overflow() -> None:
    logits = torch.tensor([[3e38, -3e38]])
    assert judge_confidence(logits).item() == 1
    assert judge_entropy(logits).item() == 0


def test_nearest_is_a_distance_and_zero_for_copies() -> None:
    held = torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    moved = held[:5].clone()
    moved[:, 0, 0, 0] += 3
    assert nearest_pixel(held[:5].clone(), held).tolist() == [0] * 5
    expected = torch.cdist(moved.flatten(1).double(), held.flatten(1).double()).amin(1)
    torch.testing.assert_close(nearest_feature(moved.flatten(1), held.flatten(1)), expected, rtol=1e-7, atol=0)


def test_one_logit_is_no_judge() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        judge_confidence(torch.zeros(3, 1))
