"""Values without their intervals are the same values."""

import torch

from assay.metrics.alpha_precision import alpha_precision, beta_recall
from assay.metrics.kernels.alone import values_alone
from assay.metrics.neighbours import coverage, precision, symmetric_recall
from assay.metrics.probabilistic import probabilistic_precision


def test_values_alone_are_the_same_values() -> None:
    metrics = (precision, coverage, symmetric_recall, probabilistic_precision, alpha_precision, beta_recall)
    y, x = torch.randn(2, 80, 4, generator=torch.Generator().manual_seed(0))
    whole = [function(y, x) for function in metrics]
    with values_alone():
        alone = [function(y.clone(), x.clone()) for function in metrics]
    again = [function(y.clone(), x.clone()) for function in metrics]
    assert [one.value for one in alone] == [one.value for one in whole]
    assert again == whole
    assert all(one.interval != other.interval for one, other in zip(alone, whole, strict=True))
