"""The arrays that metrics read: samples in a space, made lazily, in shards, once."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.progress import track
from ..core.protocols import (
    Dataset,
    Extractor,
    Generator,
    HasPosterior,
    HasStatistics,
    HasTotal,
    Modality,
    Split,
    Statistics,
    View,
)
from ..core.registry import DATASETS, EXTRACTORS
from ..shapes.pictures import pictures
from .spaces import (
    BATCH,
    PRIOR_SEEDS,
    Encoded,
    Features,
    Inverted,
    Labels,
    Logits,
    Residual,
    Singular,
    Space,
    Spaces,
    Stretch,
    extracted,
)
from .store import ShardKey, Store, digest_of
from .subsets import DIMENSIONS, SOURCES, Source, Subset, in_words, taken

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
        self._tried: set[str] = set()
        self._watched: list[dict[str, str]] = []
        self.used: dict[str, dict[str, None]] = {}
        if hasattr(generator, "to"):  # models whose latents come out of their networks: they draw where these lie
            generator.to(device)

    def tensor(self, view: View, seed: int, n: int) -> Tensor:
        """The view as one tensor on the device: [N, D] float32, or [N, C, H, W] in [0, 1] for images."""
        self.digest(view, seed, n)  # for whoever watches
        self._note(view, seed, n)
        return self._tensor(view, self._keys(view, seed, n))

    def given(self, view: View, seed: int, n: int) -> Tensor | Statistics:
        """What a metric reads: the tensor of a view, or the statistics that stand for it."""
        if view.n != "moments":
            return self.tensor(view, seed, n)
        self.digest(view, seed, n)
        self._note(view, seed, n)
        return self._statistics()

    def tensor_of(self, view: View, subset: Subset) -> Tensor:
        """The same of a given subset of real samples, whatever the view says of their number."""
        return self._tensor(view, self._keys_of(view, self._space(view), subset))

    def digest_of(self, view: View, subset: Subset) -> str:
        """Names the content of a given subset of real samples in the space of a view; makes nothing."""
        return digest_of(self._keys_of(view, self._space(view), subset))

    def _tensor(self, view: View, keys: tuple[ShardKey, ...]) -> Tensor:
        name = self._name(keys)
        if name not in _recent:
            array = torch.from_numpy(np.concatenate(self._shards(view, keys)))
            _recent[name] = _scaled(array.to(self.device))
            while len(_recent) > 1 and sum(tensor.nbytes for tensor in _recent.values()) > RECENT_BYTES:
                _recent.popitem(last=False)
        _recent.move_to_end(name)
        return _recent[name]

    def dtype(self, view: View, seed: int, n: int) -> str | None:
        """The type of the tensor of a view; None where there is no such view, or nobody has made it yet."""
        if view.n == "moments":
            return "float64"
        try:
            keys = self._keys(view, seed, n)
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
        keys = () if view.n == "moments" else self._keys(view, seed, n)
        content = digest_of(keys) if keys else self.data.fingerprint
        for read in self._watched:
            read[f"{view.source} {view.space} {view.n} {view.encode} {seed} {n}"] = content
        return content

    def complete(self, view: View, seed: int, n: int) -> None:
        """Make the shards that are missing or damaged, without loading the others."""
        self._note(view, seed, n)
        if view.n != "moments":
            self._complete(view, self._keys(view, seed, n))

    def missing(self, view: View, seed: int, n: int) -> list[tuple[View, ShardKey]]:
        """The shards that are missing or damaged, each with its view, the images before what is made of them."""
        return [] if view.n == "moments" else self._missing(view, self._keys(view, seed, n))

    def missing_of(self, view: View, subset: Subset) -> list[tuple[View, ShardKey]]:
        """The same of a given subset of real samples."""
        return self._missing(view, self._keys_of(view, self._space(view), subset))

    def fill(self, view: View, key: ShardKey) -> None:
        """Make one shard of a view, unless it is there."""
        self.store.array(key, partial(self._make, view, key))

    def samples(self, view: View, seed: int, n: int) -> dict[str, int]:
        """How many samples of a view were found and used, and by which seed they were drawn, as records tell it."""
        if view.n == "moments":
            return {DIMENSIONS: len(self._statistics().mean)}
        subset, count = self._subset(view, self._space(view), seed, n)
        return {"made": count} if subset is None else subset.counts

    def seeds(self, seed: int, n: int) -> list[int]:
        """The seeds of n generated samples, in their order."""
        return [number for key in self._keys(View("fake", "images"), seed, n) for number in _seeds(key)]

    def shown(self, source: Source, seed: int, n: int, count: int) -> list[int]:
        """Positions of at most `count` of n samples for a picture: the first that are made, or drawn from stored."""
        view = View(source, "images")
        subset, there = self._subset(view, self._space(view), seed, n)
        count = min(count, there)
        return list(range(count)) if subset is None else Subset(source, there, count, seed).numbers.tolist()

    @property
    def total(self) -> int | None:
        """How many generated samples there are; None for a generator that makes as many as are asked for."""
        return self.generator.total if isinstance(self.generator, HasTotal) else None

    def count(self, view: View, n: int) -> int:
        """How many real samples of a view's split are read beside n generated ones."""
        available = self.data.count(_split(view))
        return (
            min(view.n, available) if isinstance(view.n, int) else available if view.n == "all" else min(n, available)
        )

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
            self._subset(view, space, 0, 1)
        except ValueError as failure:
            return str(failure)
        return None

    def _note(self, view: View, seed: int, n: int) -> None:
        if view.n == "moments":
            self.used.setdefault(SOURCES[view.source], {})[in_words(self.samples(view, seed, n))] = None
            return
        subset, _ = self._subset(view, self._space(view), seed, n)
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
                code = self._latents("fake", [0], space.drawn_from)
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
            return self.generator.decode(self._latents("fake", [0], latent_space), latent_space).clamp(0, 1)

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
        shards = self._shards(view, self._keys(view, seed, n))
        return torch.stack([torch.from_numpy(shards[i // SHARD][i % SHARD].copy()) for i in indices])

    @torch.no_grad()
    def of_latents(self, latents: Tensor, latent_space: str, space: str) -> Tensor:
        """What a view of generated samples would hold if these were their latents [N, ...]: the same, 8 bits deep."""
        found = self._space(View("fake", space))
        parts = [found.of_latents(part, latent_space) for part in torch.split(latents.to(self.device), BATCH)]
        return _scaled(torch.cat(parts))

    def _statistics(self) -> Statistics:
        if not isinstance(self.data, HasStatistics):
            raise ValueError(f"data set {self.data.name!r} has no mean and covariance of its own")
        return self.data.statistics

    def _shards(self, view: View, keys: Sequence[ShardKey]) -> list[np.ndarray[Any, Any]]:
        self._complete(view, keys)
        return [self.store.array(key, partial(self._make, view, key)) for key in keys]

    def _complete(self, view: View, keys: Sequence[ShardKey]) -> None:
        for one, shards in groupby(self._missing(view, keys), itemgetter(0)):
            missing, space = [key for _, key in shards], self._space(one)
            by = "generated" if one.source == "fake" else self.data.name
            producer = f"{by}, held out" if one.source == "holdout" else by
            what = f"{producer} → {space.name} {space.encode}".rstrip()
            with track(what, sum(key.stop - key.start for key in missing), "samples") as advance:
                for key in missing:
                    self.store.array(key, partial(self._make, one, key, advance))

    def _missing(self, view: View, keys: Sequence[ShardKey]) -> list[tuple[View, ShardKey]]:
        missing = [key for key in keys if not self.store.has(key)]
        before: list[tuple[View, ShardKey]] = []
        if missing and view.source == "fake" and not self._space(view).drawn_from:
            before = self._missing(View("fake", "images"), [_of_images(key) for key in keys])
        return before + [(view, key) for key in missing]

    def _keys(self, view: View, seed: int, n: int) -> tuple[ShardKey, ...]:
        """Of all shards of a view. Raises ValueError where there is no such view."""
        space = self._space(view)
        subset, count = self._subset(view, space, seed, n)
        if subset is not None:
            return self._keys_of(view, space, subset)
        repeat = seed if view.source == "fake" else 0
        return _shard_keys(ShardKey(*self._about(view, space), repeat, 0, count))

    def _keys_of(self, view: View, space: Space, subset: Subset) -> tuple[ShardKey, ...]:
        """Of all shards of a subset of a stored set, in the space of a view."""
        drawn = None if subset.whole else subset
        return _shard_keys(ShardKey(*self._about(view, space), 0, 0, subset.count, drawn))

    def _about(self, view: View, space: Space) -> tuple[str, str, str, str, str]:
        """What the keys of all shards of a view share: who makes the samples, and in what space they are."""
        made = view.source == "fake" or space.drawn_from
        producer = self.generator.fingerprint if made else self.data.fingerprint
        return producer, view.source, space.name, space.fingerprint, space.encode

    def _subset(self, view: View, space: Space | None, seed: int, n: int) -> tuple[Subset | None, int]:
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
        available = self.data.count(_split(view))
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
            latents = self._latents(view.source, _seeds(part), space.drawn_from)
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

    def _latents(self, source: str, seeds: Sequence[int], latent_space: str) -> Tensor:
        """Codes of generated samples, or those of the prior that stand beside real ones."""
        first = 0 if source == "fake" else PRIOR_SEEDS
        return self.generator.latents([first + seed for seed in seeds], latent_space).to(self.device)

    def _images(self, view: View, key: ShardKey, part: ShardKey) -> Tensor:
        """Images in [0, 1] on the device: real ones from the data set, generated ones as stored, both 8 bits deep."""
        if view.source != "fake":
            images = torch.cat([samples.images for samples in taken(self.data, _split(view), part.numbers)])
            return _scaled(images.to(self.device))
        return _scaled(self._rows(View("fake", "images"), _of_images(key), part))

    def _labels(self, view: View, part: ShardKey) -> Tensor:
        labels = [samples.labels for samples in taken(self.data, _split(view), part.numbers)]
        found = [one for one in labels if one is not None]
        if len(found) < len(labels):
            raise ValueError(f"data set {self.data.name!r} has no labels")
        return torch.cat(found)

    def _rows(self, view: View, key: ShardKey, part: ShardKey) -> Tensor:
        """A part of a shard in the store, which is made if it is not there."""
        shard = self.store.array(key, partial(self._make, view, key))
        return torch.from_numpy(shard[part.start - key.start : part.stop - key.start].copy()).to(self.device)

    def _space(self, view: View) -> Space:
        return self._spaces.find(replace(view, space=self._named(view.space)))

    def _named(self, space: str) -> str:
        """With the extractor of the run for "features"."""
        return self.features if space == "features" else space


@lru_cache
def _shard_keys(whole: ShardKey) -> tuple[ShardKey, ...]:
    """The shards of what the key of a whole view names."""
    starts = range(whole.start, whole.stop, SHARD)
    return tuple(replace(whole, start=start, stop=min(start + SHARD, whole.stop)) for start in starts)


def _of_images(key: ShardKey) -> ShardKey:
    """The key of the images behind a shard."""
    return replace(key, space="images", fingerprint="", encode="")


def _seeds(key: ShardKey) -> list[int]:
    return [key.seed * SEEDS + int(number) for number in key.numbers]


def whole_shards(key: ShardKey) -> list[ShardKey]:
    """The shards of the whole set that have the rows of this shard of a subset; none where it is of the whole set."""
    if key.drawn is None:
        return []
    whole = _shard_keys(replace(key, start=0, stop=key.drawn.total, drawn=None))
    return [whole[i] for i in sorted({int(place) for place in key.numbers // SHARD})]


def watched_view(words: str) -> tuple[View, int, int]:
    """The view, seed and number of samples that `Views.watched` put in words."""
    source, space, n, encode, seed, count = words.split()
    return View(source, space, int(n) if n.isdigit() else n, encode), int(seed), int(count)  # type: ignore[arg-type]


def _scaled(array: Tensor) -> Tensor:
    """Stored images in [0, 1]; any other array as it is."""
    return array.float() / 255 if array.dtype == torch.uint8 else array


def _split(view: View) -> Split:
    return "test" if view.source == "holdout" else "train"
