"""Quality signals on logits and distances with known answers."""

import math

import numpy as np
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


def test_probabilities_and_maps_are_no_logits_and_the_fix_that_is_told_works() -> None:
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5]])
    with pytest.raises(ValueError, match=r"fake holds probabilities.* fake\.log\(\)"):
        judge_confidence(p)
    assert judge_confidence(p.log()).tolist() == pytest.approx([0.9, 0.5])
    with pytest.raises(ValueError, match=r"numpy\.log\(fake\.clip\(1e-12\)\)"):
        predicted_class(np.eye(3))
    assert predicted_class(np.log(np.eye(3).clip(1e-12))).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"fake has shape \[2, 3, 4, 4\]; logits are"):
        judge_entropy(torch.zeros(2, 3, 4, 4))


def test_sets_of_different_order_range_and_channels_are_refused() -> None:
    x = torch.rand(9, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = (255 * x).byte()
    for fake, message in (
        (x.permute(0, 2, 3, 1), r"fake has shape \[9, 4, 4, 3\], holdout has \[9, 3, 4, 4\]"),
        (whole, "fake is uint8, holdout is floating"),
        (whole.numpy(), "fake is uint8, holdout is floating"),
        (whole.float(), r"fake is in \[0, 255\], holdout is in \[0, 1\]"),
        (2 * (x - x.amin()) / (x.amax() - x.amin()) - 1, r"fake is in \[-1, 1\], holdout is in \[0, 1\]"),
        (x[:, :1], r"fake has 16 dimensions, holdout has 48: .*dataset\.folder\.mode=L"),
    ):
        with pytest.raises(ValueError, match=message):
            nearest_pixel(fake, x)
    assert nearest_pixel(whole, whole.numpy()).tolist() == [0] * 9
    assert nearest_feature(x[:, :1].permute(0, 2, 3, 1), x[:, :1]).tolist() == [0] * 9  # the same order of values
