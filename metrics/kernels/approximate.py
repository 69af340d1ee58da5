"""Approximate nearest neighbours by faiss, for sets of millions, and the share of the true neighbours that it finds.

The index is an inverted file: k-means groups the rows, and a query is compared only with the rows of its nearest
groups. The distances of the neighbours found are exact (float64). A GPU is used if faiss was built for GPUs. Precision,
recall, density, realism and rarity need all balls that contain a sample, not only the nearest, so they are always
exact.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...harness.core.inputs import row_blocks
from ...harness.core.protocols import Estimate
from ...harness.stats import intervals
from .distances import SPARE, mean_of, paired_distances
from .memo import remember
from .nearest import Neighbours, search

PROBES = 32
"""Number of groups with which a query is compared, of about sqrt(N)."""

POINTS = 64
"""Number of training rows of k-means per group."""

CHECKED = 200
"""Number of queries whose true neighbours are also computed, to measure the recall."""


class Found(NamedTuple):
    """distances [N, k] ascending, float64; indices [N, k]; recall: mean share of the true k nearest that were found."""

    distances: Tensor
    indices: Tensor
    recall: Estimate


def check(backend: str) -> None:
    """Raise ValueError unless the backend is "exact" or "faiss"."""
    if backend not in ("exact", "faiss"):
        raise ValueError(f"backend is {backend!r}; it must be 'exact' or 'faiss'")


@remember
def approximate_nearest(queries: Tensor, reference: Tensor | None, k: int) -> Found:
    """Approximately the k nearest reference rows of each query; without a reference, the k nearest other queries.

    A query is excluded from its own neighbours by index. Results are cached and shared: do not modify them.
    Raises ValueError when faiss is not installed.
    """
    others = queries if reference is None else reference
    centre = mean_of(others)
    index = _index(others, centre)
    wanted = min(k + SPARE + (reference is None), len(others))
    candidates = torch.cat([_rows(index.search(_flat(block, centre), wanted)[1]) for block in row_blocks(queries)])
    candidates = candidates.to(queries.device)
    if reference is None:
        candidates[candidates == torch.arange(len(queries), device=queries.device)[:, None]] = -1
    rows = torch.arange(len(queries), device=queries.device)
    distances = paired_distances(queries, others, rows.repeat_interleave(wanted), candidates.clamp(min=0).flatten())
    # faiss returns -1 where the groups that it searched contain too few rows.
    distances = distances.view_as(candidates).masked_fill_(candidates < 0, torch.inf)
    distances, order = distances.topk(k, dim=1, largest=False)
    indices = candidates.gather(1, order)
    incomplete = distances[:, -1].isinf().nonzero().squeeze(1)
    if len(incomplete):
        distances[incomplete], indices[incomplete] = search(
            queries, incomplete, reference, Neighbours(distances[incomplete], indices[incomplete])
        )
    drawn = torch.randperm(len(queries), generator=torch.Generator().manual_seed(0))[:CHECKED].to(queries.device)
    true = search(queries, drawn, reference, Neighbours(distances[drawn], indices[drawn])).distances[:, -1:]
    recall = intervals.mean((distances[drawn] <= true * (1 + 1e-12)).double().mean(1))
    low, high = recall.interval
    return Found(distances, indices, recall._replace(interval=(max(0.0, low), min(1.0, high))))


def _index(x: Tensor, centre: Tensor) -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ValueError("backend='faiss' needs faiss: pip install 'assay[cpu]' (or 'assay[cuda]')") from error
    groups = max(1, round(math.sqrt(len(x))))
    index: Any = faiss.IndexIVFFlat(faiss.IndexFlatL2(x.shape[1]), x.shape[1], groups)
    index.cp.min_points_per_centroid = 1  # otherwise faiss prints a warning for small sets
    index.nprobe = min(PROBES, groups)
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0:
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    drawn = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: POINTS * groups]
    index.train(_flat(x[drawn.to(x.device)], centre))
    for block in row_blocks(x):
        index.add(_flat(block, centre))
    return index


def _flat(rows: Tensor, centre: Tensor) -> Any:
    return (rows - centre.to(rows.dtype)).float().cpu().contiguous().numpy()


def _rows(labels: Any) -> Tensor:
    return torch.from_numpy(labels)
