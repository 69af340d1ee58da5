"""Pictures of shapes without a graphics card: torch marches rays through signed distances on a grid."""

import math

import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from .surfaces import TRUNCATION, voxel

DISTANCE = 2.141
"""Distance of the camera from the origin, as in the code of SDF-StyleGAN (arXiv:2206.12055)."""
FIELD = 60
"""Field of view in degrees, horizontal and vertical; it contains the whole unit ball."""
STEPS = 60
"""Maximum number of steps of a ray. A ray that grazes the surface stops after so many."""
CLOSE = 0.01
"""A ray has reached the surface when it is within this many voxels of it."""


def dodecahedron() -> Tensor:
    """The 20 corners of a dodecahedron as unit view directions, float32 [20, 3]."""
    golden = (1 + math.sqrt(5)) / 2
    signs = (-1.0, 1.0)
    corners = [(x, y, z) for x in signs for y in signs for z in signs]
    for a in signs:
        for b in signs:
            p, q = a / golden, b * golden
            corners += [(0.0, p, q), (p, q, 0.0), (q, 0.0, p)]
    return F.normalize(torch.tensor(corners, dtype=torch.float32))


def turntable(count: int, height: float = 0.5) -> Tensor:
    """Unit view directions [count, 3] all round the y axis, from above: they rise by `height` per unit of distance."""
    angles = torch.arange(count) / count * 2 * math.pi
    return F.normalize(torch.stack([angles.sin(), torch.full_like(angles, height), angles.cos()], 1))


def shade(sdf: Tensor, views: Tensor, size: int, level: float = 0.0) -> Tensor:
    """Pictures [N, V, size, size] in [0, 1] of distances [N, R, R, R], looking at the origin from directions [V, 3].

    The projection is perspective, y points up, and the background is white. The lamp is at the camera: a face that
    looks at the viewer has brightness 0.9, and it darkens to 0.1 where it is seen edge-on.
    """
    return torch.stack([_shade(one - level, views.to(sdf), size) for one in sdf])


def _shade(sdf: Tensor, views: Tensor, size: int) -> Tensor:
    step = voxel(sdf.shape[0])
    eyes, rays = DISTANCE * views, _rays(views, size).flatten(1, 2)  # [V, 3], [V, pixels, 3]
    pictures = sdf.new_ones(rays.shape[:2])
    # A ray is within the cube where it is within all three slabs between opposite faces.
    inverse = 1 / torch.where(rays.abs() < 1e-9, 1e-9, rays)
    one, other = (-1 - eyes[:, None]) * inverse, (1 - eyes[:, None]) * inverse
    near, far = torch.minimum(one, other).amax(-1).clamp(min=0), torch.maximum(one, other).amin(-1)
    view, pixel = (near < far).nonzero(as_tuple=True)
    start, way, depth, end = eyes[view], rays[view, pixel], near[view, pixel], far[view, pixel]
    safe, active = _safe_steps(sdf, step), torch.arange(len(view), device=sdf.device)
    for _ in range(STEPS):
        advance = _lookup(safe, start[active] + depth[active, None] * way[active])
        depth[active] += advance
        active = active[(advance.abs() > CLOSE * step) & (depth[active] < end[active])]
        if not len(active):
            break
    hit = depth < end
    view, pixel, way, point = view[hit], pixel[hit], way[hit], (start + depth[:, None] * way)[hit]
    # The normal is the gradient of the distance, estimated from the corners of a small tetrahedron round each point.
    corners = torch.tensor([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]]).to(sdf)
    around = point[:, None] + 0.5 * step * corners
    normal = F.normalize(_lookup(sdf, around.flatten(0, 1)).view(-1, 4) @ corners)
    pictures[view, pixel] = 0.1 + 0.8 * -(normal * way).sum(1).clamp(max=0)
    return pictures.view(len(views), size, size)


def _safe_steps(sdf: Tensor, step: float) -> Tensor:
    """Distances [R, R, R] that a ray can advance from each point without crossing the surface.

    Volumes store no distance above two voxels. There a distance transform gives a longer one that is still a lower
    bound of the true distance.
    """
    limit = TRUNCATION * step
    far = sdf > 0.99 * limit
    if far.all():
        return torch.full_like(sdf, 10.0)
    reach = torch.from_numpy(ndimage.distance_transform_edt(far.cpu().numpy())).to(sdf)
    return torch.where(far, (reach * step).clamp(min=limit), sdf)


def _rays(views: Tensor, size: int) -> Tensor:
    """Unit directions [V, size, size, 3] of the rays through the pixels; the first pixel is the upper left one."""
    forward = -views
    right = F.normalize(torch.linalg.cross(forward, views.new_tensor([0.0, 1.0, 0.0]).expand_as(forward)))
    up = torch.linalg.cross(right, forward)
    half = math.tan(math.radians(FIELD / 2))
    across = ((torch.arange(size, device=views.device) + 0.5) / size * 2 - 1) * half
    rays = forward[:, None, None] + across[:, None] * right[:, None, None] - across[:, None, None] * up[:, None, None]
    return F.normalize(rays, dim=-1)


def _lookup(sdf: Tensor, points: Tensor) -> Tensor:
    """Distances [K] at points [K, 3]: trilinear interpolation on the grid; outside the cube, the distance to it."""
    at = points.flip(-1)[None, None, None]
    inside = F.grid_sample(sdf[None, None], at, padding_mode="border", align_corners=True).flatten()
    return torch.maximum(inside, points.abs().amax(1) - 1)
