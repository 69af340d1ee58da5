"""Sets of features of sound and of damaged images."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ...arrays.spaces import BATCH
from ...core.abilities import CanBreak
from ...core.files import digest
from ...core.progress import track
from ...core.protocols import Split
from ...run import Run
from .faults import FAULTS, SLIPS, suffering

DETECTED = 2.486474860519302
"""Deviations by which a value must change to be, with probability 0.8, beyond the 95 % point of sound samples."""
LOST, COPIES, DUPLICATES = "classes lost", "copies of real ones", "duplicates"


class Pools:
    """The images of a data set and their features, read when they are first needed.

    Held-out images stand for generated ones. Blocks of a permutation are disjoint, those of real images too. A data set
    of shapes makes the faults itself.
    """

    def __init__(self, run: Run):
        self.run, self.data = run, run.views.data
        self.features = run.views.features
        self._kept: dict[str, Tensor] = {}
        self._labels: Tensor | None = None
        self.shape = tuple(self.data.take("test", 0, 1).images.shape[1:])

    @property
    def fingerprints(self) -> dict[str, str]:
        """What values depend on beside the metric."""
        return {
            "data": self.data.fingerprint,
            "features": self.run.views.extractor(self.features).fingerprint,
            "seed": digest(self.run.seed),
        }

    @property
    def damages(self) -> Sequence[str]:
        """What can be done to samples. Raises ValueError for shapes of which no faults are known."""
        always = (LOST, COPIES, DUPLICATES)
        if isinstance(self.data, CanBreak):
            return [*self.data.states[1:], *always]
        if len(self.shape) != 3:
            raise ValueError(
                f"data set {self.data.name!r} has shapes, of which no faults are known: use sdf_primitives"
            )
        slips = [name for name in SLIPS if self.shape[0] == 3 or name != "slip: channels"]
        return [*FAULTS, *always, *slips]

    def blocks(self, count: int) -> int:
        """How many disjoint sets of so many samples there are. Raises ValueError for none."""
        found = min(self.data.count("test"), self.data.count("train")) // count
        if not found:
            raise ValueError(
                f"samples={count}: data set {self.data.name!r} has {self.data.count('test'):,} held-out and "
                f"{self.data.count('train'):,} training images; ask for no more than the smaller number"
            )
        return found

    def places(self, split: Split, count: int, permutation: int, block: int) -> Tensor:
        """Which images of a split are in a block."""
        total = self.total(split)
        generator = torch.Generator().manual_seed(2 * (1000 * self.run.seed + permutation) + (split == "test"))
        return torch.randperm(total, generator=generator)[block * count : (block + 1) * count]

    def total(self, split: Split) -> int:
        """How many images of a split are read: as many training images as there are held-out ones, if there are."""
        held = self.data.count("test")
        return held if split == "test" else min(self.data.count("train"), held)

    def sets(self, count: int, permutation: int, block: int) -> dict[str, Tensor]:
        """Features of generated, of real and of further held-out images; the last are those of the next block."""
        fake, real = (self.of(split, "") for split in ("test", "train"))
        other = (block + 1) % self.blocks(count)
        return {
            "fake": fake[self.places("test", count, permutation, block)],
            "real": real[self.places("train", count, permutation, block)],
            "holdout": fake[self.places("test", count, permutation, other)],
        }

    def of(self, split: Split, fault: str) -> Tensor:
        """Features [N, D] of all images of a split with a fault; without one where it has no name."""
        name = f"{split} {fault}"
        if name not in self._kept:
            self._kept[name] = self._features(name.strip(), self._images(split, fault))
        return self._kept[name]

    def _features(self, title: str, images: Tensor) -> Tensor:
        network, parts = self.run.views.extractor(self.features), []
        with track(f"features of {title}", len(images), "samples") as advance, torch.no_grad():
            for part in torch.split(images, BATCH):
                parts.append(network(part.float() / 255))
                advance(len(part))
        return torch.cat(parts)

    def _images(self, split: Split, fault: str) -> Tensor:
        if fault and isinstance(self.data, CanBreak):
            return self.data.broken_as(fault, 0, self.total(split))
        images = self.data.take(split, 0, self.total(split)).images
        return suffering(fault, images) if fault else images

    def pooled(self, counts: Mapping[int, int]) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Sets of so many images of both splits together, in random order, so that they differ by chance alone.

        counts: how many disjoint sets of generated and of real ones, by the number of images. Further held-out images
        are the generated ones of another set; of a single one, what is left, which may be nothing.
        """
        splits: tuple[Split, ...] = ("train", "test")
        images = torch.cat([self.data.take(split, 0, self.data.count(split)).images for split in splits])
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(2000 * self.run.seed))
        needed = max(max(2 * blocks, 3) * count for count, blocks in counts.items())
        features = self._features("both splits", images[order[:needed]])
        for count, blocks in counts.items():
            parts = torch.split(features[: (2 * blocks + 1) * count], count)
            for block in range(blocks):
                other = 2 * ((block + 1) % blocks) if blocks > 1 else 2
                left = parts[other] if other < len(parts) else features[:0]
                yield count, {"fake": parts[2 * block], "real": parts[2 * block + 1], "holdout": left}

    @property
    def labels(self) -> Tensor:
        if self._labels is None:
            labels = self.data.take("test", 0, self.total("test")).labels
            if labels is None:
                raise ValueError(f"data set {self.data.name!r} has no labels, so no class can be lost")
            self._labels = labels
        return self._labels

    def kept(self, share: float) -> Tensor:
        """Places of held-out images whose class is not lost."""
        classes = len(self.data.classes)
        return (self.labels < classes - round(share * classes)).nonzero()[:, 0]

    def can(self, damage: str, share: float, count: int) -> bool:
        """Whether there are images for a damage: classes can be lost in whole ones, while enough images are left."""
        if damage != LOST:
            return True
        whole = round(share * len(self.data.classes))
        return whole >= 1 and len(self.kept(share)) >= count


def damaged(pools: Pools, sets: Mapping[str, Tensor], damage: str, share: float, count: int, block: int) -> Tensor:
    """The generated features with a share of them damaged: the first ones of the block."""
    fake = sets["fake"].clone()
    hit = round(share * count)
    if damage == LOST:
        left = pools.kept(share)
        generator = torch.Generator().manual_seed(1000 * pools.run.seed + block)
        return pools.of("test", "")[left[torch.randperm(len(left), generator=generator)[:count]]]
    if damage == COPIES:
        fake[:hit] = sets["real"][:hit]
    elif damage == DUPLICATES:
        hit = min(hit, count - 1)
        fake[:hit] = fake[hit + torch.arange(hit) % (count - hit)]
    else:
        fake[:hit] = pools.of("test", damage)[pools.places("test", count, 0, block)[:hit]]
    return fake
