"""Points on the surface of a shape."""

import torch
from torch import Tensor

from ...harness.core.files import digest
from ...harness.core.protocols import Extractor
from ...harness.core.registry import extractor
from ...harness.shapes.surfaces import fitted, isosurface, surface_points, to_sdf


class Points:
    """Maps volumes [N, 1, R, R, R] in [0, 1] to clouds [N, count, 3] on the zero level of the signed distance."""

    def __init__(self, count: int, radius: float):
        self.count, self.radius = count, radius
        self.fingerprint = digest("points", 1, count, radius)
        self.preprocessing = f"isosurface at 0, {f'fitted to radius {radius:g}' if radius else 'where it is'}"

    def __call__(self, images: Tensor) -> Tensor:
        return torch.stack([self._points(sdf) for sdf in to_sdf(images)]).to(images.device)

    def _points(self, sdf: Tensor) -> Tensor:
        mesh = isosurface(sdf)
        if self.radius and len(mesh.vertices):
            mesh = mesh._replace(vertices=fitted(mesh.vertices, self.radius))
        return surface_points(mesh, self.count)


@extractor
def points(dataset: str, count: int = 2048, radius: float = 0.5) -> Extractor:
    """Points [N, count, 3] spread evenly over the surface of each shape; all at the origin if it has no surface.

    radius: radius of the ball to which each shape is scaled and moved; 0 leaves shapes unchanged. The code of
        arXiv:2206.12055 uses 0.5, and 2,048 points.
    """
    if count < 1 or radius < 0:
        raise ValueError(f"extractor.points: count={count} must be at least 1 and radius={radius} at least 0")
    return Points(count, float(radius))
