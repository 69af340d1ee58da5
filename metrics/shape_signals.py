"""Quality signals of a single shape, computed from its volume without a comparison to other shapes."""

import torch
from torch import Tensor

from ..harness.core.inputs import Array, samples
from ..harness.core.protocols import Extractor, View
from ..harness.core.registry import extractor, metric
from ..harness.shapes.surfaces import area, component_sizes, enclosed_volume, isosurface, to_sdf, voxel

COLUMNS = ("components", "largest_component", "watertight", "eikonal_residual", "solid_volume", "surface_area")
FAKE = View("fake", "signals")


class Signals:
    """Maps volumes [N, 1, R, R, R] in [0, 1] to float32 [N, 6], the signals in the order of COLUMNS."""

    fingerprint = "signals 2"
    preprocessing = "distances, isosurface at 0"

    def __call__(self, images: Tensor) -> Tensor:
        return torch.tensor([signals_of(sdf) for sdf in to_sdf(images)]).to(images.device)


@extractor
def signals(dataset: str) -> Extractor:
    """Signals [N, 6] of each shape: connected parts, closed surface, Eikonal residual, volume, area."""
    return Signals()


def signals_of(sdf: Tensor) -> list[float]:
    """The signals of one grid of signed distances [R, R, R], in the order of COLUMNS.

    A grid without a surface has 0 parts, share, volume and area. Raises ValueError when a distance is not finite.
    """
    if not sdf.isfinite().all():
        raise ValueError("a shape has signed distances that are not finite: remove or repair it")
    inside, mesh = sdf < 0, isosurface(sdf)
    sizes = component_sizes(inside)
    border = any(bool(inside.select(axis, side).any()) for axis in range(3) for side in (0, -1))
    share = float(sizes[0] / sizes.sum()) if len(sizes) else 0.0
    return [len(sizes), share, float(not border), eikonal(sdf), enclosed_volume(mesh), area(mesh)]


def eikonal(sdf: Tensor) -> float:
    """Mean of (|grad f| - 1)² over the grid points within one voxel of the surface; 0 without such points.

    The gradient is by central differences of distances [R, R, R]. A true distance has residual 0, except at edges,
    where its gradient is discontinuous.
    """
    step = voxel(sdf.shape[0])
    middle = (slice(1, -1),) * 3
    differences = [
        (sdf.narrow(axis, 2, len(sdf) - 2) - sdf.narrow(axis, 0, len(sdf) - 2)) / (2 * step) for axis in range(3)
    ]
    inner = [tuple(slice(None) if a == axis else slice(1, -1) for a in range(3)) for axis in range(3)]
    squares = [d[where].square() for d, where in zip(differences, inner, strict=True)]
    near = sdf[middle].abs() <= step
    residual = (torch.stack(squares).sum(0).sqrt() - 1).square()[near]
    return float(residual.mean()) if len(residual) else 0.0


@metric(better="lower", kind="sample", modality="shape", source="https://doi.org/10.1103/PhysRevB.14.3438", fake=FAKE)
def components(fake: Array) -> Tensor:
    """Number of connected parts of each solid, float64 [N]: 1 without loose parts, 0 without a surface."""
    return _column(fake, "components")


@metric(better="higher", kind="sample", modality="shape", source="https://doi.org/10.1103/PhysRevB.14.3438", fake=FAKE)
def largest_component(fake: Array) -> Tensor:
    """Share of the solid's volume in its largest connected part, float64 [N] in [0, 1]."""
    return _column(fake, "largest_component")


@metric(better="higher", kind="sample", modality="shape", source="https://doi.org/10.1145/37401.37422", fake=FAKE)
def watertight(fake: Array) -> Tensor:
    """1 if the surface is closed within the grid, 0 if the shape touches the border of the grid, float64 [N]."""
    return _column(fake, "watertight")


@metric(better="lower", kind="sample", modality="shape", source="arXiv:2002.10099", fake=FAKE)
def eikonal_residual(fake: Array) -> Tensor:
    """Mean of (|grad f| - 1)² near the surface, float64 [N], at least 0: 0 for a true distance function."""
    return _column(fake, "eikonal_residual")


@metric(
    better="neither",
    kind="sample",
    modality="shape",
    source="https://doi.org/10.1109/ICIP.2001.958278",
    version=2,
    fake=FAKE,
)
def solid_volume(fake: Array) -> Tensor:
    """Volume of each solid within the grid, float64 [N] in [0, 8]: a confounder to control for."""
    return _column(fake, "solid_volume")


@metric(
    better="neither",
    kind="sample",
    modality="shape",
    source="https://doi.org/10.1145/37401.37422",
    version=2,
    fake=FAKE,
)
def surface_area(fake: Array) -> Tensor:
    """Area of each surface, float64 [N], at least 0: a confounder to control for."""
    return _column(fake, "surface_area")


def _column(fake: Array, name: str) -> Tensor:
    (x,) = samples(fake=fake)
    if x.shape[1] != len(COLUMNS):
        raise ValueError(
            f"fake has {x.shape[1]} columns; give the {len(COLUMNS)} that the extractor `signals` computes"
        )
    return x[:, COLUMNS.index(name)].double()
