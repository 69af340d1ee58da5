"""Squared distances by blocked matrix products, with the speed of float32 and the decisions of float64 differences.

One matrix product per tile computes |a - b|^2 = |a|^2 + |b|^2 - 2 a.b of centred rows. Two extra columns contribute the
norms, the scale and the padding, so no further pass over the tile is needed. Memory is one panel, one block of rows and
one tile for every N.

The product has a rounding error, for which `rounding` gives a bound. Tiles of lower bounds have this error subtracted.
Whatever the bounds leave open is decided by the float64 difference of the two rows.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...harness.core.inputs import CACHED, GPU_ELEMENTS, row_blocks
from ...harness.core.precision import full_precision
from ...harness.stats.moments import mean_of as mean_of

BLOCK, PANEL = 1024, 2048
"""Maximum number of rows and of columns of a tile."""

GPU_SIDE = 8192
"""Maximum number of rows and of columns of a tile on a GPU, which waits for the host once or more a tile."""

PANEL_BYTES = 1 << 26
"""Maximum size of a panel, unless BLOCK columns need more."""

GROUP = 32
"""Sides of tiles are multiples of this."""

FEW = 8
"""Entries of which the minimum is taken first: with it the few small entries of a tile are found without a sort."""

SPARE = 3
"""Number of candidates beyond k that are compared again in float64."""

CHUNK = 2048
"""Longest inner product that is accumulated at once: longer rows are cut, so that rounding errors stay small."""


def sides(x: Tensor) -> tuple[int, int]:
    """Maximum number of rows and of columns of a tile on the device of x; the second is a multiple of the first."""
    return (GPU_SIDE, GPU_SIDE) if x.is_cuda else (BLOCK, PANEL)


class Tile(NamedTuple):
    """values[i, j] belongs to row rows.start + i of the first set and row columns.start + j of the second.

    The two slices give the valid part; the rest of `values` is padding at infinite distance. `mirrored`: the tile also
    represents its transpose, which is not visited. `values` is a buffer: use it before the next tile is requested.
    """

    rows: slice
    columns: slice
    values: Tensor
    mirrored: bool


def centred_norms(x: Tensor, centre: Tensor) -> Tensor:
    """|x - centre|^2 of each row, float64 [N]."""
    norms = torch.empty(len(x), dtype=torch.float64, device=x.device)
    blocks = row_blocks(x, CACHED)
    # Write into one tensor: separate small results would prevent the allocator from reusing freed memory.
    for block, out in zip(blocks, torch.split(norms, len(blocks[0])), strict=True):
        torch.sum((block.double() - centre).square_(), 1, out=out)
    return norms


def rounding(dtype: torch.dtype, dimension: int) -> float:
    """e, such that a tile's squared distance of centred rows a and b errs by at most e (|a|^2 + |b|^2).

    With u the unit roundoff, an inner product of length n errs by at most n u / (1 - n u) times the product of the
    absolute values, in whatever order it is summed (Higham, Accuracy and Stability, 2002, eq. 3.5), and these are at
    most (|a| + |b|)^2 <= 2 (|a|^2 + |b|^2). Twenty more roundings allow for centring, norms and weights. The last term
    is the error of the float64 difference, with which a tile is compared.
    """
    u = torch.finfo(dtype).eps / 2
    length = min(dimension, CHUNK) + dimension // CHUNK + 20
    return 2 * (length * u / (1 - length * u) + (dimension + 4) * torch.finfo(torch.float64).eps)


def tiny(dtype: torch.dtype, dimension: int) -> float:
    """By how much the underflow of products can change a squared distance."""
    return (dimension + 4) * torch.finfo(dtype).tiny


def squared_distance_tiles(
    a: Tensor,
    b: Tensor | None = None,
    *,
    centre: Tensor | None = None,
    scale: float = 1.0,
    lower: bool = False,
    norms: tuple[Tensor, Tensor] | None = None,
    chunk: int = CHUNK,
) -> Iterator[Tile]:
    """Tiles of scale * |a_i - b_j|^2 for rows of a [N, D] and b [M, D]; rounding may make values near 0 negative.

    Padding contains scale * inf. Without b, the distances are within a: only the upper triangle is visited, and the
    distance of a row to itself is replaced by inf. `centre` [D] is subtracted from both sets; the default is the mean
    of b (or a). `lower`: the values are lower bounds; adding twice the error of `rounding` makes them upper bounds.
    norms: `centred_norms` of a and b, where they are known, for the centre in the type of a.
    chunk: longest inner product that is accumulated at once; bounds of `rounding` hold for up to CHUNK.
    Raises ValueError when squared distances overflow.
    """
    within, other = b is None, a if b is None else b
    centre = mean_of(other) if centre is None else centre
    middle = centre.to(a.dtype)
    dimension = a.shape[1]
    factor = scale * (1 - rounding(a.dtype, dimension)) if lower else scale
    known_a, known_b = norms or (None if within else centred_norms(a, middle), centred_norms(other, middle))
    norms_b = (factor * known_b).to(a.dtype)
    norms_a = norms_b if known_a is None else (factor * known_a).to(a.dtype)
    if lower:
        norms_a = norms_a - tiny(a.dtype, dimension)
    if not bool(torch.isfinite(norms_a.sum() + norms_b.sum())):
        raise ValueError(f"squared distances overflow {a.dtype}: scale the features down, or give float64 features")
    height, widest = sides(a)
    width = min(widest, max(height, PANEL_BYTES // (dimension * a.element_size()) // height * height))
    panel = a.new_empty(min(width, _padded(len(other))), dimension + 2)
    block = a.new_empty(min(height, _padded(len(a))), dimension + 2)
    buffer = a.new_empty(len(block) * len(panel))
    for start in range(0, len(other), width):
        stop = min(start + width, len(other))
        right = panel[: _padded(stop - start)]
        _fill(right, other[start:stop], middle)
        right[: stop - start, -2] = 1
        right[: stop - start, -1] = norms_b[start:stop]
        right[stop - start :, -2] = 1
        right[stop - start :, -1] = scale * torch.inf
        for first in range(0, stop if within else len(a), height):
            last = min(first + height, stop if within else len(a))
            left = block[: _padded(last - first)]
            _fill(left, a[first:last], middle, -2 * scale)
            left[: last - first, -2] = norms_a[first:last]
            left[last - first :, -2] = scale * torch.inf
            left[:, -1] = 1
            values = buffer[: len(left) * len(right)].view(len(left), len(right))
            with full_precision():
                for begin in range(0, dimension, chunk):  # the last chunk has the two extra columns too
                    part = slice(begin, begin + chunk if begin + chunk < dimension else None)
                    torch.addmm(values, left[:, part], right[:, part].T, beta=float(begin > 0), out=values)
            if within and first >= start:
                values.diagonal(first - start).fill_(torch.inf)
            yield Tile(slice(first, last), slice(start, stop), values, within and first < start)


def _padded(rows: int) -> int:
    return -(-rows // GROUP) * GROUP


def _fill(out: Tensor, rows: Tensor, centre: Tensor, factor: float = 1.0) -> None:
    inner = out[: len(rows), :-2]
    torch.sub(rows, centre, out=inner)
    if factor != 1.0:
        inner *= factor
    out[len(rows) :, :-2] = 0


def below(values: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column indices of every entry of values [m, n] that is less than threshold [m], sorted by row."""
    m, n = values.shape
    rows, group = (_minima(values) < threshold[:, None]).nonzero(as_tuple=True)
    if len(rows) * FEW > values.numel() // 4:
        rows, columns = (values < threshold[:, None]).nonzero(as_tuple=True)
        return rows, columns
    hit, within = (values.view(m, FEW, -1)[rows, :, group] < threshold[rows, None]).nonzero(as_tuple=True)
    return rows[hit], within * (n // FEW) + group[hit]


def _minima(values: Tensor) -> Tensor:
    """Minima [m, n / FEW] of values [m, n]: number g is of the columns g, g + n / FEW, and so on."""
    m = len(values)
    if values.stride(1) == 1:
        return values.view(m, FEW, -1).amin(1)
    return values.T.view(FEW, -1, m).amin(0).T  # a transposed tile is reduced in memory order


def smallest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest entries of each row of values [m, n], ascending, and their columns, each [m, k]."""
    groups = values.shape[1] // FEW
    if 2 * k > groups:
        found, columns = values.topk(k, dim=1, largest=False)
        return found, columns
    # They are in the k groups with the smallest minima.
    chosen = _minima(values).topk(k, dim=1, largest=False, sorted=False).indices
    columns = (chosen[:, :, None] + torch.arange(0, groups * FEW, groups, device=values.device)).flatten(1)
    found, at = values.gather(1, columns).topk(k, dim=1, largest=False)
    return found, columns.gather(1, at)


class Smallest:
    """The k smallest entries of each row of a matrix that arrives in tiles, with their column indices."""

    def __init__(self, rows: int, k: int, like: Tensor):
        self.values = like.new_full((rows, k), torch.inf)
        self.indices = torch.zeros((rows, k), dtype=torch.int64, device=like.device)

    def update(self, rows: slice, columns: slice, values: Tensor) -> None:
        m, k = rows.stop - rows.start, self.values.shape[1]
        values = values[:m]
        best, index = self.values[rows], self.indices[rows]
        if bool(torch.isinf(best[:, -1]).any()):
            new, where = smallest(values, min(k, values.shape[1]))
            where.clamp_(max=columns.stop - columns.start - 1)  # padding also needs a valid index
            if new.shape[1] == k and bool(torch.isinf(best[:, 0]).all()):
                self.values[rows], self.indices[rows] = new, where + columns.start
                return
        else:
            row, column = below(values, best[:, -1])
            if len(row) == 0:
                return
            counts = torch.bincount(row, minlength=m)
            position = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
            new = values.new_full((m, int(counts.max())), torch.inf)
            where = torch.zeros(new.shape, dtype=torch.int64, device=row.device)
            new[row, position] = values[row, column]
            where[row, position] = column
        best, chosen = torch.cat([best, new], 1).topk(k, dim=1, largest=False)
        self.values[rows] = best
        self.indices[rows] = torch.cat([index, where + columns.start], 1).gather(1, chosen)


def paired_distances(a: Tensor, b: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """|a_i - b_j| for indices i, j [P], from float64 differences, float64 [P]."""
    distances = torch.empty(len(i), dtype=torch.float64, device=a.device)
    size = max(1, (GPU_ELEMENTS if a.is_cuda else CACHED) // a.shape[1])
    for p, q, out in zip(*(torch.split(t, size) for t in (i, j, distances)), strict=True):
        torch.linalg.vector_norm(a.index_select(0, p).double().sub_(b.index_select(0, q)), dim=1, out=out)
    return distances
