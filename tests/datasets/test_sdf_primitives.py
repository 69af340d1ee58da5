"""Procedural shapes: exact distances, what is random and what is not, and that broken shapes are broken."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from assay.datasets.parts.primitives import Part, box, disc, distance, plate, ring, rod, rotation, union, union_on_grid
from assay.datasets.parts.sdf_shapes import RADIUS, STATES, make_shape
from assay.datasets.parts.sdf_styles import CATEGORIES, STYLES, Draws
from assay.datasets.sdf_primitives import SDFPrimitives, sdf_primitives
from assay.harness.core.registry import EXTRACTORS, discover
from assay.harness.shapes.surfaces import component_sizes, grid, isosurface, surface_points, to_sdf, to_volume, voxel
from assay.metrics.shapes import one_nn_accuracy

PARTS = {
    "box": box("a", (0.1, 0.05, 0), (0.5, 0.3, 0.4), 0.05),
    "rod": rod("a", (-0.3, -0.3, 0.1), (0.3, 0.4, 0), 0.3, 0.12),
    "ball": rod("a", (-0.3, -0.3, 0.1), (-0.3, -0.25, 0.1), 0.4, 0.12),
    "disc": disc("a", (0, 0, 0.1), (1, 1, 0), 0.5, 0.2),
    "ring": ring("a", (0, 0, 0), (0, 1, 1), 0.5, 0.15),
    "plate": plate("a", [(0, -0.4), (0.6, -0.1), (0.6, 0.4), (0, 0.3)], "xz", 0.1, 0.15),
    "moved": box("a", (0.1, 0.05, 0), (0.5, 0.3, 0.4)).turned(rotation("z", 30), (0, 0.2, 0)).mirrored("b").scaled(0.7),
}


def columns(points: Tensor) -> Tensor:
    return points.T.contiguous()


@pytest.mark.parametrize("name", PARTS)
def test_distances_are_exact(name: str) -> None:
    """Against the nearest of many points on the surface, inside and outside."""
    part, fine = PARTS[name], 97
    mesh = isosurface(distance(part, columns(grid(fine))).view(fine, fine, fine))
    points = torch.rand(3000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    nearest, _ = cKDTree(surface_points(mesh, 100_000).numpy()).query(points.numpy())
    found = distance(part, columns(points))
    # Marching tetrahedra bevel a sharp edge by less than a voxel, and most points are nearest to an edge of the plate.
    error = (found.abs() - torch.from_numpy(nearest).float()).abs()
    assert error.max() < voxel(fine)
    assert error.median() < voxel(fine) / (3 if name == "plate" else 10)
    assert 0.005 < float((found < 0).float().mean()) < 0.3
    corners = torch.from_numpy(part.corners()).float()
    assert (mesh.vertices.amin(0) >= corners.amin(0) - 1e-4).all()
    assert (mesh.vertices.amax(0) <= corners.amax(0) + 1e-4).all()


def test_distances_by_hand() -> None:
    def at(part: Part, *point: float) -> float:
        return float(distance(part, torch.tensor(point, dtype=torch.float32)[:, None]))

    cube = box("a", (0, 0, 0), (0.5, 0.5, 0.5), 0.0)
    assert at(cube, 0, 0, 0) == pytest.approx(-0.5)
    assert at(cube, 0.8, 0.9, 0) == pytest.approx(0.5, abs=1e-6)
    assert at(cube, 1, 1, 1) == pytest.approx(math.sqrt(0.75))
    assert at(ring("a", (0, 0, 0), (0, 1, 0), 0.6, 0.1), 0, 0, 0) == pytest.approx(0.5)
    assert at(disc("a", (0, 0, 0), (0, 1, 0), 0.5, 0.2, 0), 0.8, 0.6, 0) == pytest.approx(0.5)
    assert at(rod("a", (0, 0, 0), (0, 1, 0), 0.1), 0.3, 2, 0.4) == pytest.approx(math.sqrt(1.25) - 0.1)
    triangle = plate("a", [(0, 0), (1, 0), (1, 1), (0, 1)], "xy", 0, 0.1)
    assert at(triangle, 2, 0.5, 0.1) == pytest.approx(1)
    assert at(triangle, 0.5, 0.5, 0) == pytest.approx(-0.1)


def test_union_near_its_parts_is_the_whole_union() -> None:
    parts = [part.scaled(0.5).moved(np.array([0.2, -0.1, 0.3])) for part in PARTS.values()]
    limit = 2 * voxel(24)
    whole = union(parts, columns(grid(24)))
    assert torch.equal(union_on_grid(parts, 24, limit), whole.clamp(max=limit))
    away = [parts[0].moved(np.array([5.0, 0, 0]))]
    assert (union_on_grid(away, 24, limit) == limit).all()


def test_melting_fills_the_corner_between_parts() -> None:
    parts = [box("a", (0, -0.5, 0), (0.5, 0.1, 0.5)), box("b", (-0.5, 0, 0), (0.1, 0.5, 0.5))]
    sharp, soft = (union(parts, columns(grid(24)), melt) for melt in (0.0, 0.3))
    assert ((sharp - soft) >= -1e-6).all()
    assert (sharp - soft).max() == pytest.approx(0.3 / 4, rel=0.05)


def test_a_shape_depends_on_its_index_alone() -> None:
    data = sdf_primitives(train=40, test=8, resolution=16, broken=0.5)
    whole = data.take("train", 0, 12)
    parts = [data.take("train", start, start + 4) for start in (8, 0, 4)]
    assert torch.equal(whole.images, torch.cat([parts[1].images, parts[2].images, parts[0].images]))
    more = sdf_primitives(train=99, test=8, resolution=16, broken=0.5).take("train", 0, 12)
    assert torch.equal(more.images, whole.images)
    assert whole.images.dtype == torch.uint8
    assert whole.images.shape == (12, 1, 16, 16, 16)
    assert not torch.equal(data.take("test", 0, 4).images, whole.images[:4])
    assert len({tuple(volume.flatten().tolist()) for volume in whole.images}) == 12


def test_volumes_are_the_distances_of_their_shapes() -> None:
    data = sdf_primitives(train=8, resolution=20, broken=0.6)
    assert isinstance(data, SDFPrimitives)
    limit = 2 * voxel(20)
    for i in range(8):
        sdf = to_sdf(data.take("train", i, i + 1).images.float() / 255)[0].flatten()
        exact = data.shape("train", i).sdf(grid(20))
        inside = exact > -limit  # deep inside a union the distance is a bound
        assert (sdf - exact.clamp(max=limit))[inside].abs().max() < voxel(20) / 100


def test_labels_tell_category_and_state() -> None:
    data = sdf_primitives(train=160, resolution=8, broken=0.5)
    assert isinstance(data, SDFPrimitives)
    labels = data.take("train", 0, 160).labels
    assert labels is not None
    assert (labels % 4 == torch.arange(160) % 4).all()
    assert data.classes[:4] == tuple(CATEGORIES)
    assert data.classes[4 + 2] == "table, part missing"
    assert [data.shape("train", i).state for i in range(30)] == [STATES[int(label) // 4] for label in labels[:30]]
    # 80 are expected broken, with standard deviation 6.3, and 20 of each kind, with 4.2: outside has a chance of 4e-4.
    assert abs(int((labels >= 4).sum()) - 80) < 26
    assert all(abs(int((labels // 4 == state).sum()) - 20) < 17 for state in range(1, 5))
    assert (sdf_primitives(train=50, resolution=8).take("train", 0, 50).labels == torch.arange(50) % 4).all()


def test_styles_are_as_frequent_as_they_say() -> None:
    """400 shapes a category: a share is off by 4 standard deviations with a chance of 1e-3 over all 15."""
    for category, styles in STYLES.items():
        assert sum(styles.values()) == pytest.approx(1)
        index = list(CATEGORIES).index(category)
        drawn = [CATEGORIES[category](Draws(4 * i + index))[0] for i in range(400)]
        for style, share in styles.items():
            assert abs(drawn.count(style) / 400 - share) < 4 * math.sqrt(share * (1 - share) / 400), style
        assert make_shape(index).typicality == styles[make_shape(index).style]


def pieces(index: int, state: str) -> int:
    sdf = make_shape(index, state).on_grid(32, 2 * voxel(32)).view(32, 32, 32)
    edge = torch.cat([(sdf < 0).select(axis, side).flatten() for axis, side in itertools.product(range(3), (0, -1))])
    assert not edge.any(), f"shape {index}, {state}, leaves the grid"
    return len(component_sizes(sdf < 0))


def test_whole_shapes_are_in_one_piece_and_floating_ones_are_not() -> None:
    assert sum(pieces(i, "whole") == 1 for i in range(100)) >= 99
    assert all(pieces(i, "part floating") > 1 for i in range(40))


@pytest.mark.parametrize("state", STATES[1:])
def test_broken_shapes_differ_from_the_whole_ones(state: str) -> None:
    for i in range(16):
        whole, broken = make_shape(i), make_shape(i, state)
        assert (broken.category, broken.style, broken.state) == (whole.category, whole.style, state)
        inside = [shape.on_grid(32, 2 * voxel(32)) < 0 for shape in (whole, broken)]
        assert (inside[0] != inside[1]).sum() > 0.01 * inside[0].sum(), f"shape {i} is hardly broken"
        if state in ("part missing", "hole"):
            assert not (inside[1] & ~inside[0]).any()
        pieces(i, state)


def test_shapes_fill_the_ball() -> None:
    for i in range(40):
        reach = isosurface(make_shape(i).on_grid(32, 2 * voxel(32)).view(32, 32, 32)).vertices.norm(dim=1).max()
        assert 0.7 * RADIUS < reach < RADIUS + 0.02


def test_categories_are_told_apart_and_halves_are_not() -> None:
    discover()
    points = EXTRACTORS["points"].function("sdf_primitives", count=64)
    data = sdf_primitives(train=160, test=160, resolution=20)
    clouds = {split: points(data.take(split, 0, 160).images.float() / 255) for split in ("train", "test")}
    for category in range(4):
        own, others = clouds["train"][category::4], clouds["test"][(category + 1) % 4 :: 4]
        assert one_nn_accuracy(own, others).value > 0.95
    # 80 answers a category with standard deviation 0.07, so 0.035 for the mean of four: beyond 4 of them has 6e-5.
    halves = [one_nn_accuracy(clouds["train"][c::4], clouds["test"][c::4]).value for c in range(4)]
    assert abs(np.mean(halves) - 0.5) < 0.14


def test_options() -> None:
    prints = {sdf_primitives(resolution=r, broken=b).fingerprint for r in (16, 32) for b in (0.0, 0.5)}
    assert len(prints) == 4
    assert sdf_primitives(train=5).count("train") == 5
    for bad in ({"train": 0}, {"resolution": 4}, {"broken": 1.5}):
        with pytest.raises(ValueError, match=r"dataset\.sdf_primitives"):
            sdf_primitives(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has 5 samples"):
        sdf_primitives(train=5).take("train", 0, 6)
    assert to_volume(torch.zeros(1, 8)).shape == (1, 1, 2, 2, 2)
