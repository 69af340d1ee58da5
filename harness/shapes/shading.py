"""Pictures of shapes without a graphics card: rays marched through signed distances on a grid, in torch."""

import math

import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from .surfaces import TRUNCATION, voxel

DISTANCE = 2.141
"""Of the camera from the origin, as in the code of SDF-StyleGAN (arXiv:2206.12055)."""
FIELD = 60
"""Degrees that a picture is wide and high: all of the unit ball is seen."""
STEPS = 60
"""Of a ray at most; a ray that grazes the surface is stopped there."""
CLOSE = 0.01
"""Voxels from the surface at which a ray has arrived."""


def dodecahedron() -> Tensor:
    """The 20 corners of a dodecahedron, float32 [20, 3], as directions to look from."""
    golden = (1 + math.sqrt(5)) / 2
    signs = (-1.0, 1.0)
    corners = [(x, y, z) for x in signs for y in signs for z in signs]
    for a in signs:
        for b in signs:
            p, q = a / golden, b * golden
            corners += [(0.0, p, q), (p, q, 0.0), (q, 0.0, p)]
    return F.normalize(torch.tensor(corners, dtype=torch.float32))


def turntable(count: int, height: float = 0.5) -> Tensor:
    """Directions [count, 3] all round the y axis, looking down with `height` on 1 of run."""
    angles = torch.arange(count) / count * 2 * math.pi
    return F.normalize(torch.stack([angles.sin(), torch.full_like(angles, height), angles.cos()], 1))


def shade(sdf: Tensor, views: Tensor, size: int, level: float = 0.0) -> Tensor:
    """Pictures [N, V, size, size] in [0, 1] of distances [N, R, R, R], looking at the origin from directions [V, 3].

    Perspective, y up, white behind; the lamp is at the camera, so a face is the brighter the more it faces the viewer
    (0.9 at most, 0.1 at the edge).
    """
    return torch.stack([_shade(one - level, views.to(sdf), size) for one in sdf])


def _shade(sdf: Tensor, views: Tensor, size: int) -> Tensor:
    step = voxel(sdf.shape[0])
    eyes, rays = DISTANCE * views, _rays(views, size).flatten(1, 2)  # [V, 3], [V, pixels, 3]
    pictures = sdf.new_ones(rays.shape[:2])
    # Where a ray is within the cube: the slabs between opposite faces, cut with one another.
    inverse = 1 / torch.where(rays.abs() < 1e-9, 1e-9, rays)
    one, other = (-1 - eyes[:, None]) * inverse, (1 - eyes[:, None]) * inverse
    near, far = torch.minimum(one, other).amax(-1).clamp(min=0), torch.maximum(one, other).amin(-1)
    view, pixel = (near < far).nonzero(as_tuple=True)
    start, way, depth, end = eyes[view], rays[view, pixel], near[view, pixel], far[view, pixel]
    ahead, going = _ahead(sdf, step), torch.arange(len(view), device=sdf.device)
    for _ in range(STEPS):
        free = _lookup(ahead, start[going] + depth[going, None] * way[going])
        depth[going] += free
        going = going[(free.abs() > CLOSE * step) & (depth[going] < end[going])]
        if not len(going):
            break
    hit = depth < end
    view, pixel, way, point = view[hit], pixel[hit], way[hit], (start + depth[:, None] * way)[hit]
    # The gradient, from the four corners of a small tetrahedron round each point.
    corners = torch.tensor([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]]).to(sdf)
    around = point[:, None] + 0.5 * step * corners
    normal = F.normalize(_lookup(sdf, around.flatten(0, 1)).view(-1, 4) @ corners)
    pictures[view, pixel] = 0.1 + 0.8 * -(normal * way).sum(1).clamp(max=0)
    return pictures.view(len(views), size, size)


def _ahead(sdf: Tensor, step: float) -> Tensor:
    """How far a ray may go on: where distances were cut off at two voxels, longer ones, no longer than true."""
    limit = TRUNCATION * step
    far = sdf > 0.99 * limit
    if far.all():
        return torch.full_like(sdf, 10.0)
    reach = torch.from_numpy(ndimage.distance_transform_edt(far.cpu().numpy())).to(sdf)
    return torch.where(far, (reach * step).clamp(min=limit), sdf)


def _rays(views: Tensor, size: int) -> Tensor:
    """Unit directions [V, size, size, 3] of the rays through the pixels, from the upper left on."""
    forward = -views
    right = F.normalize(torch.linalg.cross(forward, views.new_tensor([0.0, 1.0, 0.0]).expand_as(forward)))
    up = torch.linalg.cross(right, forward)
    half = math.tan(math.radians(FIELD / 2))
    across = ((torch.arange(size, device=views.device) + 0.5) / size * 2 - 1) * half
    rays = forward[:, None, None] + across[:, None] * right[:, None, None] - across[:, None, None] * up[:, None, None]
    return F.normalize(rays, dim=-1)


def _lookup(sdf: Tensor, points: Tensor) -> Tensor:
    """Distances [K] at points [K, 3], trilinear between those of the grid; outside the cube, those to it."""
    at = points.flip(-1)[None, None, None]
    inside = F.grid_sample(sdf[None, None], at, padding_mode="border", align_corners=True).flatten()
    return torch.maximum(inside, points.abs().amax(1) - 1)
