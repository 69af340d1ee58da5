"""Distances between shapes and the set metrics on them: closed forms, slow versions, and examples by hand."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.harness.core.registry import EXTRACTORS, discover
from assay.harness.shapes.surfaces import grid, to_volume, voxel
from assay.metrics import shapes
from assay.metrics.frechet import frechet_distance
from assay.metrics.shape_signals import COLUMNS, eikonal, signals_of
from assay.metrics.shapes import (
    chamfer,
    coverage,
    earth_mover,
    minimum_matching_distance,
    nearest_shape,
    one_nn_accuracy,
    shading_distance,
)

discover()


def clouds(count: int, points: int, seed: int) -> Tensor:
    return torch.randn(count, points, 3, generator=torch.Generator().manual_seed(seed))


def dots(*places: float) -> Tensor:
    """Clouds of one point each, on the x axis: their Chamfer distance is twice the squared distance."""
    return torch.tensor([[[x, 0.0, 0.0]] for x in places])


def directions(count: int) -> Tensor:
    return torch.nn.functional.normalize(clouds(1, count, 7)[0], dim=1)


def test_chamfer_is_its_formula() -> None:
    fake, real = clouds(5, 40, 0), clouds(4, 40, 1)
    expected = torch.empty(5, 4, dtype=torch.float64)
    for i, j in itertools.product(range(5), range(4)):
        squared = (fake[i].double()[:, None] - real[j].double()[None]).square().sum(2)
        expected[i, j] = squared.amin(1).mean() + squared.amin(0).mean()
    torch.testing.assert_close(chamfer(fake, real).double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(chamfer(fake.double(), real.double()), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tile", [1, 7, 100, 1 << 20])
def test_chamfer_does_not_depend_on_its_tiles(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, real = clouds(3, 11, 0).double(), clouds(5, 11, 1).double()
    whole = chamfer(fake, real)
    monkeypatch.setitem(shapes.TILE, "cpu", tile)
    torch.testing.assert_close(chamfer(fake.clone(), real), whole)


def test_chamfer_of_solids() -> None:
    """Where the nearest point is known: concentric balls, tori of two tubes, and a box moved by less than its grid."""
    u = directions(500)
    assert chamfer(0.5 * u[None], 0.8 * u[None]).item() == pytest.approx(2 * 0.3**2, rel=1e-5)

    around, along = torch.meshgrid(*2 * [torch.arange(24) / 24 * 2 * math.pi], indexing="ij")
    spoke = torch.stack([along.cos(), torch.zeros_like(along), along.sin()], -1).view(-1, 3)
    tube = (around.cos()[..., None] * spoke.view(24, 24, 3)).view(-1, 3)
    tube[:, 1] = around.sin().flatten()
    tori = [(0.6 * spoke + radius * tube)[None] for radius in (0.2, 0.22)]
    assert chamfer(*tori).item() == pytest.approx(2 * 0.02**2, rel=1e-4)

    box = grid(9)[grid(9).abs().amax(1) == 1][None]
    assert chamfer(box, box + torch.tensor([0.0, 0.1, 0.0])).item() == pytest.approx(2 * 0.1**2, rel=1e-4)
    far = box + 1000  # nothing is lost far from the origin
    assert chamfer(far, far + torch.tensor([0.0, 0.125, 0.0])).item() == pytest.approx(2 * 0.125**2, rel=1e-3)


def test_chamfer_within_a_set() -> None:
    x = clouds(6, 30, 0)
    torch.testing.assert_close(chamfer(x, x), chamfer(x, x.clone()), rtol=1e-4, atol=2e-6)
    assert torch.equal(chamfer(x, x), chamfer(x, x).T)
    assert torch.equal(chamfer(x, x).diag(), torch.zeros(6))


def test_earth_mover() -> None:
    fake, real = clouds(2, 5, 0), clouds(3, 5, 1)
    found = earth_mover(fake, real)
    for i, j in itertools.product(range(2), range(3)):
        cost = torch.cdist(fake[i].double(), real[j].double())
        best = min(sum(float(cost[a, b]) for a, b in enumerate(p)) for p in itertools.permutations(range(5)))
        assert found[i, j].item() == pytest.approx(best / 5, rel=1e-6)
    x = clouds(1, 200, 2)  # moving all points by v costs |v|: no other bijection can do better
    assert earth_mover(x, x + torch.tensor([0.3, 0.0, 0.4])).item() == pytest.approx(0.5, rel=1e-6)


def test_an_example_by_hand() -> None:
    real, fake = dots(0, 1, 10), dots(0.1, 0.2, 9)
    assert minimum_matching_distance(fake, real).value == pytest.approx(2 * (0.1**2 + 0.8**2 + 1**2) / 3, rel=1e-5)
    assert coverage(fake, real).value == pytest.approx(2 / 3)  # 0, 0 and 10 are the nearest
    # The nearest of 0, 1, 10 are 0.1, 0.2, 9: all wrong. Of 0.1, 0.2, 9 they are 0.1 → 0 or 0.2, 0.2 → 0.1, 9 → 10.
    assert one_nn_accuracy(dots(0.11, 0.2, 9), real).value == pytest.approx(2 / 6)
    torch.testing.assert_close(nearest_shape(fake, real), 2 * torch.tensor([0.1, 0.2, 1.0]).double() ** 2)
    assert minimum_matching_distance(fake, real, "earth_mover").value == pytest.approx((0.1 + 0.8 + 1) / 3, rel=1e-6)
    assert coverage(fake, real, distance="earth_mover").value == pytest.approx(2 / 3)


def test_one_nn_accuracy_of_copies_and_of_strangers() -> None:
    x = clouds(20, 8, 0)
    assert one_nn_accuracy(x, x.clone()).value == 0
    assert one_nn_accuracy(x, x + 100).value == 1


def test_one_nn_accuracy_of_two_halves() -> None:
    """The interval holds 0.5 in about 95 of 100 draws from one distribution; fewer than 87 has a chance of 5e-4."""
    held, values = 0, []
    for seed in range(100):
        x = clouds(80, 1, seed)
        answer = one_nn_accuracy(x[:40], x[40:])
        values.append(answer.value)
        held += answer.interval[0] <= 0.5 <= answer.interval[1]
    # The expected value is 39/79, since of the 79 others 39 are of one's own set; the mean of 100 varies by 0.007.
    assert np.mean(values) == pytest.approx(39 / 79, abs=0.027)
    assert held >= 87


def test_coverage_and_matching_need_no_equal_sizes() -> None:
    real = clouds(10, 6, 0)
    assert coverage(clouds(3, 6, 1), real).value <= 0.3
    assert coverage(torch.cat([real, real]), real).value == 1
    assert minimum_matching_distance(torch.cat([real, real + 9]), real).value == pytest.approx(0, abs=1e-5)


def test_all_set_metrics_share_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(cloud: Tensor, others: Tensor) -> Tensor:
        calls.append(len(others))
        return torch.cdist(cloud.flatten()[None], others.flatten(1))[0]

    monkeypatch.setitem(shapes.DISTANCES, "chamfer", counted)
    fake, real = clouds(6, 4, 0), clouds(6, 4, 1)
    for metric in (minimum_matching_distance, coverage, nearest_shape):
        metric(fake, real)
    assert calls == [6] * 6
    one_nn_accuracy(fake, real)
    assert calls[6:] == [5, 4, 3, 2, 1, 0] * 2


def test_shading_distance_is_the_mean_over_views() -> None:
    fake, real = (torch.randn(30, 4, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    views = [frechet_distance(fake[:, v], real[:, v]) for v in range(4)]
    found = shading_distance(fake, real)
    assert found.value == pytest.approx(sum(view.value for view in views) / 4)
    assert found.interval[0] <= found.value <= found.interval[1]
    assert shading_distance(real, real.clone()).value == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("shape", [(4, 3), (4, 5, 2), (4, 5, 3, 1)])
def test_what_is_no_cloud_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"fake has shape .* clouds of points are"):
        chamfer(torch.zeros(shape), clouds(4, 5, 0))


def test_bad_input_is_named() -> None:
    bad = clouds(4, 5, 0)
    bad[2, 1, 1] = torch.nan
    with pytest.raises(ValueError, match=r"fake: 1 of 4 rows is not finite.*row 2"):
        minimum_matching_distance(bad, clouds(4, 5, 1))
    with pytest.raises(ValueError, match="distance='hausdorff' must be chamfer or earth_mover"):
        coverage(clouds(4, 5, 0), clouds(4, 5, 1), distance="hausdorff")
    with pytest.raises(ValueError, match="at least 2"):
        one_nn_accuracy(clouds(1, 5, 0), clouds(4, 5, 1))
    with pytest.raises(ValueError, match="real has shape"):
        shading_distance(torch.zeros(4, 2, 3), torch.zeros(4, 6))


def balls(*centres: float, radius: float = 0.25, resolution: int = 32) -> Tensor:
    points = grid(resolution)
    found = [(points - torch.tensor([x, 0.0, 0.0])).norm(dim=1) - radius for x in centres]
    return torch.stack(found).amin(0).view(resolution, resolution, resolution)


def test_signals() -> None:
    two = dict(zip(COLUMNS, signals_of(torch.minimum(balls(-0.5), balls(0.5, radius=0.2))), strict=True))
    assert two["components"] == 2
    assert two["largest_component"] == pytest.approx(0.25**3 / (0.25**3 + 0.2**3), abs=0.03)
    assert two["watertight"] == 1
    assert two["solid_volume"] == pytest.approx(4 / 3 * math.pi * (0.25**3 + 0.2**3), rel=0.05)
    assert two["surface_area"] == pytest.approx(4 * math.pi * (0.25**2 + 0.2**2), rel=0.03)
    assert signals_of(balls(1.0))[COLUMNS.index("watertight")] == 0
    assert signals_of(torch.ones(8, 8, 8)) == [0, 0, 1, 0, 0, 0]
    with pytest.raises(ValueError, match="not finite"):
        signals_of(torch.full((8, 8, 8), torch.nan))


def test_eikonal_residual() -> None:
    points = grid(32)
    plane = (points @ torch.tensor([0.6, 0.8, 0.0])).view(32, 32, 32)
    assert eikonal(plane) == pytest.approx(0, abs=1e-6)
    assert eikonal(1.5 * plane) == pytest.approx(0.25, rel=1e-4)
    assert eikonal(balls(0.0, radius=0.6)) < 2e-3
    assert eikonal(torch.ones(8, 8, 8)) == 0


def test_extractors() -> None:
    volumes = to_volume(torch.stack([balls(0.2, radius=0.6, resolution=20), torch.ones(20, 20, 20)])).clamp(0, 1)
    points = EXTRACTORS["points"].function("any", count=50)(volumes)
    assert points.shape == (2, 50, 3)
    torch.testing.assert_close(points[0].norm(dim=1), torch.full((50,), 0.5), atol=0.01, rtol=0)
    assert not points[1].any()
    in_place = EXTRACTORS["points"].function("any", count=50, radius=0.0)(volumes)
    assert in_place[0].mean(0)[0] == pytest.approx(0.2, abs=0.05)
    signals = EXTRACTORS["signals"].function("any")(volumes)
    assert signals.shape == (2, 6)
    assert signals[:, 0].tolist() == [1, 0]
    shaded = EXTRACTORS["shaded"].function("any", size=8)(volumes)
    assert shaded.shape == (2, 20, 64)
    assert (shaded[0] < 1).any()
    assert (shaded[1] == 1).all()
    for name, bad in (("points", {"count": 0}), ("points", {"radius": -1.0}), ("shaded", {"size": 0})):
        with pytest.raises(ValueError, match=f"extractor.{name}"):
            EXTRACTORS[name].function("any", **bad)


def test_a_voxel_more_or_less_is_seen() -> None:
    """Chamfer distances of isosurfaces follow the shape: concentric balls, to the accuracy of points on them."""
    extract = EXTRACTORS["points"].function("any", count=2000, radius=0.0)
    volumes = to_volume(torch.stack([balls(0.0, radius=r) for r in (0.5, 0.6)])).clamp(0, 1)
    found = extract(volumes)
    spacing = 4 * math.pi * 0.55**2 / 2000 / math.pi  # the mean squared distance to the nearest of random points
    assert chamfer(found[:1], found[1:]).item() == pytest.approx(2 * 0.1**2 + 2 * spacing, abs=spacing)
    assert voxel(32) > spacing


def by_differences(fake: Tensor, real: Tensor) -> Tensor:
    squared = (fake.double()[:, None, :, None] - real.double()[None, :, None, :]).square().sum(4)
    return squared.amin(3).mean(2) + squared.amin(2).mean(2)


@pytest.mark.parametrize(("scale", "offset"), [(5e-3, 100.0), (1e-5, 0.0), (1e-22, 0.0), (1e16, 0.0), (1e22, 0.0)])
def test_chamfer_is_accurate_relative_to_itself(scale: float, offset: float) -> None:
    fake, real = clouds(3, 50, 0) * scale + offset, clouds(4, 50, 1) * scale + offset
    torch.testing.assert_close(chamfer(fake, real), by_differences(fake, real), rtol=1e-6, atol=0)
    assert (chamfer(fake, fake.clone()).diagonal() == 0).all()
    assert (earth_mover(fake, fake.clone()).diagonal() == 0).all()


def test_autocast_does_not_change_distances() -> None:
    fake, real = clouds(6, 50, 0), clouds(6, 50, 1)
    before = chamfer(fake, real), one_nn_accuracy(fake, real)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(chamfer(fake.clone(), real.clone()), before[0])
        assert one_nn_accuracy(fake.clone(), real.clone()) == before[1]


def test_one_nn_accuracy_draws_its_subset() -> None:
    """Reals sorted by class: the mean over 20 seeds is near 0.5; the first rows alone give over 0.7."""
    fake, real = clouds(80, 1, 0), clouds(160, 1, 1)
    classes = torch.arange(160)[:, None, None] >= 80
    real = real + 5 * classes
    fake = fake + 5 * (torch.arange(80)[:, None, None] % 2)
    found = [one_nn_accuracy(fake, real, seed=seed) for seed in range(20)]
    assert one_nn_accuracy(fake, real[:80]).value > 0.6
    assert np.mean([each.value for each in found]) == pytest.approx(0.5, abs=0.06)
    assert {each.missing for each in found} == {80}
    assert len({each.value for each in found}) > 1


def test_ties_between_shapes_do_not_depend_on_their_order() -> None:
    real = clouds(6, 4, 0).repeat(2, 1, 1)
    fake = torch.cat([clouds(6, 4, 0), clouds(6, 4, 1)])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert coverage(fake, real).value == coverage(fake, real[order]).value == 1
    assert one_nn_accuracy(fake, real).value == pytest.approx(one_nn_accuracy(fake[order], real[order]).value)


def test_the_volume_of_a_solid_that_leaves_the_grid_is_that_within() -> None:
    assert signals_of(torch.full((8, 8, 8), -1.0))[4] == pytest.approx(8, rel=1e-6)


def test_clouds_pass_the_same_check_as_all_arguments() -> None:
    fake, real = (clouds(4, 6, seed).double().numpy() for seed in (0, 1))
    read_only = fake.copy()
    read_only.flags.writeable = False
    forms: list[Any] = [
        torch.tensor(fake, requires_grad=True), fake[:, ::-1], [torch.tensor(cloud) for cloud in fake], read_only,
        fake.astype(">f8"),
    ]  # fmt: skip
    for distance in (chamfer, earth_mover):
        expected = distance(fake, real)
        for form in forms:
            found = distance(form, real)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
            assert not found.requires_grad
    assert not nearest_shape(forms[0], real).requires_grad
    with pytest.raises(ValueError, match="fake has 6 points a cloud, real has 11: sample equally many"):
        chamfer(fake, clouds(4, 11, 0))
