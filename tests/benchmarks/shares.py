"""The three heaviest metrics beside the machine's own matrix product and beside peers, in one process on one thread.

    python tests/benchmarks/shares.py            # about two minutes of one quiet core
    python tests/benchmarks/shares.py --threads 2 --only frechet

Products and measured calls take turns, and the fastest of each counts, so that other work on the machine shows little.
Shares and ratios are of CPU seconds and, beside them, of wall time; the second is of use on a quiet machine alone.
"""

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from peers import STUDIES, flops

R = TypeVar("R")

TASKS: dict[str, tuple[str, list[int], str]] = {
    "density": ("density_assay", [10_000, 70_000, 512], "density_sklearn"),
    "neighbours": ("neighbours_assay", [10_000, 2048], "neighbours_prdc"),
    "frechet": ("frechet_assay", [10_000, 2048], "frechet_sqrtm"),
}
"""What is measured, its sizes and the peer."""


def seconds(work: Callable[[], R]) -> tuple[tuple[float, float], R]:
    """CPU and wall seconds, and what came of it."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return (time.process_time() - cpu, time.perf_counter() - wall), found


def product() -> tuple[float, float]:
    """CPU and wall seconds per floating-point operation of a float32 product: the fastest of four."""
    a, b, out = torch.randn(1024, 2048), torch.randn(4096, 2048), torch.empty(1024, 4096)
    found = [seconds(lambda: torch.mm(a, b.T, out=out))[0] for _ in range(5)][1:]
    cpu, wall = (min(times) / (2 * 1024 * 2048 * 4096) for times in zip(*found, strict=True))
    return cpu, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TASKS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in [given.only] if given.only else TASKS:
        task, sizes, peer = TASKS[name]
        STUDIES[task](*(min(size, 300) for size in sizes[:-1]), 64)()
        products, calls = [product()], []
        for _ in range(given.repeats):
            calls.append(seconds(STUDIES[task](*sizes))[0])  # new tensors: a cached result would take no time
            products.append(product())
        cpu, wall = (min(times) for times in zip(*calls, strict=True))
        limit, wall_limit = (flops(task, sizes) * min(times) for times in zip(*products, strict=True))
        line = f"{name}: {cpu:.2f} CPU s, {limit / cpu:.0%} of the product; {wall:.2f} s, {wall_limit / wall:.0%}"
        if not given.no_peers:
            theirs, (_, done) = seconds(STUDIES[peer](*sizes))
            theirs = tuple(part / done for part in theirs)
            line += f"; {peer} {theirs[0]:.1f} CPU s, {theirs[0] / cpu:.1f} times; {theirs[1] / wall:.1f} in wall time"
        print(line, flush=True)


if __name__ == "__main__":
    main()
