"""Mesh files in every format give the same solid, wherever it lies and however large; damaged ones are refused."""

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.harness.shapes.mesh_files import Fit, MeshFiles, read_mesh, triangulated
from assay.harness.shapes.surfaces import enclosed_volume, is_closed, voxel

CORNERS = np.array([(x, y, z) for x in (0, 2) for y in (0, 1) for z in (0, 1)], float)
FACES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
TRIANGLES = triangulated(CORNERS, FACES)
L_SHAPE = [(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]
Polygons = Sequence[Sequence[int]]


def obj(vertices: np.ndarray, faces: Polygons) -> bytes:
    lines = [f"v {x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
    return ("\n".join(lines + [f"f {' '.join(str(i + 1) for i in face)}" for face in faces]) + "\n").encode()


def off(head: str = "OFF\n8 6 0") -> bytes:
    lines = [head, *(f"{x} {y} {z}" for x, y, z in CORNERS), *(f"4 {' '.join(map(str, face))}" for face in FACES)]
    return ("\n".join(lines) + "\n").encode()


def ply(order: str, faces: Polygons = FACES) -> bytes:
    """With colours of vertices, a property after the corners, and an element that is no part of the surface."""
    name = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    head = f"ply\nformat {name} 1.0\ncomment a box\nelement vertex 8\n"
    head += "".join(f"property double {axis}\n" for axis in "xyz") + "property uchar red\nelement edge 1\n"
    head += f"property int vertex1\nelement face {len(faces)}\nproperty list uchar int vertex_indices\n"
    head += "property float quality\nend_header\n"
    if not order:
        body = "".join(f"{x} {y} {z} 9\n" for x, y, z in CORNERS) + "3\n"
        return (head + body + "".join(f"{len(f)} {' '.join(map(str, f))} 0.5\n" for f in faces)).encode()
    body = b"".join(struct.pack(f"{order}dddB", *corner, 9) for corner in CORNERS) + struct.pack(f"{order}i", 3)
    body += b"".join(struct.pack(f"{order}B{len(face)}if", len(face), *face, 0.5) for face in faces)
    return head.encode() + body


def stl(text: bool = False) -> bytes:
    facets = CORNERS[TRIANGLES]
    if text:
        lines = ["solid box"]
        for facet in facets:
            inner = [f"vertex {x:e} {y:e} {z:e}" for x, y, z in facet]
            lines += ["facet normal 0 0 0", "outer loop", *inner, "endloop", "endfacet"]
        return "\n".join([*lines, "endsolid box", ""]).encode()
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *facet.ravel(), 0) for facet in facets)
    return b"solid but binary".ljust(80) + struct.pack("<I", len(facets)) + body


def glb(nodes: list[dict[str, object]] | None = None, **more: object) -> bytes:
    points, corners = CORNERS.astype("<f4").tobytes(), TRIANGLES.astype("<u2").tobytes()
    scene = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": nodes or [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "buffers": [{"byteLength": len(points + corners)}],
        "bufferViews": [
            {"buffer": 0, "byteLength": len(points)},
            {"buffer": 0, "byteOffset": len(points), "byteLength": len(corners)},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 8, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": 36, "type": "SCALAR"},
        ],
    } | more
    text = json.dumps(scene).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(points + corners), b"BIN\0")
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks + points + corners)) + chunks + points + corners


MIXED = [FACES[0][:3], (FACES[0][0], *FACES[0][2:]), *FACES[1:]]
FORMATS = {
    "a.obj": obj(CORNERS, FACES),
    "a.off": off(),
    "one line.off": off("OFF8 6 0"),
    "comments.off": off("# made by hand\nOFF # here\n\n8 6 0"),
    "text.ply": ply(""),
    "little.ply": ply("<"),
    "big.ply": ply(">"),
    "mixed.ply": ply("<", MIXED),
    "binary.stl": stl(),
    "text.stl": stl(text=True),
    "a.glb": glb(),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_box(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMATS[name])
    mesh = read_mesh(tmp_path / name)
    assert torch.equal(mesh.vertices, torch.from_numpy(CORNERS))
    assert is_closed(mesh)
    assert abs(enclosed_volume(mesh)) == pytest.approx(2)


@pytest.mark.parametrize("name", [name for name in FORMATS if not name.endswith(".obj")])
def test_what_is_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    """At any length, but for the last number of a text. (An OBJ file does not say how long it is.)"""
    size = len(FORMATS[name].rstrip(b"\n"))
    for length in (*range(0, size - 9, 37), size - 30, size - 9):
        (tmp_path / name).write_bytes(FORMATS[name][:length])
        with pytest.raises(ValueError, match=rf"{name} cannot be read as a mesh"):
            read_mesh(tmp_path / name)


def test_an_obj_file_that_ends_within_a_face_is_refused(tmp_path: Path) -> None:
    for end in ("f 1 2", "f 1 2 3/", "f 1 2 3 4"):
        (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3\n" + end)
        with pytest.raises(ValueError, match=r"a\.obj cannot be read as a mesh"):
            read_mesh(tmp_path / "a.obj")


def test_nodes_of_a_scene_are_moved(tmp_path: Path) -> None:
    """A box turned by a quarter round y, twice as large, below a node that moves; and one placed by a matrix."""
    half = math.sqrt(0.5)
    nodes: list[dict[str, object]] = [
        {"translation": [10, 0, 0], "children": [1, 2]},
        {"mesh": 0, "rotation": [0, half, 0, half], "scale": [2, 2, 2]},
        {"mesh": 0, "matrix": [1, 0, 0, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0, 20, 0, 1]},
    ]
    (tmp_path / "a.glb").write_bytes(glb(nodes))
    mesh = read_mesh(tmp_path / "a.glb")
    turned = 2 * CORNERS[:, [2, 1, 0]] * (1, 1, -1) + (10, 0, 0)
    stretched = CORNERS * (1, 3, 1) + (10, 20, 0)
    expected = np.unique(np.concatenate([turned, stretched]).round(9), axis=0)
    assert np.allclose(np.unique(mesh.vertices.numpy().round(9), axis=0), expected)
    assert enclosed_volume(mesh) == pytest.approx(2 * 8 + 2 * 3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "KHR_draco_mesh_compression; save it without"),
        ({"meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": 5}]}]}, "save it as triangles"),
        ({"buffers": [{"byteLength": 168, "uri": "a.bin"}]}, "in another file"),
        ({"nodes": [{"children": [0]}]}, "nested too deeply"),
        ({"accessors": [{"count": 8, "componentType": 5126, "type": "VEC3"}]}, "stored sparsely"),
    ],
)
def test_scenes_that_are_not_understood_are_refused(tmp_path: Path, more: dict[str, object], message: str) -> None:
    (tmp_path / "a.glb").write_bytes(glb(**more))
    with pytest.raises(ValueError, match=message):
        read_mesh(tmp_path / "a.glb")


def prism(outline: Sequence[tuple[float, float]]) -> tuple[np.ndarray, list[list[int]]]:
    """A solid of height 1 over a polygon."""
    size = len(outline)
    flat = np.array(outline, float)
    vertices = np.concatenate([np.c_[flat, np.full(size, z)] for z in (0.0, 1.0)])
    sides = [[i, (i + 1) % size, (i + 1) % size + size, i + size] for i in range(size)]
    return vertices, [list(range(size))[::-1], list(range(size, 2 * size)), *sides]


@pytest.mark.parametrize("first", range(6))
def test_concave_polygons(tmp_path: Path, first: int) -> None:
    vertices, faces = prism(L_SHAPE[first:] + L_SHAPE[:first])
    (tmp_path / "a.obj").write_bytes(obj(vertices, faces))
    mesh = read_mesh(tmp_path / "a.obj")
    assert is_closed(mesh)
    assert enclosed_volume(mesh) == pytest.approx(3)
    area = torch.linalg.cross(*mesh.vertices[mesh.faces].diff(dim=1).unbind(1)).norm(dim=1).sum() / 2
    assert float(area) == pytest.approx(2 * 3 + 8)  # none of the triangles covers another


def test_polygons_of_random_stars_are_covered_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        size = int(rng.integers(4, 15))
        angles = 2 * math.pi * (np.arange(size) + rng.uniform(0.1, 0.9, size)) / size
        flat = rng.uniform(0.1, 1, (size, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
        x, y = flat.T
        area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        points = np.c_[flat, np.zeros(size)] @ turn + 5
        a, b, c = points[triangulated(points, [list(range(size))])].transpose(1, 0, 2)
        assert np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2 == pytest.approx(area, rel=1e-9)


def test_a_polygon_that_crosses_itself_is_refused(tmp_path: Path) -> None:
    crossed = np.array([(0, 0, 0), (1, 1, 0), (1, 0, 0), (0, 0.7, 0)])
    (tmp_path / "a.obj").write_bytes(obj(crossed, [(0, 1, 2, 3)]))
    with pytest.raises(ValueError, match=r"a\.obj cannot be read as a mesh \(face 1 crosses itself\)"):
        read_mesh(tmp_path / "a.obj")


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1, (2.5e6, 5.8e6, 300)), (1, (1e8, 1e8, 1e8)), (1e30, (0, 0, 0)), (1e300, (0, 0, 0)), (1e-30, (0, 0, 0))],
)
def test_a_solid_is_the_same_wherever_it_lies(tmp_path: Path, scale: float, offset: tuple[float, ...]) -> None:
    (tmp_path / "a.obj").write_bytes(obj(CORNERS, FACES))
    (tmp_path / "b.obj").write_bytes(obj(CORNERS * scale + offset, FACES))
    (tmp_path / "c.obj").write_bytes(obj(np.concatenate([CORNERS * scale + offset, [[1e9, 0, 0]]]), FACES))
    plain, moved, stray = MeshFiles(tmp_path, Fit(16)).load(["a.obj", "b.obj", "c.obj"])
    # the box is fitted into a ball of radius .95, so its edges are 2, 1 and 1 times .95 / sqrt(1.5)
    assert int((plain > 127).sum()) * voxel(16) ** 3 == pytest.approx(2 * (0.95 / math.sqrt(1.5)) ** 3, rel=0.2)
    assert torch.equal(plain, moved)
    assert torch.equal(plain, stray)


def test_points_are_no_mesh(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(ply("", []))
    with pytest.raises(ValueError, match=r"8 points and no faces; point clouds have no inside"):
        read_mesh(tmp_path / "a.ply")
    (tmp_path / "a.ply").rename(tmp_path / "a.xyz")
    with pytest.raises(FileNotFoundError, match=r"has no meshes .*, but 1 \.xyz \(point clouds have no inside"):
        MeshFiles(tmp_path, Fit())
    (tmp_path / "a.obj").write_bytes(obj(np.ones((3, 3)), [(0, 1, 2)]))
    with pytest.raises(ValueError, match="all its vertices are one point"):
        read_mesh(tmp_path / "a.obj")
