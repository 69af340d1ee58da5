"""Procedural shapes, whole and broken, by their signed distance; each has the parts of a style (`sdf_styles.py`).

The frequency of its style defines how typical a shape is. A shape fits in a ball of radius RADIUS.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...harness.shapes.surfaces import grid
from .primitives import Matrix, Part, disc, distance, union, union_on_grid
from .sdf_styles import CATEGORIES, STYLES, Draws

RADIUS = 0.95
STATES = ("whole", "part missing", "part floating", "hole", "melted")
"""A shape is whole or has one of four faults."""
NEEDED = ("wing", "fin", "back", "leg", "runner", "column", "arm", "panel", "drawers", "stock", "barrel")
"""Parts that the fault "part missing" may remove; of a pair it removes one."""
APART = 0.16
"""Minimum gap between a floating part and the rest: two and a half voxels of a grid of 32 points."""
TOUCH = 0.05
"""Parts with a smaller gap than this, measured on a coarse grid, are connected."""


@dataclass(frozen=True)
class Shape:
    """A shape of a category in a style, with everything that its signed distance function needs.

    typicality: probability of its style in its category.
    carved: solids that are subtracted.
    melt, swell, waves: for melted shapes, the width over which parts blend, the distance by which the surface moves
    outwards, and bumps as rows of wave vector, phase and height; otherwise zero and empty.
    """

    category: str
    style: str
    typicality: float
    state: str
    parts: Sequence[Part]
    carved: Sequence[Part] = ()
    melt: float = 0.0
    swell: float = 0.0
    waves: Sequence[Sequence[float]] = ()

    def sdf(self, points: Tensor) -> Tensor:
        """Signed distance [K] at points [K, 3] of [-1, 1]^3; exact outside, and inside where only one part is near.

        For melted shapes and shapes with holes it is an approximation with the correct sign.
        """
        columns = points.T.contiguous()
        return self._finished(union(self.parts, columns, self.melt), columns)

    def on_grid(self, resolution: int, limit: float) -> Tensor:
        """Signed distance [R³] at the points of the grid, cut off at `limit`."""
        if self.melt:
            return self.sdf(grid(resolution)).clamp(max=limit)
        whole = union_on_grid(self.parts, resolution, limit)
        return self._finished(whole, grid(resolution).T.contiguous()).clamp(max=limit) if self.carved else whole

    def _finished(self, sdf: Tensor, points: Tensor) -> Tensor:
        for part in self.carved:
            sdf = torch.maximum(sdf, -distance(part, points))
        for *wave, phase, height in self.waves:
            sdf = sdf + height * torch.sin(torch.tensor(wave).to(points) @ points + phase)
        return sdf - self.swell if self.swell else sdf


def make_shape(index: int, state: str = "whole") -> Shape:
    """Shape number `index`, whole or broken; its category is the index modulo the number of categories.

    The broken variants of an index are derived from the whole shape of the same index.
    """
    category = list(CATEGORIES)[index % len(CATEGORIES)]
    style, parts = CATEGORIES[category](Draws(index))
    whole = Shape(category, style, STYLES[category][style], "whole", _fitted(parts))
    return whole if state == "whole" else BREAK[state](whole, Draws(index, STATES.index(state)))


def _fitted(parts: Sequence[Part]) -> list[Part]:
    """The parts moved and scaled so that their bounding boxes just fit in the ball of radius RADIUS."""
    corners = np.concatenate([part.corners() for part in parts])
    middle: Matrix = (corners.min(0) + corners.max(0)) / 2
    factor = RADIUS / float(np.linalg.norm(corners - middle, axis=1).max())
    return [part.moved(-middle).scaled(factor) for part in parts]


def _missing(shape: Shape, draws: Draws) -> Shape:
    """The shape without one part, and without the parts that only this one connected to the rest."""
    names = sorted({part.name for part in shape.parts if part.name.split()[-1] in NEEDED})
    lost = names[draws.rng.integers(len(names))]
    rest = [part for part in shape.parts if part.name != lost]
    return replace(shape, state="part missing", parts=_connected(rest))


def _connected(parts: Sequence[Part]) -> list[Part]:
    """The parts that are connected to the first one, directly or through others."""
    points = _coarse(1.0)
    solid = torch.stack([distance(part, points) for part in parts])
    found, new = {0}, {0}
    while new:
        reach = solid[list(new)].amin(0)
        new = {i for i in range(len(parts)) if float(torch.maximum(solid[i], reach).min()) < TOUCH} - found
        found |= new
    return [part for i, part in enumerate(parts) if i in found]


def _coarse(half: float) -> Tensor:
    """Points [3, K] on a grid of 32 per axis, over a cube of half side `half`."""
    steps = torch.linspace(-half, half, 32)
    return torch.cartesian_prod(steps, steps, steps).T.contiguous()


def _floating(shape: Shape, draws: Draws) -> Shape:
    """The shape with one part moved outwards, upwards, downwards or sideways until it touches nothing."""
    body = shape.parts[0].name
    names = sorted({part.name for part in shape.parts} - {body})
    chosen = names[draws.rng.integers(len(names))]
    rest = [part for part in shape.parts if part.name != chosen]
    loose = [part for part in shape.parts if part.name == chosen]
    outwards = np.mean([part.centre for part in loose], 0) - np.mean([p.centre for p in rest if p.name == body], 0)
    directions = [outwards / max(float(np.linalg.norm(outwards)), 1e-9), *np.eye(3)[:2], *-np.eye(3)[:2]]
    order = draws.rng.permutation(len(directions))
    points = _coarse(1.4)
    to_rest = union(rest, points)
    for length in np.arange(0.1, 2, 0.05):
        for i in order:
            moved = [part.moved(length * directions[i]) for part in loose]
            if float((to_rest + union(moved, points)).min()) >= APART:
                return replace(shape, state="part floating", parts=_fitted([*rest, *moved]))
    raise AssertionError(f"part {chosen} cannot be moved away from the rest")


def _hole(shape: Shape, draws: Draws) -> Shape:
    """The shape with a round hole through a flat part, or through its largest part if none is flat."""
    reaches = [sorted(part.reach) for part in shape.parts]
    flat = [i for i, reach in enumerate(reaches) if reach[1] >= 0.16]
    chosen = flat[draws.rng.integers(len(flat))] if flat else int(np.argmax([math.prod(reach) for reach in reaches]))
    part, (thin, middle, _) = shape.parts[chosen], reaches[chosen]
    axis = int(np.argmin(part.reach))
    radius = max(draws.between(0.5, 0.65) * min(middle, 0.3), 0.09)
    offset = draws.rng.uniform(-0.35, 0.35, 3) * part.reach
    offset[axis] = 0
    x, y, z = part.axes[:, axis]
    carved = disc("hole", (0, 0, 0), (x, y, z), radius, thin + 0.1, 0.0).moved(part.centre + part.axes @ offset)
    return replace(shape, state="hole", carved=[carved])


def _melted(shape: Shape, draws: Draws) -> Shape:
    waves = [
        (
            *(draws.between(5, 10) * _direction(draws)).tolist(),
            draws.between(0, 2 * math.pi),
            draws.between(0.015, 0.035),
        )
        for _ in range(3)
    ]
    melt, swell = draws.between(0.08, 0.3), draws.between(-0.01, 0.03)
    parts = [part.scaled(0.9) for part in shape.parts]  # leaves room in the grid for swelling
    return replace(shape, state="melted", parts=parts, melt=melt, swell=swell, waves=waves)


def _direction(draws: Draws) -> Matrix:
    direction: Matrix = draws.rng.standard_normal(3)
    return direction / np.linalg.norm(direction)


BREAK: Mapping[str, Callable[[Shape, Draws], Shape]] = {
    "part missing": _missing, "part floating": _floating, "hole": _hole, "melted": _melted,
}  # fmt: skip
