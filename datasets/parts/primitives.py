"""Solids with exact signed distance functions, and unions of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Vector = tuple[float, float, float]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A solid at a position in space.

    name:   its role in the shape, such as "left wing"; a fault removes or moves all parts of one name together.
    kind:   a key of KINDS. size: the lengths that this kind needs.
    reach:  half lengths of its bounding box along its own axes.
    centre: its position [3]; axes [3, 3]: its own orthonormal axes as columns.
    """

    name: str
    kind: str
    size: tuple[float, ...]
    reach: Vector
    centre: Matrix
    axes: Matrix

    def moved(self, by: Matrix) -> "Part":
        return replace(self, centre=self.centre + by)

    def scaled(self, factor: float) -> "Part":
        size, (x, y, z) = tuple(factor * s for s in self.size), self.reach
        return replace(self, size=size, reach=(factor * x, factor * y, factor * z), centre=factor * self.centre)

    def turned(self, turn: Matrix, about: Sequence[float]) -> "Part":
        """The part transformed by an orthogonal matrix `turn` about a point."""
        return replace(self, centre=turn @ (self.centre - about) + about, axes=turn @ self.axes)

    def mirrored(self, name: str) -> "Part":
        """The mirror image on the other side of the plane x = 0, with another name."""
        return replace(self.turned(np.diag([-1.0, 1, 1]), (0, 0, 0)), name=name)

    def corners(self) -> Matrix:
        """Corners [8, 3] of the bounding box."""
        signs = np.array(np.meshgrid((-1, 1), (-1, 1), (-1, 1))).reshape(3, 8)
        corners: Matrix = (self.axes @ (signs * np.array(self.reach)[:, None])).T + self.centre
        return corners


def box(name: str, centre: Vector, half: Vector, rounding: float = 0.02) -> Part:
    """A box of half lengths `half`, with edges rounded to radius `rounding`."""
    return Part(name, "box", (*half, min(rounding, *half)), half, np.array(centre), np.eye(3))


def rod(name: str, start: Vector, end: Vector, radius: float, end_radius: float | None = None) -> Part:
    """The convex hull of two balls at `start` and `end`."""
    second, a, b = radius if end_radius is None else end_radius, np.array(start), np.array(end)
    half, wide = float(np.linalg.norm(b - a)) / 2, max(radius, second)
    return Part(name, "rod", (radius, second, half), (wide, half + wide, wide), (a + b) / 2, along(b - a))


def disc(name: str, centre: Vector, axis: Vector, radius: float, half: float, rounding: float = 0.015) -> Part:
    """A cylinder with its radius, half height and radius of the rounded edges."""
    size = (radius, half, min(rounding, radius, half))
    return Part(name, "disc", size, (radius, half, radius), np.array(centre), along(np.array(axis)))


def ring(name: str, centre: Vector, axis: Vector, radius: float, thickness: float) -> Part:
    """A torus about an axis; `thickness` is the radius of its tube."""
    wide = radius + thickness
    return Part(name, "ring", (radius, thickness), (wide, thickness, wide), np.array(centre), along(np.array(axis)))


def plate(name: str, outline: Sequence[tuple[float, float]], plane: str, at: float, half: float) -> Part:
    """A flat part: a convex quadrilateral in a plane such as "xz", at position `at` on the third axis.

    Its thickness is 2 `half`.
    """
    a, b = ("xyz".index(axis) for axis in plane)
    c = 3 - a - b
    corners = np.array(outline, float)
    area = sum(p[0] * q[1] - p[1] * q[0] for p, q in zip(corners, np.roll(corners, -1, 0), strict=True))
    corners = corners if area > 0 else corners[::-1]
    middle = (corners.min(0) + corners.max(0)) / 2
    centre = np.zeros(3)
    centre[[a, b]], centre[c] = middle, at
    x, y = (corners.max(0) - corners.min(0)) / 2
    size = (*(corners - middle).ravel().tolist(), half)
    return Part(name, "plate", size, (float(x), float(y), half), centre, np.eye(3)[:, [a, b, c]])


def along(direction: Matrix) -> Matrix:
    """Orthonormal axes [3, 3] as columns; the second points along `direction`."""
    y = direction / np.linalg.norm(direction)
    x = np.cross(y, np.eye(3)[np.argmin(np.abs(y))])
    x /= np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)], 1)


def rotation(axis: str, degrees: float) -> Matrix:
    """The matrix [3, 3] of a rotation about a coordinate axis."""
    a, b = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    turn, angle = np.eye(3), math.radians(degrees)
    turn[a, a] = turn[b, b] = math.cos(angle)
    turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
    return turn


def distance(part: Part, points: Tensor) -> Tensor:
    """Exact signed distance [K] of points [3, K] to a part."""
    axes = torch.from_numpy(part.axes).to(points)
    local = torch.addmm(-(axes.T @ torch.from_numpy(part.centre).to(points))[:, None], axes.T, points)
    return KINDS[part.kind](local[0], local[1], local[2], part.size)


def union(parts: Sequence[Part], points: Tensor, melt: float = 0.0) -> Tensor:
    """Signed distance [K] of points [3, K] to a union; exact outside, a lower bound of the depth inside.

    melt: the width over which parts blend into each other by a polynomial smooth minimum, which is not exact.
    """
    total = distance(parts[0], points)
    for part in parts[1:]:
        one = distance(part, points)
        if melt:
            overlap = (melt - (total - one).abs()).clamp_(min=0)
            total = torch.minimum(total, one).sub_(overlap.square_() / (4 * melt))
        else:
            total = torch.minimum(total, one)
    return total


def union_on_grid(parts: Sequence[Part], resolution: int, limit: float) -> Tensor:
    """`union` at the points of the grid, float32 [R³], cut off at `limit`; each part is evaluated only near itself."""
    steps = torch.linspace(-1, 1, resolution)
    total = torch.full((resolution,) * 3, limit)
    for part in parts:
        corners = part.corners()
        low = np.floor((corners.min(0) - limit + 1) * (resolution - 1) / 2).astype(int).clip(0, resolution)
        high = (np.ceil((corners.max(0) + limit + 1) * (resolution - 1) / 2).astype(int) + 1).clip(0, resolution)
        near = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
        points = torch.stack(torch.meshgrid(*(steps[axis] for axis in near), indexing="ij"))
        if points.numel():
            total[near] = torch.minimum(total[near], distance(part, points.flatten(1)).view(points.shape[1:]))
    return total.flatten()


def _box(x: Tensor, y: Tensor, z: Tensor, size: Sequence[float]) -> Tensor:
    *half, rounding = size
    return _square_corner(*(axis.abs() - (h - rounding) for axis, h in zip((x, y, z), half, strict=True))) - rounding


def _rod(x: Tensor, y: Tensor, z: Tensor, size: Sequence[float]) -> Tensor:
    """The union of balls along the axis, whose radius changes linearly; `place` is the centre of the nearest ball."""
    radius, end_radius, half = size
    slope = (radius - end_radius) / (2 * half)
    if abs(slope) >= 1:  # one ball contains the other
        end = -half if radius > end_radius else half
        return torch.sqrt(x * x + (y - end) ** 2 + z * z) - max(radius, end_radius)
    side = torch.sqrt(x * x + z * z)
    place = (y - side * (slope / math.sqrt(1 - slope * slope))).clamp_(-half, half)
    return torch.hypot(side, y - place) - (radius - slope * (place + half))


def _disc(x: Tensor, y: Tensor, z: Tensor, size: Sequence[float]) -> Tensor:
    radius, half, rounding = size
    return _square_corner(torch.hypot(x, z) - (radius - rounding), y.abs() - (half - rounding)) - rounding


def _ring(x: Tensor, y: Tensor, z: Tensor, size: Sequence[float]) -> Tensor:
    radius, thickness = size
    return torch.hypot(torch.hypot(x, z) - radius, y) - thickness


def _plate(x: Tensor, y: Tensor, z: Tensor, size: Sequence[float]) -> Tensor:
    *outline, half = size
    corners = [(outline[i], outline[i + 1]) for i in range(0, 8, 2)]
    squared, inside = torch.full_like(x, math.inf), torch.ones_like(x, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ex, ey, dx, dy = bx - ax, by - ay, x - ax, y - ay
        inside &= ex * dy >= ey * dx
        t = ((ex * dx + ey * dy) / max(ex * ex + ey * ey, 1e-12)).clamp_(0, 1)
        squared = torch.minimum(squared, (dx - ex * t).square_() + (dy - ey * t).square_())
    return _square_corner(squared.sqrt_() * torch.where(inside, -1.0, 1.0), z.abs() - half)


def _square_corner(*sides: Tensor) -> Tensor:
    """Signed distance to the corner of two or three perpendicular faces, from the signed distances to the faces."""
    deepest = sides[0]
    for side in sides[1:]:
        deepest = torch.maximum(deepest, side)
    outside = sum((side.clamp(min=0).square_() for side in sides), torch.zeros(()))
    return outside.sqrt() + deepest.clamp(max=0)


KINDS: Mapping[str, Callable[[Tensor, Tensor, Tensor, Sequence[float]], Tensor]] = {
    "box": _box, "rod": _rod, "disc": _disc, "ring": _ring, "plate": _plate,
}  # fmt: skip
