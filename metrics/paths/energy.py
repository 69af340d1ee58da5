"""Paths of minimum energy in a latent space (Laine 2018, https://openreview.net/forum?id=BJslDBkwG).

A path has n + 1 vertices z_0 ... z_n, and d_i is the distance between the images of vertices i - 1 and i. Its energy

    E = n^(2p-1) sum_i d_i^(2p)

approximates the integral of the squared speed for power p = 1, and of its fourth power for p = 2. The formula of the
paper, read literally, is p = 2: it squares a distance that is already squared. The factor makes energies for different
n comparable; the paper has no factor, but it does not change the optimal path. For p = 1, E >= length^2, with equality
at constant speed. The paper reports no numbers and has no public code. The docstrings state each choice that it leaves
open.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...harness.core.precision import full_precision
from .distances import Embedding
from .distances import equalised as equalised
from .distances import feature_distance as feature_distance
from .distances import pixel_distance as pixel_distance
from .distances import vgg_distance as vgg_distance

Decode = Callable[[Tensor], Tensor]
"""Maps latents [N, ...] to images [N, ...], differentiably; each image depends only on its own latent."""

ANTIPODAL = 1e-5
"""Ends are antipodal if their mean is shorter than this share of their norm: no unique arc joins them."""


@full_precision()
def path_energy(path: Tensor, distance: Embedding, power: int = 1) -> Tensor:
    """Energy [P], at least 0, of paths given as the images of their vertices [P, n + 1, ...]; lower is smoother.

    Raises ValueError for a power other than 1 and 2, or fewer than two vertices.
    """
    if path.ndim < 3 or path.shape[1] < 2:
        raise ValueError(f"path has shape {list(path.shape)}; paths are [P, n + 1, ...] with at least 2 vertices each")
    return energy(step_lengths(distance(path.flatten(0, 1)).view(*path.shape[:2], -1)), power)


def step_lengths(points: Tensor) -> Tensor:
    """d_i = |e_i - e_(i-1)|, [..., n] float64, for points [..., n + 1, F] of the vertices under an embedding."""
    lengths: Tensor = torch.linalg.vector_norm(points.double().diff(dim=-2), dim=-1)
    return lengths


def energy(lengths: Tensor, power: int = 1) -> Tensor:
    """E = n^(2p-1) sum_i d_i^(2p), [...], of step lengths d [..., n]. ValueError for a power other than 1 and 2."""
    _require_power(power)
    total: Tensor = lengths.shape[-1] ** (2 * power - 1) * lengths.pow(2 * power).sum(-1)
    return total


# Curves that do not depend on the images


def lerp(start: Tensor, end: Tensor, segments: int) -> Tensor:
    """Straight lines [P, segments + 1, ...] from start [P, ...] to end [P, ...]."""
    t = torch.linspace(0, 1, segments + 1, dtype=start.dtype, device=start.device)
    t = t.view(1, -1, *[1] * (start.ndim - 1))
    return start[:, None] * (1 - t) + end[:, None] * t


def nlerp(start: Tensor, end: Tensor, segments: int, radius: float) -> Tensor:
    """Straight lines projected onto the sphere of that radius: the paper's linear baseline for latents on a sphere.

    Raises ValueError for ends that are antipodal or not on the sphere.
    """
    _require_on_sphere(start, end, radius)
    return _fixed_ends(onto_sphere(lerp(start, end, segments), radius), start, end)


def slerp(start: Tensor, end: Tensor, segments: int) -> Tensor:
    """sin((1 - t) w) / sin(w) start + sin(t w) / sin(w) end, [P, segments + 1, ...]; w is the angle between the ends.

    Shoemake 1985; arXiv:1609.04468 for latents. The curve is an arc of a great circle if both ends have the same norm.
    Raises ValueError for ends that are zero or antipodal, because these have no angle or no common plane.
    """
    a, b = start.flatten(1).double(), end.flatten(1).double()
    norms = torch.stack([a.norm(dim=1), b.norm(dim=1)])
    _reject((norms == 0).any(0), "has an end of length 0, which has no direction")
    u, v = a / norms[0][:, None], b / norms[1][:, None]
    apart, together = (u - v).norm(dim=1), (u + v).norm(dim=1)
    _reject(together < 2 * ANTIPODAL, "has antipodal ends, which no unique great circle joins: choose other ends")
    angle = 2 * torch.atan2(apart, together)[:, None]
    t = torch.linspace(0, 1, segments + 1, dtype=torch.float64, device=start.device)
    small = angle < 1e-8
    sine = torch.where(small, 1.0, angle.sin())
    left = torch.where(small, 1 - t, ((1 - t) * angle).sin() / sine)
    right = torch.where(small, t, (t * angle).sin() / sine)
    curve = left[..., None] * a[:, None] + right[..., None] * b[:, None]
    return _fixed_ends(curve.to(start.dtype).view(*curve.shape[:2], *start.shape[1:]), start, end)


# The path of minimum energy


class OptimisedPath(NamedTuple):
    """Result of an optimisation of P paths.

    path:     vertices [P, n + 1, ...].
    energy:   [P, steps + 1], the energy before every step, and last that of `path`.
    gradient: [P], norm of dE/dz of `path`, tangential to the sphere if there is one; 0 at an optimum.
    calls:    number of images that were generated and embedded.
    """

    path: Tensor
    energy: Tensor
    gradient: Tensor
    calls: int


@full_precision()
def optimise_path(
    decode: Decode,
    start: Tensor,
    end: Tensor,
    distance: Embedding,
    *,
    power: int = 1,
    levels: int = 5,
    iterations: int = 50,
    lr: float = 0.01,
    radius: float | None = None,
    middle: Tensor | None = None,
    chunk: int = 64,
    advance: Callable[[int], None] = lambda steps: None,
) -> OptimisedPath:
    """Paths of minimum energy between pairs of latents start and end [P, ...]; all P independent problems run at once.

    As in the paper, a path starts with 2 segments. Adam (default parameters, learning rate 0.01) takes `iterations`
    steps on the vertices between the fixed ends, and every segment is split. This is done on `levels` levels, so the
    result has 2^levels segments. The paper leaves two choices open: here a new vertex is the mean of its neighbours,
    and Adam is reset on every level.

    radius:  for normalised latents, the radius of the sphere onto which vertices are projected after every step; the
             ends must lie on it. Only the tangential part of the gradient is used, because Adam would turn the radial
             part into a tangential step.
    middle:  [P, ...], the initial position of the first free vertex; the default is the mean of the ends. Different
             positions reveal local minima.
    chunk:   number of images differentiated at a time. A smaller value needs less memory, and the result is equal up to
             rounding. Each iteration generates and embeds every vertex once, plus one image per chunk when a path does
             not fit in a chunk.
    advance: called with 1 after every step.

    Memory holds `chunk` images with their gradients, and the points of the 2P ends. Adam divides each component of the
    gradient by its magnitude. Vertices at their optimum therefore first move away by about `lr` and return, and
    components of the latent that hardly affect the image drift.
    Raises ValueError for bad ends, a power other than 1 or 2, options below 1, or energies that are not finite.
    """
    _require_pairs(start, end)
    if radius is not None:
        _require_on_sphere(start, end, radius)
    _require_power(power)
    _require_positive(levels=levels, iterations=iterations, chunk=chunk, lr=lr)
    ends, embed = torch.stack([start, end], 1).detach(), _CountedEmbedding(decode, distance)
    fixed = embed.of_ends(ends, chunk)
    path, energies = ends, []
    for level in range(levels):
        path = subdivide(path, radius)
        if level == 0 and middle is not None:
            path = torch.cat([ends[:, :1], onto_sphere(middle[:, None].to(path), radius), ends[:, 1:]], 1)
        free = path[:, 1:-1].clone()
        adam = torch.optim.Adam([free], lr=lr)
        for _ in range(iterations):
            value, free.grad = energy_and_gradient(embed, free, fixed, power, chunk, radius)
            energies.append(value)
            adam.step()
            free.copy_(onto_sphere(free, radius))
            advance(1)
        path = torch.cat([ends[:, :1], free, ends[:, 1:]], 1)
    value, gradient = energy_and_gradient(embed, free, fixed, power, chunk, radius)
    energy_history = torch.stack([*energies, value], 1)
    _reject(~energy_history.isfinite().all(1), "has an energy that is not finite; choose a lower lr")
    return OptimisedPath(path, energy_history, gradient.flatten(1).norm(dim=1), embed.calls)


def refine_path(
    decode: Decode,
    path: Tensor,
    distance: Embedding,
    *,
    power: int = 1,
    iterations: int = 50,
    lr: float = 0.001,
    radius: float | None = None,
    chunk: int = 64,
    advance: Callable[[int], None] = lambda steps: None,
) -> OptimisedPath:
    """Improve given paths [P, n + 1, ...] by moving all vertices except the ends; not part of the paper.

    Each pair keeps the path of lowest energy among the given one and those after each of `iterations` steps of Adam, so
    no path becomes worse. `energy` [P, iterations + 1] is the lowest so far. The first steps of Adam move every
    component of the latent by about `lr`, however small its gradient. Near an optimum, the learning rate that found the
    path is therefore too large.

    Options and errors are those of `optimise_path`, with the ends of `path`. Raises ValueError for fewer than 3
    vertices.
    """
    if path.ndim < 3 or path.shape[1] < 3:
        raise ValueError(
            f"path has shape {list(path.shape)}; give [P, n + 1, ...] with at least one vertex between the ends"
        )
    ends, embed = path[:, [0, -1]].detach(), _CountedEmbedding(decode, distance)
    _require_pairs(ends[:, 0], ends[:, 1])
    if radius is not None:
        _require_on_sphere(ends[:, 0], ends[:, 1], radius)
    _require_power(power)
    _require_positive(iterations=iterations, chunk=chunk, lr=lr)
    fixed = embed.of_ends(ends, chunk)
    free = path[:, 1:-1].detach().clone()
    lowest, best_gradient = energy_and_gradient(embed, free, fixed, power, chunk, radius)
    _reject(~lowest.isfinite(), "has an energy that is not finite")
    best, energies, gradient = free.clone(), [lowest], best_gradient
    adam = torch.optim.Adam([free], lr=lr)
    for _ in range(iterations):
        free.grad = gradient
        adam.step()
        free.copy_(onto_sphere(free, radius))
        value, gradient = energy_and_gradient(embed, free, fixed, power, chunk, radius)
        better = value < lowest
        lowest = torch.where(better, value, lowest)
        paths = better.view(-1, *[1] * (free.ndim - 1))
        best, best_gradient = torch.where(paths, free, best), torch.where(paths, gradient, best_gradient)
        energies.append(lowest)
        advance(1)
    found = torch.cat([ends[:, :1], best, ends[:, 1:]], 1)
    return OptimisedPath(found, torch.stack(energies, 1), best_gradient.flatten(1).norm(dim=1), embed.calls)


class _CountedEmbedding:
    """Maps latents [N, ...] to points [N, F] and counts the latents in `calls`."""

    def __init__(self, decode: Decode, distance: Embedding):
        self.decode, self.distance, self.calls = decode, distance, 0

    def __call__(self, codes: Tensor) -> Tensor:
        self.calls += len(codes)
        return self.distance(self.decode(codes))

    @torch.no_grad()
    def of_ends(self, ends: Tensor, chunk: int) -> Tensor:
        """Points [P, 2, F] of ends [P, 2, ...]."""
        return torch.cat([self(part) for part in torch.split(ends.flatten(0, 1), chunk)]).view(len(ends), 2, -1)


def subdivide(path: Tensor, radius: float | None = None) -> Tensor:
    """Insert the mean of every two adjacent vertices [P, n + 1, ...], projected onto the sphere; [P, 2n + 1, ...]."""
    new = (path[:, :-1] + path[:, 1:]) / 2
    both = torch.stack([path[:, :-1], onto_sphere(new, radius)], 2).flatten(1, 2)
    return torch.cat([both, path[:, -1:]], 1)


def energy_and_gradient(
    embed: Embedding, free: Tensor, ends: Tensor, power: int = 1, chunk: int = 64, radius: float | None = None
) -> tuple[Tensor, Tensor]:
    """Energy [P] and gradient dE/dz [P, m, ...] of the free vertices between ends with points [P, 2, F]; n = m + 1.

        dE/de_i = c (d_i^(2p-2) (e_i - e_(i-1)) - d_(i+1)^(2p-2) (e_(i+1) - e_i)),   c = 2p n^(2p-1)

    depends only on the points of a vertex and its two neighbours, so vertices are differentiated in chunks. With
    `radius`, the radial part of dE/dz is removed.
    """
    segments = free.shape[1] + 1
    total, gradient = free.new_zeros(len(free)), torch.empty_like(free)
    previous = ends[:0, 0]
    for pairs, window in _windows(len(free), free.shape[1], chunk):
        codes = free[pairs, window].detach().requires_grad_()
        with torch.enable_grad():
            points = embed(codes.flatten(0, 1))
        inner = points.detach().view(*codes.shape[:2], -1)
        last = window.stop == free.shape[1]
        with torch.no_grad():
            steps = inner.new_empty(inner.shape[0], inner.shape[1] + 1, inner.shape[2])
            torch.sub(inner[:, 1:], inner[:, :-1], out=steps[:, 1:-1])
            steps[:, 0] = inner[:, 0] - (ends[pairs, 0] if window.start == 0 else previous)
            steps[:, -1] = (ends[pairs, 1] if last else embed(free[pairs, window.stop])) - inner[:, -1]
            lengths = torch.linalg.vector_norm(steps, dim=2)
            counted = lengths if last else lengths[:, :-1]  # the next chunk counts the step that both share
            total[pairs] += counted.pow(2 * power).sum(1)
            if power == 2:
                steps *= lengths.square()[..., None]
            pull = steps[:, :-1] - steps[:, 1:]
        (gradient[pairs, window],) = torch.autograd.grad(points, codes, pull.flatten(0, 1))
        previous = inner[:, -1]
    factor = segments ** (2 * power - 1)
    gradient *= 2 * power * factor
    if radius is not None:
        flat, normal = gradient.flatten(2), free.flatten(2) / radius
        gradient -= ((flat * normal).sum(2, keepdim=True) * normal).view_as(gradient)
    return total * factor, gradient


def _windows(pairs: int, vertices: int, chunk: int) -> Iterator[tuple[slice, slice]]:
    """Slices of pairs and of vertices to differentiate together: whole paths if these fit, else parts of one path."""
    together = max(1, chunk // vertices)
    for first in range(0, pairs, together):
        for begin in range(0, vertices, min(chunk, vertices)):
            yield slice(first, min(first + together, pairs)), slice(begin, min(begin + chunk, vertices))


def onto_sphere(codes: Tensor, radius: float | None) -> Tensor:
    """Codes [P, m, ...] projected onto the sphere of that radius; without a radius, unchanged."""
    if radius is None:
        return codes
    norms: Tensor = codes.flatten(2).norm(dim=2).view(*codes.shape[:2], *[1] * (codes.ndim - 2))
    return codes * (radius / norms)


def _fixed_ends(path: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The path with exactly the given ends, without rounding."""
    return torch.cat([start[:, None], path[:, 1:-1], end[:, None]], 1)


def _require_power(power: int) -> None:
    if power not in (1, 2):
        raise ValueError(f"power is {power}; it must be 1 (squared distances) or 2 (their squares)")


def _require_positive(**options: float) -> None:
    if any(value <= 0 for value in options.values()):
        raise ValueError(f"{', '.join(f'{name}={value}' for name, value in options.items())} must be positive")


def _require_pairs(start: Tensor, end: Tensor) -> None:
    if start.shape != end.shape or start.ndim < 2 or len(start) == 0 or not start.is_floating_point():
        raise ValueError(
            f"start has shape {list(start.shape)}, end {list(end.shape)}: both must be floating-point [P, ...]"
        )
    finite = start.flatten(1).isfinite().all(1) & end.flatten(1).isfinite().all(1)
    _reject(~finite, "has an end that is not finite")


def _require_on_sphere(start: Tensor, end: Tensor, radius: float) -> None:
    _require_pairs(start, end)
    a, b = start.flatten(1), end.flatten(1)
    off = torch.stack([(x.norm(dim=1) / radius - 1).abs() for x in (a, b)]).amax(0)
    _reject(off > 1e-3, f"has an end that is not on the sphere of radius {radius:.6g}: project both ends onto it")
    _reject(
        (a + b).norm(dim=1) < 2 * ANTIPODAL * radius,
        "has antipodal ends, which no unique shortest arc joins: choose other ends",
    )


def _reject(bad: Tensor, why: str) -> None:
    """Raise ValueError if a pair of bad [P] is true; the message counts these pairs and names the first."""
    if bad.any():
        raise ValueError(f"{int(bad.sum())} of {len(bad)} pairs are invalid: pair {int(bad.nonzero()[0])} {why}")
