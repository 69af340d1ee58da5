"""Nearest neighbours, as exact float64 differences give them.

Tiles of lower bounds yield more candidates than neighbours. The candidates are compared by float64 differences. Where
the bounds cannot exclude that another row is as near, the row is searched once more with float64 products.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...harness.core.inputs import row_blocks
from .alone import drawn
from .distances import SPARE, Smallest, below, mean_of, paired_distances, rounding, sides, squared_distance_tiles, tiny
from .memo import remember
from .projected import Projected, directions, projected, projected_once
from .scale import power_of_two, scaled

LISTED, ALONE = 32, 21
"""Smallest number of neighbours that are listed, so that all metrics of a set, and its halves, share one pass.

ALONE: the same without halves; it serves up to 18 neighbours.
"""

ACROSS = 13
"""The same where a set is searched for another one: enough for ten neighbours."""

SETTLED = 6
"""Smallest number of neighbours whose distances are computed exactly; without halves, all that are listed."""

LONG, LARGE = 256, 1 << 34
"""Smallest number of dimensions, and of products, with which rows are compared in fewer coordinates first."""

WIDE, COVARIANCES = 4096, 10
"""Largest number D of dimensions for this, and the smallest number of pairs of rows as a multiple of D².

The directions come from a covariance: it takes 8 D² bytes, and its eigenvectors cost as much as ten times D² pairs.
"""

PROBED, FEW = 256, 200
"""Queries that are tried first, and the mean number of references with which they may be compared exactly."""

SPARSE = 8
"""One in so many references is searched for a first list: the nearest of all are not much nearer than those."""

Preference = Callable[[], Tensor]
"""Gives a number for each row of a set: of rows that are equally near, the one with the smallest comes first."""


class Neighbours(NamedTuple):
    """distances [N, k] ascending, float64; indices [N, k] of those neighbours."""

    distances: Tensor
    indices: Tensor


class Listed(NamedTuple):
    """The c nearest rows by lower bounds of squared distances: bounds [N, c] ascending, indices [N, c].

    Where fewer than c rows count, the bound is inf and the index has no meaning.
    """

    bounds: Tensor
    indices: Tensor


def nearest(queries: Tensor, reference: Tensor, k: int, prefer: Tensor | None = None) -> Neighbours:
    """The exact k nearest reference rows [M, D] of each query [N, D].

    Of equally near rows, the one with the smallest `prefer` [M] comes first. By default their content decides, so the
    order of the rows does not matter.
    """
    power = power_of_two(queries, reference)
    queries, reference = scaled(queries, power), scaled(reference, power)
    chosen = by_content(reference) if prefer is None else lambda: prefer
    near = _by_projection(queries, reference, k, chosen)
    if near is None:
        listed = _listed_across(queries, reference, max(k + SPARE, ACROSS))
        near = settle(listed, queries, reference, k, prefer=chosen)
    return Neighbours(near.distances / power, near.indices)


def _by_projection(queries: Tensor, reference: Tensor, k: int, prefer: Preference) -> Neighbours | None:
    """The same of long rows: few references can be nearer, in few coordinates, than the nearest of a first list are.

    None where it is not faster, since the rows are short, few or very long, or since these coordinates exclude too few
    references.
    """
    pairs, dimension = len(queries) * len(reference), reference.shape[1]
    enough = pairs * dimension >= LARGE and pairs >= COVARIANCES * dimension**2
    enough = enough and len(reference) >= SPARSE * (k + SPARE)
    if not enough or not LONG <= dimension <= WIDE or queries.dtype != torch.float32 or queries.is_cuda:
        return None
    known = directions(reference)
    short, ours = projected_once(reference, *known), projected(queries, *known)
    probe = Projected(ours.rows[:PROBED], ours.lengths[:PROBED], ours.error)
    if _contenders(queries[:PROBED], reference, k, probe, short) is None:
        return None
    contenders = _contenders(queries, reference, k, ours, short)
    if contenders is None:
        return None
    i, j = contenders
    exact = paired_distances(queries, reference, i, j)
    order = exact.argsort(stable=True)
    order = order[i[order].argsort(stable=True)]
    if bool(((exact[order].diff() == 0) & (i[order].diff() == 0)).any()):
        order = prefer()[j].argsort(stable=True)
        order = order[exact[order].argsort(stable=True)]
        order = order[i[order].argsort(stable=True)]
    counts = torch.bincount(i, minlength=len(queries))
    first = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k, device=i.device)]
    return Neighbours(exact[first], j[first])


def _contenders(
    queries: Tensor, reference: Tensor, k: int, ours: Projected, short: Projected
) -> tuple[Tensor, Tensor] | None:
    """Pairs of a query and a reference that may be among its k nearest; None where they are more than `FEW` a query."""
    listed = listed_across(ours.rows, short.rows[::SPARSE].contiguous(), k + SPARE)
    rows = torch.arange(len(queries), device=queries.device).repeat_interleave(listed.indices.shape[1])
    found = paired_distances(queries, reference, rows, SPARSE * listed.indices.flatten()).view_as(listed.bounds)
    limit = ours.reach(short, found.kthvalue(k, dim=1).values)
    pairs, count = [], 0
    for tile in squared_distance_tiles(ours.rows, short.rows, lower=True):
        i, j = below(tile.values[: tile.rows.stop - tile.rows.start], limit[tile.rows])
        pairs.append((i + tile.rows.start, j + tile.columns.start))
        count += len(i)
        if count > FEW * len(queries):
            return None
    i, j = (torch.cat(part) for part in zip(*pairs, strict=True))
    return i, j


def listed_across(queries: Tensor, reference: Tensor, count: int) -> Listed:
    """The `count` nearest reference rows of each query by their bounds, or all. Both sets must be scaled already."""
    found = Smallest(len(queries), min(count, len(reference)), queries)
    for tile in squared_distance_tiles(queries, reference, lower=True):
        found.update(tile.rows, tile.columns, tile.values)
    return Listed(found.values, found.indices)


_listed_across = remember(listed_across)


def nearest_others(x: Tensor, k: int, alone: bool = False) -> Neighbours:
    """The exact k nearest other rows of each row; a row is excluded by index, so its duplicates are at distance 0.

    The result is cached, and computed for at least six neighbours, so that the metrics of a set share one pass.
    alone: it is not, and a pass for these neighbours alone takes less time.
    """
    if alone:
        return _settled_others(x, k, _list_others(x, min(k + SPARE, len(x) - 1)))
    found = _nearest_others(x, min(max(k, SETTLED if drawn() else ALONE - SPARE), len(x) - 1))
    return Neighbours(found.distances[:, :k], found.indices[:, :k])


def radii_of(x: Tensor, k: int) -> Tensor:
    """Distance of each row from its k-th nearest other row, float64 [N]; NaN where there are not so many rows."""
    if len(x) <= k:
        return torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
    return nearest_others(x, k).distances[:, -1]


@remember
def _nearest_others(x: Tensor, k: int) -> Neighbours:
    return _settled_others(x, k, listed_others(x, k + SPARE))


def _settled_others(x: Tensor, k: int, listed: Listed) -> Neighbours:
    power = power_of_two(x)
    near = settle(listed, scaled(x, power), None, k)
    return Neighbours(near.distances / power, near.indices)


def listed_others(x: Tensor, count: int) -> Listed:
    """At least `count` nearest other rows of each row, or all; cached. Bounds are of x times its `power_of_two`."""
    return _listed_others(x, min(max(count, LISTED if drawn() else ALONE), len(x) - 1))


def _list_others(x: Tensor, count: int) -> Listed:
    x = scaled(x, power_of_two(x))
    found = Smallest(len(x), count, x)
    for tile in squared_distance_tiles(x, lower=True):
        found.update(tile.rows, tile.columns, tile.values)
        if tile.mirrored:
            found.update(tile.columns, tile.rows, tile.values.T)
    return Listed(found.values, found.indices)


_listed_others = remember(_list_others)


def by_content(x: Tensor) -> Preference:
    """A number for each row that depends on its values alone; rows with other values have other numbers."""

    @functools.cache
    def numbers() -> Tensor:
        weights = torch.rand(x.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(x.device)
        return torch.cat([(block.double() * weights).sum(1) for block in row_blocks(x)])

    return numbers


def settle(
    listed: Listed,
    queries: Tensor,
    reference: Tensor | None,
    k: int,
    weight: Tensor | None = None,
    prefer: Preference | None = None,
) -> Neighbours:
    """The k nearest with exact distances, from what the bounds list. Without a reference, among the other queries.

    weight [M]: distances are divided by it, and bounds by its square; rows of weight 0 do not count.
    """
    others = queries if reference is None else reference
    prefer = prefer or by_content(others)
    c = min(k + SPARE, listed.indices.shape[1])
    rows = torch.arange(len(queries), device=queries.device)
    found = torch.empty(len(queries), k, dtype=torch.float64, device=queries.device)
    index = torch.empty_like(found, dtype=torch.int64)
    for part in torch.split(rows, sides(queries)[0]):
        among = listed.indices[part, :c]
        exact = _exact(queries, others, part.repeat_interleave(c), among.flatten(), weight).view_as(among)
        found[part], index[part] = _first(exact.where(listed.bounds[part, :c] < torch.inf, torch.inf), among, k, prefer)
    if c == len(others) - (reference is None):
        return Neighbours(found, index)
    beyond = listed.bounds[:, min(c, listed.bounds.shape[1] - 1)].double()
    unsettled = ((found[:, -1].square() >= beyond) & (beyond < torch.inf)).nonzero().squeeze(1)
    for part in torch.split(unsettled, sides(queries)[0]) if len(unsettled) else ():
        near = Neighbours(found[part], index[part])
        found[part], index[part] = search(queries, part, reference, near, weight, prefer)
    return Neighbours(found, index)


def search(
    queries: Tensor,
    rows: Tensor,
    reference: Tensor | None,
    near: Neighbours,
    weight: Tensor | None = None,
    prefer: Preference | None = None,
) -> Neighbours:
    """The nearest references of the given rows [R] of the queries, by float64 products; results are [R, k].

    near [R, k]: neighbours to improve upon; their distances may be inf. The other arguments are those of `settle`.
    """
    others = queries if reference is None else reference
    prefer = prefer or by_content(others)
    centre, error = mean_of(others), rounding(torch.float64, others.shape[1])
    left = queries[rows].double() - centre
    norms = left.square().sum(1)
    best, index = near.distances, near.indices.where(near.distances < torch.inf, -1)
    for block in torch.split(torch.arange(len(others), device=others.device), sides(others)[1]):
        start = int(block[0])
        right = others[block].double() - centre
        squares = norms[:, None] + right.square().sum(1)
        bounds = squares * (1 - error) - tiny(torch.float64, others.shape[1]) - 2 * left @ right.T
        if weight is not None:
            bounds /= weight[block].square().clamp(min=torch.finfo(torch.float64).tiny)
            bounds[:, weight[block] == 0] = torch.inf
        if reference is None:
            inside = ((rows >= start) & (rows < start + len(block))).nonzero().squeeze(1)
            bounds[inside, rows[inside] - start] = torch.inf
        i, j = ((bounds <= best[:, -1:].square()) & (bounds < torch.inf)).nonzero(as_tuple=True)
        known = (index[i] == j[:, None] + start).any(1)
        i, j = i[~known], j[~known] + start
        if len(i):
            counts = torch.bincount(i, minlength=len(rows))
            position = torch.arange(len(i), device=i.device) - (counts.cumsum(0) - counts)[i]
            new = best.new_full((len(rows), int(counts.max())), torch.inf)
            where = index.new_full(new.shape, -1)
            new[i, position], where[i, position] = _exact(queries, others, rows[i], j, weight), j
            best, index = _first(torch.cat([best, new], 1), torch.cat([index, where], 1), best.shape[1], prefer)
    return Neighbours(best, index.clamp(min=0))


def _exact(queries: Tensor, others: Tensor, i: Tensor, j: Tensor, weight: Tensor | None) -> Tensor:
    """|query_i - other_j|, divided by the weight of other_j; inf for weight 0."""
    exact = paired_distances(queries, others, i, j)
    return exact if weight is None else torch.where(weight[j] > 0, exact / weight[j], torch.inf)


def _first(candidates: Tensor, index: Tensor, k: int, prefer: Preference) -> Neighbours:
    """The k smallest of candidates [R, c] in each row, and their indices."""
    ordered, order = candidates.sort(dim=1, stable=True)
    tied = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] < torch.inf)
    rows = tied[:, :k].any(1).nonzero().squeeze(1)
    if len(rows):
        preferred = prefer()[index[rows]].argsort(dim=1, stable=True)
        again = candidates[rows].gather(1, preferred).argsort(dim=1, stable=True)
        order[rows] = preferred.gather(1, again)
    return Neighbours(ordered[:, :k], index.gather(1, order[:, :k]))
