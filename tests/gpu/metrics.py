"""Every registered metric on a GPU against the CPU, on the same float32 samples; and faiss against the exact search."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.harness.core.declarations import Metric
from assay.harness.core.protocols import Estimate, View
from assay.harness.core.registry import METRICS
from assay.metrics.kernels.approximate import approximate_nearest
from assay.metrics.kernels.balls import neighbour_pass
from assay.metrics.neighbours import coverage

from ..benchmarks.peers import features
from .table import Row

Device = torch.device | None

DECIDED = (
    "precision", "recall", "density", "coverage", "authenticity", "clipped_density", "clipped_coverage",
    "symmetric_precision", "symmetric_recall", "precision_cover", "recall_cover", "hubness", "predicted_class",
    "shape_coverage", "one_nn_accuracy", "topological_precision", "topological_recall", "random_score", "png_bytes",
)  # fmt: skip
"""Metrics that count decisions: one decision more or less would change them by 1e-6 or more."""
COUNTED = 1e-12
"""Their bound: no decision differs, and only the order of a sum of counts may."""
ROUNDED = 2e-5
"""The bound of all others. tests/metrics/test_agreement.py holds float32 to 1e-5 of float64 formulas, whoever computes
it, so two of them differ by at most twice that."""
LEARNED = dict.fromkeys(("density_ratio", "amortised_volume", "amortised_volume_fit"), 0.01)
"""A network is trained in float32, and trees are grown on codes rounded to it. Moving 200 codes by one part in 10^7,
the rounding of float32, changes the scores on the CPU by 7e-6; a code that falls into another bin of the trees, by
more."""
INTERVAL = 0.02
"""The bound of an interval's ends, as a share of its length. Halves of the samples are counted by float32 bounds of
distances, so a few of their decisions may differ."""


def sample(view: View, n: int, d: int, seed: int) -> Tensor:
    """n samples as a view delivers them, float32 or class numbers: correlated features, smooth pictures, clouds."""
    generator = torch.Generator().manual_seed(seed)
    through = view.space.split(":")[0]
    if through == "labels":
        return torch.randint(0, 4, (n,), generator=generator)
    if through == "images":
        coarse = torch.rand(n, 3, 5, 5, generator=generator)
        return F.interpolate(coarse, (24, 24), mode="bilinear").clamp(0, 1)
    if through == "points":
        rows = torch.randn(n // 4, 64, 3, generator=generator)
        return F.normalize(rows, dim=2) * (0.5 + torch.rand(n // 4, 1, 3, generator=generator))
    if through == "shaded":
        return features(3 * n, 2 * d, seed).view(n, 3, -1)
    if through in ("residual", "discriminator"):
        return torch.rand(n, 1, generator=generator)
    if through in ("stretch", "singular", "trajectory", "denoising"):
        return 0.1 + torch.rand(n, d, generator=generator)
    if through == "signals":
        return torch.rand(n, 6, generator=generator)
    if view.encode == "logvar":
        return -4 + torch.randn(n, d, generator=generator)
    return features(n, 2048 if through == "inception" else d, seed, scale=1.05 if view.source == "fake" else 1.0)


def values(metric: Metric, arguments: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Scores or numbers, and the intervals [n, 2] of these, float64 on the CPU."""
    with warnings.catch_warnings(action="ignore"):
        found = metric.function(*arguments)
    if metric.kind == "sample":
        return found.double().cpu(), torch.empty(0, 2)
    numbers: list[Estimate] = list(found.values()) if isinstance(found, Mapping) else [found]
    return (
        torch.tensor([number.value for number in numbers], dtype=torch.float64),
        torch.tensor([number.interval for number in numbers], dtype=torch.float64),
    )


def difference(found: Tensor, right: Tensor) -> float:
    """Largest difference as a share of the largest value; inf where one is not a number and the other is."""
    if not torch.equal(found.isnan(), right.isnan()):
        return float("inf")
    found, right = found.nan_to_num(), right.nan_to_num()
    return float((found - right).abs().max() / right.abs().max().clamp(min=torch.finfo(torch.float64).tiny))


def moved(found: Tensor, right: Tensor) -> float | None:
    """Largest difference of the ends of intervals [n, 2] as a share of their lengths; None where there is none."""
    known = right.isfinite().all(1) & (right[:, 1] > right[:, 0])
    if not known.any():
        return None
    return float(((found - right).abs().amax(1) / (right[:, 1] - right[:, 0]))[known].max())


def agreement(name: str, device: Device, n: int, d: int) -> Iterator[Row]:
    """A row about the value of a metric, and for one of sets another about its interval."""
    metric = METRICS[name]
    given = [sample(view, n, d, seed) for seed, view in enumerate(metric.views.values(), start=1)]
    value, interval = values(metric, given)
    wide, wide_interval = values(metric, [x.double() if x.is_floating_point() else x for x in given])
    gpu = None if device is None else values(metric, [x.to(device) for x in given])
    size = " and ".join(sorted({"x".join(map(str, x.shape)) for x in given}))
    bound = COUNTED if name in DECIDED else LEARNED.get(name, ROUNDED)
    yield Row(name, size, difference(value, wide), gpu=gpu and difference(gpu[0], value), bound=bound)
    if (by_type := moved(interval, wide_interval)) is not None:
        yield Row(f"{name}, interval", size, by_type, gpu=gpu and moved(gpu[1], interval), bound=INTERVAL)


def decisions(device: Device, n: int, d: int) -> Iterator[Row]:
    """How many counts and indices of the pass over all neighbours differ; the second time with copies, which tie."""
    real, fake = features(n, d, 1), features(n, d, 2, scale=0.95)
    tied = torch.cat([real[: n // 2], fake[n // 2 :]])
    for told, y in (("no ties", fake), ("half of the samples are copies", tied)):
        found, wide = neighbour_pass(y, real), neighbour_pass(y.double(), real.double())
        gpu = None if device is None else neighbour_pass(y.to(device), real.to(device))
        row = f"decisions of the neighbour pass, {told}", f"{n}x{d}", float(_unequal(found, wide))
        yield Row(*row, gpu=None if gpu is None else float(_unequal(gpu, found)), bound=0)


def _unequal(one: Any, other: Any) -> int:
    pairs = zip(one[:-1], other[:-1], strict=True)
    return sum(int((a.cpu() != b).sum()) for a, b in pairs if not b.is_floating_point())


def approximate(device: Device, n: int, d: int) -> Iterator[Row]:
    """Share of true neighbours that faiss finds, how far its coverage is from the exact one, and its speed."""
    try:
        import faiss  # noqa: F401
    except ImportError as error:  # it is not installed, or the CUDA libraries that it needs are not there
        yield Row(f"faiss: not at hand: {error}", "", None)
        return
    sets = features(n, d, 2, scale=0.95), features(n, d, 1)
    on_cpu = _by_faiss(*sets)
    on_gpu = {} if device is None else _by_faiss(*(x.to(device) for x in sets))
    for what, room in FAISS.items():
        bound = None if room is None else on_cpu[what] + room
        yield Row(
            what, f"{n}x{d}", on_cpu[what], gpu=on_gpu.get(what), bound=bound, least=room is not None and room < 0
        )


FAISS = {
    "share of true neighbours found": -0.02,
    "coverage, distance from the exact one": 0.01,
    "seconds": None,
    "seconds of the exact search": None,
}
"""What is compared of faiss, and by how much the GPU may be worse: its k-means begins from other numbers."""


def _by_faiss(y: Tensor, x: Tensor) -> dict[str, float]:
    found, seconds = timed(lambda: approximate_nearest(x, y, 5))
    near, exact_seconds = timed(lambda: coverage(y, x))
    by_faiss = coverage(y, x, backend="faiss")
    assert isinstance(by_faiss, dict)
    off = abs(by_faiss["coverage"].value - near.value)
    return dict(zip(FAISS, (found.recall.value, off, seconds, exact_seconds), strict=True))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and seconds until all of it is done, on a GPU too."""
    _synchronise()
    begin = time.perf_counter()
    found = work()
    _synchronise()
    return found, time.perf_counter() - begin


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
