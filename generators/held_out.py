"""The held-out samples of a data set as a generator: the score that a perfect generator would have in every metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..harness.core.abilities import Encoder
from ..harness.core.digests import packed
from ..harness.core.files import digest
from ..harness.core.protocols import Dataset, Encoding, Generator
from ..harness.core.registry import DATASETS, GENERATORS, generator
from .replay import Replay, Stored

FIRST, LAST = 5 * 10**8, 10**9
"""Range of test samples taken from a data set that generates its samples on demand; usual splits are far smaller."""


@dataclass(frozen=True)
class HeldOut:
    """The `count` samples of a test split that start at number `first`; made: when they are asked for."""

    data: Dataset
    first: int
    count: int
    made: bool

    def load(self, numbers: NDArray[np.int64]) -> Tensor:
        """Samples uint8 [N, C, H, W], or volumes uint8 [N, 1, R, R, R]; number 0 is the sample `first`."""
        return torch.stack([self.data.take("test", n, n + 1).images[0] for n in (self.first + numbers).tolist()])

    def replay(self, family: str) -> Replay:
        """A generator that returns these samples; `family` is part of its fingerprint."""
        stored = Stored(self.load, self.count, packed((), 0), None)
        where = [self.first] if self.first else []
        return Replay(stored, None, digest(family, 1, self.data.fingerprint, *where), self.made)


class Encoded:
    """Stored samples as a generator that can encode. Space "sample" has their numbers, space "z" their mean codes."""

    spaces: Sequence[str] = ("sample", "z")

    def __init__(self, samples: Replay, model: Generator):
        if not isinstance(model, Encoder):
            raise ValueError("the generator given as `encoder` does not encode; choose one that does, e.g. encoder=vae")
        self.samples, self.model, self.encoder, self.total = samples, model, model, samples.total
        self.fingerprint = digest(samples.fingerprint, model.fingerprint)

    def latents(self, seeds: Sequence[int], space: str = "sample") -> Tensor:
        numbers = self.samples.latents(seeds)
        return self.encode(self.samples.decode(numbers)) if space == "z" else numbers

    def decode(self, latents: Tensor, space: str = "sample") -> Tensor:
        return self.model.decode(latents, self.model.spaces[0]) if space == "z" else self.samples.decode(latents)

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        return self.encoder.encode(images, how, seeds)


@generator
def held_out(dataset: str, encoder: str = "auto", data: Mapping[str, Any] | None = None) -> Generator:
    """Real against real: the held-out samples of the data set as generated ones, all of them or n that the seed draws.

    Metrics that compare with held-out images then compare them with themselves. A data set that generates its samples
    on demand provides new ones, which are in neither of its splits.

    encoder: the generator of the zoo that encodes the samples, or "none". "auto" is `sdf_vae` for shapes if the zoo has
    it for the data set, and none for images.
    data: options of the data set; by default those that the run has opened it with.

    Raises ValueError for a data set that cannot be opened with these options, or that has no held-out samples.
    """
    samples = open_held_out(dataset, data).replay("held_out")
    if encoder not in ("auto", "none"):
        return Encoded(samples, GENERATORS[encoder].function(dataset))
    if encoder == "auto" and samples.decode(samples.latents([0])).ndim == 5:
        try:
            return Encoded(samples, GENERATORS["sdf_vae"].function(dataset))
        except LookupError:  # the zoo has no weights for this data set
            pass
    return samples


def open_held_out(dataset: str, options: Mapping[str, Any] | None = None) -> HeldOut:
    """The held-out samples of a data set, which is opened with `options` and otherwise its default options."""
    factory = DATASETS[dataset]
    on_request = "test" in factory.options
    try:
        data = factory.function(**{**(options or {}), **({"test": LAST} if on_request else {})})
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"generator held_out cannot open data set {dataset!r}: {error}") from None
    if not data.count("test"):
        fix = f"give dataset.{dataset}.holdout=0.1" if "holdout" in factory.options else "choose one that has"
        raise ValueError(f"data set {dataset!r} has no held-out samples: {fix}")
    count = LAST - FIRST if on_request else data.count("test")
    return HeldOut(data, FIRST if on_request else 0, count, made=on_request)
