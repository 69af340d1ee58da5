"""Is everything on a GPU as it is on the CPU, and how fast is it? One command; at most eight minutes with a GPU.

    make gpu                                # on a machine with CUDA, and without one at small sizes
    python -m tests.gpu.check --out DIR     # the same in a Python that has what is needed

Writes gpu.md and gpu.csv to results/benchmarks where there is a CUDA device, else to outputs/benchmarks (or --out).
Exit code 1 where a number of the GPU is beyond its bound.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from assay.harness.core.registry import METRICS, discover

from . import metrics, networks, speed
from .metrics import Device
from .table import Part, Row, write

ROOT = Path(__file__).parents[2]


class Sizes(NamedTuple):
    """samples, dimensions: of the metrics. neighbours: samples and dimensions for faiss. images: decoded and extracted
    by each network. batch, steps: of training. seconds: for images a second."""

    samples: int
    dimensions: int
    neighbours: tuple[int, int]
    images: int
    batch: int
    steps: int
    seconds: float


SMALL = Sizes(400, 48, (2000, 64), 8, 16, 8, 1.0)
LARGE = Sizes(1500, 128, (20_000, 256), 64, 32, 32, 2.0)
BUDGET = 420.0
"""Seconds after which no further part begins on a machine with a GPU."""

ABOUT = {
    "metrics": (
        "Metrics",
        "Largest difference as a share of the largest value; of an interval's ends, as a share of its length. CPU: "
        "float32 against float64. GPU: against the CPU, both in float32. Bounds: 1e-12 of metrics that count "
        "decisions, of which none may differ; 2e-5 of others, twice what float32 may be from float64; 0.01 where a "
        "network is trained; 0.02 of intervals, whose random halves are counted by float32 bounds.",
    ),
    "decisions": (
        "Decisions of the neighbour metrics",
        "How many of all counts and nearest neighbours differ. CPU: float32 against float64. GPU: against the CPU.",
    ),
    "faiss": (
        "Approximate neighbours",
        "faiss with 32 of about sqrt(N) groups, against the exact search on the same device.",
    ),
    "generators": (
        "Generators",
        "Share of equal bytes of images in 8 bits. CPU: decoded one by one against all at once. GPU: against the CPU. "
        "Those that are not of the zoo are small random networks in the published layouts.",
    ),
    "extractors": (
        "Feature spaces",
        "The same of features, rounded to 256 levels between the least and the largest. Inception, VGG, DINOv2 and "
        "CLIP have random weights.",
    ),
    "training": (
        "Training of StyleGAN2",
        "Losses of `assay train` on digits. GPU: as a share of the CPU's loss, and of several steps the loss itself.",
    ),
    "speed": (
        "Speed",
        "The share of the time of the plain matrix products of a task, at the rate of a float32 product measured in "
        "the same run; float64 products count twice. Times are of the wall, so what else runs beside shows.",
    ),
    "paths": ("Paths of least energy", "On the VAE of Fashion-MNIST, in features of its classifier."),
    "images": ("Images a second", "Networks of 256 pixels have random weights."),
}
"""Title and explanation of each part."""
NO_TIME = "There was no time left for this part."


def parts(device: Device, sizes: Sizes, only: Callable[[str], bool]) -> dict[str, Callable[[], Iterator[Row]]]:
    """What is measured, by part; only: which metrics and networks."""
    n, d = sizes.samples, sizes.dimensions
    chosen = sorted(filter(only, METRICS))
    return {
        "metrics": lambda: (row for name in chosen for row in metrics.agreement(name, device, n, d)),
        "decisions": partial(metrics.decisions, device, n, d),
        "generators": partial(networks.decoding, device, sizes.images, only),
        "extractors": partial(networks.extracting, device, sizes.images, only),
        "training": partial(networks.training, device, sizes.batch, sizes.steps),
        "speed": partial(speed.shares, device),
        "paths": partial(speed.paths, device),
        "images": partial(speed.throughput, device, sizes.seconds, only),
        "faiss": partial(metrics.approximate, device, *sizes.neighbours),
    }


def check(device: Device, sizes: Sizes, out: Path, only: Callable[[str], bool] = lambda name: True) -> list[Row]:
    """Measure, write the page, and return the rows that are beyond their bounds."""
    discover()
    torch.backends.cudnn.allow_tf32 = False  # as `assay run` does
    begin, found = time.perf_counter(), dict[str, Part]()
    for name, rows in parts(device, sizes, only).items():
        title, about = ABOUT[name]
        if device is not None and time.perf_counter() - begin > BUDGET:
            found[name] = Part(title, f"{about} {NO_TIME}", [])
            continue
        found[name] = Part(title, about, [])
        for row in rows():
            found[name].rows.append(row)
            told = "" if row.gpu is None else f", GPU {row.gpu:.3g}{' BEYOND ITS BOUND' if row.broken else ''}"
            print(f"{time.perf_counter() - begin:5.0f} s  {row.what}: CPU {row.cpu}{told}", flush=True)
    print(write(out, found, device))
    return [row for part in found.values() for row in part.rows if row.broken]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the page")
    given = parser.parse_args(arguments)
    device = torch.device("cuda") if torch.cuda.is_available() else None
    out = given.out or ROOT / ("outputs" if device is None else "results") / "benchmarks"
    beyond = check(device, SMALL if device is None else LARGE, out)
    for row in beyond:
        print(f"error: {row.what}: {row.gpu:.3g} on the GPU, {'at least' if row.least else 'at most'} {row.bound:g}")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
