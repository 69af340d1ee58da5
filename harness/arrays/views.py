"""The arrays that metrics read: samples in a space, which `shards.py` makes when they are first needed."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.abilities import HasStatistics
from ..core.protocols import Dataset, Extractor, Generator, Modality, Statistics, View
from ..core.registry import EXTRACTORS
from ..shapes.pictures import pictures
from .shards import SHARD, Shards, scaled, seeds_of
from .spaces import (
    BATCH,
    Features,
    Logits,
    Singular,
    Space,
    Spaces,
    Stretch,
    extracted,
)
from .store import ShardKey, Store, digest_of
from .subsets import DIMENSIONS, SOURCES, Source, Subset, in_words

RECENT_BYTES = 4 * 2**30
"""Tensors kept in memory between the cells of one process."""
_recent: OrderedDict[str, Tensor] = OrderedDict()


class Views:
    """All views of one generator and one data set.

    features: the extractor that the name "features" stands for; extractors: options of extractors, by name. An
    extractor is opened when first needed. opened: those that are open already, to which others are added. used: of
    stored samples that were read, how many there are and by which rule they were chosen, in words, by source.

    Where fewer samples are read than a stored set has, the seed draws them (`Subset`). A generator that makes its
    samples makes as many as are asked for.
    """

    def __init__(
        self,
        data: Dataset,
        generator: Generator,
        features: str,
        store: Store,
        device: torch.device,
        extractors: Mapping[str, Mapping[str, Any]] | None = None,
        opened: dict[str, Extractor] | None = None,
    ):
        self.data, self.generator, self.features = data, generator, features
        self.store, self.device, self.options = store, device, extractors or {}
        self._extractors: dict[str, Extractor] = {} if opened is None else opened
        self._spaces = Spaces(generator, self.extractor)
        self._shards = Shards(data, generator, store, device, self._space)
        self._tried: set[str] = set()
        self._watched: list[dict[str, str]] = []
        self.used: dict[str, dict[str, None]] = {}
        if hasattr(generator, "to"):  # models whose latents come out of their networks: they draw where these lie
            generator.to(device)

    def tensor(self, view: View, seed: int, n: int) -> Tensor:
        """The view as one tensor on the device: [N, D] float32, or [N, C, H, W] in [0, 1] for images."""
        self.digest(view, seed, n)  # for whoever watches
        self._note(view, seed, n)
        return self._tensor(view, self._shards.keys(view, seed, n))

    def given(self, view: View, seed: int, n: int) -> Tensor | Statistics:
        """What a metric reads: the tensor of a view, or the statistics that stand for it."""
        if view.n != "moments":
            return self.tensor(view, seed, n)
        self.digest(view, seed, n)
        self._note(view, seed, n)
        return self._statistics()

    def tensor_of(self, view: View, subset: Subset) -> Tensor:
        """The same of a given subset of real samples, whatever the view says of their number."""
        return self._tensor(view, self._shards.keys_of(view, self._space(view), subset))

    def digest_of(self, view: View, subset: Subset) -> str:
        """Names the content of a given subset of real samples in the space of a view; makes nothing."""
        return digest_of(self._shards.keys_of(view, self._space(view), subset))

    def _tensor(self, view: View, keys: tuple[ShardKey, ...]) -> Tensor:
        name = self._name(keys)
        if name not in _recent:
            array = torch.from_numpy(np.concatenate(self._shards.read(view, keys)))
            _recent[name] = scaled(array.to(self.device))
            while len(_recent) > 1 and sum(tensor.nbytes for tensor in _recent.values()) > RECENT_BYTES:
                _recent.popitem(last=False)
        _recent.move_to_end(name)
        return _recent[name]

    def dtype(self, view: View, seed: int, n: int) -> str | None:
        """The type of the tensor of a view; None where there is no such view, or nobody has made it yet."""
        if view.n == "moments":
            return "float64"
        try:
            keys = self._shards.keys(view, seed, n)
        except (ValueError, LookupError, FileNotFoundError):
            return None
        known = _recent.get(self._name(keys))
        if known is None and not self.store.has(keys[0]):
            return None
        found = str(self.store.read(keys[0]).dtype if known is None else known.dtype).removeprefix("torch.")
        return "float32" if found == "uint8" else found

    def _name(self, keys: tuple[ShardKey, ...]) -> str:
        """What the tensor of these shards is called among those kept in memory."""
        return f"{self.device} {digest_of(keys)}"

    @contextmanager
    def watched(self) -> Iterator[dict[str, str]]:
        """The views that the body reads or asks the digest of, in words, with their digests; filled while it runs."""
        read: dict[str, str] = {}
        self._watched.append(read)
        try:
            yield read
        finally:
            self._watched.pop()

    def digest(self, view: View, seed: int, n: int) -> str:
        """Names the content of a view; makes nothing."""
        keys = () if view.n == "moments" else self._shards.keys(view, seed, n)
        content = digest_of(keys) if keys else self.data.fingerprint
        for read in self._watched:
            read[f"{view.source} {view.space} {view.n} {view.encode} {seed} {n}"] = content
        return content

    def complete(self, view: View, seed: int, n: int) -> None:
        """Make the shards that are missing or damaged, without loading the others."""
        self._note(view, seed, n)
        if view.n != "moments":
            self._shards.complete(view, self._shards.keys(view, seed, n))

    def missing(self, view: View, seed: int, n: int) -> list[tuple[View, ShardKey]]:
        """The shards that are missing or damaged, each with its view, the images before what is made of them."""
        return [] if view.n == "moments" else self._shards.missing(view, self._shards.keys(view, seed, n))

    def missing_of(self, view: View, subset: Subset) -> list[tuple[View, ShardKey]]:
        """The same of a given subset of real samples."""
        return self._shards.missing(view, self._shards.keys_of(view, self._space(view), subset))

    def fill(self, view: View, key: ShardKey) -> None:
        """Make one shard of a view, unless it is there."""
        self._shards.fill(view, key)

    def samples(self, view: View, seed: int, n: int) -> dict[str, int]:
        """How many samples of a view were found and used, and by which seed they were drawn, as records tell it."""
        if view.n == "moments":
            return {DIMENSIONS: len(self._statistics().mean)}
        subset, count = self._shards.subset(view, self._space(view), seed, n)
        return {"made": count} if subset is None else subset.counts

    def seeds(self, seed: int, n: int) -> list[int]:
        """The seeds of n generated samples, in their order."""
        return [number for key in self._shards.keys(View("fake", "images"), seed, n) for number in seeds_of(key)]

    def shown(self, source: Source, seed: int, n: int, count: int) -> list[int]:
        """Positions of at most `count` of n samples for a picture: the first that are made, or drawn from stored."""
        view = View(source, "images")
        subset, there = self._shards.subset(view, self._space(view), seed, n)
        count = min(count, there)
        return list(range(count)) if subset is None else Subset(source, there, count, seed).numbers.tolist()

    @property
    def total(self) -> int | None:
        """How many generated samples there are; None for a generator that makes as many as are asked for."""
        return self._shards.total

    def count(self, view: View, n: int) -> int:
        """How many real samples of a view's split are read beside n generated ones."""
        return self._shards.count(view, n)

    def floor(self, real: View, seed: int, n: int) -> tuple[View, Subset, Subset]:
        """Real samples that stand for n generated ones: their view, which they are, and which they are compared with.

        Held-out ones where there are n of them; else others of the split that is compared with. Where these are too few
        for both sides, half of the split stands on each. Raises ValueError where there are fewer than two real samples.
        """
        if isinstance(self.data, HasStatistics):
            raise ValueError("the real samples are known by mean and covariance alone: there are no others to compare")
        total, m = self.data.count("train"), self.count(real, n)
        if (held := self.data.count("test")) >= n:
            return replace(real, source="holdout"), Subset("holdout", held, n, seed), Subset("real", total, m, seed)
        if total < 2:
            raise ValueError(f"data set {self.data.name!r} has {total} real samples: there are no two sides to compare")
        n = min(n, total // 2)
        m = min(m, total - n)
        return real, Subset("real", total, n, seed, first=m), Subset("real", total, m, seed)

    def lacks(self, view: View) -> str | None:
        """What the generator or the data set lacks for a view, whatever extractor it needs; None where nothing."""
        if view.n == "moments":
            return None
        try:
            space = None if extracted(self._named(view.space)) else self._space(view)
            self._shards.subset(view, space, 0, 1)
        except ValueError as failure:
            return str(failure)
        return None

    def _note(self, view: View, seed: int, n: int) -> None:
        if view.n == "moments":
            self.used.setdefault(SOURCES[view.source], {})[in_words(self.samples(view, seed, n))] = None
            return
        subset, _ = self._shards.subset(view, self._space(view), seed, n)
        if subset is not None:
            words = in_words(subset.counts)
            if view.source != "fake" and view.n == "same" and subset.count < n:
                words += f", fewer than the {n:,} generated"
            self.used.setdefault(SOURCES[view.source], {})[words] = None

    def preprocessing(self, view: View) -> str:
        """The extractor of a view by name, and what it does; empty for a space without an extractor."""
        name = self._named(view.space)
        if view.n == "moments":
            return (
                f"{name}: taken on trust, the file of statistics does not say of what features it is; the set is taken "
                "as fixed, so intervals are for other generated samples alone"
            )
        return f"{name}: {getattr(self.extractor(name), 'preprocessing', 'not stated')}" if extracted(name) else ""

    def extractor(self, name: str) -> Extractor:
        """An extractor, opened; "features" is the one chosen for the run."""
        name = self._named(name)
        if name not in self._extractors:
            self._extractors[name] = EXTRACTORS[name].function(self.data.name, **self.options.get(name, {}))
        return self._extractors[name]

    def try_out(self, view: View) -> None:
        """Show one generated image to the network of a view, or decode one code where a view differentiates that.

        Raises ValueError where the network takes no such images, or where there is none that decodes.
        """
        if view.n == "moments":
            return
        space = self._space(view)
        if isinstance(space, Features | Logits) and space.name not in self._tried:
            with torch.no_grad():
                space.of_images(self._one, range(1))
            self._tried.add(space.name)
        if isinstance(space, Stretch | Singular) and space.name not in self._tried:
            with torch.no_grad():
                code = self._shards.latents("fake", [0], space.drawn_from)
                self.generator.decode(code, space.drawn_from)
            self._tried.add(space.name)

    @property
    def modality(self) -> Modality:
        """What the generated samples are."""
        return "shape" if self._one.ndim == 5 else "image"

    @cached_property
    def _one(self) -> Tensor:
        """A generated sample, [1, C, H, W] or [1, 1, R, R, R]."""
        latent_space = self.generator.spaces[0]
        with torch.no_grad():
            return self.generator.decode(self._shards.latents("fake", [0], latent_space), latent_space).clamp(0, 1)

    def forget(self) -> None:
        """Drop the tensors kept in memory; they are read from the store again when asked for."""
        _recent.clear()

    def images(self, source: Source, seed: int, n: int, indices: Sequence[int]) -> Tensor:
        """Chosen images out of n, uint8 [len(indices), C, H, W], for galleries; of volumes, their shaded surfaces."""
        return pictures(self.stored(source, seed, n, indices))

    def stored(self, source: Source, seed: int, n: int, indices: Sequence[int]) -> Tensor:
        """Chosen images or volumes out of n as they are stored, uint8."""
        view = View(source, "images")
        self.digest(view, seed, n)  # for whoever watches
        self._note(view, seed, n)
        shards = self._shards.read(view, self._shards.keys(view, seed, n))
        return torch.stack([torch.from_numpy(shards[i // SHARD][i % SHARD].copy()) for i in indices])

    @torch.no_grad()
    def of_latents(self, latents: Tensor, latent_space: str, space: str) -> Tensor:
        """What a view of generated samples would hold if these were their latents [N, ...]: the same, 8 bits deep."""
        found = self._space(View("fake", space))
        parts = [found.of_latents(part, latent_space) for part in torch.split(latents.to(self.device), BATCH)]
        return scaled(torch.cat(parts))

    def _statistics(self) -> Statistics:
        if not isinstance(self.data, HasStatistics):
            raise ValueError(f"data set {self.data.name!r} has no mean and covariance of its own")
        return self.data.statistics

    def _space(self, view: View) -> Space:
        return self._spaces.find(replace(view, space=self._named(view.space)))

    def _named(self, space: str) -> str:
        """With the extractor of the run for "features"."""
        return self.features if space == "features" else space


def watched_view(words: str) -> tuple[View, int, int]:
    """The view, seed and number of samples that `Views.watched` put in words."""
    source, space, n, encode, seed, count = words.split()
    return View(source, space, int(n) if n.isdigit() else n, encode), int(seed), int(count)  # type: ignore[arg-type]
