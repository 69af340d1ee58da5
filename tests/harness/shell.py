"""The command as a user calls it, in a process of its own, with a store and a cache of the test."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ASSAY = Path(sys.executable).with_name("assay")
TINY = ("dataset=digits", "n=60", "device=cpu")
PLUGIN = """
import os
from assay.harness.core.protocols import View
from assay.harness.core.registry import metric

FEATURES = View("fake", "classifier")

@metric(better="higher", kind="set", source="not published", fake=FEATURES)
def first_feature(fake, power: int = 1):
    return float((fake[:, 0] ** power).mean())

@metric(better="higher", kind="sample", source="not published", fake=FEATURES)
def flaky(fake):
    if "FLAKY" in os.environ:
        raise RuntimeError("out of order")
    return fake.double().sum(1)

@metric(better="neither", kind="sample", source="not published", fake=FEATURES)
def patchy(fake):
    scores = fake.double().sum(1)
    scores[::3] = float("nan")
    return scores
"""
Finished = subprocess.CompletedProcess[str]
Files = dict[str, bytes]


class Shell:
    """Runs the command with the store, the cache and the working directory of the tests."""

    def __init__(self, folder: Path):
        self.folder = folder
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ASSAY_", "FLAKY"))}
        self.environment = kept | {
            "ASSAY_STORE": str(folder / "store"), "ASSAY_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"
        }  # fmt: skip
        (folder / "plugin.py").write_text(PLUGIN)
        rng, classes = np.random.default_rng(0), np.arange(10)
        np.savez(
            folder / "features.npz", features=rng.random((250, 6)), labels=np.arange(250) % 10,
            split=np.where(classes < 5, "base", "novel"), semantics=rng.random((10, 3)),
        )  # fmt: skip

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [ASSAY, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder,
            env=self.environment | environment,
        )  # fmt: skip

    def __call__(self, *arguments: str, **environment: str) -> Finished:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=300)
        return Finished(process.args, process.returncode, out, err)

    def together(self, calls: dict[str, tuple[str, ...]]) -> dict[str, Finished]:
        """Several calls, two at a time."""
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(calls, pool.map(lambda arguments: self(*arguments), calls.values()), strict=True))

    def files(self, out: str) -> Files:
        root = self.folder / out
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def costs(self, out: str) -> int:
        """How many cells were computed, in all runs so far."""
        return sum(len(path.read_text().splitlines()) - 1 for path in (self.folder / out).glob("*.costs.csv"))


def results(assay: Shell, out: str) -> Files:
    """What another run of the same leaves byte for byte: all but the page, which tells what each number has cost."""
    return {name: content for name, content in assay.files(out).items() if name != "report.html"}


def differing(one: Files, two: Files) -> list[str]:
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def is_one_line(text: str) -> bool:
    return len(text.strip().splitlines()) == 1
