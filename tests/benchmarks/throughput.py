"""Images per second and peak memory of every generator and feature space, each in a process of its own.

    .venv/bin/python tests/benchmarks/throughput.py            # about 10 minutes on two quiet cores
    .venv/bin/python tests/benchmarks/throughput.py --only vae # those whose name contains "vae"

Writes results/benchmarks/throughput.csv and .md (or --out). Weights of published sizes are random: they cost the same.
Wall time depends on what else runs; CPU seconds are beside it. Memory is the peak of the process less that of one that
has only imported torch.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

RESULTS = Path(__file__).parents[2] / "results" / "benchmarks"
Made = Callable[[int], Tensor]


def registered(name: str, dataset: str = "fashion_mnist", device: str = "cpu") -> Made:
    """A registered generator, from seeds to images."""
    from assay.harness.core.registry import GENERATORS, discover

    discover()
    generator = GENERATORS[name].function(dataset)
    space = generator.spaces[0]
    return lambda n: generator.decode(generator.latents(range(n), space).to(device), space)


def network(build: Callable[[], torch.nn.Module], *shape: int, device: str = "cpu") -> Made:
    """A network of a published size with random weights, from normal latents [n, *shape] to images."""
    made: Any = build().eval().requires_grad_(False)
    made.to(device, memory_format=torch.channels_last)
    return lambda n: made(torch.randn(n, *shape, device=device))


def stylegan2(resolution: int, device: str = "cpu") -> Made:
    from assay.generators.networks.stylegan2_networks import StyleGAN2Network

    return network(lambda: StyleGAN2Network(512, 0, 512, resolution, 3), 512, device=device)


def stylegan3(resolution: int, device: str = "cpu") -> Made:
    from assay.generators.stylegan3 import StyleGAN3Network

    made: Any = StyleGAN3Network(512, 0, 512, resolution, 3).eval().requires_grad_(False)
    made.to(device, memory_format=torch.channels_last)
    return lambda n: made.images(made.mapping(torch.randn(n, 512, device=device)))


def fastgan(resolution: int, device: str = "cpu") -> Made:
    from assay.generators.fastgan import FastGANNetwork

    return network(lambda: FastGANNetwork(256, 128, resolution, 3, False), 256, device=device)


def progan(resolution: int, device: str = "cpu") -> Made:
    from assay.generators.progan import ProGANNetwork

    widths = [min(512, 8192 // 2**level) for level in range(2, resolution.bit_length())]
    return network(lambda: ProGANNetwork(512, widths, 3), 512, device=device)


def extractor(name: str, side: int, **options: Any) -> Made:
    from assay.harness.core.registry import EXTRACTORS, discover

    discover()
    made = EXTRACTORS[name].function("fashion_mnist", **options)
    channels = 1 if side == 28 else 3
    return lambda n: made(torch.rand(n, channels, side, side))


STUDIES: dict[str, tuple[Callable[[], Made], int]] = {
    "generator vae (zoo), 28 px": (lambda: registered("vae"), 1000),
    "generator stylegan2 (zoo), 28 px": (lambda: registered("stylegan2"), 500),
    "generator latent_diffusion (zoo), 28 px, 50 steps": (lambda: registered("latent_diffusion"), 500),
    "generator dcgan, 64 px": (lambda: registered("dcgan"), 250),
    "generator stylegan2, 256 px": (lambda: stylegan2(256), 8),
    "generator stylegan2, 1024 px": (lambda: stylegan2(1024), 1),
    "generator stylegan3-T, 256 px": (lambda: stylegan3(256), 1),
    "generator fastgan, 256 px": (lambda: fastgan(256), 8),
    "generator progan, 256 px": (lambda: progan(256), 8),
    "extractor classifier, 28 px": (lambda: extractor("classifier", 28), 2000),
    "extractor random, 28 px": (lambda: extractor("random", 28), 500),
    "extractor efficientnet_lite at 64": (lambda: extractor("efficientnet_lite", 28, size=64), 250),
    "extractor efficientnet_lite at 224": (lambda: extractor("efficientnet_lite", 256), 50),
}
"""What is measured, and how many images at a time. Inception, VGG, CLIP and DINOv2 need weights that nobody ships."""


def measure(task: str) -> dict[str, float]:
    """Runs in a process of its own."""
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    build, count = STUDIES[task]
    with torch.no_grad():
        made = build()
        made(min(count, 2))
        wall, cpu = time.perf_counter(), time.process_time()
        rounds = 0
        while rounds < 1 or time.perf_counter() - wall < 5:
            made(count)
            rounds += 1
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = rounds * count
    return {"images": images, "images_per_s": images / wall, "images_per_cpu_s": images / cpu,
            "extra_mib": (peak - base) / 1024}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="measure what has this text in its name")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure(chosen.measure)))
        return
    rows = []
    for task in filter(lambda name: chosen.only in name, STUDIES):
        command = [sys.executable, __file__, "--measure", task]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"})
        lines = done.stderr.strip().splitlines()
        found = (
            json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"failed": lines[-1] if lines else ""}
        )
        rows.append({"what": task, "at_once": STUDIES[task][1], **found})
        print(rows[-1], flush=True)
    frame = pd.DataFrame(rows).round(2).astype(object).fillna("")
    chosen.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(chosen.out / "throughput.csv", index=False, lineterminator="\n")
    cells = [
        list(map(str, frame.columns)),
        ["---"] * len(frame.columns),
        *([str(cell) for cell in row] for row in frame.itertuples(index=False)),
    ]
    text = "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"
    (chosen.out / "throughput.md").write_text(f"Two cores, torch {torch.__version__}.\n\n{text}")


if __name__ == "__main__":
    main()
