"""Speed, memory and values of the heaviest metrics beside other packages, and how their cost grows, on one machine.

    python tests/benchmarks/peers.py            # everything: about 20 minutes on two quiet cores
    python tests/benchmarks/peers.py --smoke    # the same at a tiny size: about two minutes, only to see that it runs

Needs `pip install -e '.[dev]'` (scikit-learn, SciPy and prdc are the peers). Writes results/benchmarks/ (or --out):
peers.csv and peers.md, the table of ratios; growth.csv, growth.md and growth.png, time and memory against N and D.

Every measurement has a process of its own, and round each the float32 matrix-product rate of the machine is taken
again, so that load shows. Read ratios of CPU seconds; wall times depend on what else runs.
"""

import argparse
import ctypes
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

RESULTS = Path(__file__).parents[2] / "results" / "benchmarks"
QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
SKLEARN_QUERIES, SCIPY_QUERIES = 40, 8


def features(n: int, d: int, seed: int, alpha: float = 0.8, offset: float = 0.4, scale: float = 1.0) -> Tensor:
    """Correlated Gaussian rows with a power-law spectrum and a positive mean; equal d shares the covariance."""
    generator = torch.Generator().manual_seed(7 + d)
    mix = torch.randn(d, d, generator=generator) / d**0.5 * torch.arange(1, d + 1)[:, None] ** -alpha
    generator = torch.Generator().manual_seed(seed)
    blocks = [torch.randn(min(5000, n - i), d, generator=generator) @ mix for i in range(0, n, 5000)]
    return torch.cat(blocks) * scale + offset


def latents(n: int, m: int, d: int) -> tuple[Tensor, Tensor]:
    return features(n, d, 6, alpha=0.5, offset=0.0, scale=1.1), features(m, d, 5, alpha=0.5, offset=0.0)


def pair(n: int, d: int) -> tuple[Tensor, Tensor]:
    return features(n, d, 2, scale=0.95), features(n, d, 1)


# Each task makes its data outside the clock and returns what is to be timed, which returns (values, share done).
Work = Callable[[], tuple[dict[str, float], float]]


def density_assay(n: int, m: int, d: int) -> Work:
    from assay.metrics.latent_density import latent_density

    queries, codes = latents(n, m, d)

    def work() -> tuple[dict[str, float], float]:
        log = latent_density(queries, codes, 0.3, relative=False)
        return {"first": float(log[0]), "mean": float(log[:SKLEARN_QUERIES].mean())}, 1.0

    return work


def density_sklearn(n: int, m: int, d: int) -> Work:
    from sklearn.neighbors import KernelDensity

    queries, codes = latents(n, m, d)
    tree = KernelDensity(bandwidth=0.3).fit(codes.numpy())
    few = queries[:SKLEARN_QUERIES].numpy()
    constant = 0.5 * d * np.log(2 * np.pi) + d * np.log(0.3)

    def work() -> tuple[dict[str, float], float]:
        log = tree.score_samples(few) + constant
        return {"first": float(log[0]), "mean": float(log.mean())}, len(few) / n

    return work


def density_scipy(n: int, m: int, d: int) -> Work:
    from scipy.stats import gaussian_kde

    queries, codes = latents(n, m, d)
    estimate = gaussian_kde(codes.numpy().T)
    few = queries[:SCIPY_QUERIES].numpy().T

    def work() -> tuple[dict[str, float], float]:
        return {"first": float(estimate.logpdf(few)[0])}, SCIPY_QUERIES / n

    return work


def neighbours_assay(n: int, d: int) -> Work:
    from assay.metrics import neighbours as family

    fake, real = pair(n, d)

    def work() -> tuple[dict[str, float], float]:
        sets = (
            *(family.precision, family.recall, family.density, family.coverage, family.authenticity),
            *(family.symmetric_precision, family.symmetric_recall, family.clipped_coverage, family.clipped_density),
        )
        values = {metric.__name__: metric(fake, real).value for metric in sets}
        values["realism"] = float(family.realism(fake, real).mean())
        values["rarity"] = float(family.rarity(fake, real).nanmean())
        return values, 1.0

    return work


def neighbours_prdc(n: int, d: int) -> Work:
    from prdc import compute_prdc

    fake, real = (s.numpy() for s in pair(n, d))
    return lambda: ({k: float(v) for k, v in compute_prdc(real, fake, 5).items()}, 1.0)


def frechet_assay(n: int, d: int) -> Work:
    from assay.metrics.frechet import frechet_distance

    fake, real = pair(n, d)
    return lambda: ({"distance": frechet_distance(fake, real).value}, 1.0)


def frechet_value(n: int, d: int) -> Work:
    """assay's value without the interval: what frechet_sqrtm computes."""
    from assay.metrics.frechet import frechet_of_moments
    from assay.metrics.kernels.moments import moments

    fake, real = pair(n, d)
    return lambda: ({"distance": frechet_of_moments(moments(fake), moments(real))}, 1.0)


def frechet_sqrtm(n: int, d: int) -> Work:
    """pytorch-fid's formula, a value alone: the root of the product of both covariances by scipy's sqrtm."""
    from scipy.linalg import sqrtm

    fake, real = (s.numpy().astype(np.float64) for s in pair(n, d))

    def work() -> tuple[dict[str, float], float]:
        means, covariances = zip(*((s.mean(0), np.cov(s, rowvar=False)) for s in (fake, real)), strict=True)
        root = np.real(sqrtm(covariances[0] @ covariances[1]))
        squared = np.square(means[0] - means[1]).sum()
        return {"distance": float(squared + np.trace(covariances[0] + covariances[1] - 2 * root))}, 1.0

    return work


STUDIES: dict[str, Callable[..., Work]] = {
    name: task
    for name, task in globals().items()
    if name.partition("_")[0] in ("density", "neighbours", "frechet") and callable(task)
}


def flops(task: str, sizes: list[int]) -> float:
    """Floating-point operations of the plain matrix products, float64 ones counted twice."""
    if task.startswith("density"):
        n, m, d = sizes
        return 2.0 * n * m * d
    n, d = sizes
    if task.startswith("neighbours"):
        return 6.0 * n * n * d
    return 4.0 * n * n * d + 16 / 3 * n**3 if n < d else 8.0 * n * d * d + 11.4 * d**3


def product_rate() -> float:
    """float32 operations a second of a 1024 x 2048 by 2048 x 4096 product: the median of six."""
    a, b = torch.randn(1024, 2048), torch.randn(2048, 4096)
    out, seconds = torch.empty(1024, 4096), []
    for _ in range(7):
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        seconds.append(time.perf_counter() - start)
    return 2 * 1024 * 2048 * 4096 / float(np.median(seconds[1:]))


def peak_mib(*, reset: bool = False) -> float:
    """Largest resident memory since the last reset (on Linux; elsewhere since the process began)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if reset:
        ctypes.CDLL(None).malloc_trim(0)  # memory freed earlier, but still held, would hide what is taken next
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(task: str, sizes: list[int]) -> dict[str, Any]:
    """One task in this process: seconds, memory above the inputs, values."""
    # A tiny run first: what a process loads and sets up once is nobody's speed or memory.
    STUDIES[task](*(min(size, 300) for size in sizes[:-1]), min(sizes[-1], 64))()
    work = STUDIES[task](*sizes)
    rates = [product_rate()]
    memory = peak_mib(reset=True)
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    values, share = work()
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    memory = peak_mib() - memory
    rates.append(product_rate())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    limit = flops(task, sizes) / float(np.mean(rates))
    return {
        "wall_s": wall / share,
        "cpu_s": cpu / share,
        "limit_s": limit,
        "limit_share": limit / (wall / share),
        "gflops": np.mean(rates) / 1e9,
        "extra_mib": memory,
        "values": ", ".join(f"{name} {value:.6g}" for name, value in values.items()),
    }


def in_own_process(task: str, sizes: list[int]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--task", task, "--sizes", *map(str, sizes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **QUIET})
    row: dict[str, Any] = {
        "task": task,
        "sizes": " x ".join(map(str, sizes)),
        **json.loads(done.stdout.splitlines()[-1]),
    }
    print(f"{task:20} {row['sizes']:22} wall {row['wall_s']:8.2f} s  cpu {row['cpu_s']:8.2f} s", flush=True)
    return row


def comparison(smoke: bool) -> list[tuple[list[str], list[int]]]:
    if smoke:
        sizes: list[list[int]] = [[100, 2000, 64], [300, 64], [50, 64], [300, 64]]
    else:
        sizes = [[10_000, 70_000, 512], [10_000, 2048], [1000, 2048], [10_000, 2048]]
    return [
        (["density_assay", "density_sklearn", "density_scipy"], sizes[0]),
        (["neighbours_assay", "neighbours_prdc"], sizes[1]),
        (["frechet_assay", "frechet_sqrtm"], sizes[2]),
        (["frechet_assay", "frechet_value", "frechet_sqrtm"], sizes[3]),
    ]


def compare(smoke: bool, repeats: int) -> pd.DataFrame:
    """The table; of `repeats` runs of a task the one with the fastest wall time, ratios against assay's row."""
    rows = []
    for tasks, sizes in comparison(smoke):
        ours: dict[str, Any] = {}
        for task in tasks:
            row = min((in_own_process(task, sizes) for _ in range(repeats)), key=lambda r: float(r["wall_s"]))
            ours = ours or row
            rows.append(
                {
                    **row,
                    "wall_ratio": row["wall_s"] / ours["wall_s"],
                    "cpu_ratio": row["cpu_s"] / ours["cpu_s"],
                    "values": row["values"],
                }
            )
    return pd.DataFrame(rows)


def grow(smoke: bool) -> pd.DataFrame:
    """Cost of the three heaviest metrics against N at D = 256, and against D at N = 10,000."""

    def sizes(task: str, n: int, d: int) -> list[int]:
        return [n, n, d] if task.startswith("density") else [n, d]

    def shapes() -> Iterator[tuple[int, int]]:
        yield from ((n, 16) for n in (100, 300)) if smoke else ((n, 256) for n in (1000, 3000, 10_000, 50_000, 100_000))
        yield from ((300, d) for d in (8, 32)) if smoke else ((10_000, d) for d in (64, 512, 2048))

    rows = []
    for task in ("density_assay", "neighbours_assay", "frechet_assay"):
        rows += [{**in_own_process(task, sizes(task, n, d)), "n": n, "d": d} for n, d in shapes()]
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame, file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    fixed = {"n": table["d"].mode().iloc[0], "d": table["n"].mode().iloc[0]}
    for column, (axis, other) in enumerate((("n", "d"), ("d", "n"))):
        for row, (value, label) in enumerate((("cpu_s", "CPU seconds"), ("extra_mib", "MiB above the inputs"))):
            for task, part in table[table[other] == fixed[axis]].groupby("task"):
                part = part.sort_values(axis)
                axes[row, column].plot(part[axis], part[value].clip(lower=0.001), "o-", label=task.partition("_")[0])
            axes[row, column].set(
                xscale="log", yscale="log", xlabel=f"{axis.upper()} at {other.upper()} = {fixed[axis]}"
            )
            axes[row, column].set_ylabel(label)
    axes[0, 0].legend()
    figure.savefig(file, dpi=150)


COLUMNS = """\
- sizes: queries x references x dimensions for density, else samples in each set x dimensions
- frechet_assay: the value with its interval; frechet_value, frechet_sqrtm: the value alone
- wall_s, cpu_s: seconds of the call, after a tiny one and with the data in memory; of scikit-learn and SciPy only
  {sklearn} and {scipy} queries were run, and the seconds scaled up to all
- limit_s: what the plain matrix products of the task would take at gflops, the rate of a float32 product measured
  just before and after (float64 at half of it); limit_share = limit_s / wall_s
- extra_mib: largest memory above that of the inputs
- wall_ratio, cpu_ratio: over assay's own, the first row of its sizes
"""


def write(table: pd.DataFrame, title: str, file: Path) -> None:
    """The table as <file>.csv, and as <file>.md with the machine and the meaning of the columns."""
    table = table.round(6)
    table.to_csv(file.with_suffix(".csv"), index=False)
    low, middle, high = table["gflops"].quantile([0, 0.5, 1])
    lines = [
        f"# {title}",
        "",
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, numpy {np.__version__}. "
        f"Matrix-product limit of the machine: {middle:.0f} GFLOP/s in float32 ({low:.0f} to {high:.0f} in this run).",
        "",
        COLUMNS.format(sklearn=SKLEARN_QUERIES, scipy=SCIPY_QUERIES),
        "| " + " | ".join(table.columns) + " |",
        "|" + "---|" * len(table.columns),
    ]
    for row in table.itertuples(index=False):
        cells = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in row)
        lines.append("| " + " | ".join(cells) + " |")
    file.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--only", choices=["peers", "growth"], help="one half of the work")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each comparison; the fastest counts")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--task", choices=STUDIES, help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=int, nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        print(json.dumps(measure(given.task, given.sizes)))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    if given.only != "growth":
        write(compare(given.smoke, given.repeats), "Beside other packages", given.out / "peers")
    if given.only != "peers":
        table = grow(given.smoke)
        write(table, "How cost grows with N and D", given.out / "growth")
        plot(table, given.out / "growth.png")


if __name__ == "__main__":
    main()
