"""Values without their intervals are the same values."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.harness.core.protocols import Estimate
from assay.metrics import neighbours as of_balls
from assay.metrics.alpha_precision import alpha_precision, beta_recall
from assay.metrics.frechet import frechet_distance
from assay.metrics.kernel import cmmd, kernel_distance
from assay.metrics.kernels.alone import values_alone
from assay.metrics.probabilistic import probabilistic_precision, probabilistic_recall
from assay.metrics.sliced import sliced_distance
from assay.metrics.topological import topological_precision, topological_recall

COUNTED: tuple[Callable[..., Estimate], ...] = (
    of_balls.precision,
    of_balls.recall,
    of_balls.density,
    of_balls.coverage,
    of_balls.authenticity,
    of_balls.symmetric_precision,
    of_balls.symmetric_recall,
    of_balls.precision_cover,
    of_balls.recall_cover,
    of_balls.clipped_density,
    of_balls.clipped_coverage,
    of_balls.recall,
    partial(of_balls.precision, k=1),
    partial(of_balls.precision_cover, k=8),
    partial(of_balls.density, strict=True),
    alpha_precision,
    beta_recall,
    frechet_distance,
    topological_precision,
    topological_recall,
)
SUMMED: tuple[Callable[..., Estimate], ...] = (
    probabilistic_precision,
    probabilistic_recall,
    kernel_distance,
    partial(kernel_distance, block=30),
    partial(cmmd, bandwidth=1.0),
    sliced_distance,
)
"""Whose terms are added in another order, or with logarithms of other vector lengths."""


def sets(ties: bool) -> tuple[Tensor, Tensor]:
    """Generated and real samples; with ties they lie on a grid, have duplicates and share rows."""
    generator = torch.Generator().manual_seed(0)
    y, x = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (90, 80))
    if ties:
        y, x = (3 * y).round() / 3, (3 * x).round() / 3
        y[:9], x[:5] = x[20:29], x[30:35]
    return y, x


@pytest.mark.parametrize("ties", [False, True])
def test_values_alone_are_the_same_values(ties: bool) -> None:
    y, x = sets(ties)
    whole = [function(y, x) for function in (*COUNTED, *SUMMED)]
    with values_alone():
        alone = [function(y, x) for function in (*COUNTED, *SUMMED)]
    again = [function(y, x) for function in (*COUNTED, *SUMMED)]  # the same tensors: nothing is taken for the other
    count = len(COUNTED)
    assert [one.value for one in alone[:count]] == [one.value for one in whole[:count]]
    for one, other in zip(alone[count:], whole[count:], strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-12, abs=1e-12)
    assert again == whole
    assert all(math.isnan(one.interval[0]) for one in (*alone[:15], alone[-1]))
    assert [(one.n, one.missing) for one in alone] == [(one.n, one.missing) for one in whole]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("options", [{}, {"k": 3}, {"k": 20}])
def test_scores_alone_are_the_same_scores(ties: bool, options: dict[str, Any]) -> None:
    y, x = sets(ties)
    for score in (of_balls.realism, of_balls.rarity, partial(of_balls.realism, prune=False)):
        whole = score(y, x, **options)
        with values_alone():
            alone = score(y, x, **options)
        assert torch.equal(alone.nan_to_num(-1), whole.nan_to_num(-1))


@pytest.mark.parametrize("count", [2, 4, 7, 14])
def test_few_generated_samples_alone(count: int) -> None:
    """Fewer than have the neighbours of the pass that serves all k."""
    y, x = sets(False)
    y = y[:count]
    metrics = [of_balls.precision, of_balls.density, of_balls.coverage, partial(of_balls.coverage, k=20)]
    metrics += [of_balls.recall] if count > 5 else []
    whole = [function(y, x).value for function in metrics]
    with values_alone():
        assert [function(y, x).value for function in metrics] == whole
