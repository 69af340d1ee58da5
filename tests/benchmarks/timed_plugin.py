"""A plugin: a generator and a feature space of ours that note how long their networks were at work, and a cheap metric.

Each call appends its seconds, of the clock and of the processor, to the file $ASSAY_TEST_TIMES.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from assay import View, extractor, generator, metric
from assay.harness.core.registry import EXTRACTORS, GENERATORS


@contextmanager
def noted() -> Iterator[None]:
    begin = time.monotonic(), time.process_time()
    yield
    line = f"{time.monotonic() - begin[0]:.4f} {time.process_time() - begin[1]:.4f}\n"
    file = os.open(os.environ["ASSAY_TEST_TIMES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line.encode())
    os.close(file)


class Timed:
    """The features of efficientnet_lite."""

    def __init__(self, dataset: str, size: int):
        self.network = EXTRACTORS["efficientnet_lite"].function(dataset, size=size)
        self.fingerprint, self.preprocessing = f"timed {self.network.fingerprint}", self.network.preprocessing

    def __call__(self, images: Tensor) -> Tensor:
        with noted():
            features: Tensor = self.network(images)
        return features


class TimedVAE:
    """The samples of our VAE."""

    def __init__(self, dataset: str):
        self.network = GENERATORS["vae"].function(dataset)
        self.fingerprint, self.spaces = f"timed {self.network.fingerprint}", self.network.spaces

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        codes: Tensor = self.network.latents(seeds, space)
        return codes

    def decode(self, latents: Tensor, space: str) -> Tensor:
        with noted():
            images: Tensor = self.network.decode(latents, space)
        return images


@extractor
def timed(dataset: str, size: int = 112) -> Timed:
    return Timed(dataset, size)


@generator
def timed_vae(dataset: str) -> TimedVAE:
    return TimedVAE(dataset)


@metric(better="neither", kind="set", source="https://example.org", fake=View("fake", "features"))
def mean_feature(fake: Tensor) -> float:
    """Mean of all features."""
    return float(fake.mean(dtype=torch.float64))
