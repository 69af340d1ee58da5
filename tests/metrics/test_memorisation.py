"""The memorisation-informed Fréchet distance, against closed forms and a slow version in numpy."""

import math

import numpy as np
import pytest
import torch

from assay.metrics.frechet import frechet_distance
from assay.metrics.memorisation import memorisation_informed_frechet, mifid


def slow(fake: np.ndarray, real: np.ndarray, threshold: float) -> float:
    """The penalty of the definition, in loops."""
    terms = []
    for x in real[real.sum(1) != 0]:
        cosines = [abs(x @ y) / math.sqrt((x @ x) * (y @ y)) for y in fake[fake.sum(1) != 0]]
        terms.append(1 - max(cosines))
    penalty = float(np.mean(terms))
    distance = float(frechet_distance(fake, real))
    return distance / (penalty + 1e-14) if penalty < threshold else distance


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(40, 60, 3), (60, 30, 2), (50, 50, 8)])
def test_it_is_the_slow_version(shape: tuple[int, int, int], threshold: float) -> None:
    rng = np.random.default_rng(sum(shape))
    fake, real = rng.standard_normal((shape[0], shape[2])) + 0.5, rng.standard_normal((shape[1], shape[2]))
    fake[3], real[5] = 0, 0
    found = memorisation_informed_frechet(fake, real, threshold=threshold)
    assert found.value == pytest.approx(slow(fake, real, threshold), rel=1e-9)
    assert found.interval[0] <= found.value <= found.interval[1]


def test_lines_through_the_origin_have_a_closed_form() -> None:
    """All real rows on one line, all generated ones at an angle of acos .95 to it: m = .05."""
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [-2.0, 0.0]], dtype=torch.float64)
    y = x[:, :1] * torch.tensor([0.95, math.sqrt(1 - 0.95**2)], dtype=torch.float64)
    distance = float(frechet_distance(y, x))
    assert float(memorisation_informed_frechet(y, x)) == pytest.approx(distance / 0.05, rel=1e-9)
    assert float(memorisation_informed_frechet(y, x, threshold=0.04)) == pytest.approx(distance, rel=1e-12)


def test_copies_are_punished_unless_all_are() -> None:
    """Copies of half of the real rows have a smaller Fréchet distance than new samples, and a larger score."""
    rng = np.random.default_rng(0)
    real = rng.standard_normal((200, 3))
    new, copies = rng.standard_normal((100, 3)), real[:100]
    punished, fresh = memorisation_informed_frechet(copies, real), memorisation_informed_frechet(new, real)
    assert punished.value / float(frechet_distance(copies, real)) > fresh.value / float(frechet_distance(new, real))
    assert memorisation_informed_frechet(real, real)[:2] == (0, (0, 0))


def test_what_has_no_cosine_is_refused() -> None:
    rows = np.random.default_rng(0).standard_normal((5, 2))
    with pytest.raises(ValueError, match="real has no row whose entries add up to other than 0"):
        memorisation_informed_frechet(rows, np.array([[1.0, -1.0], [2.0, -2.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="2048"):
        mifid(rows, rows)
