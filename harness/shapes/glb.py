"""Binary glTF files: the triangles of their scene (https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html)."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
TRIANGLES = 4
DEPTH = 100
"""How deep nodes may be nested."""
Matrix = NDArray[np.float64]


def read_glb(content: bytes) -> tuple[Matrix, NDArray[np.int64]]:
    """Vertices [V, 3] and triangles [F, 3] of the scene, each node moved as it says.

    Raises ValueError for another file, one that is cut off, or one whose geometry is compressed or not of triangles.
    """
    if content[:4] != b"glTF" or int.from_bytes(content[8:12], "little") != len(content):
        raise ValueError("it is cut off, or no binary glTF file")
    chunks = dict(_chunks(content))
    scene = json.loads(chunks[b"JSON"])
    if required := [name for name in scene.get("extensionsRequired", []) if "compression" in name or "quant" in name]:
        raise ValueError(f"it needs {required[0]}; save it without")
    buffers = [_buffer(entry, chunks) for entry in scene.get("buffers", [])]
    vertices, faces, count = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
    for mesh, matrix in _placed(scene):
        for part in scene["meshes"][mesh]["primitives"]:
            if part.get("mode", TRIANGLES) != TRIANGLES:
                raise ValueError("it has points, lines or strips; save it as triangles")
            points = _array(scene, buffers, part["attributes"]["POSITION"]).astype(float)
            corners = np.arange(len(points))
            if "indices" in part:
                corners = _array(scene, buffers, part["indices"])[:, 0].astype(np.int64)
            vertices.append(points @ matrix[:3, :3].T + matrix[:3, 3])
            faces.append(corners.reshape(-1, 3) + count)
            count += len(points)
    return np.concatenate(vertices), np.concatenate(faces)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 12
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "little")
        yield content[place + 4 : place + 8].rstrip(b"\0"), content[place + 8 : place + 8 + size]
        place += 8 + size


def _buffer(entry: Mapping[str, Any], chunks: Mapping[bytes, bytes]) -> bytes:
    if "uri" not in entry:
        return chunks[b"BIN"]
    head, mark, text = str(entry["uri"]).partition(";base64,")
    if not head.startswith("data:") or not mark:
        raise ValueError("its geometry is in another file; save it as one file")
    return base64.b64decode(text)


def _array(scene: Mapping[str, Any], buffers: list[bytes], number: int) -> NDArray[Any]:
    """The values [N, C] of an accessor."""
    accessor = scene["accessors"][number]
    if "sparse" in accessor or "bufferView" not in accessor:
        raise ValueError("its geometry is stored sparsely; save it without")
    view = scene["bufferViews"][accessor["bufferView"]]
    dtype, width, rows = np.dtype(TYPES[accessor["componentType"]]), WIDTHS[accessor["type"]], accessor["count"]
    stride = view.get("byteStride", dtype.itemsize * width)
    begin = accessor.get("byteOffset", 0)
    held = buffers[view["buffer"]][view.get("byteOffset", 0) :][: view["byteLength"]]
    if begin < 0 or rows < 1 or len(held) < begin + stride * (rows - 1) + dtype.itemsize * width:
        raise ValueError("it is cut off")
    return np.ndarray((rows, width), dtype, held, begin, (stride, dtype.itemsize))


def _placed(scene: Mapping[str, Any]) -> Iterator[tuple[int, Matrix]]:
    """The meshes of the scene and where they are; all of the file if it has no scene."""
    nodes = scene.get("nodes", [])
    below = {child for node in nodes for child in node.get("children", [])}
    roots = [number for number in range(len(nodes)) if number not in below]
    if scene.get("scenes"):
        roots = scene["scenes"][scene.get("scene", 0)].get("nodes", [])

    def visit(number: int, above: Matrix, depth: int) -> Iterator[tuple[int, Matrix]]:
        if depth > DEPTH:
            raise ValueError("its nodes are nested too deeply")
        node = nodes[number]
        matrix = above @ _matrix(node)
        if "mesh" in node:
            yield node["mesh"], matrix
        for child in node.get("children", []):
            yield from visit(child, matrix, depth + 1)

    for root in roots:
        yield from visit(root, np.eye(4), 0)


def _matrix(node: Mapping[str, Any]) -> Matrix:
    """The matrix [4, 4] of a node: given as such, column by column, or by translation, rotation x y z w, and scale."""
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    turned = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turned * np.array(node.get("scale", (1, 1, 1)), float)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix
