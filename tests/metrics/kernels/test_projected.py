"""Neighbours that are found in few coordinates: those of float64 brute force, ties and copies included."""

import pytest
import torch
from torch import Tensor

from assay.metrics.kernels import nearest
from assay.metrics.kernels.projected import directions, projected


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "LARGE", 0)
    monkeypatch.setattr(nearest, "LONG", 16)
    monkeypatch.setattr(nearest, "SPARSE", 3)


def concentrated(n: int, d: int, seed: int, offset: float = 0.0) -> Tensor:
    """Rows most of whose variance lies in few directions, as that of images does."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=torch.Generator().manual_seed(7)) * torch.arange(1, d + 1)[:, None] ** -1.5
    return torch.randn(n, d, generator=generator) @ mix + offset


def brute(a: Tensor, b: Tensor) -> Tensor:
    return (a.double()[:, None] - b.double()[None]).norm(dim=2)


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_no_two_rows_are_farther_apart_than_they_were(offset: float) -> None:
    a, b = concentrated(60, 40, 0, offset), concentrated(90, 40, 1, offset)
    known = directions(b)
    short, shorter = projected(a, *known), projected(b, *known)
    assert short.rows.shape == (60, 6)
    slack = short.error * (short.lengths[:, None] + shorter.lengths[None])
    assert bool((brute(short.rows, shorter.rows) <= brute(a, b) + slack).all())
    assert float(slack.max() / brute(a, b).min()) < 1e-3, "a bound that excludes nothing would pass too"
    squared = short.reach(shorter, brute(a, b).amin(1))
    assert bool((brute(short.rows, shorter.rows).square().amin(1) <= squared).all())


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_neighbours_are_exact(k: int, offset: float) -> None:
    a, b = concentrated(300, 40, 0, offset), concentrated(500, 40, 1, offset)
    found = nearest._by_projection(a, b, k, nearest.by_content(b))
    assert found is not None
    expected = brute(a, b).topk(k, largest=False)
    torch.testing.assert_close(found.distances, expected.values, rtol=1e-12, atol=0)
    assert torch.equal(found.indices, expected.indices)


def test_ties_are_broken_as_without_a_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers and copies: most rows have several neighbours at one distance."""
    b = (2 * concentrated(200, 24, 1)).round()
    b, a = torch.cat([b, b[:70]]), (2 * concentrated(150, 24, 0)).round()
    a[:30] = b[:30]
    prefer = torch.rand(len(b), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert nearest._by_projection(a, b, 3, lambda: prefer) is not None
    found = [nearest.nearest(a, b, 3, prefer)]
    monkeypatch.setattr(nearest, "LONG", 1000)
    found += [nearest.nearest(a, b, 3, prefer)]
    assert torch.equal(found[0].distances, found[1].distances)
    assert torch.equal(found[0].indices, found[1].indices)
    assert bool((found[0].distances.diff(dim=1) == 0).any()), "without ties there is nothing to break"


def test_directions_that_exclude_little_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(100, 40, generator=generator), torch.randn(400, 40, generator=generator)
    monkeypatch.setattr(nearest, "FEW", 30)
    assert nearest._by_projection(a, b, 1, nearest.by_content(b)) is None
    expected = brute(a, b).min(dim=1)
    found = nearest.nearest(a, b, 1)
    torch.testing.assert_close(found.distances[:, 0], expected.values, rtol=1e-12, atol=0)
    assert torch.equal(found.indices[:, 0], expected.indices)


@pytest.mark.parametrize(("rows", "dimension", "taken"), [(200, 40, True), (100, 40, False), (900, 80, False)])
def test_no_covariance_of_very_long_or_few_rows(
    rows: int, dimension: int, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of volumes of 32³ points took 8.6 GB and ended the process; that of few rows costs more than their pairs."""
    monkeypatch.setattr(nearest, "WIDE", 64)
    asked = list[int]()
    monkeypatch.setattr(nearest, "directions", lambda x: asked.append(x.shape[1]) or directions(x))
    a, b = concentrated(rows, dimension, 0), concentrated(rows, dimension, 1)
    found = nearest.nearest(a, b, 1)
    assert asked == [dimension] * taken
    assert torch.equal(found.indices[:, 0], brute(a, b).argmin(1))
