"""Runs of slow_plugin.py by the command line, on each engine."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PLUGIN = Path(__file__).with_name("slow_plugin.py")
METRICS = ("precision", "density", "pseudo_density")
ENGINES: Mapping[str, Sequence[str]] = {
    "local": (),
    "processes": ("engine=processes", "engine.workers=2"),
    "ray": ("engine=ray", "engine.workers=2"),
    "slurm": ("engine=slurm", "engine.executor=local", "engine.workers=2"),
}


def line(engine: str, out: Path, *more: str) -> list[str]:
    """A command on this world by an engine, at one thread a worker."""
    options = ("generator=slow", "dataset=digits", "features=mixed", "device=cpu", "engine.threads=1")
    return [
        sys.executable,
        "-m",
        "assay",
        "--plugin",
        str(PLUGIN),
        "run",
        *options,
        *ENGINES[engine],
        f"out={out}",
        *more,
    ]


def environment(cache: Path, **more: str) -> dict[str, str]:
    return os.environ | {"ASSAY_CACHE": str(cache), "OMP_NUM_THREADS": "1"} | more


def carried_out(
    engine: str, out: Path, cache: Path, *more: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    environs = environment(cache, **variables)
    return subprocess.run(line(engine, out, *more), capture_output=True, text=True, env=environs, check=False)


def written(out: Path) -> dict[str, bytes]:
    """What must be the same whoever computed it: records and tables, by their names."""
    files = [*out.glob("run/records/*"), *out.glob("run/tables/*"), *out.glob("run/scores.parquet")]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}
