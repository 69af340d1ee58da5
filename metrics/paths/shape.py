"""Descriptions of a path: how even, straight and smooth it is under a distance, and how its images change along it.

Most functions take the points [..., n + 1, F] of the vertices in the embedding of a distance, see `paths.distances`.
None is published for paths of least energy, whose paper reports no numbers.
"""

import torch
from torch import Tensor

from ...harness.core.precision import full_precision
from .distances import Embedding
from .energy import Decode, energy, onto_sphere, step_lengths


def jensen_gap(lengths: Tensor) -> Tensor:
    """E / length^2 = n sum d_i^2 / (sum d_i)^2, at least 1; 1 at constant speed. NaN for a path of length 0."""
    return energy(lengths) / lengths.sum(-1).square()


def speed_variation(lengths: Tensor) -> Tensor:
    """Standard deviation of the step lengths divided by their mean, >= 0; its square is the Jensen gap minus 1."""
    return lengths.std(-1, correction=0) / lengths.mean(-1)


def straightness(points: Tensor) -> Tensor:
    """Chord length divided by path length, |e_n - e_0| / sum_i d_i, in [0, 1]; 1 is straight; NaN for length 0."""
    return _chord(points) / step_lengths(points).sum(-1)


def turning(points: Tensor) -> Tensor:
    """Sum of the angles between successive steps, in radians; 0 for a straight path."""
    steps = torch.nn.functional.normalize(points.diff(dim=-2), dim=-1)
    before, after = steps[..., :-1, :], steps[..., 1:, :]
    apart, together = (torch.linalg.vector_norm(v, dim=-1) for v in (after - before, after + before))
    angles: Tensor = 2 * torch.atan2(apart, together)  # accurate for small angles, unlike arccos
    return angles.sum(-1)


def max_end_distance(points: Tensor) -> Tensor:
    """max_i min(|e_i - e_0|, |e_i - e_n|) / |e_n - e_0|: largest distance to both ends; 1/2 for a straight path.

    It measures content that is in neither end, which the paper calls "hallucination" but does not quantify.
    """
    from_start, from_end = (
        torch.linalg.vector_norm(points - points[..., i : i + 1 or None, :], dim=-1) for i in (0, -1)
    )
    furthest: Tensor = torch.minimum(from_start, from_end).amax(-1) / _chord(points)
    return furthest


def _chord(points: Tensor) -> Tensor:
    chord: Tensor = torch.linalg.vector_norm(points[..., -1, :] - points[..., 0, :], dim=-1)
    return chord


def luma(images: Tensor) -> Tensor:
    """Luma [..., H, W] of images [..., 1 or 3, H, W]: the grey level, or 0.299 R + 0.587 G + 0.114 B."""
    if images.shape[-3] == 1:
        return images.squeeze(-3)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype, device=images.device)
    return torch.einsum("...chw,c->...hw", images, weights)


def contrast(images: Tensor) -> Tensor:
    """Standard deviation of the luma of images [..., n + 1, C, H, W], divided by its mean over both ends."""
    spread = luma(images).flatten(-2).std(-1, correction=0)
    return spread / spread[..., [0, -1]].mean(-1, keepdim=True)


def brightness(images: Tensor) -> Tensor:
    """Mean luma of images [..., n + 1, C, H, W] minus its mean over both ends; negative is darker than the ends."""
    light = luma(images).flatten(-2).mean(-1)
    return light - light[..., [0, -1]].mean(-1, keepdim=True)


@full_precision()
def path_ppl(
    decode: Decode, path: Tensor, distance: Embedding, radius: float | None = None, epsilon: float = 1e-4
) -> Tensor:
    """Mean of m(g(t), g(t + epsilon))^2 / epsilon^2 along paths of vertices [P, n + 1, ...], [P]; lower is smoother.

    The perceptual path length of arXiv:1812.04948, by forward differences at the n midpoints of a path of vertices.
    radius: as in `optimise_path`; the points between vertices are also projected onto the sphere.
    """
    step = epsilon * (path.shape[1] - 1) * path.diff(dim=1)
    middle = (path[:, :-1] + path[:, 1:]) / 2
    ends = [distance(decode(onto_sphere(codes, radius).flatten(0, 1))) for codes in (middle, middle + step)]
    squared: Tensor = (ends[1] - ends[0]).square().sum(1) / epsilon**2
    return squared.view(middle.shape[:2]).mean(1)
