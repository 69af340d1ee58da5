"""The logit of a discriminator: one for each sample, or the mean over patches."""

import numpy as np
import pytest
import torch

from assay.metrics.discriminator import discriminator_logit


def test_logits_are_taken_as_they_are_and_those_of_patches_are_averaged() -> None:
    assert discriminator_logit(torch.tensor([[1.5], [-2.0]])).tolist() == [1.5, -2]
    patches = torch.tensor([10.0, -9, -9, -9]).view(1, 1, 2, 2)
    assert discriminator_logit(patches).tolist() == [-4.25]
    assert discriminator_logit(patches[..., :1].numpy()).tolist() == [0.5]


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 2), (4, 2, 2)])
def test_several_logits_a_sample_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"fake has shape .*; give one number for each sample, \[N, 1\]"):
        discriminator_logit(np.ones(shape))
