"""Approximate nearest neighbours by faiss, for sets of millions, and the share of the true neighbours that it finds.

An inverted-file index: rows are grouped by k-means, and a query is compared with the rows of its nearest groups alone.
Distances of what is found are exact (float64). The GPU is used where faiss was built for one. Which balls hold a sample
is not a question of nearest neighbours, so precision, recall, density, realism and rarity stay exact.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...harness.core.inputs import row_blocks
from ...harness.core.protocols import Estimate
from ...harness.stats import intervals
from .distances import SPARE, mean_of, paired_distances, search
from .memo import remember

PROBES = 32
"""Groups that a query is compared with, of about sqrt(N)."""

POINTS = 64
"""Rows a group is made from."""

CHECKED = 200
"""Queries whose true neighbours are searched too, to measure the recall."""


class Found(NamedTuple):
    """distances [N, k] ascending, float64; indices [N, k]; recall: mean share of the true k nearest that are found."""

    distances: Tensor
    indices: Tensor
    recall: Estimate


def check(backend: str) -> None:
    """ValueError unless the backend is "exact" or "faiss"."""
    if backend not in ("exact", "faiss"):
        raise ValueError(f"backend is {backend!r}; it must be 'exact' or 'faiss'")


@remember
def approximate_nearest(queries: Tensor, reference: Tensor | None, k: int) -> Found:
    """About the k nearest reference rows of each query, or other queries (self excluded by index) without a reference.

    Raises ValueError where faiss is not installed. Remembered: results are shared, do not modify them.
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
    # faiss fills up with -1 where the groups it looked at hold too few rows.
    distances = distances.view_as(candidates).masked_fill_(candidates < 0, torch.inf)
    distances, order = distances.topk(k, dim=1, largest=False)
    indices = candidates.gather(1, order)
    short = distances[:, -1].isinf().nonzero().squeeze(1)
    if len(short):
        distances[short], indices[short] = search(queries, short, reference, k, centre)
    drawn = torch.randperm(len(queries), generator=torch.Generator().manual_seed(0))[:CHECKED].to(queries.device)
    true = search(queries, drawn, reference, k, centre).distances[:, -1:]
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
    index.cp.min_points_per_centroid = 1  # a small set is no reason for faiss to write to the terminal
    index.nprobe = PROBES
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
