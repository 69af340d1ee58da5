"""The arrays that metrics read: samples in a space, made lazily, in shards, once."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..core.files import digest
from ..core.progress import track
from ..core.protocols import Dataset, Extractor, Generator, Modality, Samples, Split, View
from ..core.registry import EXTRACTORS
from ..shapes.pictures import pictures
from .spaces import BATCH, PRIOR_SEEDS, Features, Inverted, Labels, Logits, Residual, Space, Spaces, extracted
from .store import ShardKey, Store

SHARD = 1000
SEEDS = 2**32
"""Repeat r generates from the seeds r·2³² on, so two repeats never share a sample."""
POSTERIOR_SEEDS = 2**80
"""Seeds of posterior samples begin here, far from those of any generated sample."""
PRIOR_CODES = 50_000
"""Reference codes drawn from a prior, where a view asks for all there are."""
RECENT_BYTES = 4 * 2**30
"""Tensors kept in memory between the cells of one process."""
INVERTED = 50
"""Images whose codes are optimised at a time."""

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
        self._spaces = Spaces(generator, self.extractor)
        self._tried: set[str] = set()
        self._watched: list[dict[str, str]] = []
        if hasattr(generator, "to"):  # models whose latents come out of their networks: they draw where these lie
            generator.to(device)

    def tensor(self, view: View, seed: int, n: int) -> Tensor:
        """The view as one tensor on the device: [N, D] float32, or [N, C, H, W] in [0, 1] for images."""
        name = f"{self.device} {self.digest(view, seed, n)}"
        if name not in _recent:
            array = torch.from_numpy(np.concatenate(self._shards(view, seed, n)))
            _recent[name] = _scaled(array.to(self.device))
            while len(_recent) > 1 and sum(tensor.nbytes for tensor in _recent.values()) > RECENT_BYTES:
                _recent.popitem(last=False)
        _recent.move_to_end(name)
        return _recent[name]

    def dtype(self, view: View, seed: int, n: int) -> str | None:
        """The type of the tensor of a view; None where there is no such view, or nobody has made it yet."""
        try:
            keys = self._keys(view, seed, n)
        except (ValueError, LookupError):
            return None
        known = _recent.get(self._name(keys))
        if known is None and not self.store.has(keys[0]):
            return None
        found = str(self.store.read(keys[0]).dtype if known is None else known.dtype).removeprefix("torch.")
        return "float32" if found == "uint8" else found

    def _name(self, keys: Sequence[ShardKey]) -> str:
        """What the tensor of these shards is called among those kept in memory."""
        return f"{self.device} {digest([key.content for key in keys])}"

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
        content = digest([key.content for key in self._keys(view, seed, n)])
        for read in self._watched:
            read[f"{view.source} {view.space} {view.n} {view.encode} {seed} {n}"] = content
        return content

    def complete(self, view: View, seed: int, n: int) -> None:
        """Make the shards that are missing or damaged, without loading the others."""
        if not all(self.store.has(key) for key in self._keys(view, seed, n)):
            self._shards(view, seed, n)

    def preprocessing(self, view: View) -> str:
        """The extractor of a view by name, and what it does; empty for a space without an extractor."""
        name = self._named(view.space)
        return f"{name}: {getattr(self.extractor(name), 'preprocessing', 'not stated')}" if extracted(name) else ""

    def extractor(self, name: str) -> Extractor:
        """An extractor, opened; "features" is the one chosen for the run."""
        name = self._named(name)
        if name not in self._extractors:
            self._extractors[name] = EXTRACTORS[name].function(self.data.name, **self.options.get(name, {}))
        return self._extractors[name]

    def try_out(self, view: View) -> None:
        """Show one generated image to the network of a view. Raises ValueError where it takes no such images."""
        space = self._space(view)
        if isinstance(space, Features | Logits) and space.name not in self._tried:
            with torch.no_grad():
                space.of_images(self._one, range(1))
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
            return self.generator.decode(self._latents("fake", 0, 0, 1, latent_space), latent_space).clamp(0, 1)

    def forget(self) -> None:
        """Drop the tensors kept in memory; they are read from the store again when asked for."""
        _recent.clear()

    def images(self, source: Literal["fake", "real", "holdout"], seed: int, n: int, indices: Sequence[int]) -> Tensor:
        """Chosen images out of n, uint8 [len(indices), C, H, W], for galleries; of volumes, their shaded surfaces."""
        return pictures(self.stored(source, seed, n, indices))

    def stored(self, source: Literal["fake", "real", "holdout"], seed: int, n: int, indices: Sequence[int]) -> Tensor:
        """Chosen images or volumes out of n as they are stored, uint8."""
        view = View(source, "images")
        self.digest(view, seed, n)  # for whoever watches
        shards = self._shards(view, seed, n)
        return torch.stack([torch.from_numpy(shards[i // SHARD][i % SHARD].copy()) for i in indices])

    @torch.no_grad()
    def of_latents(self, latents: Tensor, latent_space: str, space: str) -> Tensor:
        """What a view of generated samples would hold if these were their latents [N, ...]: the same, 8 bits deep."""
        found = self._space(View("fake", space))
        parts = [found.of_latents(part, latent_space) for part in torch.split(latents.to(self.device), BATCH)]
        return _scaled(torch.cat(parts))

    def _shards(self, view: View, seed: int, n: int) -> list[np.ndarray[Any, Any]]:
        keys = self._keys(view, seed, n)
        missing = [key for key in keys if not self.store.has(key)]
        if missing:
            space = self._space(view)
            if view.source == "fake" and not space.drawn_from:
                self.complete(View("fake", "images"), seed, n)
            producer = {"fake": "generated", "real": self.data.name, "holdout": f"{self.data.name}, held out"}
            what = f"{producer[view.source]} → {space.name} {space.encode}".rstrip()
            with track(what, sum(key.stop - key.start for key in missing), "samples") as advance:
                for key in missing:
                    self.store.array(key, partial(self._make, view, key, advance))
        return [self.store.array(key, partial(self._make, view, key)) for key in keys]

    def _keys(self, view: View, seed: int, n: int) -> list[ShardKey]:
        """Of all shards of a view. Raises ValueError where there is no such view."""
        space = self._space(view)
        producer, seed, count = self._source(view, space, seed, n)
        same = (producer, view.source, space.name, space.fingerprint, space.encode, seed)
        return [ShardKey(*same, start, min(start + SHARD, count)) for start in range(0, count, SHARD)]

    def _source(self, view: View, space: Space, seed: int, n: int) -> tuple[str, int, int]:
        """Fingerprint of what makes the samples, their seed, 0 where there is none, and how many there are."""
        if view.source == "fake":
            return self.generator.fingerprint, seed, n
        if space.drawn_from:
            count = PRIOR_CODES if view.n == "all" else n if view.n == "same" else view.n
            return self.generator.fingerprint, 0, count
        available = self.data.count(_split(view))
        if not available:
            split = "held-out" if view.source == "holdout" else "real"
            raise ValueError(
                f"data set {self.data.name!r} has no {split} samples, and this metric compares with them; "
                "choose one with dataset=NAME, e.g. dataset=folder dataset.folder.root=DIR"
            )
        count = available if view.n == "all" else min(n if view.n == "same" else view.n, available)
        return self.data.fingerprint, 0, count

    def _make(
        self, view: View, key: ShardKey, advance: Callable[[int], None] = lambda amount: None
    ) -> np.ndarray[Any, Any]:
        """One shard, in batches of a fixed size: the same bytes whoever makes it."""
        batches, space = [], self._space(view)
        size = INVERTED if key.encode == "inversion" else BATCH
        with torch.no_grad():
            for start in range(key.start, key.stop, size):
                stop = min(start + size, key.stop)
                batches.append(self._batch(view, space, key, start, stop).cpu().numpy())
                advance(stop - start)
        return np.concatenate(batches)

    def _batch(self, view: View, space: Space, key: ShardKey, start: int, stop: int) -> Tensor:
        """Samples start..stop of a view, computed."""
        if space.drawn_from:
            latents = self._latents(view.source, key.seed, start, stop, space.drawn_from)
            return space.of_latents(latents, space.drawn_from)
        if isinstance(space, Labels):
            return self._labels(view, start, stop)
        images = self._images(view, key, start, stop)
        if isinstance(space, Residual) and isinstance(space.codes, Inverted):  # optimised once, then read
            codes = self._rows(replace(view, space=space.codes.name), replace(key, space=space.codes.name), start, stop)
            return space.of_codes(codes, images)
        return space.of_images(images, range(POSTERIOR_SEEDS + start, POSTERIOR_SEEDS + stop))

    def _latents(self, source: str, seed: int, start: int, stop: int, latent_space: str) -> Tensor:
        """Codes of generated samples, or those of the prior that stand beside real ones."""
        first = seed * SEEDS if source == "fake" else PRIOR_SEEDS
        return self.generator.latents(range(first + start, first + stop), latent_space).to(self.device)

    def _images(self, view: View, key: ShardKey, start: int, stop: int) -> Tensor:
        """Images in [0, 1] on the device: real ones from the data set, generated ones as stored, both 8 bits deep."""
        if view.source != "fake":
            return _scaled(self._real(view, start, stop).images.to(self.device))
        image_key = replace(key, space="images", fingerprint="", encode="")
        return _scaled(self._rows(View("fake", "images"), image_key, start, stop))

    def _labels(self, view: View, start: int, stop: int) -> Tensor:
        labels = self._real(view, start, stop).labels
        if labels is None:
            raise ValueError(f"data set {self.data.name!r} has no labels")
        return labels

    def _real(self, view: View, start: int, stop: int) -> Samples:
        return self.data.take(_split(view), start, stop)

    def _rows(self, view: View, key: ShardKey, start: int, stop: int) -> Tensor:
        """Samples start..stop of a shard in the store, made if it is not there."""
        shard = self.store.array(key, partial(self._make, view, key))
        return torch.from_numpy(shard[start - key.start : stop - key.start].copy()).to(self.device)

    def _space(self, view: View) -> Space:
        return self._spaces.find(replace(view, space=self._named(view.space)))

    def _named(self, space: str) -> str:
        """With the extractor of the run for "features"."""
        return self.features if space == "features" else space


def watched_view(words: str) -> tuple[View, int, int]:
    """The view, seed and number of samples that `Views.watched` put in words."""
    source, space, n, encode, seed, count = words.split()
    return View(source, space, int(n) if n.isdigit() else n, encode), int(seed), int(count)  # type: ignore[arg-type]


def _scaled(array: Tensor) -> Tensor:
    """Stored images in [0, 1]; any other array as it is."""
    return array.float() / 255 if array.dtype == torch.uint8 else array


def _split(view: View) -> Split:
    return "test" if view.source == "holdout" else "train"
