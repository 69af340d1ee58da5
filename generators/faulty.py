"""Held-out samples as a generator, some of them with a known fault, to test which scores detect the faults."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.protocols import Dataset, Generator, HasGroundTruth, Samples, Split, Truth
from ..harness.core.registry import DATASETS, GENERATORS, generator
from .held_out import Encoded, HeldOut, open_held_out


class Corrupted:
    """The images of a data set, a share of them blurred, noisy or partly covered; image i depends on i alone.

    The blur is a Gaussian with a standard deviation of 1/14 of the side; the noise has a standard deviation of 0.25 of
    the range; the cover is a grey square with a third of the side, at a random position. Typicality is unknown (NaN).
    """

    states: Sequence[str] = ("sound", "blurred", "noisy", "covered")

    def __init__(self, data: Dataset, share: float):
        self.data, self.share = data, share
        self.name, self.classes = data.name, data.classes
        self.kinds: Sequence[str] = tuple(data.classes) or ("",)
        self.fingerprint = digest("corrupted", 1, data.fingerprint, share)

    def count(self, split: Split) -> int:
        return self.data.count(split)

    def take(self, split: Split, start: int, stop: int) -> Samples:
        images, labels = self.data.take(split, start, stop)
        corrupted = [self._corrupted(image, start + i) for i, image in enumerate(images)]
        return Samples(torch.stack(corrupted), labels)

    def truth(self, numbers: Sequence[int]) -> Truth:
        states = [self._draw(number)[0] for number in numbers]
        labels = [self.data.take("test", number, number + 1).labels for number in numbers]
        kinds = [0 if label is None else int(label) for label in labels]
        return Truth(torch.tensor(states), torch.tensor(kinds), torch.full((len(states),), torch.nan).double())

    def _draw(self, number: int) -> tuple[int, np.random.Generator]:
        """The state of an image, and the random generator that draws the details of its corruption."""
        rng = np.random.default_rng((number, len(self.states)))
        chosen = int(rng.integers(1, len(self.states)))
        return (chosen if rng.random() < self.share else 0), rng

    def _corrupted(self, image: Tensor, number: int) -> Tensor:
        state, rng = self._draw(number)
        corrupt = {"blurred": _blurred, "noisy": _noisy, "covered": _covered}.get(self.states[state])
        if corrupt is None:
            return image
        return (corrupt(image.float() / 255, rng).clamp(0, 1) * 255).round().byte()


def _blurred(image: Tensor, rng: np.random.Generator) -> Tensor:
    std = image.shape[-1] / 14
    reach = min(int(3 * std), image.shape[-1] - 1)
    kernel = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * std**2))
    kernel = (kernel / kernel.sum())[None, None, None]
    rows = F.conv2d(F.pad(image[:, None], (reach, reach, 0, 0), "reflect"), kernel)
    both = F.conv2d(F.pad(rows, (0, 0, reach, reach), "reflect"), kernel.transpose(2, 3))
    return both[:, 0]


def _noisy(image: Tensor, rng: np.random.Generator) -> Tensor:
    return image + 0.25 * torch.from_numpy(rng.standard_normal(image.shape, np.float32))


def _covered(image: Tensor, rng: np.random.Generator) -> Tensor:
    side = max(1, image.shape[-1] // 3)
    top, left = (int(rng.integers(0, size - side + 1)) for size in image.shape[1:])
    covered = image.clone()
    covered[:, top : top + side, left : left + side] = 0.5
    return covered


class Faulty(Encoded):
    """Stored samples with their latent codes and the known fault of each."""

    def __init__(self, samples: HeldOut, source: HasGroundTruth, model: Generator):
        super().__init__(samples.replay("faulty"), model)
        self.states, self.kinds, self.first, self.source = source.states, source.kinds, samples.first, source

    def truth(self, numbers: Sequence[int]) -> Truth:
        return self.source.truth([self.first + number for number in numbers])


@generator
def faulty(dataset: str, share: float = 0.5, encoder: str = "auto", data: Mapping[str, Any] | None = None) -> Generator:
    """Held-out samples as generated ones, a share of them with a fault: all of them, or n that the seed draws.

    A data set with the option `broken` makes the faults itself; otherwise images are blurred, noisy or partly covered.
    Sound images are those of the held-out split, so do not use metrics that compare with it.

    encoder: the generator of the zoo that encodes the samples; "auto" is `sdf_vae` for shapes, `vae` for images.
    data: options of the data set; by default those that the run has opened it with.

    Raises ValueError for a share outside [0, 1], and as `held_out` does.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"generator.faulty.share={share} must be in [0, 1]")
    broken = {"broken": share} if "broken" in DATASETS[dataset].options else {}
    samples = open_held_out(dataset, {**(data or {}), **broken})
    shapes = samples.load(np.zeros(1, np.int64)).ndim == 5
    model = GENERATORS[("sdf_vae" if shapes else "vae") if encoder == "auto" else encoder].function(dataset)
    if isinstance(samples.data, HasGroundTruth):
        return Faulty(samples, samples.data, model)
    if shapes:
        raise ValueError(f"data set {dataset!r} has no ground truth of faults in its shapes; use sdf_primitives")
    corrupted = Corrupted(samples.data, share)
    return Faulty(replace(samples, data=corrupted), corrupted, model)
