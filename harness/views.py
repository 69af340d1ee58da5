"""The arrays that metrics read: samples seen through something, made lazily, in shards, once."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .files import digest
from .progress import track
from .protocols import Dataset, Encoder, Extractor, Generator, Split, View
from .registry import EXTRACTORS, unknown
from .store import Key, Store

SHARD = 1000
BATCH = 250
SEEDS = 2**32
"""Repeat r generates from the seeds r·2³² on, so two repeats never share a sample."""
POSTERIOR_SEEDS = 2**80
"""Seeds of posterior samples begin here, far from those of any generated sample."""
RECENT_BYTES = 4 * 2**30
"""Tensors kept in memory between the cells of one process."""

_recent: OrderedDict[str, Tensor] = OrderedDict()


class Views:
    """All views of one generator and one data set.

    features: the extractor that the name "features" stands for; extractors: options of extractors, by name. An
    extractor is opened when first needed.
    """

    def __init__(
        self,
        data: Dataset,
        generator: Generator,
        features: str,
        store: Store,
        device: torch.device,
        extractors: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        self.data, self.generator, self.features = data, generator, features
        self.store, self.device, self.options = store, device, extractors or {}
        self._extractors: dict[str, Extractor] = {}

    def tensor(self, view: View, seed: int, n: int) -> Tensor:
        """The view as one tensor on the device: [N, D] float32, or [N, C, H, W] in [0, 1] for images."""
        name = f"{self.device} {self.digest(view, seed, n)}"
        if name not in _recent:
            array = torch.from_numpy(np.concatenate(self._shards(view, seed, n))).to(self.device)
            _recent[name] = array.float() / 255 if array.dtype == torch.uint8 else array
            while len(_recent) > 1 and sum(tensor.nbytes for tensor in _recent.values()) > RECENT_BYTES:
                _recent.popitem(last=False)
        _recent.move_to_end(name)
        return _recent[name]

    def digest(self, view: View, seed: int, n: int) -> str:
        """Names the content of a view; makes nothing."""
        return digest([dataclasses.asdict(key) for key in self._keys(view, seed, n)])

    def complete(self, view: View, seed: int, n: int) -> None:
        """Make the shards that are missing or damaged, without loading the others."""
        if not all(self.store.has(key) for key in self._keys(view, seed, n)):
            self._shards(view, seed, n)

    def forget(self) -> None:
        """Drop the tensors kept in memory; they are read from the store again when asked for."""
        _recent.clear()

    def images(self, of: Literal["fake", "real", "holdout"], seed: int, n: int, indices: Sequence[int]) -> Tensor:
        """Chosen images out of n, uint8 [len(indices), C, H, W]; for galleries."""
        shards = self._shards(View(of, "images"), seed, n)
        return torch.stack([torch.from_numpy(shards[i // SHARD][i % SHARD].copy()) for i in indices])

    def _shards(self, view: View, seed: int, n: int) -> list[np.ndarray[Any, Any]]:
        keys = self._keys(view, seed, n)
        missing = [key for key in keys if not self.store.has(key)]
        if missing:
            if view.of == "fake" and not missing[0].through.startswith(("latent", "images")):
                self.complete(View("fake", "images"), seed, n)
            producer = "generated" if view.of == "fake" else f"{self.data.name} ({view.of})"
            what = f"{producer} → {missing[0].through} {missing[0].encode}".rstrip()
            with track(what, sum(key.stop - key.start for key in missing), "samples") as advance:
                for key in missing:
                    self.store.array(key, partial(self._make, view, key, advance))
        return [self.store.array(key, partial(self._make, view, key)) for key in keys]

    def _keys(self, view: View, seed: int, n: int) -> list[Key]:
        through = self.features if view.through == "features" else view.through
        kind, _, space = through.partition(":")
        lens = encode = ""
        if kind == "latent":
            through = f"latent:{self._space(space)}"
            if view.of != "fake":
                self._encoder()
                lens, encode = self.generator.fingerprint, view.encode
        elif kind == "recoded":
            self._encoder()
            lens = self.generator.fingerprint
        elif kind not in ("images", "labels"):
            lens = self._extractor(through).fingerprint
        if view.of == "fake":
            if kind == "labels":
                raise ValueError("generated samples have no labels")
            producer, count = self.generator.fingerprint, n
        else:
            producer, available, seed = self.data.fingerprint, self.data.count(_split(view)), 0
            count = available if view.n == "all" else min(n if view.n == "same" else view.n, available)
        return [
            Key(producer, view.of, through, lens, encode, seed, start, min(start + SHARD, count))
            for start in range(0, count, SHARD)
        ]

    def _make(self, view: View, key: Key, advance: Callable[[int], None] = lambda amount: None) -> np.ndarray[Any, Any]:
        """One shard, in batches of a fixed size: the same bytes whoever makes it."""
        batches = []
        with torch.no_grad():
            for start in range(key.start, key.stop, BATCH):
                stop = min(start + BATCH, key.stop)
                batches.append(self._batch(view, key, start, stop).cpu().numpy())
                advance(stop - start)
        return np.concatenate(batches)

    def _batch(self, view: View, key: Key, start: int, stop: int) -> Tensor:
        """Samples start..stop of a view, computed."""
        kind, _, space = key.through.partition(":")
        if kind == "latent" and view.of == "fake":
            return self._latents(key.seed, start, stop, space)
        if kind == "latent":
            posterior_seeds = range(POSTERIOR_SEEDS + start, POSTERIOR_SEEDS + stop)
            return self._encoder().encode(self._images(view, key, start, stop), view.encode, posterior_seeds)
        if kind == "images" and view.of == "fake":
            space = self.generator.spaces[0]
            decoded = self.generator.decode(self._latents(key.seed, start, stop, space), space)
            return (decoded.clamp(0, 1) * 255).round().byte()
        if kind in ("images", "labels"):
            samples = self.data.take(_split(view), start, stop)
            if kind == "images":
                return samples.images
            if samples.labels is None:
                raise ValueError(f"data set {self.data.name!r} has no labels")
            return samples.labels
        if kind == "recoded":
            return self._encoder().encode(self._images(view, key, start, stop), "mean", ())
        return self._extractor(key.through)(self._images(view, key, start, stop))

    def _images(self, view: View, key: Key, start: int, stop: int) -> Tensor:
        """Images in [0, 1] on the device: real ones from the data set, generated ones as stored, both 8 bits deep."""
        if view.of == "fake":
            shard_key = dataclasses.replace(key, through="images", lens="")
            shard = self.store.array(shard_key, partial(self._make, View("fake", "images"), shard_key))
            images = torch.from_numpy(shard[start - key.start : stop - key.start].copy())
        else:
            images = self.data.take(_split(view), start, stop).images
        return images.to(self.device).float() / 255

    def _latents(self, seed: int, start: int, stop: int, space: str) -> Tensor:
        return self.generator.latents(range(seed * SEEDS + start, seed * SEEDS + stop), space).to(self.device)

    def _space(self, name: str) -> str:
        name = name or self.generator.spaces[0]
        if name not in self.generator.spaces:
            raise ValueError(unknown("latent space", name, list(self.generator.spaces)))
        return name

    def _encoder(self) -> Encoder:
        if not isinstance(self.generator, Encoder):
            raise ValueError(
                "this generator has no encoder, so real samples have no latent codes; choose a generator that "
                "encodes, or another space with through=..."
            )
        return self.generator

    def _extractor(self, name: str) -> Extractor:
        if name not in self._extractors:
            self._extractors[name] = EXTRACTORS[name].function(self.data.name, **self.options.get(name, {}))
        return self._extractors[name]


def _split(view: View) -> Split:
    return "test" if view.of == "holdout" else "train"
