"""Shapes as volumes: isosurfaces, what is measured of them, points on them and pictures, against closed forms."""

import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from assay.harness.shapes.mesh_files import read_mesh
from assay.harness.shapes.shading import DISTANCE, FIELD, dodecahedron, shade, turntable
from assay.harness.shapes.surfaces import (
    Mesh,
    area,
    component_sizes,
    enclosed_volume,
    fitted,
    grid,
    is_closed,
    isosurface,
    surface_points,
    to_sdf,
    to_volume,
    voxel,
    write_mesh,
)


def ball(points: Tensor, radius: float = 0.7) -> Tensor:
    return points.norm(dim=-1) - radius


def brick(points: Tensor) -> Tensor:
    q = points.abs() - torch.tensor([0.5, 0.3, 0.7])
    return q.clamp(min=0).norm(dim=-1) + q.amax(-1).clamp(max=0)


def torus(points: Tensor) -> Tensor:
    return torch.hypot(torch.hypot(points[..., 0], points[..., 2]) - 0.6, points[..., 1]) - 0.25


SHAPES: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {  # distance, volume, area
    "ball": (ball, 4 / 3 * math.pi * 0.7**3, 4 * math.pi * 0.7**2),
    "brick": (brick, 8 * 0.5 * 0.3 * 0.7, 8 * (0.5 * 0.3 + 0.3 * 0.7 + 0.7 * 0.5)),
    "torus": (torus, 2 * math.pi**2 * 0.6 * 0.25**2, 4 * math.pi**2 * 0.6 * 0.25),
}


def on_grid(shape: Callable[[Tensor], Tensor], resolution: int) -> Tensor:
    return shape(grid(resolution)).view(resolution, resolution, resolution)


@pytest.mark.parametrize("name", SHAPES)
def test_volume_and_area(name: str) -> None:
    shape, volume, surface = SHAPES[name]
    mesh = isosurface(on_grid(shape, 48))
    assert is_closed(mesh)
    # Edges of the brick are bevelled by half a voxel; smooth surfaces are off by the square of a voxel.
    assert enclosed_volume(mesh) == pytest.approx(volume, rel=0.01)
    assert area(mesh) == pytest.approx(surface, rel=0.03 if name == "brick" else 0.003)


def test_errors_fall_with_the_square_of_the_voxel() -> None:
    coarse, fine = (abs(area(isosurface(on_grid(ball, r))) - SHAPES["ball"][2]) for r in (17, 33))
    assert coarse / fine == pytest.approx(4, rel=0.1)
    coarse, fine = (abs(enclosed_volume(isosurface(on_grid(ball, r))) - SHAPES["ball"][1]) for r in (17, 33))
    assert coarse / fine == pytest.approx(4, rel=0.1)


def test_level_moves_the_surface() -> None:
    mesh = isosurface(on_grid(ball, 32), level=0.1)
    assert mesh.vertices.norm(dim=1).mean() == pytest.approx(0.8, abs=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_any_values_give_a_closed_surface(seed: int) -> None:
    noise = torch.randn(9, 9, 9, generator=torch.Generator().manual_seed(seed))
    mesh = isosurface(noise)
    assert len(mesh.faces) > 1000
    assert is_closed(mesh)
    assert 0 < enclosed_volume(mesh) < 8 * 1.25**3


def test_a_hole_is_noticed() -> None:
    mesh = isosurface(on_grid(ball, 12))
    assert not is_closed(Mesh(mesh.vertices, mesh.faces[1:]))
    turned = torch.cat([mesh.faces[:1].flip(1), mesh.faces[1:]])
    assert not is_closed(Mesh(mesh.vertices, turned))


def test_what_leaves_the_grid_is_cut_off() -> None:
    slab = isosurface(grid(20)[:, 1].abs().view(20, 20, 20) - 0.5)
    assert is_closed(slab)
    assert enclosed_volume(slab) == pytest.approx(4, rel=1e-6)
    assert enclosed_volume(isosurface(torch.full((3, 3, 3), -1.0))) == pytest.approx(8, rel=1e-6)


def test_without_a_surface() -> None:
    nothing = isosurface(torch.ones(8, 8, 8))
    assert nothing.vertices.shape == nothing.faces.shape == (0, 3)
    assert (area(nothing), enclosed_volume(nothing), is_closed(nothing)) == (0, 0, True)
    assert torch.equal(surface_points(nothing, 5), torch.zeros(5, 3))
    assert not len(component_sizes(torch.zeros(4, 4, 4, dtype=torch.bool)))


def test_eight_bits_keep_the_surface() -> None:
    exact = on_grid(ball, 32)
    stored = (to_volume(exact[None]).clamp(0, 1) * 255).round() / 255
    near = exact.abs() < 2 * voxel(32)
    assert (to_sdf(stored)[0] - exact)[near].abs().max() <= voxel(32) / 127
    torch.testing.assert_close(to_sdf(to_volume(exact[None]))[0], exact)
    assert to_volume(exact.flatten()[None]).shape == (1, 1, 32, 32, 32)
    assert area(isosurface(to_sdf(stored)[0])) == pytest.approx(area(isosurface(exact)), rel=1e-3)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 8, 8, 8), (2, 1, 8, 8, 7), (2, 1, 1, 1, 1)])
def test_images_are_no_volumes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="are not volumes"):
        to_sdf(torch.zeros(shape))


def test_parts_are_those_that_surfaces_enclose() -> None:
    two = torch.minimum(ball(grid(32) - 0.5, 0.2), ball(grid(32) + 0.4, 0.3)).view(32, 32, 32)
    sizes = component_sizes(two < 0)
    assert sizes.tolist() == [int((ball(grid(32) + 0.4, 0.3) < 0).sum()), int((ball(grid(32) - 0.5, 0.2) < 0).sum())]
    for seed in range(5):  # a few points, so that no part has a hole inside
        sparse = torch.rand(12, 12, 12, generator=torch.Generator().manual_seed(seed)) - 0.06
        mesh = isosurface(sparse)
        a, b = mesh.faces[:, :2].T.numpy()
        parts, _ = connected_components(coo_matrix((np.ones(len(a)), (a, b)), shape=(len(mesh.vertices),) * 2))
        assert len(component_sizes(sparse < 0)) == parts


def test_points_are_on_the_surface_and_even() -> None:
    points = surface_points(isosurface(on_grid(brick, 48)), 4000)
    assert brick(points).abs().max() < voxel(48)
    assert torch.equal(points, surface_points(isosurface(on_grid(brick, 48)), 4000))
    face = (points.abs() / torch.tensor([0.5, 0.3, 0.7])).argmax(1)
    shares = torch.tensor([0.3 * 0.7, 0.7 * 0.5, 0.5 * 0.3]) / (0.3 * 0.7 + 0.7 * 0.5 + 0.5 * 0.3)
    # Independent points would vary by 0.008; those in strips of equal area hardly vary.
    assert (torch.bincount(face) / 4000 - shares).abs().max() < 0.012
    assert points.mean(0).abs().max() < 0.01


def test_fitted() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [2, 4, 0]])
    moved = fitted(vertices, 0.5)
    assert moved.norm(dim=1).max() == pytest.approx(0.5)
    torch.testing.assert_close(moved.amin(0) + moved.amax(0), torch.zeros(3))


def test_obj_file(tmp_path: Path) -> None:
    mesh = isosurface(on_grid(ball, 8))
    write_mesh(mesh, tmp_path / "ball.obj")
    rows = [line.split() for line in (tmp_path / "ball.obj").read_text().splitlines()]
    vertices = torch.tensor([[float(x) for x in row[1:]] for row in rows if row[0] == "v"])
    faces = torch.tensor([[int(x) - 1 for x in row[1:]] for row in rows if row[0] == "f"])
    torch.testing.assert_close(vertices, mesh.vertices, atol=1e-6, rtol=0)
    assert torch.equal(faces, mesh.faces)


def test_ply_file(tmp_path: Path) -> None:
    """Byte by byte, and as another reader has it."""
    mesh = isosurface(on_grid(brick, 8))
    write_mesh(mesh, tmp_path / "brick.ply")
    head, _, body = (tmp_path / "brick.ply").read_bytes().partition(b"end_header\n")
    assert f"element vertex {len(mesh.vertices)}\n".encode() in head
    assert f"element face {len(mesh.faces)}\n".encode() in head
    cut = 12 * len(mesh.vertices)
    vertices = [struct.unpack_from("<3f", body, 12 * i) for i in range(len(mesh.vertices))]
    faces = [struct.unpack_from("<B3i", body, cut + 13 * i) for i in range(len(mesh.faces))]
    assert torch.equal(torch.tensor(vertices), mesh.vertices)
    assert {face[0] for face in faces} == {3}
    assert torch.equal(torch.tensor([face[1:] for face in faces]), mesh.faces)
    assert len(body) == cut + 13 * len(mesh.faces)
    again = read_mesh(tmp_path / "brick.ply")
    assert len(again.faces) == len(mesh.faces)
    assert enclosed_volume(again) == pytest.approx(enclosed_volume(mesh), rel=1e-6)


def test_stl_file(tmp_path: Path) -> None:
    mesh = isosurface(on_grid(ball, 8))
    write_mesh(mesh, tmp_path / "ball.stl")
    content = (tmp_path / "ball.stl").read_bytes()
    (count,) = struct.unpack_from("<I", content, 80)
    assert len(content) == 84 + 50 * count
    assert count == len(mesh.faces)
    for i, face in enumerate(mesh.faces):
        normal, *corners = torch.tensor(struct.unpack_from("<12f", content, 84 + 50 * i)).view(4, 3)
        assert torch.equal(torch.stack(corners), mesh.vertices[face])
        a, b, c = corners
        torch.testing.assert_close(normal, torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=0))
        assert normal @ a > 0, "normals of a ball point outwards"


def test_other_mesh_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.obj, \.ply, \.stl"):
        write_mesh(isosurface(on_grid(ball, 8)), tmp_path / "ball.glb")
    nothing = isosurface(torch.ones(8, 8, 8))
    for suffix in (".obj", ".ply", ".stl"):
        write_mesh(nothing, tmp_path / f"nothing{suffix}")
    assert len((tmp_path / "nothing.stl").read_bytes()) == 84


def test_directions() -> None:
    views = dodecahedron()
    cosines = views @ views.T
    # Each corner of a dodecahedron has three neighbours at the cosine sqrt(5) / 3, and its opposite.
    assert ((cosines - math.sqrt(5) / 3).abs() < 1e-6).sum(1).tolist() == [3] * 20
    assert ((cosines + 1).abs() < 1e-6).sum(1).tolist() == [1] * 20
    round_about = turntable(4)
    torch.testing.assert_close(round_about.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(round_about.sum(0)[[0, 2]], torch.zeros(2), atol=1e-6, rtol=0)


def test_picture_of_a_ball() -> None:
    pictures = shade(on_grid(ball, 32)[None], dodecahedron(), 64)
    assert pictures.shape == (1, 20, 64, 64)
    # The outline of a ball of radius r at distance d is a circle of the angle asin(r / d).
    radius = math.tan(math.asin(0.7 / DISTANCE)) / math.tan(math.radians(FIELD / 2)) * 32
    seen = (pictures[0] < 1).sum((1, 2)) / (math.pi * radius**2)
    assert (seen - 1).abs().max() < 0.03
    assert (pictures[0, :, 31:33, 31:33] - 0.9).abs().max() < 0.02
    assert pictures.min() >= 0.1 - 1e-6


def test_pictures_do_not_need_far_distances() -> None:
    """A volume is cut off at two voxels; its pictures are those of the whole distance."""
    sdf, limit = on_grid(torus, 32), 2 * voxel(32)
    views = turntable(3)
    exact, cut = shade(sdf[None], views, 48), shade(sdf.clamp(-limit, limit)[None], views, 48)
    assert ((exact - cut).abs() > 0.05).float().mean() < 2e-3
    moved = shade(sdf[None] + 0.1, views, 16, level=0.1)
    torch.testing.assert_close(moved, shade(sdf[None], views, 16), atol=1e-3, rtol=0)


def test_up_is_up_and_a_cut_is_flat() -> None:
    high = ball(grid(32) - torch.tensor([0.0, 0.5, 0.0]), 0.3).view(1, 32, 32, 32)
    picture = shade(high, turntable(1, height=0), 32)[0, 0]
    assert (picture[:16] < 1).sum() > 30
    assert (picture[16:] < 1).sum() == 0
    full = shade(torch.full((1, 16, 16, 16), -0.1), torch.tensor([[0.0, 0.0, 1.0]]), 16)[0, 0]
    assert full[8, 8] == pytest.approx(0.9, abs=0.01)
    assert shade(torch.ones(1, 16, 16, 16), turntable(2), 8).min() == 1
