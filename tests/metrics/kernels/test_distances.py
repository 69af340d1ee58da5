"""Blocked distances and neighbours against float64 brute force, across block borders and where float32 is blind."""

import pytest
import torch
from torch import Tensor

from assay.metrics.kernels import distances
from assay.metrics.kernels.distances import below, paired_distances, smallest, squared_distance_tiles
from assay.metrics.kernels.nearest import nearest, nearest_others


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "BLOCK", 64)
    monkeypatch.setattr(distances, "PANEL", 128)
    monkeypatch.setattr(distances, "CACHED", 1000)


def brute(a: Tensor, b: Tensor) -> Tensor:
    return (a.double()[:, None] - b.double()[None]).norm(dim=2)


@pytest.mark.parametrize("sizes", [(1, 1), (63, 129), (200, 300), (256, 128)])
@pytest.mark.parametrize("offset", [0, 1000])
def test_tiles_cover_the_cross_distances_once(sizes: tuple[int, int], offset: float) -> None:
    a, b = gauss(sizes[0], 7) + offset, gauss(sizes[1], 7, seed=1) + offset
    full = torch.full(sizes, torch.nan)
    for rows, columns, values, mirrored in squared_distance_tiles(a, b, scale=-0.5):
        assert not mirrored
        valid = values[: rows.stop - rows.start, : columns.stop - columns.start]
        assert full[rows, columns].isnan().all()
        full[rows, columns] = valid
        assert (values == -torch.inf).sum() == values.numel() - valid.numel()
    torch.testing.assert_close(full.double(), -0.5 * brute(a, b).square(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [2, 64, 65, 129, 300])
def test_tiles_within_a_set_cover_each_pair_once_and_never_self(n: int) -> None:
    x = gauss(n, 5)
    full = torch.full((n, n), torch.nan)
    for rows, columns, values, mirrored in squared_distance_tiles(x):
        valid = values[: rows.stop - rows.start, : columns.stop - columns.start]
        assert full[rows, columns].isnan().all()
        full[rows, columns] = valid
        if mirrored:
            assert full[columns, rows].isnan().all()
            full[columns, rows] = valid.T
    expected = brute(x, x).square().fill_diagonal_(torch.inf)
    torch.testing.assert_close(full.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k", [1, 5, 12])
@pytest.mark.parametrize("n", [14, 130, 301])
def test_nearest_neighbours_are_exact(n: int, k: int) -> None:
    x, y = gauss(n, 6), gauss(77, 6, seed=3)
    others = brute(x, x).fill_diagonal_(torch.inf).topk(k, largest=False)
    found = nearest_others(x, k)
    torch.testing.assert_close(found.distances, others.values, rtol=1e-14, atol=0)
    assert torch.equal(found.indices, others.indices)
    cross = brute(y, x).topk(k, largest=False)
    found = nearest(y, x, k)
    torch.testing.assert_close(found.distances, cross.values, rtol=1e-14, atol=0)
    assert torch.equal(found.indices, cross.indices)


def test_self_is_excluded_by_index_and_copies_are_at_distance_zero() -> None:
    x = gauss(20, 4).repeat_interleave(3, 0) + 100
    found = nearest_others(x, 3)
    assert (found.distances[:, :2] == 0).all()
    assert (found.distances[:, 2] > 0).all()
    assert (found.indices != torch.arange(60)[:, None]).all()


def test_clusters_too_tight_for_float32_are_told_apart() -> None:
    # 40 points 1e-5 apart at distance 10 from the mean: float32 products see one point.
    cluster = torch.zeros(40, 3)
    cluster[:, 0] = torch.arange(40) * 1e-5
    x = torch.cat([cluster - 10, gauss(100, 3, seed=2) + 10])
    others = brute(x, x).fill_diagonal_(torch.inf).topk(5, largest=False).values
    torch.testing.assert_close(nearest_others(x, 5).distances, others, rtol=1e-12, atol=0)


def test_below_finds_every_entry_in_both_memory_orders() -> None:
    values = gauss(96, 64)
    threshold = torch.linspace(-5, 1, 96)
    rows, columns = below(values, threshold)
    expected = (values < threshold[:, None]).nonzero()
    found = torch.stack([rows, columns], 1)
    assert torch.equal(found[(found[:, 0] * 64 + found[:, 1]).argsort()], expected)
    rows, columns = below(values.T, torch.full((64,), -2.0))
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
        tuple(p) for p in (values.T < -2).nonzero().tolist()
    }


def test_paired_distances() -> None:
    a, b = gauss(30, 400) + 1000, gauss(20, 400, seed=1) + 1000
    i, j = torch.arange(30).repeat_interleave(20), torch.arange(20).repeat(30)
    torch.testing.assert_close(paired_distances(a, b, i, j).view(30, 20), brute(a, b), rtol=1e-14, atol=0)


def test_lower_precision_allowed_by_the_caller_is_not_used() -> None:
    x, y = gauss(100, 300), gauss(50, 300, seed=1)
    expected = nearest(y, x, 3)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = nearest(y, x, 3)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found.distances, expected.distances)


def test_values_beyond_float32_are_refused_in_tiles_and_scaled_for_neighbours() -> None:
    a, b = gauss(5, 3) * 1e25, gauss(5, 3)
    with pytest.raises(ValueError, match="overflow"):
        next(squared_distance_tiles(a, b))
    torch.testing.assert_close(nearest(a, b, 1).distances, brute(a, b).amin(1)[:, None], rtol=1e-14, atol=0)


@pytest.mark.parametrize("dimension", [1, 8, 300, 2048, 5000])
@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiles_of_lower_bounds_are_below_and_within_the_stated_error(
    dimension: int, offset: float, dtype: torch.dtype
) -> None:
    spectrum = torch.arange(1, dimension + 1) ** -0.8
    a, b = (gauss(150, dimension, seed=seed).to(dtype) * spectrum + offset for seed in (0, 1))
    a[:5] *= 20  # outliers
    b[:3] = a[10:13]  # copies
    b[3] = a[20] + 1e-3
    centre = distances.mean_of(b)
    norms = [distances.centred_norms(s, centre.to(dtype)) for s in (a, b)]
    error = distances.rounding(dtype, dimension)
    for rows, columns, values, _ in squared_distance_tiles(a, b, centre=centre, lower=True):
        exact = brute(a[rows], b[columns]).square()
        bounds = values[: len(exact), : exact.shape[1]].double()
        assert (bounds <= exact).all()
        assert (exact <= bounds + 2 * error * (norms[0][rows, None] + norms[1][columns])).all()


@pytest.mark.parametrize("k", [1, 3])
def test_ties_are_broken_by_content(k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 3, (150, 3), generator=generator).float().unique(dim=0)
    y = torch.randint(0, 6, (40, 3), generator=generator) / 2
    expected = x[nearest(y, x, k).indices]
    for _ in range(5):
        shuffled = x[torch.randperm(len(x), generator=generator)]
        assert torch.equal(shuffled[nearest(y, shuffled, k).indices], expected)
    preferred = -x.sum(1)
    found = nearest(y, x, 1, prefer=preferred).indices.squeeze(1)
    tied = brute(y, x) == brute(y, x).amin(1, keepdim=True)
    assert torch.equal(preferred[found], preferred.where(tied, torch.inf).amin(1))


@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_smallest_entries_are_those_of_a_sort(k: int, transposed: bool) -> None:
    values = gauss(96, 128) if not transposed else gauss(128, 96).T
    values[:, 100:] = torch.inf  # padding
    values[5, :40] = -3 + values[5, :40] / 100  # many small ones in one row
    found, columns = smallest(values, k)
    expected = values.sort(dim=1)
    assert torch.equal(found, expected.values[:, :k])
    assert torch.equal(columns, expected.indices[:, :k])
