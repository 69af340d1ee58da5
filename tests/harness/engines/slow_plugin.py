"""A plugin of a small world that takes its time, and whose workers may be killed.

$ASSAY_TEST_DEATHS is a file of lines "WHAT TIMES": the process that makes image 1500 (what: image) or computes the
metric `brittle` (what: metric) kills itself so often. $ASSAY_TEST_PAUSE: seconds of a batch in generator and extractor.
$ASSAY_TEST_SEEN: a file that gets the number of images of each call of the extractor.
"""

import fcntl
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from assay import View, extractor, generator, metric

DEADLY = 1500
PAUSE = float(os.environ.get("ASSAY_TEST_PAUSE", "0"))
SEEN = os.environ.get("ASSAY_TEST_SEEN", os.devnull)


def die(what: str) -> None:
    """Kill this process, as often as the list has it."""
    path = Path(os.environ.get("ASSAY_TEST_DEATHS", "/nowhere"))
    if not path.is_file():
        return
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        left = {name: int(times) for name, times in (line.split() for line in file)}
        if left.get(what, 0) <= 0:
            return
        left[what] -= 1
        file.seek(0)
        file.truncate()
        file.write("".join(f"{name} {times}\n" for name, times in left.items()))
    os.kill(os.getpid(), signal.SIGKILL)


class Slow:
    """Images [N, 1, 8, 8] by one random layer."""

    spaces: Sequence[str] = ("z",)

    def __init__(self, width: float):
        self.width, self.fingerprint = width, f"slow {width}"
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 64)

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        if DEADLY in seeds:
            die("image")
        return torch.from_numpy(np.stack([np.random.default_rng(seed).standard_normal(4) for seed in seeds])).float()

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        time.sleep(PAUSE)
        images: Tensor = self.layer(self.width * latents).sigmoid().reshape(-1, 1, 8, 8)
        return images


@generator
def slow(dataset: str, width: float = 1.0) -> Slow:
    return Slow(width)


class Mixed:
    """Features [N, 32] by one random layer."""

    fingerprint = "mixed"

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.layer = nn.Linear(64, 32)

    def __call__(self, images: Tensor) -> Tensor:
        time.sleep(PAUSE)
        with open(SEEN, "a") as file:
            file.write(f"{len(images)}\n")
        features: Tensor = self.layer(images.flatten(1)).tanh()
        return features


@extractor
def mixed(dataset: str) -> Mixed:
    return Mixed()


@metric(better="higher", kind="set", source="https://example.org", fake=View("fake", "features"))
def brittle(fake: Tensor) -> float:
    """Mean of all features, if one lives to see it."""
    die("metric")
    return float(fake.double().mean())
