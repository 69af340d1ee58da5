"""Squared distances by blocked matrix products, with the speed of float32 and the decisions of float64.

One matrix product per tile computes |a - b|^2 = |a|^2 + |b|^2 - 2 a.b of centred rows. Two extra columns contribute the
norms, the scale and the padding, so no further pass over the tile is needed. Memory is one panel, one block of rows and
one tile for every N. A comparison that is within the rounding error of float32 is repeated with the float64 difference
of the two rows.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...harness.core.inputs import CACHED, row_blocks
from ...harness.core.precision import full_precision as full_precision
from .memo import remember

BLOCK, PANEL = 1024, 2048
"""Maximum number of rows and of columns of a tile."""

PANEL_BYTES = 1 << 26
"""Maximum size of a panel, unless BLOCK columns need more."""

GROUP = 32
"""Sides of tiles are multiples of this: minima over groups locate the few small entries of a tile without a sort."""

SPARE = 3
"""Number of candidates beyond k that are compared again in float64."""


class Tile(NamedTuple):
    """values[i, j] belongs to row rows.start + i of the first set and row columns.start + j of the second.

    The two slices give the valid part; the rest of `values` is padding at infinite distance. `mirrored`: the tile also
    represents its transpose, which is not visited. `values` is a buffer: use it before the next tile is requested.
    """

    rows: slice
    columns: slice
    values: Tensor
    mirrored: bool


def mean_of(x: Tensor) -> Tensor:
    """Mean of the rows, float64 [D], because a float32 mean loses digits when the features share an offset."""
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    for block in row_blocks(x, CACHED):
        total += block.sum(0, dtype=torch.float64)
    return total / len(x)


def centred_norms(x: Tensor, centre: Tensor) -> Tensor:
    """|x - centre|^2 of each row, float64 [N]."""
    norms = torch.empty(len(x), dtype=torch.float64, device=x.device)
    blocks = row_blocks(x, CACHED)
    # Write into one tensor: separate small results would prevent the allocator from reusing freed memory.
    for block, out in zip(blocks, torch.split(norms, len(blocks[0])), strict=True):
        torch.sum((block.double() - centre).square_(), 1, out=out)
    return norms


def squared_distance_tiles(
    a: Tensor, b: Tensor | None = None, *, centre: Tensor | None = None, scale: float = 1.0
) -> Iterator[Tile]:
    """Tiles of scale * |a_i - b_j|^2 for rows of a [N, D] and b [M, D]; rounding may make values near 0 negative.

    Padding contains scale * inf. Without b, the distances are within a: only the upper triangle is visited, and the
    distance of a row to itself is replaced by inf. `centre` [D] is subtracted from both sets; the default is the mean
    of b (or a). Raises ValueError when squared distances overflow.
    """
    within, other = b is None, a if b is None else b
    centre = mean_of(other) if centre is None else centre
    middle = centre.to(a.dtype)
    norms_b = (scale * centred_norms(other, middle)).to(a.dtype)
    norms_a = norms_b if within else (scale * centred_norms(a, middle)).to(a.dtype)
    if not bool(torch.isfinite(norms_a.sum() + norms_b.sum())):
        raise ValueError(f"squared distances overflow {a.dtype}: scale the features down, or give float64 features")
    dimension = a.shape[1]
    width = min(PANEL, max(BLOCK, PANEL_BYTES // (dimension * a.element_size()) // BLOCK * BLOCK))
    panel = a.new_empty(min(width, _padded(len(other))), dimension + 2)
    block = a.new_empty(min(BLOCK, _padded(len(a))), dimension + 2)
    buffer = a.new_empty(len(block) * len(panel))
    for start in range(0, len(other), width):
        stop = min(start + width, len(other))
        right = panel[: _padded(stop - start)]
        _fill(right, other[start:stop], middle)
        right[: stop - start, -2] = 1
        right[: stop - start, -1] = norms_b[start:stop]
        right[stop - start :, -2] = 1
        right[stop - start :, -1] = scale * torch.inf
        for first in range(0, stop if within else len(a), BLOCK):
            last = min(first + BLOCK, stop if within else len(a))
            left = block[: _padded(last - first)]
            _fill(left, a[first:last], middle, -2 * scale)
            left[: last - first, -2] = norms_a[first:last]
            left[last - first :, -2] = scale * torch.inf
            left[:, -1] = 1
            values = buffer[: len(left) * len(right)].view(len(left), len(right))
            with full_precision():
                torch.mm(left, right.T, out=values)
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
    flipped = values.stride(1) != 1  # a transposed tile is reduced in memory order
    least = values.T.view(GROUP, -1, m).amin(0).T if flipped else values.view(m, GROUP, -1).amin(1)
    rows, group = (least < threshold[:, None]).nonzero(as_tuple=True)
    if len(rows) * GROUP > values.numel() // 4:
        rows, columns = (values < threshold[:, None]).nonzero(as_tuple=True)
        return rows, columns
    hit, within = (values.view(m, GROUP, -1)[rows, :, group] < threshold[rows, None]).nonzero(as_tuple=True)
    return rows[hit], within * (n // GROUP) + group[hit]


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
            new, where = values.topk(min(k, values.shape[1]), dim=1, largest=False)
            where.clamp_(max=columns.stop - columns.start - 1)  # padding also needs a valid index
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
    size = max(1, CACHED // a.shape[1])
    for p, q, out in zip(*(torch.split(t, size) for t in (i, j, distances)), strict=True):
        torch.linalg.vector_norm(a.index_select(0, p).double().sub_(b.index_select(0, q)), dim=1, out=out)
    return distances


def slack(dtype: torch.dtype, dimension: int, norms: Tensor, reach: Tensor) -> Tensor:
    """Error bound of a tile's squared distance |a - b|^2 where |a|^2 is `norms` and |a - b| is about `reach`.

    Rounding errors of a product of length D accumulate like a random walk, as sqrt(D); 8 is a generous safety margin.
    """
    unit = torch.finfo(dtype).eps * (math.sqrt(dimension) + 8)
    return unit * (norms + (norms.sqrt() + reach).square())


class Neighbours(NamedTuple):
    """distances [N, k] ascending, float64; indices [N, k] of those neighbours."""

    distances: Tensor
    indices: Tensor


def nearest(queries: Tensor, reference: Tensor, k: int) -> Neighbours:
    """The exact k nearest reference rows [M, D] of each query [N, D]."""
    centre = mean_of(reference)
    found = Smallest(len(queries), min(k + SPARE, len(reference)), queries)
    for tile in squared_distance_tiles(queries, reference, centre=centre):
        found.update(tile.rows, tile.columns, tile.values)
    return settle(found, queries, reference, k, centre)


def nearest_others(x: Tensor, k: int) -> Neighbours:
    """The exact k nearest other rows of each row; a row is excluded by index, so its duplicates are at distance 0.

    The result is cached, and computed for at least six neighbours, so that the metrics of a set share one pass.
    """
    distances, index = _nearest_others(x, min(max(k, 6), len(x) - 1))
    return Neighbours(distances[:, :k], index[:, :k])


@remember
def _nearest_others(x: Tensor, k: int) -> Neighbours:
    centre = mean_of(x)
    found = Smallest(len(x), min(k + SPARE, len(x) - 1), x)
    for tile in squared_distance_tiles(x, centre=centre):
        found.update(tile.rows, tile.columns, tile.values)
        if tile.mirrored:
            found.update(tile.columns, tile.rows, tile.values.T)
    return settle(found, x, None, k, centre)


def settle(found: Smallest, queries: Tensor, reference: Tensor | None, k: int, centre: Tensor) -> Neighbours:
    """The k nearest with exact distances, from the candidates in `found`; doubtful rows are searched in float64."""
    others = queries if reference is None else reference
    distances, index = _exact(queries, others, torch.arange(len(queries), device=queries.device), found.indices, k)
    candidates = found.indices.shape[1]
    if queries.dtype == torch.float64 or candidates == len(others) - (reference is None):
        return Neighbours(distances, index)
    furthest = distances[:, -1]
    norms = centred_norms(queries, centre)
    margin = slack(queries.dtype, queries.shape[1], norms, furthest)
    doubtful = (furthest.square() + margin > found.values[:, -1]).nonzero().squeeze(1)
    if len(doubtful):
        distances[doubtful], index[doubtful] = search(queries, doubtful, reference, k, centre)
    return Neighbours(distances, index)


def search(queries: Tensor, rows: Tensor, reference: Tensor | None, k: int, centre: Tensor) -> Neighbours:
    """The k nearest references of the given rows [R] of the queries, by float64 products; results are [R, k].

    Without a reference, the neighbours are the other queries.
    """
    others = queries if reference is None else reference
    candidates = min(k + SPARE, len(others) - (reference is None))
    parts = [
        _exact(queries, others, part, _candidates(queries, part, reference, candidates, centre), k)
        for part in torch.split(rows, BLOCK)
    ]
    return Neighbours(torch.cat([part.distances for part in parts]), torch.cat([part.indices for part in parts]))


def _exact(queries: Tensor, others: Tensor, rows: Tensor, index: Tensor, k: int) -> Neighbours:
    """The k nearest candidates of the given rows [R], by float64 differences; index [R, c] holds the candidates."""
    distances = torch.empty(len(rows), k, dtype=torch.float64, device=rows.device)
    nearest = torch.empty_like(distances, dtype=torch.int64)
    for start in range(0, len(rows), BLOCK):
        part, among = rows[start : start + BLOCK], index[start : start + BLOCK]
        exact = paired_distances(queries, others, part.repeat_interleave(among.shape[1]), among.flatten())
        distances[start : start + BLOCK], order = exact.view_as(among).topk(k, dim=1, largest=False)
        nearest[start : start + BLOCK] = among.gather(1, order)
    return Neighbours(distances, nearest)


def _candidates(queries: Tensor, rows: Tensor, reference: Tensor | None, k: int, centre: Tensor) -> Tensor:
    """Indices [R, k] of the nearest rows of the reference (or other queries) to the given rows [R]."""
    others = queries if reference is None else reference
    left = queries[rows].double() - centre
    found = Smallest(len(rows), k, left)
    start = 0
    for block in row_blocks(others):
        right = block.double() - centre
        values = left.new_full((len(left), _padded(len(right))), torch.inf)
        values[:, : len(right)] = left.square().sum(1)[:, None] + right.square().sum(1)[None, :] - 2 * left @ right.T
        if reference is None:
            here = ((rows >= start) & (rows < start + len(right))).nonzero().squeeze(1)
            values[here, rows[here] - start] = torch.inf
        found.update(slice(0, len(left)), slice(start, start + len(right)), values)
        start += len(right)
    return found.indices
