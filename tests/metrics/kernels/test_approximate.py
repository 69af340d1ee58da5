"""The faiss backend: the exact scores where it looks everywhere, a measured recall, and what it says without faiss."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.metrics.kernels import approximate
from assay.metrics.kernels.approximate import approximate_nearest
from assay.metrics.kernels.nearest import nearest, nearest_others
from assay.metrics.neighbours import authenticity, clipped_coverage, coverage

METRICS = [coverage, clipped_coverage, authenticity]


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_without_faiss_the_error_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    for metric in METRICS:
        with pytest.raises(ValueError, match=r"needs faiss: pip install 'assay\[cpu\]'"):
            metric(gauss(30, 3), gauss(40, 3, seed=1), backend="faiss")


@pytest.mark.parametrize("metric", METRICS)
def test_an_unknown_backend_is_told_the_known_ones(metric: Any) -> None:
    with pytest.raises(ValueError, match="backend is 'annoy'; it must be 'exact' or 'faiss'"):
        metric(gauss(30, 3), gauss(40, 3), backend="annoy")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("offset", [0, 1000])
def test_looking_into_every_group_gives_the_exact_score(metric: Any, offset: float) -> None:
    fake, real = 0.9 * gauss(700, 8) + offset, gauss(900, 8, seed=1) + offset  # 26 and 30 groups
    found = metric(fake, real, backend="faiss")
    assert found["search_recall"].value == 1
    assert found[metric.__name__].value == metric(fake, real).value
    assert set(found) == {metric.__name__, "search_recall"}


def test_duplicates_are_found_and_self_is_not() -> None:
    x = gauss(300, 4).repeat_interleave(3, 0)
    found = approximate_nearest(x, None, 3)
    assert (found.indices != torch.arange(900)[:, None]).all()
    torch.testing.assert_close(found.distances, nearest_others(x, 3).distances, rtol=1e-12, atol=1e-12)


def test_recall_is_the_share_of_true_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "PROBES", 1)
    monkeypatch.setattr(approximate, "CHECKED", 500)
    queries, reference = gauss(500, 16), gauss(4000, 16, seed=1)
    found, true = approximate_nearest(queries, reference, 5), nearest(queries, reference, 5)
    hits = (found.indices[:, :, None] == true.indices[:, None, :]).any(2).double().mean().item()
    assert found.recall.value == pytest.approx(hits, abs=1e-12)
    assert 0.05 < hits < 0.9
    torch.testing.assert_close(  # what is found is at its exact distance
        found.distances, (queries.double()[:, None] - reference.double()[found.indices]).norm(dim=2), rtol=1e-9, atol=0
    )


def test_rows_with_too_few_candidates_are_searched_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "PROBES", 1)
    x = torch.cat([gauss(200, 3), gauss(2, 3, seed=1) + 1000])
    found = approximate_nearest(x, None, 4)
    assert torch.isfinite(found.distances).all()
    torch.testing.assert_close(found.distances[-2:], nearest_others(x, 4).distances[-2:], rtol=1e-9, atol=0)
