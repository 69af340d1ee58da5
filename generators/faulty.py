"""Held-out samples as a generator, some of them with a known fault, to test which scores detect the faults."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..harness.core.abilities import Encoder, HasGroundTruth
from ..harness.core.files import digest
from ..harness.core.protocols import Dataset, Generator, Samples, Split, Truth
from ..harness.core.registry import DATASETS, GENERATORS, generator
from .held_out import Encoded, HeldOut, open_held_out
from .sampling.faults import CONTENT, SIGNAL, Donor, Fault

OFF_DATA = "off the data"
STEP = 2.0
"""Standard deviations of the codes of real images, in every dimension, by which a code is moved off the data."""
CODES = 1000
"""Real images whose codes tell these standard deviations."""
NEAREST, AMONG, SIDE, LEVELS = 10, 1000, 32, 5
"""Typicality: neighbours, real images of a class they are found among, maximum side of the images, and levels."""


class Corrupted:
    """The images of a data set, a share of them with one of `faults`; image i depends on i alone. Typicality is NaN."""

    def __init__(self, data: Dataset, share: float, faults: Mapping[str, Fault] = SIGNAL):
        self.data, self.share, self.faults = data, share, faults
        self.states: Sequence[str] = ("sound", *faults)
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
        return Truth(torch.tensor(states), torch.tensor([self._label(n) for n in numbers]), self.typicality(numbers))

    def typicality(self, numbers: Sequence[int]) -> Tensor:
        return torch.full((len(numbers),), torch.nan).double()

    def _label(self, number: int) -> int:
        label = self.data.take("test", number, number + 1).labels
        return 0 if label is None else int(label)

    def _draw(self, number: int) -> tuple[int, np.random.Generator]:
        """The state of an image, and the random generator that draws the details of its corruption."""
        rng = np.random.default_rng((number, len(self.states)))
        chosen = int(rng.integers(1, len(self.states)))
        return (chosen if rng.random() < self.share else 0), rng

    def _corrupted(self, image: Tensor, number: int) -> Tensor:
        state, rng = self._draw(number)
        if not state:
            return image
        found = self.faults[self.states[state]](image.float() / 255, rng, partial(self._other, self._label(number)))
        return (found.clamp(0, 1) * 255).round().byte()

    def _other(self, label: int, rng: np.random.Generator) -> Tensor:
        """A random image of another class, [C, H, W] in [0, 1]."""
        while True:
            number = int(rng.integers(self.data.count("test")))
            if self._label(number) != label:
                return self.data.take("test", number, number + 1).images[0].float() / 255


class Broken(Corrupted):
    """The images of a data set of several classes, a share of them with a fault of the content.

    Beside those of CONTENT, some are off the data: their code is moved by STEP standard deviations in a random
    direction, and the image changes as its decoded codes do. What the decoder does not show, such as fine texture,
    stays.

    The typicality of an image is that of the sound image, in LEVELS equal parts of the held-out images of its class, .2
    for the rarest fifth and 1 for the most common: by the mean distance of its pixels from those of the NEAREST of
    AMONG training images of its class.
    """

    def __init__(self, data: Dataset, share: float, model: Encoder):
        super().__init__(data, share, {**CONTENT, OFF_DATA: self._off_data})
        self.model = model
        self.fingerprint = digest("broken", 1, data.fingerprint, share, getattr(model, "fingerprint", ""))

    def typicality(self, numbers: Sequence[int]) -> Tensor:
        found: Tensor = self._levels[torch.tensor(list(numbers))]
        return found

    @cached_property
    def _std(self) -> Tensor:
        """Of the codes of real images, in each dimension."""
        images = self.data.take("train", 0, min(CODES, self.data.count("train"))).images.float() / 255
        codes: Tensor = self.model.encode(images, "mean", range(len(images)))
        std: Tensor = codes.std(0)
        return std

    @torch.no_grad()
    def _off_data(self, image: Tensor, rng: np.random.Generator, donor: Donor) -> Tensor:
        assert isinstance(self.model, Generator)
        code = self.model.encode(image[None], "mean", [0])
        step = torch.from_numpy(rng.standard_normal(code.shape, np.float32))
        before, after = self.model.decode(torch.cat([code, code + STEP * self._std * step]), self.model.spaces[0])
        moved: Tensor = image + after - before
        return moved

    @cached_property
    def _levels(self) -> Tensor:
        """The typicality of every held-out image."""
        (real, classes), (held, labels) = (self._small(split) for split in ("train", "test"))
        found = torch.empty(len(held), dtype=torch.float64)
        for label in sorted(set(labels.tolist())):
            among, here = real[classes == label][:AMONG], (labels == label).nonzero()[:, 0]
            if not len(among):
                raise ValueError(f"class {label} of {self.name!r} has no training images to tell what is typical")
            apart = torch.cdist(held[here], among).topk(min(NEAREST, len(among)), largest=False).values.mean(1)
            ranks = apart.argsort(descending=True, stable=True).argsort(stable=True)  # 0 is the rarest
            found[here] = (1 + ranks * LEVELS // len(here)).double() / LEVELS
        return found

    def _small(self, split: Split) -> tuple[Tensor, Tensor]:
        """Images of a split as rows of pixels, of at most SIDE on a side, and their labels."""
        images, labels = [], []
        for start in range(0, self.data.count(split), 1000):
            part, own = self.data.take(split, start, min(start + 1000, self.data.count(split)))
            assert own is not None
            height, width = (min(SIDE, side) for side in part.shape[2:])
            images.append(F.adaptive_avg_pool2d(part.float() / 255, (height, width)).flatten(1))
            labels.append(own)
        return torch.cat(images), torch.cat(labels)


class Faulty(Encoded):
    """Stored samples with their latent codes and the known fault of each."""

    def __init__(self, samples: HeldOut, source: HasGroundTruth, model: Generator):
        super().__init__(samples.replay("faulty"), model)
        self.states, self.kinds, self.first, self.source = source.states, source.kinds, samples.first, source

    def truth(self, numbers: Sequence[int]) -> Truth:
        return self.source.truth([self.first + number for number in numbers])


@generator
def faulty(
    dataset: str,
    share: float = 0.5,
    faults: Literal["signal", "content"] = "signal",
    encoder: str = "auto",
    data: Mapping[str, Any] | None = None,
) -> Generator:
    """Held-out samples as generated ones, a share of them with a fault: all of them, or n that the seed draws.

    A data set with the option `broken` makes the faults itself. Sound images are those of the held-out split, so do not
    use metrics that compare with it.

    faults: of images. "signal": blurred, noisy or partly covered, with unknown typicality. "content": a part is missing
    or doubled, has a hole, another texture, is melted, mixed with another class, or off the data of the encoder; the
    data set needs classes.
    encoder: the generator of the zoo that encodes the samples; "auto" is `sdf_vae` for shapes, `vae` for images.
    data: options of the data set; by default those that the run has opened it with.

    Raises ValueError for a share outside [0, 1], for faults that the samples cannot have, and as `held_out` does.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"generator.faulty.share={share} must be in [0, 1]")
    broken = {"broken": share} if "broken" in DATASETS[dataset].options else {}
    samples = open_held_out(dataset, {**(data or {}), **broken})
    shapes = samples.load(np.zeros(1, np.int64)).ndim == 5
    model = GENERATORS[("sdf_vae" if shapes else "vae") if encoder == "auto" else encoder].function(dataset)
    if faults == "content" and (shapes or isinstance(samples.data, HasGroundTruth)):
        raise ValueError(f"generator.faulty.faults=content is made for images, and {dataset!r} has none; leave it out")
    if isinstance(samples.data, HasGroundTruth):
        return Faulty(samples, samples.data, model)
    if shapes:
        raise ValueError(f"data set {dataset!r} has no ground truth of faults in its shapes; use sdf_primitives")
    if faults == "content" and len(samples.data.classes) < 2:
        raise ValueError(f"generator.faulty.faults=content mixes classes, and data set {dataset!r} has fewer than two")
    if faults == "content" and not isinstance(model, Encoder):
        raise ValueError("the generator given as `encoder` does not encode; choose one that does, e.g. encoder=vae")
    corrupted = Broken(samples.data, share, model) if faults == "content" else Corrupted(samples.data, share)
    return Faulty(replace(samples, data=corrupted), corrupted, model)
