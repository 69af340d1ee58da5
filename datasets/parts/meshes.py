"""Volumes of signed distances from mesh files, by ray casting with open3d."""

import hashlib
import importlib
import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...harness.core.files import digest, sha256_of
from ...harness.core.progress import say
from ...harness.core.protocols import Samples, Split
from ...harness.shapes.surfaces import Mesh, fitted, grid, to_volume
from .splits import check_holdout, check_range

SUFFIXES = (".obj", ".off", ".ply")
KEPT = 2**29
"""Maximum size, in bytes, of the volumes cached in memory."""
RAYS = 15
"""Number of rays from each point that decide whether it is inside."""


class Meshes:
    """A Dataset of mesh files, which `take` reads; `names` are relative to `root`.

    Each mesh is moved and scaled so that its bounding box is centred at the origin and its farthest vertex is at
    distance `radius`. A mesh with holes has no inside, so it becomes a shell of half thickness `offset`; `shells`
    contains the names of such meshes read so far. options: resolution, radius and offset.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        names: Mapping[Split, Sequence[str]],
        labels: Mapping[Split, Sequence[int]] | None,
        classes: Sequence[str],
        options: tuple[int, float, float],
    ):
        self.name, self._root, self._names, self._labels, self.classes = name, root, names, labels, classes
        self._resolution, self._radius, self._offset = options
        if self._resolution < 8:
            raise ValueError(f"dataset.{name}.resolution={self._resolution} must be at least 8 points per axis")
        if not 0 < self._radius <= 1 or self._offset <= 0:
            raise ValueError(
                f"dataset.{name}: radius={self._radius} must be in (0, 1] and offset={self._offset} positive"
            )
        content = {split: [(file, sha256_of(root / file)) for file in names[split]] for split in names}
        self.fingerprint = digest(name, 1, content, *options)
        self.shells: set[str] = set()
        self._volume = lru_cache(KEPT // self._resolution**3)(self._read)

    def count(self, split: Split) -> int:
        return len(self._names[split])

    def take(self, split: Split, start: int, stop: int) -> Samples:
        check_range(self.name, split, self.count(split), start, stop)
        names, before = self._names[split][start:stop], len(self.shells)
        volumes = torch.stack([self._volume(name) for name in names])
        if len(self.shells) > before:
            say(
                f"{self.name}: {len(self.shells) - before} of the {len(names)} meshes {start}..{stop} have holes and "
                f"become shells of half thickness {self._offset:g}"
            )
        return Samples(volumes, None if self._labels is None else torch.tensor(self._labels[split][start:stop]))

    def _read(self, name: str) -> Tensor:
        mesh = read_mesh(self._root / name)
        mesh = mesh._replace(vertices=fitted(mesh.vertices, self._radius))
        sdf, closed = mesh_sdf(mesh, grid(self._resolution), self._offset)
        if not closed:
            self.shells.add(name)
        return (to_volume(sdf[None])[0].clamp(0, 1) * 255).round().byte()


def open3d() -> Any:
    """The library open3d. Raises ImportError with the fix if it, or a system library that it needs, is missing."""
    try:
        return importlib.import_module("open3d")
    except (ImportError, OSError) as error:
        if "libusb" in str(error):
            fix = "open3d needs a system library; install it, on Debian and Ubuntu with `apt-get install libusb-1.0-0`"
        elif isinstance(error, ModuleNotFoundError):
            fix = "meshes are read with open3d: pip install 'assay[cpu]' (or 'assay[cuda]')"
        else:
            fix = "open3d does not load"
        raise ImportError(f"{fix} ({error})") from None


def read_mesh(path: Path) -> Mesh:
    """The mesh in a file (OBJ, OFF, PLY), with polygons cut into triangles and equal vertices merged.

    Raises ValueError when the file is not readable or has no faces.
    """
    try:
        vertices, faces = _read_obj(path) if path.suffix.lower() == ".obj" else _read_other(path)
        if not len(faces) or not np.isfinite(vertices).all() or not 0 <= faces.min() <= faces.max() < len(vertices):
            raise ValueError(f"{len(vertices)} vertices, {len(faces)} triangles")
    except (ValueError, IndexError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a mesh ({error}); replace or remove it") from None
    vertices, place = np.unique(vertices, axis=0, return_inverse=True)
    merged = place.reshape(-1)[faces]
    return Mesh(torch.from_numpy(vertices.astype(np.float32)), torch.from_numpy(merged.astype(np.int64)))


def _read_obj(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Vertices and triangles of a Wavefront OBJ file. (open3d would drop faces with more than three corners.)"""
    vertices, faces = [], []
    with path.open(errors="replace") as file:
        for line in file:
            kind, *words = line.split() or [""]
            if kind == "v":
                vertices.append([float(word) for word in words[:3]])
            elif kind == "f":
                first, *rest = (int(word.partition("/")[0]) for word in words)
                faces += [
                    [i - 1 if i > 0 else len(vertices) + i for i in (first, *pair)] for pair in itertools.pairwise(rest)
                ]
    return np.array(vertices, float).reshape(-1, 3), np.array(faces, int).reshape(-1, 3)


def _read_other(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    library = open3d()
    with library.utility.VerbosityContextManager(library.utility.VerbosityLevel.Error):
        found = library.io.read_triangle_mesh(str(path))
    return np.asarray(found.vertices), np.asarray(found.triangles)


def mesh_sdf(mesh: Mesh, points: Tensor, offset: float) -> tuple[Tensor, bool]:
    """Signed distances [K] of points [K, 3], and whether the mesh is closed: each edge in an even number of faces.

    A point is inside if most of RAYS rays from it cross an odd number of faces; a single ray could slip between
    needle-like faces. The orientation of the faces does not matter. If the mesh has holes, the signed distance is the
    distance to its surface minus `offset`.
    """
    library = open3d()
    scene = library.t.geometry.RaycastingScene()
    scene.add_triangles(mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32))
    start = points.numpy()
    distance = scene.compute_distance(library.core.Tensor(start)).numpy()
    if not _closed(mesh.faces.numpy()):
        return torch.from_numpy(distance - offset), False
    crossed = np.zeros(len(start), int)
    for direction in np.random.default_rng(0).standard_normal((RAYS, 3)).astype(np.float32):
        rays = np.concatenate([start, np.broadcast_to(direction, start.shape)], 1)
        crossed += scene.count_intersections(library.core.Tensor(rays)).numpy() % 2
    return torch.from_numpy(np.where(crossed > RAYS / 2, -distance, distance)), True


def _closed(faces: NDArray[Any]) -> bool:
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    edges = edges[edges[:, 0] != edges[:, 1]]
    return bool((np.unique(edges, axis=0, return_counts=True)[1] % 2 == 0).all())


def held_out(names: Sequence[str], holdout: float, option: str) -> dict[Split, list[str]]:
    """Names by split; the sha256 of a name decides whether it belongs to the share `holdout` of the test split."""
    check_holdout(option, holdout)
    in_test = [int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) < holdout * 2**32 for name in names]
    train = [name for name, held in zip(names, in_test, strict=True) if not held]
    if not train:
        raise ValueError(f"{option}: holdout={holdout} leaves none to train on, of {len(names)} meshes; lower it")
    return {"train": train, "test": [name for name, held in zip(names, in_test, strict=True) if held]}
