"""The PLY format of meshes, in text or binary: vertices and faces (http://paulbourke.net/dataformats/ply/)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
CORNERS = ("vertex_indices", "vertex_index")


class Property(NamedTuple):
    """kind: type of the values; length: type of their number, "" for a single value."""

    name: str
    kind: str
    length: str


class Element(NamedTuple):
    name: str
    rows: int
    properties: list[Property]


def read_ply(content: bytes) -> tuple[NDArray[np.float64], list[list[int]]]:
    """Vertices [V, 3] and faces, as numbers of vertices. Raises ValueError for another file or one that is cut off."""
    head, mark, _ = content.partition(b"end_header")
    end = content.find(b"\n", len(head)) + 1
    if not content.startswith(b"ply") or not mark or not end:
        raise ValueError("it has no header of PLY")
    coding, elements = _header(head.decode("ascii", "replace"))
    body = content[end:]
    columns = _text(body, elements) if coding == "ascii" else _binary(body, elements, ORDERS[coding])
    vertices = np.stack([np.asarray(columns["vertex"][axis], float) for axis in "xyz"], 1)
    if "tristrips" in columns:
        raise ValueError("its faces are strips of triangles; save it as triangles")
    faces = columns.get("face", {})
    corners: list[list[int]] = next((faces[name] for name in CORNERS if name in faces), [])
    return vertices, [list(face) for face in corners if len(face) > 2]


def _header(text: str) -> tuple[str, list[Element]]:
    coding, elements = "", list[Element]()
    for line in text.splitlines():
        match line.split():
            case ["format", word, _]:
                coding = word
            case ["element", name, count]:
                elements.append(Element(name, int(count), []))
            case ["property", "list", length, kind, name]:
                elements[-1].properties.append(Property(name, TYPES[kind], TYPES[length]))
            case ["property", kind, name]:
                elements[-1].properties.append(Property(name, TYPES[kind], ""))
    if coding not in ("ascii", *ORDERS):
        raise ValueError(f"its format is {coding!r}")
    return coding, elements


Columns = dict[str, dict[str, Any]]


def _text(body: bytes, elements: Sequence[Element]) -> Columns:
    lines = iter([words for line in body.decode("ascii").splitlines() if (words := line.split())])
    found: Columns = {}
    for element in elements:
        columns: dict[str, list[Any]] = {entry.name: [] for entry in element.properties}
        for _ in range(element.rows):
            words = next(lines, [])
            place = 0
            for entry in element.properties:
                size = int(words[place]) if entry.length else 1
                place += bool(entry.length)
                values = words[place : place + size]
                if len(values) < size:
                    raise ValueError("it is cut off")
                place += size
                columns[entry.name].append([int(value) for value in values] if entry.length else float(values[0]))
        found[element.name] = columns
    return found


def _binary(body: bytes, elements: Sequence[Element], order: str) -> Columns:
    found: Columns = {}
    place = 0
    for element in elements:
        try:
            columns, place = _rows(body, place, element, order)
        except ValueError:
            raise ValueError("it is cut off") from None
        found[element.name] = columns
    return found


def _rows(body: bytes, place: int, element: Element, order: str) -> tuple[dict[str, Any], int]:
    """The columns of an element, and where the next one begins."""
    if not element.rows:
        return {entry.name: [] for entry in element.properties}, place
    lengths = _lengths(body, place, element, order)
    fields = list[tuple[str, str] | tuple[str, str, tuple[int]]]()
    for number, entry in enumerate(element.properties):
        if entry.length:
            fields.append((f"length {number}", order + entry.length))
            fields.append((entry.name, order + entry.kind, (lengths[number],)))
        else:
            fields.append((entry.name, order + entry.kind))
    row = np.dtype(fields)
    if place + row.itemsize * element.rows <= len(body):
        table = np.frombuffer(body, row, element.rows, place)
        same = [
            (table[f"length {n}"] == lengths[n]).all() for n, entry in enumerate(element.properties) if entry.length
        ]
        if all(same):
            columns = {entry.name: table[entry.name].tolist() for entry in element.properties}
            return columns, place + row.itemsize * element.rows
    return _one_by_one(body, place, element, order)


def _lengths(body: bytes, place: int, element: Element, order: str) -> list[int]:
    """The lengths of the lists of the first row, 1 for single values."""
    found = []
    for entry in element.properties:
        size = 1
        if entry.length:
            (size,) = np.frombuffer(body, order + entry.length, 1, place).tolist()
            place += np.dtype(entry.length).itemsize
        place += size * np.dtype(entry.kind).itemsize
        found.append(size)
    return found


def _one_by_one(body: bytes, place: int, element: Element, order: str) -> tuple[dict[str, Any], int]:
    """The same where lists differ in length."""
    columns: dict[str, list[Any]] = {entry.name: [] for entry in element.properties}
    for _ in range(element.rows):
        for entry in element.properties:
            size = 1
            if entry.length:
                (size,) = np.frombuffer(body, order + entry.length, 1, place).tolist()
                place += np.dtype(entry.length).itemsize
            values = np.frombuffer(body, order + entry.kind, size, place).tolist()
            place += size * np.dtype(entry.kind).itemsize
            columns[entry.name].append(values if entry.length else values[0])
    return columns, place
