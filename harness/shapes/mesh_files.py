"""Meshes in files, and their volumes of signed distances by ray casting with open3d."""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.folders import by_suffix, open_files
from ..core.progress import say, say_once
from .glb import read_glb
from .ply import read_ply
from .surfaces import Mesh, fitted, grid, to_volume

POINT_CLOUDS = (".pcd", ".xyz", ".xyzn", ".xyzrgb", ".pts", ".las", ".laz", ".e57")
NO_INSIDE = "point clouds have no inside: make surfaces of them first"
KEPT = 2**29
"""Maximum size, in bytes, of the volumes cached in memory."""
RAYS = 15
"""Number of rays from each point that decide whether it is inside."""
Faces = Sequence[Sequence[int]] | NDArray[np.int64]


class Fit(NamedTuple):
    """How a mesh becomes a volume.

    resolution: number of grid points per axis. radius: of the ball in which it is fitted: its bounding box is centred
    at the origin, its farthest vertex is at that distance. offset: half the thickness of the shell that replaces a mesh
    with holes, which has no inside.
    """

    resolution: int = 32
    radius: float = 0.95
    offset: float = 0.05

    def checked(self, option: str) -> "Fit":
        """The same with floats. Raises ValueError where it does not make sense; `option` is for the message."""
        if self.resolution < 8:
            raise ValueError(f"{option}.resolution={self.resolution} must be at least 8 points per axis")
        if not 0 < self.radius <= 1 or self.offset <= 0:
            raise ValueError(f"{option}: radius={self.radius} must be in (0, 1] and offset={self.offset} positive")
        return Fit(self.resolution, float(self.radius), float(self.offset))


class MeshFiles:
    """The meshes of a folder, of those below it, or of a zip archive. What is left out is said once.

    names: relative to `top`, in order; where they are given, no others are wanted. shells: names of the meshes
    with holes that were read so far.

    Raises FileNotFoundError when there are no meshes.
    """

    def __init__(self, top: Path, fit: Fit, names: Sequence[str] | None = None):
        self._top, self._fit, self._files = top, fit, open_files(top)
        self.shells: set[str] = set()
        self._volume = lru_cache(KEPT // fit.resolution**3)(self._read)
        self.names = [name for name in self._files.names if is_mesh(name)] if names is None else names
        rest = [name for name in self._files.names if not is_mesh(name)] if names is None else []
        clouds = f" ({NO_INSIDE})" if any(PurePosixPath(name).suffix.lower() in POINT_CLOUDS for name in rest) else ""
        if not self.names:
            others = f", but {by_suffix(rest)}{clouds}" if rest else ""
            raise FileNotFoundError(f"{top} has no meshes ({', '.join(READERS)}){others}")
        if rest:
            say_once(f"{top}: found {len(self.names):,} meshes; left out {by_suffix(rest)}{clouds}")

    def sha256(self, name: str) -> str:
        return self._files.sha256(name)

    def load(self, names: Sequence[str]) -> Tensor:
        """Volumes uint8 [N, 1, R, R, R]. Raises ValueError with the name of a file that cannot be read."""
        before = len(self.shells)
        volumes = torch.stack([self._volume(name) for name in names])
        if len(self.shells) > before:
            say(
                f"{self._top}: {len(self.shells) - before} of {len(names)} meshes have holes and become shells of half "
                f"thickness {self._fit.offset:g}"
            )
        return volumes

    def _read(self, name: str) -> Tensor:
        try:
            with self._files.open(name) as file:
                content = file.read()
        except (OSError, ValueError) as error:
            raise _unreadable(self._top / name, error) from None
        mesh = parsed(content, self._top / name)
        mesh = mesh._replace(vertices=fitted(_unit(mesh.vertices), self._fit.radius))
        sdf, closed = mesh_sdf(mesh, grid(self._fit.resolution), self._fit.offset)
        if not closed:
            self.shells.add(name)
        return (to_volume(sdf[None])[0].clamp(0, 1) * 255).round().byte()


def is_mesh(name: str) -> bool:
    """Whether a file has the suffix of a mesh that can be read."""
    return PurePosixPath(name).suffix.lower() in READERS


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
    """The mesh in a file (OBJ, OFF, PLY, STL, GLB), vertices float64: polygons are cut into triangles, equal vertices
    merged, and vertices of no face left out.

    Raises ValueError when the file is not readable, is cut off, or has no faces.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    return parsed(content, path)


def parsed(content: bytes, path: Path) -> Mesh:
    """The same from the content of a file; its name tells the format."""
    try:
        vertices, faces = READERS[path.suffix.lower()](content)
        if not len(faces):
            raise ValueError(f"{len(vertices):,} points and no faces; {NO_INSIDE}")
        corners = np.concatenate([np.asarray(face, np.int64) for face in faces])
        if not 0 <= corners.min() <= corners.max() < len(vertices):
            raise ValueError(f"faces of vertex {corners.max() + 1}, and {len(vertices):,} vertices")
        if not np.isfinite(vertices[corners]).all():
            raise ValueError("vertices that are not finite")
        triangles = triangulated(vertices, faces)
    except (ValueError, LookupError, OverflowError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from None
    kept, place = np.unique(vertices[triangles.reshape(-1)] + 0.0, axis=0, return_inverse=True)
    if (kept == kept[0]).all():
        raise _unreadable(path, ValueError("all its vertices are one point"))
    return Mesh(torch.from_numpy(kept), torch.from_numpy(place.reshape(-1, 3).astype(np.int64)))


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} cannot be read as a mesh ({error}); replace or remove it")


def _unit(vertices: Tensor) -> Tensor:
    """Vertices float64 moved and scaled into [-1, 1], so that what follows does not depend on where they were."""
    centred = vertices - (vertices.amin(0) / 2 + vertices.amax(0) / 2)
    return centred / centred.abs().max()


# --- polygons --------------------------------------------------------------------------------------------------------


def triangulated(vertices: NDArray[np.float64], faces: Faces) -> NDArray[np.int64]:
    """Triangles [F, 3] that cover polygons, in their order: fans from the first corner where these cover them, else by
    ear clipping. Raises ValueError for a polygon that crosses itself.
    """
    if isinstance(faces, np.ndarray) and faces.shape[1] == 3:
        return faces
    found: list[list[int]] = []
    sound = _fans(vertices, faces)
    for number, face in enumerate(faces):
        if sound[number]:
            found += [[face[0], face[i], face[i + 1]] for i in range(1, len(face) - 1)]
        else:
            found += [[face[i] for i in ear] for ear in _ears(vertices[np.asarray(face)], number)]
    return np.array(found, np.int64)


def _fans(vertices: NDArray[np.float64], faces: Faces) -> list[bool]:
    """Of each polygon whether all triangles of the fan from its first corner turn the same way round."""
    sizes = np.array([len(face) for face in faces])
    sound = sizes == 3
    for size in set(sizes[~sound].tolist()):
        rows = np.flatnonzero(sizes == size)
        points = vertices[np.array([faces[row] for row in rows.tolist()])]
        spokes = points[:, 1:] - points[:, :1]
        spokes = spokes / np.maximum(np.abs(spokes).max((1, 2), keepdims=True), np.finfo(float).tiny)
        turns = np.cross(spokes[:, :-1], spokes[:, 1:])
        normal = turns.sum(1)
        along = (turns * normal[:, None]).sum(2)
        sound[rows] = (along >= -1e-12 * (normal**2).sum(1)[:, None]).all(1)
    found: list[bool] = sound.tolist()
    return found


def _ears(points: NDArray[np.float64], number: int) -> Iterator[tuple[int, int, int]]:
    """Triangles of a polygon [K, 3], as numbers of its corners, by ear clipping in the plane that fits it."""
    spokes = points - points[0]
    spokes = spokes / np.abs(spokes).max()
    normal = np.cross(spokes[1:-1], spokes[2:]).sum(0)
    axis = int(np.abs(normal).argmax())
    flat = spokes[:, [(axis + 1) % 3, (axis + 2) % 3]] * (1, np.sign(normal[axis]) or 1)
    left = list(range(len(points)))
    while len(left) > 3:
        for place, corner in enumerate(left):
            before, after = left[place - 1], left[(place + 1) % len(left)]
            if _is_ear(flat, before, corner, after, left):
                yield before, corner, after
                left.pop(place)
                break
        else:
            raise ValueError(f"face {number + 1} crosses itself")
    if _side(*flat[left]) < 0:
        raise ValueError(f"face {number + 1} crosses itself")
    yield left[0], left[1], left[2]


def _is_ear(flat: NDArray[np.float64], before: int, corner: int, after: int, left: Sequence[int]) -> bool:
    """Whether the triangle at a corner turns to the left and has no other corner of the polygon in it."""
    a, b, c = flat[[before, corner, after]]
    if _side(a, b, c) <= 0:
        return bool((b == a).all() or (b == c).all())  # the corner is there twice
    others = flat[[i for i in left if i not in (before, corner, after)]]
    others = others[(others[:, None] != np.stack([a, b, c])).any(2).all(1)]
    inside = (_side(a, b, others) >= 0) & (_side(b, c, others) >= 0) & (_side(c, a, others) >= 0)
    return not inside.any()


def _side(p: NDArray[np.float64], q: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positive for points [..., 2] to the left of the way from p to q."""
    cross: NDArray[np.float64] = (q[0] - p[0]) * (points[..., 1] - p[1]) - (q[1] - p[1]) * (points[..., 0] - p[0])
    return cross


# --- formats ---------------------------------------------------------------------------------------------------------


def _read_obj(content: bytes) -> tuple[NDArray[np.float64], Faces]:
    """Vertices and faces of a Wavefront OBJ file."""
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    forms = set[tuple[int, ...]]()
    text = content.decode(errors="replace").replace("\\\n", " ")
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        kind, *words = line.partition("#")[0].split() or [""]
        if kind == "v":
            x, y, z = words[:3]
            vertices.append([float(x), float(y), float(z)])
        elif kind == "f":
            face = [int(word.partition("/")[0]) for word in words]
            if len(face) < 3 or 0 in face:
                raise ValueError(f"the face {' '.join(words)!r}")
            form = (len(words), *(word.count("/") for word in words))
            if number == len(lines) and not text.endswith("\n") and forms and form not in forms:
                raise ValueError("it is cut off in its last line")
            forms.add(form)
            faces.append([i - 1 if i > 0 else len(vertices) + i for i in face])
    return np.array(vertices, float).reshape(-1, 3), faces


def _read_off(content: bytes) -> tuple[NDArray[np.float64], Faces]:
    """Vertices and faces of an OFF file, also where its counts stand on the first line, as in ModelNet."""
    text = re.sub(r"#.*", "", content.decode("ascii"))
    lines = iter([words for line in text.splitlines() if (words := line.split())])
    first = " ".join(next(lines, []))
    found = re.fullmatch(r"(?:ST)?C?N?OFF\s*(.*)", first)
    if not found:
        raise ValueError("it does not begin with OFF")
    counts = found[1].split() or next(lines, [])
    n_vertices, n_faces = int(counts[0]), int(counts[1])
    try:
        vertices = np.array([next(lines)[:3] for _ in range(n_vertices)], float).reshape(-1, 3)
        rows = [next(lines) for _ in range(n_faces)]
    except StopIteration:
        raise ValueError(f"it is cut off: it should have {n_vertices:,} vertices and {n_faces:,} faces") from None
    faces = [[int(word) for word in row[1 : 1 + int(row[0])]] for row in rows]
    if any(len(face) != int(row[0]) for face, row in zip(faces, rows, strict=True)):
        raise ValueError("a face has fewer corners than it says")
    return vertices, [face for face in faces if len(face) > 2]


def _read_stl(content: bytes) -> tuple[NDArray[np.float64], Faces]:
    """Vertices and faces of an STL file, binary or in text."""
    count = int.from_bytes(content[80:84], "little")
    if len(content) != 84 + 50 * count and content.lstrip().startswith(b"solid") and b"facet" in content[:2000]:
        words = re.findall(rb"vertex\s+(\S+)\s+(\S+)\s+(\S+)", content)
        facets = len(re.findall(rb"endfacet", content))
        if b"endsolid" not in content or len(words) != 3 * facets:
            raise ValueError("it is cut off: it does not end with endsolid")
        corners = np.array(words, "S").astype(float)
    else:
        if len(content) < 84 or len(content) != 84 + 50 * count:
            raise ValueError(f"it is cut off or damaged: {count:,} triangles do not make {len(content):,} bytes")
        facet = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("kind", "<u2")])
        corners = np.frombuffer(content, facet, count, 84)["corners"].astype(float).reshape(-1, 3)
    return corners.reshape(-1, 3), np.arange(len(corners)).reshape(-1, 3)


READERS: Mapping[str, Callable[[bytes], tuple[NDArray[np.float64], Faces]]] = {
    ".obj": _read_obj, ".off": _read_off, ".ply": read_ply, ".stl": _read_stl, ".glb": read_glb,
}  # fmt: skip


# --- volumes ---------------------------------------------------------------------------------------------------------


def mesh_sdf(mesh: Mesh, points: Tensor, offset: float) -> tuple[Tensor, bool]:
    """Signed distances [K] of points [K, 3], and whether the mesh is closed: each edge in an even number of faces.

    A point is inside if most of RAYS rays from it cross an odd number of faces; a single ray could slip between
    needle-like faces. The orientation of the faces does not matter. If the mesh has holes, the signed distance is the
    distance to its surface minus `offset`.
    """
    library = open3d()
    scene = library.t.geometry.RaycastingScene()
    scene.add_triangles(mesh.vertices.float().numpy(), mesh.faces.numpy().astype(np.uint32))
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
