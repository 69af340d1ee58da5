"""Mesh files as volumes: formats, layouts, closed and open meshes, and what is said when a library is missing."""

import importlib
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assay.datasets import pybullet_shapes
from assay.datasets.mesh_folder import mesh_folder
from assay.generators.replay import Replay, replay
from assay.harness.shapes import mesh_files
from assay.harness.shapes.mesh_files import mesh_sdf, read_mesh
from assay.harness.shapes.surfaces import Mesh, enclosed_volume, grid, isosurface, to_sdf, voxel, write_mesh

CORNERS = [(x, y, z) for x in (0, 2) for y in (0, 1) for z in (0, 1)]
FACES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def write_box(path: Path, faces: list[tuple[int, ...]] = FACES, turned: int = 0) -> None:
    """A box of 2 × 1 × 1 as quadrilaterals, in the format of the suffix; `turned` round y by so many degrees."""
    path.parent.mkdir(parents=True, exist_ok=True)
    c, s = math.cos(math.radians(turned)), math.sin(math.radians(turned))
    corners = [f"{c * x + s * z} {y} {c * z - s * x}" for x, y, z in CORNERS]
    if path.suffix.lower() == ".obj":
        lines = [f"v {c}" for c in corners] + ["f " + " ".join(str(i + 1) for i in face) for face in faces]
    elif path.suffix == ".off":
        lines = ["OFF", f"8 {len(faces)} 0", *corners, *(f"4 {' '.join(map(str, face))}" for face in faces)]
    else:
        head = ["ply", "format ascii 1.0", "element vertex 8"]
        head += [f"property float {axis}" for axis in "xyz"] + [f"element face {len(faces)}"]
        lines = [*head, "property list uchar int vertex_indices", "end_header", *corners]
        lines += [f"4 {' '.join(map(str, face))}" for face in faces]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("suffix", [".obj", ".OBJ", ".off", ".ply"])
def test_formats(suffix: str, tmp_path: Path) -> None:
    write_box(tmp_path / f"box{suffix}")
    mesh = read_mesh(tmp_path / f"box{suffix}")
    assert mesh.vertices.shape == (8, 3)
    assert mesh.faces.shape == (12, 3)
    assert abs(enclosed_volume(mesh)) == pytest.approx(2)


def test_obj_spellings(tmp_path: Path) -> None:
    """Normals and texture beside the index, indices from the end, comments, polygons, vertices given twice."""
    text = "# box\no a\nv 0 0 0 1\nv 1 0 0\nv 1 1 0\nvn 0 0 1\nf 1//1 2//1 3//1\nv 0 1 0\nv 0 0 0\nf -1/2/3 3 -2\n"
    (tmp_path / "a.obj").write_text(text + "f 1 2 3 4\n")
    mesh = read_mesh(tmp_path / "a.obj")
    assert mesh.vertices.shape == (4, 3)
    corners = mesh.vertices[mesh.faces].tolist()
    assert corners[1] == [[0, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert corners[2:] == [[[0, 0, 0], [1, 0, 0], [1, 1, 0]], [[0, 0, 0], [1, 1, 0], [0, 1, 0]]]


def test_distances_of_a_box(tmp_path: Path) -> None:
    write_box(tmp_path / "box.obj")
    mesh, points = (
        read_mesh(tmp_path / "box.obj"),
        torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 4 - 1,
    )
    q = (points - torch.tensor([1, 0.5, 0.5])).abs() - torch.tensor([1, 0.5, 0.5])
    exact = q.clamp(min=0).norm(dim=1) + q.amax(1).clamp(max=0)
    found, closed = mesh_sdf(mesh, points, 0.1)
    assert closed
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=0)
    # Which way faces turn does not matter.
    turned = Mesh(mesh.vertices, torch.cat([mesh.faces[:5].flip(1), mesh.faces[5:]]))
    torch.testing.assert_close(mesh_sdf(turned, points, 0.1)[0], exact, atol=1e-5, rtol=0)


def test_a_mesh_with_holes_is_a_shell(tmp_path: Path) -> None:
    write_box(tmp_path / "open.obj", FACES[:-1])
    mesh = read_mesh(tmp_path / "open.obj")
    found, closed = mesh_sdf(mesh, torch.tensor([[1, 0.5, 0.5], [1, 0.5, 0.0], [1, 0.5, 1.0]]), 0.1)
    assert not closed
    torch.testing.assert_close(found, torch.tensor([0.4, -0.1, 0.4]))


def test_volumes_are_fitted(tmp_path: Path) -> None:
    write_box(tmp_path / "box.obj")
    write_box(tmp_path / "box.off")
    data = mesh_folder(str(tmp_path), resolution=32)
    assert (data.count("train"), data.count("test"), list(data.classes)) == (2, 0, [])
    samples = data.take("train", 0, 2)
    assert samples.labels is None
    assert samples.images.shape == (2, 1, 32, 32, 32)
    assert torch.equal(samples.images[0], samples.images[1])
    mesh = isosurface(to_sdf(samples.images.float() / 255)[0])
    scale = 0.95 / math.sqrt(1.5)  # the corners are at 0.95
    assert enclosed_volume(mesh) == pytest.approx(2 * scale**3, rel=0.02)
    assert (mesh.vertices.amax(0) - scale * torch.tensor([1, 0.5, 0.5])).abs().max() < voxel(32) / 20


def test_shells_are_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_box(tmp_path / "a.obj")
    write_box(tmp_path / "b.obj", FACES[:-1])
    write_box(tmp_path / "c.obj", FACES[1:])
    data = mesh_folder(str(tmp_path), resolution=16, holdout=0.0, offset=0.08)
    data.take("train", 0, 3)
    said = " ".join("".join(capsys.readouterr()).split())
    assert "2 of 3 meshes have holes and become shells of half thickness 0.08" in said
    data.take("train", 0, 3)
    assert not "".join(capsys.readouterr())


def test_shapenet_layout(tmp_path: Path) -> None:
    for synset, model in itertools.product(("03001627", "02691156", "vehicles"), ("a1", "b2")):
        write_box(tmp_path / synset / model / "models" / "model_normalized.obj")
        write_box(tmp_path / synset / model / "models" / "model_normalized.solid.ply")
    data = mesh_folder(str(tmp_path), resolution=8, holdout=0.0)
    assert data.count("train") == 6
    assert list(data.classes) == ["airplane", "chair", "vehicles"]
    labels = data.take("train", 0, 6).labels
    assert labels is not None
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_class_folders_and_holdout(tmp_path: Path) -> None:
    for name, i in itertools.product(("cups", "jars"), range(20)):
        write_box(tmp_path / name / f"{i}.off", turned=10 * i + len(name))
    assert mesh_folder(str(tmp_path), resolution=8).count("test") == 0
    data = mesh_folder(str(tmp_path), resolution=8, holdout=0.3)
    assert list(data.classes) == ["cups", "jars"]
    assert data.count("train") + data.count("test") == 40
    test = data.take("test", 0, data.count("test")).labels
    assert test is not None
    assert set(test.tolist()) == {0, 1}
    assert data.count("test") > mesh_folder(str(tmp_path), resolution=8, holdout=0.1).count("test") > 0
    write_box(tmp_path / "loose.obj")
    with pytest.raises(ValueError, match=r"loose\.obj is in no class folder"):
        mesh_folder(str(tmp_path))


def test_fingerprints(tmp_path: Path) -> None:
    write_box(tmp_path / "box.obj")
    options: list[dict[str, Any]] = [{}, {"resolution": 16}, {"radius": 0.5}, {"offset": 0.1}]
    prints = {mesh_folder(str(tmp_path), holdout=0.0, **option).fingerprint for option in options}
    write_box(tmp_path / "box.obj", FACES[1:])
    assert len(prints | {mesh_folder(str(tmp_path), holdout=0.0).fingerprint}) == 5


def test_errors_name_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give dataset\.mesh_folder\.root=DIRECTORY"):
        mesh_folder()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        mesh_folder(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="has no meshes"):
        mesh_folder(str(tmp_path))
    for text in ("nothing", "v 0 0 0", "v 0 0 0\nf 1 2 3", "v 0 zero 0\nf 1 1 1", "v 0 0\nf 1 1 1"):
        (tmp_path / "broken.obj").write_text(text)
        with pytest.raises(ValueError, match=r"broken\.obj cannot be read as a mesh"):
            mesh_folder(str(tmp_path), holdout=0.0).take("train", 0, 1)
    for bad in ({"resolution": 4}, {"radius": 0.0}, {"radius": 1.5}, {"offset": 0.0}, {"holdout": 1.0}):
        with pytest.raises(ValueError, match=r"dataset\.mesh_folder"):
            mesh_folder(str(tmp_path), **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("libusb-1.0.so.0: cannot open shared object file"), "apt-get install libusb-1.0-0"),
        (ImportError("libusb-1.0.so.0: cannot open shared object file"), "apt-get install libusb-1.0-0"),
        (ModuleNotFoundError("No module named 'open3d'"), r"pip install 'assay\[cpu\]'"),
        (OSError("libGL.so.1: cannot open shared object file"), "open3d does not load .*libGL"),
    ],
)
def test_a_missing_library_is_explained(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ImportError, match=message):
        mesh_files.open3d()


def test_pybullet_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(12):
        write_box(tmp_path / "random_urdfs" / f"{i:03d}" / f"{i:03d}.obj")
        write_box(tmp_path / "random_urdfs" / f"{i:03d}" / f"{i:03d}_coll.obj")
    data = pybullet_shapes.pybullet_shapes(str(tmp_path), resolution=8)
    assert data.count("train") + data.count("test") == 12
    assert data.take("train", 0, 2).labels is None
    with pytest.raises(FileNotFoundError, match=r"has no random_urdfs"):
        pybullet_shapes.pybullet_shapes(str(tmp_path / "random_urdfs"))
    monkeypatch.setattr(pybullet_shapes, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install pybullet, or unpack its wheel"):
        pybullet_shapes.pybullet_shapes()


def test_needles_do_not_leak(tmp_path: Path) -> None:
    """A fan of needle-like faces over a cylinder; one ray from below in a hundred passes between them unseen."""
    count, points = 400, grid(20)
    angles = np.arange(count) / count * 2 * math.pi
    ring = np.stack([0.7 * np.cos(angles), np.zeros(count), 0.7 * np.sin(angles)], 1)
    up = np.array([[0, 0.6, 0]])
    vertices = np.concatenate([ring + up, ring - up, up, -up])
    i, j = np.arange(count), (np.arange(count) + 1) % count
    top, bottom = np.full(count, 2 * count), np.full(count, 2 * count + 1)
    faces = np.concatenate(
        [
            np.stack(x, 1)
            for x in ((i, j, top), (j + count, i + count, bottom), (j, i, i + count), (j, i + count, j + count))
        ]
    )
    mesh = Mesh(torch.from_numpy(vertices).float(), torch.from_numpy(faces))
    write_mesh(mesh, tmp_path / "cylinder.obj")
    found, closed = mesh_sdf(read_mesh(tmp_path / "cylinder.obj"), points, 0.05)
    assert closed
    inside = (torch.hypot(points[:, 0], points[:, 2]) < 0.699) & (points[:, 1].abs() < 0.599)
    outside = (torch.hypot(points[:, 0], points[:, 2]) > 0.701) | (points[:, 1].abs() > 0.601)
    assert (found[inside] < 0).all()
    assert (found[outside] > 0).all()


def test_modelnet_has_the_splits_below_the_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (name, split, i) in enumerate(itertools.product(("chair", "desk"), ("train", "test"), range(3))):
        write_box(tmp_path / name / split / f"{name}_{i}.off", turned=number)
    (tmp_path / "README.txt").touch()
    (tmp_path / "scan.pcd").touch()
    data = mesh_folder(str(tmp_path), resolution=8)
    assert (data.count("train"), data.count("test"), list(data.classes)) == (6, 6, ["chair", "desk"])
    labels = data.take("test", 0, 6).labels
    assert labels is not None
    assert labels.bincount().tolist() == [3, 3]
    said = " ".join("".join(capsys.readouterr()).split())
    assert "found 12 meshes; left out" in said
    assert "1 .txt" in said
    assert "1 .pcd" in said


def test_names_of_meshes_change_nothing(tmp_path: Path) -> None:
    for i in range(12):
        write_box(tmp_path / "one" / "cups" / f"{i}.off", turned=i)
        write_box(tmp_path / "two" / "cups" / f"{(5 * i) % 12} b.off", turned=i)
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "cups").symlink_to(tmp_path / "one" / "cups")
    one, two, three = (mesh_folder(str(tmp_path / name), resolution=8) for name in ("one", "two", "three"))
    assert one.fingerprint == two.fingerprint == three.fingerprint
    assert torch.equal(one.take("train", 0, 12).images, two.take("train", 0, 12).images)
    held = [mesh_folder(str(tmp_path / name), resolution=8, holdout=0.5) for name in ("one", "two")]
    assert held[0].fingerprint == held[1].fingerprint != one.fingerprint


def test_meshes_are_replayed_as_shapes(tmp_path: Path) -> None:
    for i in range(3):
        write_box(tmp_path / f"{i}.off", turned=20 * i)
    data = mesh_folder(str(tmp_path), resolution=12, radius=0.8)
    model = replay("mesh_folder", str(tmp_path), resolution=12, radius=0.8)
    assert isinstance(model, Replay)
    made = model.decode(model.latents(range(3)))
    assert torch.equal((made * 255).round().byte(), data.take("train", 0, 3).images)
    assert sorted(model.names) == ["0.off", "1.off", "2.off"]
    assert model.fingerprint != replay("mesh_folder", str(tmp_path), resolution=8).fingerprint
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "texture.png")
    assert replay("mesh_folder", str(tmp_path), resolution=12, radius=0.8).fingerprint == model.fingerprint
    assert replay("folder", str(tmp_path)).decode(torch.zeros(1, 1)).shape == (1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"generator\.replay\.resolution=4 must be at least 8"):
        replay("mesh_folder", str(tmp_path), resolution=4)
