"""The shards of views: which there are, which samples each of them has, and how they are made, once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.abilities import HasPosterior, HasStatistics, HasTotal
from ..core.progress import track
from ..core.protocols import Dataset, Generator, Split, View
from ..core.registry import DATASETS
from .spaces import BATCH, PRIOR_SEEDS, Encoded, Inverted, Labels, Residual, Space
from .store import ShardKey, Store
from .subsets import Subset, taken

SHARD = 1000
SEEDS = 2**32
"""Repeat r generates from the seeds r·2³² on, so two repeats never share a sample."""
POSTERIOR_SEEDS = 2**80
"""Seeds of posterior samples begin here, far from those of any generated sample."""
PRIOR_CODES = 50_000
"""Reference codes drawn from a prior, where a view asks for all there are."""
INVERTED = 50
"""Images whose codes are optimised at a time."""


class Shards:
    """The shards of all views of one generator and one data set. space: finds the space of a view."""

    def __init__(
        self, data: Dataset, generator: Generator, store: Store, device: torch.device, space: Callable[[View], Space]
    ):
        self.data, self.generator, self.store, self.device = data, generator, store, device
        self._space = space

    @property
    def total(self) -> int | None:
        """How many generated samples there are; None for a generator that makes as many as are asked for."""
        return self.generator.total if isinstance(self.generator, HasTotal) else None

    def count(self, view: View, n: int) -> int:
        """How many real samples of a view's split are read beside n generated ones."""
        available = self.data.count(split_of(view))
        return (
            min(view.n, available) if isinstance(view.n, int) else available if view.n == "all" else min(n, available)
        )

    def keys(self, view: View, seed: int, n: int) -> tuple[ShardKey, ...]:
        """The keys of all shards of a view. Raises ValueError where there is no such view."""
        space = self._space(view)
        subset, count = self.subset(view, space, seed, n)
        if subset is not None:
            return self.keys_of(view, space, subset)
        repeat = seed if view.source == "fake" else 0
        return _shard_keys(ShardKey(*self._about(view, space), repeat, 0, count))

    def keys_of(self, view: View, space: Space, subset: Subset) -> tuple[ShardKey, ...]:
        """The keys of all shards of a subset of a stored set, in the space of a view."""
        drawn = None if subset.whole else subset
        return _shard_keys(ShardKey(*self._about(view, space), 0, 0, subset.count, drawn))

    def _about(self, view: View, space: Space) -> tuple[str, str, str, str, str]:
        """What the keys of all shards of a view share: who makes the samples, and in what space they are."""
        made = view.source == "fake" or space.drawn_from
        producer = self.generator.fingerprint if made else self.data.fingerprint
        return producer, view.source, space.name, space.fingerprint, space.encode

    def subset(self, view: View, space: Space | None, seed: int, n: int) -> tuple[Subset | None, int]:
        """Which samples of a stored set a view reads, None where a generator makes them, and how many they are."""
        if view.source == "fake":
            if self.total is None:
                return None, n
            if n > self.total:
                raise ValueError(
                    f"n={n}: there are {self.total:,} generated samples and no more; leave n out to use them all"
                )
            return Subset("fake", self.total, n, seed), n
        if space is not None and space.drawn_from:
            count = view.n if isinstance(view.n, int) else PRIOR_CODES if view.n == "all" else n
            return None, count
        available = self.data.count(split_of(view))
        if not available:
            raise ValueError(self._lacking(view))
        count = self.count(view, n)
        return Subset(view.source, available, count, seed), count

    def _lacking(self, view: View) -> str:
        """What to do about a data set that has no samples of the split that a view reads."""
        name = self.data.name
        if isinstance(self.data, HasStatistics):
            return (
                f"data set {name!r} has the mean and covariance of real samples alone, and this metric needs the "
                "samples; choose frechet_distance, or give the samples"
            )
        options = DATASETS[name].options if name in DATASETS else {}
        if view.source == "holdout" and self.data.count("train") and "holdout" in options:
            return (
                f"data set {name!r} has no held-out samples, and this metric compares with them; hold some back with "
                f"dataset.{name}.holdout=0.1"
            )
        split = "held-out" if view.source == "holdout" else "real"
        return (
            f"data set {name!r} has no {split} samples, and this metric compares with them; "
            "choose one with dataset=NAME, e.g. dataset=folder dataset.folder.root=DIR; or in Python give "
            "{'train': ..., 'test': ...}"
        )

    def missing(self, view: View, keys: Sequence[ShardKey]) -> list[tuple[View, ShardKey]]:
        """Those that are missing or damaged, each with its view, the images before what is made of them."""
        missing = [key for key in keys if not self.store.has(key)]
        before: list[tuple[View, ShardKey]] = []
        if missing and view.source == "fake" and not self._space(view).drawn_from:
            before = self.missing(View("fake", "images"), [_of_images(key) for key in keys])
        return before + [(view, key) for key in missing]

    def read(self, view: View, keys: Sequence[ShardKey]) -> list[np.ndarray[Any, Any]]:
        """The arrays of these shards, each made where it is missing."""
        self.complete(view, keys)
        return [self.store.array(key, partial(self._make, view, key)) for key in keys]

    def complete(self, view: View, keys: Sequence[ShardKey]) -> None:
        """Make those of the shards that are missing or damaged."""
        for one, shards in groupby(self.missing(view, keys), itemgetter(0)):
            missing, space = [key for _, key in shards], self._space(one)
            by = "generated" if one.source == "fake" else self.data.name
            producer = f"{by}, held out" if one.source == "holdout" else by
            what = f"{producer} → {space.name} {space.encode}".rstrip()
            with track(what, sum(key.stop - key.start for key in missing), "samples") as advance:
                for key in missing:
                    self.store.array(key, partial(self._make, one, key, advance))

    def fill(self, view: View, key: ShardKey) -> None:
        """Make one shard of a view, unless it is there."""
        self.store.array(key, partial(self._make, view, key))

    def _make(
        self, view: View, key: ShardKey, advance: Callable[[int], None] = lambda amount: None
    ) -> np.ndarray[Any, Any]:
        """One shard, in batches of a fixed size: the same bytes whoever makes it."""
        if key.drawn is not None and (rows := self._gathered(key)) is not None:
            advance(len(rows))
            return rows
        batches, space = [], self._space(view)
        size = INVERTED if key.encode == "inversion" else BATCH
        with torch.no_grad():
            for start in range(key.start, key.stop, size):
                part = replace(key, start=start, stop=min(start + size, key.stop))
                batches.append(self._batch(view, space, key, part).cpu().numpy())
                advance(part.stop - start)
        return np.concatenate(batches)

    def _gathered(self, key: ShardKey) -> np.ndarray[Any, Any] | None:
        """The rows of a subset from shards of the whole set; None unless the store has all of these."""
        places, whole = key.numbers, whole_shards(key)
        if not all(map(self.store.has, whole)):
            return None
        return np.concatenate([
            self.store.read(shard)[places[places // SHARD == shard.start // SHARD] - shard.start] for shard in whole
        ])  # fmt: skip

    def _batch(self, view: View, space: Space, key: ShardKey, part: ShardKey) -> Tensor:
        """The samples of a part of the shard of this key, computed."""
        if space.drawn_from:
            latents = self.latents(view.source, seeds_of(part), space.drawn_from)
            return space.of_latents(latents, space.drawn_from)
        if isinstance(space, Labels):
            return self._labels(view, part)
        seeds = [POSTERIOR_SEEDS + int(number) for number in part.numbers]
        if isinstance(space, Encoded) and isinstance(space.encoder, HasPosterior) and view.source != "fake":
            known = replace(key, space="posterior", fingerprint=space.encoder.encoder_fingerprint, encode="")
            return space.encoder.codes(self._rows(View(view.source, "posterior"), known, part), space.how, seeds)
        images = self._images(view, key, part)
        if isinstance(space, Residual) and isinstance(space.codes, Inverted):  # optimised once, then read
            name = space.codes.name
            codes = self._rows(replace(view, space=name), replace(key, space=name), part)
            return space.of_codes(codes, images)
        return space.of_images(images, seeds)

    def latents(self, source: str, seeds: Sequence[int], latent_space: str) -> Tensor:
        """Codes of generated samples, or those of the prior that stand beside real ones."""
        first = 0 if source == "fake" else PRIOR_SEEDS
        return self.generator.latents([first + seed for seed in seeds], latent_space).to(self.device)

    def _images(self, view: View, key: ShardKey, part: ShardKey) -> Tensor:
        """Images in [0, 1] on the device: real ones from the data set, generated ones as stored, both 8 bits deep."""
        if view.source != "fake":
            images = torch.cat([samples.images for samples in taken(self.data, split_of(view), part.numbers)])
            return scaled(images.to(self.device))
        return scaled(self._rows(View("fake", "images"), _of_images(key), part))

    def _labels(self, view: View, part: ShardKey) -> Tensor:
        labels = [samples.labels for samples in taken(self.data, split_of(view), part.numbers)]
        found = [one for one in labels if one is not None]
        if len(found) < len(labels):
            raise ValueError(f"data set {self.data.name!r} has no labels")
        return torch.cat(found)

    def _rows(self, view: View, key: ShardKey, part: ShardKey) -> Tensor:
        """A part of a shard in the store, which is made if it is not there."""
        shard = self.store.array(key, partial(self._make, view, key))
        return torch.from_numpy(shard[part.start - key.start : part.stop - key.start].copy()).to(self.device)


@lru_cache
def _shard_keys(whole: ShardKey) -> tuple[ShardKey, ...]:
    """The shards of what the key of a whole view names."""
    starts = range(whole.start, whole.stop, SHARD)
    return tuple(replace(whole, start=start, stop=min(start + SHARD, whole.stop)) for start in starts)


def _of_images(key: ShardKey) -> ShardKey:
    """The key of the images behind a shard."""
    return replace(key, space="images", fingerprint="", encode="")


def seeds_of(key: ShardKey) -> list[int]:
    return [key.seed * SEEDS + int(number) for number in key.numbers]


def whole_shards(key: ShardKey) -> list[ShardKey]:
    """The shards of the whole set that have the rows of this shard of a subset; none where it is of the whole set."""
    if key.drawn is None:
        return []
    whole = _shard_keys(replace(key, start=0, stop=key.drawn.total, drawn=None))
    return [whole[i] for i in sorted({int(place) for place in key.numbers // SHARD})]


def scaled(array: Tensor) -> Tensor:
    """Stored images in [0, 1]; any other array as it is."""
    return array.float() / 255 if array.dtype == torch.uint8 else array


def split_of(view: View) -> Split:
    return "test" if view.source == "holdout" else "train"
