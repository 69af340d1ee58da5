"""One large view by one worker and by several: wall time, and what part of it is not spent in networks.

    python -m tests.benchmarks.workers --samples 20000 --size 160 --workers 1 2

20,000 samples of our VAE of Fashion-MNIST and their features by efficientnet_lite, from an empty store. The runs take
turns, `--repeats` times. At work: the seconds of all workers in networks, of workers times wall seconds.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from assay.harness.core.files import cache_folder

PLUGIN = Path(__file__).with_name("timed_plugin.py")


def run(engine: str, workers: int, samples: int, size: int, top: Path) -> dict[str, float]:
    """Figures of one command, from an empty store."""
    out = Path(tempfile.mkdtemp(dir=top))
    (out / "cache").mkdir()
    (out / "cache" / "data").symlink_to(cache_folder() / "data")
    by = (
        ["engine.threads=1"]
        if engine == "local"
        else [f"engine={engine}", f"engine.workers={workers}", "engine.threads=1"]
    )
    by += ["engine.executor=local"] if engine == "slurm" else []
    asked = ["generator=timed_vae", "dataset=fashion_mnist", "features=timed", f"extractor.timed.size={size}"]
    asked += [f"n={samples}", "metric=mean_feature", "device=cpu", f"out={out}"]
    line = [sys.executable, "-m", "assay", "--plugin", str(PLUGIN), "run", *asked, *by]
    environment = os.environ | {"ASSAY_CACHE": str(out / "cache"), "ASSAY_TEST_TIMES": str(out / "times")}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    times = [tuple(map(float, line.split())) for line in (out / "times").read_text().splitlines()]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall": wall,
        "cpu": cpu,
        "at work": sum(clock for clock, _ in times) / workers / wall,
        "cpu in networks": sum(processor for _, processor in times) / cpu,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", default="processes")
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=160, help="pixels a side that the extractor sees")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    print("| workers | wall s | CPU s | at work | CPU in networks | load |\n|---|---|---|---|---|---|", flush=True)
    walls: dict[int, list[float]] = {workers: [] for workers in asked.workers}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(asked.repeats):
            for workers in asked.workers:
                found = run(asked.engine, workers, asked.samples, asked.size, Path(folder))
                walls[workers].append(found["wall"])
                told = [f"{found['wall']:.1f}", f"{found['cpu']:.1f}", f"{found['at work']:.1%}"]
                told += [f"{found['cpu in networks']:.1%}", f"{found['load']:.1f}"]
                print(f"| {workers} | {' | '.join(told)} |", flush=True)
    best = {workers: min(seconds) for workers, seconds in walls.items()}
    first = asked.workers[0]
    for workers in asked.workers[1:]:
        print(f"{workers} workers are {best[first] / best[workers]:.2f} times as fast as {first}")


if __name__ == "__main__":
    main()
