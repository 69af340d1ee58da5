"""Speed as a share of the device's own float32 matrix product, measured in the same run; images a second.

The operations counted are those of the plain matrix products of the task, float64 ones twice, as in
tests/benchmarks/peers.py. On a GPU all products are float32, without TF32.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from assay.generators.networks.openai_unet import UNet
from assay.harness.core.abilities import Layered
from assay.harness.core.registry import EXTRACTORS, GENERATORS
from assay.metrics.frechet import frechet_distance
from assay.metrics.kernels.balls import neighbour_pass
from assay.metrics.latent_density import latent_density
from assay.metrics.paths.energy import feature_distance, optimise_path

from ..benchmarks.paths import networks_alone
from ..benchmarks.peers import flops, latents, pair
from ..benchmarks.throughput import fastgan, progan, registered, stylegan2, stylegan3
from .metrics import Device, timed
from .networks import zoo
from .table import Row

CPU = torch.device("cpu")
PRODUCT = {"cpu": 1024, "cuda": 8192}
"""Rows of the square matrices whose product is the measure."""


class Task(NamedTuple):
    """sets: makes the samples, given the sizes. metric: what is timed. count: operations, by the sizes."""

    sets: Callable[..., tuple[Tensor, Tensor]]
    metric: Callable[[Tensor, Tensor], object]
    count: Callable[[list[int]], float]
    small: Sequence[int]
    large: Sequence[int]


def _density(queries: Tensor, codes: Tensor) -> Tensor:
    return latent_density(queries, codes, 0.3, relative=False)


TASKS = {
    "latent density": Task(latents, _density, partial(flops, "density"), (1000, 7000, 512), (10_000, 1_000_000, 512)),
    "neighbour pass": Task(pair, neighbour_pass, partial(flops, "neighbours"), (1500, 2048), (50_000, 2048)),
    "Fréchet distance with its interval": Task(
        pair, frechet_distance, partial(flops, "frechet"), (2500, 2048), (50_000, 2048)
    ),
}


def product_rate(device: torch.device, repeats: int = 5) -> float:
    """float32 operations a second of a square matrix product: the median."""
    n = PRODUCT[device.type]
    a, b = (torch.randn(n, n, device=device) for _ in range(2))
    out = torch.empty(n, n, device=device)
    seconds = sorted(timed(lambda: torch.mm(a, b, out=out))[1] for _ in range(repeats + 1))
    return 2 * n**3 / seconds[len(seconds) // 2]


def shares(device: Device, repeats: int = 2) -> Iterator[Row]:
    """The rate of the product, then the share of it that each task reaches."""
    on_cpu, on_gpu = product_rate(CPU), None if device is None else product_rate(device)
    sizes = ["x".join([str(PRODUCT[kind])] * 3) for kind in PRODUCT]
    yield Row("matrix product, TFLOP/s", sizes[0], on_cpu / 1e12, sizes[1], on_gpu and on_gpu / 1e12)
    for name, task in TASKS.items():
        cpu = _share(task, task.small, CPU, repeats)
        gpu = None if device is None else _share(task, task.large, device, repeats)
        yield Row(name, _told(task.small), cpu, _told(task.large), gpu)


def _share(task: Task, sizes: Sequence[int], device: torch.device, repeats: int) -> float:
    def best(*sizes: int, repeats: int) -> float:
        y, x = (rows.to(device) for rows in task.sets(*sizes))
        # Metrics keep results by the identity of their inputs, so each time gets its own.
        copies = ((y.clone(), x.clone()) for _ in range(repeats))
        return min(timed(partial(task.metric, *both))[1] for both in copies)

    best(*(min(size, 300) for size in sizes[:-1]), min(sizes[-1], 64), repeats=1)  # what is loaded and set up once
    return task.count(list(sizes)) / best(*sizes, repeats=repeats) / product_rate(device)


def _told(sizes: Sequence[int]) -> str:
    return " x ".join(f"{size:,}" for size in sizes)


# Paths


def paths(device: Device, small: Sequence[int] = (2, 3, 2), large: Sequence[int] = (64, 5, 10)) -> Iterator[Row]:
    """Generator and network alone over the same vertices, as a share of the whole of path optimisation.

    small, large: pairs, levels, iterations of each level.
    """
    found = _paths(CPU, *small), None if device is None else _paths(device, *large)
    told = [
        f"{pairs} pairs, {2**levels + 1} vertices, {levels * steps} steps" for pairs, levels, steps in (small, large)
    ]
    for at, what in enumerate(("path optimisation, share of its networks alone", "path optimisation, images a second")):
        yield Row(what, told[0], found[0][at], told[1], found[1] and found[1][at])


def _paths(device: torch.device, pairs: int, levels: int, iterations: int) -> tuple[float, float]:
    generator = GENERATORS["vae"].function("fashion_mnist")
    classifier = EXTRACTORS["classifier"].function("fashion_mnist")
    assert isinstance(classifier, Layered)
    embed = feature_distance(classifier.layers)
    z = generator.latents(range(2 * pairs), "z").to(device)
    start, end = z.chunk(2)

    def decode(codes: Tensor) -> Tensor:
        images: Tensor = generator.decode(codes, "z")
        return images

    def seen(codes: Tensor) -> Tensor:
        return embed(decode(codes))

    optimise_path(decode, start[:1], end[:1], embed, levels=1, iterations=1)
    whole, seconds = timed(lambda: optimise_path(decode, start, end, embed, levels=levels, iterations=iterations))
    _, alone = timed(lambda: networks_alone(seen, start, iterations, levels))
    return alone / seconds, whole.calls / seconds


# Images a second


def adm(resolution: int, width: int, device: str) -> Callable[[int], Tensor]:
    """One pass of ADM's network with random weights: a sample takes as many as it has steps."""
    from ..generators.networks.test_openai_unet import published

    shapes, heads = published(resolution, width, (1, 1, 2, 2, 4, 4), 2)
    tensors = {name: torch.randn(x.shape) / math.sqrt(max(1, math.prod(x.shape[1:]))) for name, x in shapes.items()}
    network = UNet(tensors, heads).to(device)
    side = (3, resolution, resolution)
    return lambda n: network(torch.randn(n, *side, device=device), torch.ones(n, device=device),
                             torch.zeros(n, dtype=torch.int64, device=device))  # fmt: skip


Made = Callable[[int], Tensor]
LARGE: dict[str, tuple[Callable[[str], Made], int, int]] = {
    "stylegan2, 256 px": (lambda device: stylegan2(256, device), 1, 32),
    "stylegan3-T, 256 px": (lambda device: stylegan3(256, device), 1, 16),
    "fastgan, 256 px": (lambda device: fastgan(256, device), 1, 64),
    "progan, 256 px": (lambda device: progan(256, device), 2, 64),
    "adm, 256 px, one pass (on a CPU a quarter of its width)": (
        lambda device: adm(256, 64 if device == "cpu" else 256, device), 1, 8,
    ),
}  # fmt: skip
"""Networks of published sizes with random weights: what makes them, and images at a time on a CPU and on a GPU."""


def throughput(device: Device, seconds: float, only: Callable[[str], bool] = lambda name: True) -> Iterator[Row]:
    """Images a second of the generators of the zoo and of networks of 256 pixels."""
    made = {
        f"{family} on {data}, zoo": (partial(_of_zoo, family, data), 100, 1000) for family, data in zoo("generator")
    }
    for name, (make, few, many) in {**made, **LARGE}.items():
        if only(name):
            few, many = (8, 64) if "sdf" in name else (few, many)
            cpu = images_a_second(make("cpu"), few, seconds)
            gpu = None if device is None else images_a_second(make("cuda"), many, seconds)
            yield Row(name, f"{few} at a time", cpu, f"{many} at a time", gpu)


def _of_zoo(family: str, dataset: str, device: str) -> Made:
    return registered(family, dataset, device)


@torch.no_grad()
def images_a_second(make: Made, count: int, seconds: float) -> float:
    make(min(count, 2))
    made, taken = 0, 0.0
    while taken < seconds or not made:
        taken += timed(lambda: make(count))[1]
        made += count
    return made / taken
