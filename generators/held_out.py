"""The held-out samples of a data set in a generator's place: what a perfect generator would score, for every metric."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.protocols import Dataset, Encoder, Encoding, Generator
from ..harness.core.registry import DATASETS, GENERATORS, generator
from .replay import Replay, Stored

FIRST, LAST = 5 * 10**8, 10**9
"""Numbers in the test split of samples that are made on request: no split of usual size holds them."""


@dataclass(frozen=True)
class HeldOut:
    """Samples of a test split, `count` of them from number `first` on."""

    data: Dataset
    first: int
    count: int

    def load(self, numbers: Sequence[int]) -> Tensor:
        """Samples uint8 [N, C, H, W]; number 0 is the first of them."""
        return torch.stack([self.data.take("test", n, n + 1).images[0] for n in (self.first + i for i in numbers)])

    def shown(self, family: str) -> Replay:
        """The samples in a generator's place."""
        stored = Stored(self.load, self.count, [self.data.fingerprint], None)
        where = [self.first] if self.first else []
        return Replay(stored, None, digest(family, 1, self.data.fingerprint, *where))


class Encoded:
    """Samples in the place of a generator that encodes: space "sample" has their numbers, "z" their mean codes."""

    spaces: Sequence[str] = ("sample", "z")

    def __init__(self, shown: Replay, model: Generator):
        if not isinstance(model, Encoder):
            raise ValueError("the generator given as `encoder` does not encode; choose one that does, e.g. encoder=vae")
        self.shown, self.model, self.encoder = shown, model, model
        self.fingerprint = digest(shown.fingerprint, model.fingerprint)

    def latents(self, seeds: Sequence[int], space: str = "sample") -> Tensor:
        numbers = self.shown.latents(seeds)
        return self.encode(self.shown.decode(numbers)) if space == "z" else numbers

    def decode(self, latents: Tensor, space: str = "sample") -> Tensor:
        return self.model.decode(latents, self.model.spaces[0]) if space == "z" else self.shown.decode(latents)

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        return self.encoder.encode(images, how, seeds)


@generator
def held_out(dataset: str, encoder: str = "auto") -> Generator:
    """Real against real: the held-out samples of the data set, shown as generated ones; n is at most their number.

    Metrics that compare with held-out images then compare them with themselves. A data set that makes its samples on
    request makes fresh ones, which are in neither of its splits.

    encoder: the generator of the zoo that finds latent codes for them, or "none". "auto" is `sdf_vae` for shapes where
    the zoo has it for the data set, and none for images.

    Raises ValueError for a data set that has to be told where its files are, or that holds none out.
    """
    shown = open_held_out(dataset).shown("held_out")
    if encoder not in ("auto", "none"):
        return Encoded(shown, GENERATORS[encoder].function(dataset))
    if encoder == "auto" and shown.decode(shown.latents([0])).ndim == 5:
        try:
            return Encoded(shown, GENERATORS["sdf_vae"].function(dataset))
        except LookupError:  # no weights for this data set
            pass
    return shown


def open_held_out(dataset: str, **options: float) -> HeldOut:
    """The held-out samples of a data set that is opened with these options, its defaults for the others."""
    factory = DATASETS[dataset]
    on_request = "test" in factory.options
    try:
        data = factory.function(**options, **({"test": LAST} if on_request else {}))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"generator held_out opens data set {dataset!r} with its default options, and that fails ({error}); use "
            "generator=replay generator.path=FOLDER with the held-out images"
        ) from None
    if not data.count("test"):
        raise ValueError(f"data set {dataset!r} holds no samples out")
    return HeldOut(data, FIRST, LAST - FIRST) if on_request else HeldOut(data, 0, data.count("test"))
