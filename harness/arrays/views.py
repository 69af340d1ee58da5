"""The arrays that metrics read: samples in a space, made lazily, in shards, once."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..core.files import digest
from ..core.progress import track
from ..core.protocols import Dataset, Discriminating, Encoder, Encoding, Extractor, Generator, Modality, Split, View
from ..core.registry import EXTRACTORS, unknown
from ..shapes.pictures import pictures
from .inversion import invert
from .store import ShardKey, Store

SHARD = 1000
BATCH = 250
SEEDS = 2**32
"""Repeat r generates from the seeds r·2³² on, so two repeats never share a sample."""
POSTERIOR_SEEDS = 2**80
"""Seeds of posterior samples begin here, far from those of any generated sample."""
PRIOR_SEEDS = 2**63
"""Seeds of reference codes drawn from a generator's own prior begin here."""
PRIOR_CODES = 50_000
"""Reference codes drawn from a prior, where a view asks for all there are."""
PIXELS = 2**20
"""Pixels decoded at a time: large images are decoded in smaller batches."""
RECENT_BYTES = 4 * 2**30
"""Tensors kept in memory between the cells of one process."""

NOT_EXTRACTED = ("images", "labels", "latent", "residual", "reencoded", "discriminator")
"""Spaces of a view besides those of extractors."""

NO_IMAGE = {"fake": ("prior", "logvar", "inversion")} | dict.fromkeys(("real", "holdout"), ("prior", "logvar"))
"""Codes of which an image has no residual; that of generated images by inversion is left out as too slow."""

REPLAYED = "sample"
"""The latent space of samples that are shown again: their numbers, which are no codes."""

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
        self._decoded_at_once = 0
        self._drawn: set[str] = set()
        self._tried: set[str] = set()
        self._watched: list[dict[str, str]] = []
        self.dtypes: set[str] = set()
        if hasattr(generator, "to"):  # models whose latents come out of their networks: they draw where these lie
            generator.to(device)

    def tensor(self, view: View, seed: int, n: int) -> Tensor:
        """The view as one tensor on the device: [N, D] float32, or [N, C, H, W] in [0, 1] for images."""
        name = f"{self.device} {self.digest(view, seed, n)}"
        if name not in _recent:
            array = torch.from_numpy(np.concatenate(self._shards(view, seed, n))).to(self.device)
            _recent[name] = array.float() / 255 if array.dtype == torch.uint8 else array
            while len(_recent) > 1 and sum(tensor.nbytes for tensor in _recent.values()) > RECENT_BYTES:
                _recent.popitem(last=False)
        _recent.move_to_end(name)
        self.dtypes.add(str(_recent[name].dtype).removeprefix("torch."))
        return _recent[name]

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
        """The extractor of a view by name, and what it does; empty for what no extractor sees."""
        name = self._named(view.space)
        if name.partition(":")[0] in NOT_EXTRACTED:
            return ""
        return f"{name}: {getattr(self._extractor(name), 'preprocessing', 'not told')}"

    def extractor(self, name: str) -> Extractor:
        """An extractor, opened; "features" is the one chosen for the run."""
        return self._extractor(self._named(name))

    def try_out(self, view: View) -> None:
        """Show one generated image to the network of a view. Raises ValueError where it takes no such images."""
        name = self._named(view.space)
        sees = name == "discriminator" or name.partition(":")[0] not in NOT_EXTRACTED
        if sees and name not in self._tried:
            with torch.no_grad():
                if name == "discriminator":
                    self._discriminator().discriminate(self._one)
                else:
                    self._extractor(name)(self._one)
            self._tried.add(name)

    @property
    def modality(self) -> Modality:
        """What the generated samples are."""
        return "shape" if self._one.ndim == 5 else "image"

    @cached_property
    def _one(self) -> Tensor:
        """A generated sample, [1, C, H, W] or [1, 1, R, R, R]."""
        latent_space = self.generator.spaces[0]
        with torch.no_grad():
            return self.generator.decode(self._latents(0, 0, 1, latent_space), latent_space).clamp(0, 1)

    def forget(self) -> None:
        """Drop the tensors kept in memory; they are read from the store again when asked for."""
        _recent.clear()

    def images(self, of: Literal["fake", "real", "holdout"], seed: int, n: int, indices: Sequence[int]) -> Tensor:
        """Chosen images out of n, uint8 [len(indices), C, H, W], for galleries; of volumes, their shaded surfaces."""
        return pictures(self.stored(of, seed, n, indices))

    def stored(self, of: Literal["fake", "real", "holdout"], seed: int, n: int, indices: Sequence[int]) -> Tensor:
        """Chosen images or volumes out of n as they are stored, uint8."""
        view = View(of, "images")
        self.digest(view, seed, n)  # for whoever watches
        shards = self._shards(view, seed, n)
        return torch.stack([torch.from_numpy(shards[i // SHARD][i % SHARD].copy()) for i in indices])

    @torch.no_grad()
    def seen(self, latents: Tensor, latent_space: str, space: str) -> Tensor:
        """What a view of generated samples would hold if these were their latents [N, ...]: the same, 8 bits deep."""
        space = self._named(space)
        if space.partition(":")[0] == "latent":
            if self._latent_space(space.partition(":")[2]) != latent_space:
                raise ValueError(f"these samples have codes in {latent_space!r} alone; {space!r} asks for others")
            return latents.to(self.device)
        parts = []
        for part in torch.split(latents.to(self.device), BATCH):
            images = (self._decode(part, latent_space).clamp(0, 1) * 255).round() / 255
            if space == "images":
                parts.append(images)
            elif space == "reencoded":
                parts.append(self._encoder().encode(images, "mean", ()))
            elif space == "discriminator":
                parts.append(self._discriminator().discriminate(images)[:, None])
            else:
                parts.append(self._extractor(space)(images))
        return torch.cat(parts)

    def _shards(self, view: View, seed: int, n: int) -> list[np.ndarray[Any, Any]]:
        keys = self._keys(view, seed, n)
        missing = [key for key in keys if not self.store.has(key)]
        if missing:
            if view.source == "fake" and not missing[0].space.startswith(("latent", "images")):
                self.complete(View("fake", "images"), seed, n)
            producer = {"fake": "generated", "real": f"{self.data.name}", "holdout": f"{self.data.name}, held out"}[
                view.source
            ]
            what = f"{producer} → {missing[0].space} {missing[0].encode}".rstrip()
            with track(what, sum(key.stop - key.start for key in missing), "samples") as advance:
                for key in missing:
                    self.store.array(key, partial(self._make, view, key, advance))
        return [self.store.array(key, partial(self._make, view, key)) for key in keys]

    def _keys(self, view: View, seed: int, n: int) -> list[ShardKey]:
        """Of all shards of a view. Raises ValueError where there is no such view."""
        space, fingerprint, encode = self._fingerprint(view)
        producer, seed, count = self._source(view, space, encode, seed, n)
        return [
            ShardKey(producer, view.source, space, fingerprint, encode, seed, start, min(start + SHARD, count))
            for start in range(0, count, SHARD)
        ]

    def _fingerprint(self, view: View) -> tuple[str, str, str]:
        """The space of a view by its full name, the network's fingerprint, and how they are encoded."""
        space = self._named(view.space)
        kind, _, latent_space = space.partition(":")
        if kind in ("latent", "residual"):
            latent_space = self._latent_space(latent_space)
            if latent_space == REPLAYED:
                raise ValueError("replayed samples have no latent codes, or these are in another space: space=latent:z")
            if kind == "latent" and view.source == "fake":
                return f"{kind}:{latent_space}", "", ""
            self._require_codes(view, kind, latent_space)
            return f"{kind}:{latent_space}", self.generator.fingerprint, view.encode
        if kind == "reencoded":
            self._encoder()
            return space, self.generator.fingerprint, ""
        if kind == "discriminator":
            self._discriminator()
            return space, self.generator.fingerprint, ""
        return space, "" if kind in ("images", "labels") else self._extractor(space).fingerprint, ""

    def _require_codes(self, view: View, kind: str, latent_space: str) -> None:
        """Raises ValueError where images have no such codes, or no residual of them."""
        if kind == "residual" and view.encode in NO_IMAGE[view.source]:
            raise ValueError("a residual is that of an image: choose encode=mean, sample, or for a real one inversion")
        if view.encode not in ("prior", "inversion"):
            self._encoder()
            if latent_space != self._latent_space(""):
                raise ValueError(
                    f"the encoder's codes lie in latent space {self._latent_space('')!r}, not in {latent_space!r}; "
                    "there, reference codes come from encode=prior or encode=inversion"
                )

    def _source(self, view: View, space: str, encode: str, seed: int, n: int) -> tuple[str, int, int]:
        """Fingerprint of what makes the samples, their seed, 0 where there is none, and how many there are."""
        kind, _, latent_space = space.partition(":")
        if view.source == "fake":
            if kind == "labels":
                raise ValueError("generated samples have no labels")
            return self.generator.fingerprint, seed, n
        if encode == "prior":
            self._require_prior(latent_space)
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
        batches = []
        size = INVERTED if key.encode == "inversion" else BATCH
        with torch.no_grad():
            for start in range(key.start, key.stop, size):
                stop = min(start + size, key.stop)
                batches.append(self._batch(view, key, start, stop).cpu().numpy())
                advance(stop - start)
        return np.concatenate(batches)

    def _batch(self, view: View, key: ShardKey, start: int, stop: int) -> Tensor:
        """Samples start..stop of a view, computed."""
        kind, _, latent_space = key.space.partition(":")
        if kind == "latent" and view.source == "fake":
            return self._latents(key.seed, start, stop, latent_space)
        if kind == "latent":
            return self._codes(view, key, start, stop, latent_space)
        if kind == "residual":
            codes, images = self._codes(view, key, start, stop, latent_space), self._images(view, key, start, stop)
            return (self._decode(codes, latent_space) - images).square().flatten(1).mean(1, keepdim=True)
        if kind == "discriminator":
            return self._discriminator().discriminate(self._images(view, key, start, stop))[:, None]
        if kind == "images" and view.source == "fake":
            latent_space = self.generator.spaces[0]
            decoded = self._decode(self._latents(key.seed, start, stop, latent_space), latent_space)
            return (decoded.clamp(0, 1) * 255).round().byte()
        if kind in ("images", "labels"):
            samples = self.data.take(_split(view), start, stop)
            if kind == "images":
                return samples.images
            if samples.labels is None:
                raise ValueError(f"data set {self.data.name!r} has no labels")
            return samples.labels
        if kind == "reencoded":
            return self._encoder().encode(self._images(view, key, start, stop), "mean", ())
        return self._extractor(key.space)(self._images(view, key, start, stop))

    def _images(self, view: View, key: ShardKey, start: int, stop: int) -> Tensor:
        """Images in [0, 1] on the device: real ones from the data set, generated ones as stored, both 8 bits deep."""
        if view.source == "fake":
            shard_key = dataclasses.replace(key, space="images", fingerprint="", encode="")
            shard = self.store.array(shard_key, partial(self._make, View("fake", "images"), shard_key))
            images = torch.from_numpy(shard[start - key.start : stop - key.start].copy())
        else:
            images = self.data.take(_split(view), start, stop).images
        return images.to(self.device).float() / 255

    def _codes(self, view: View, key: ShardKey, start: int, stop: int, latent_space: str) -> Tensor:
        """Reference codes: of the prior, or of real images by the encoder or by optimisation."""
        if view.encode == "prior":
            return self.generator.latents(range(PRIOR_SEEDS + start, PRIOR_SEEDS + stop), latent_space).to(self.device)
        if view.encode == "inversion":
            if key.space.startswith("residual"):
                code_key = dataclasses.replace(key, space=f"latent:{latent_space}")
                codes = self.store.array(
                    code_key, partial(self._make, View(view.source, "latent", encode="inversion"), code_key)
                )
                return torch.from_numpy(codes[start - key.start : stop - key.start].copy()).to(self.device)
            return invert(self.generator, self._images(view, key, start, stop), latent_space)
        posterior_seeds = range(POSTERIOR_SEEDS + start, POSTERIOR_SEEDS + stop)
        encode: Encoding = view.encode
        return self._encoder().encode(self._images(view, key, start, stop), encode, posterior_seeds)

    def _decode(self, latents: Tensor, latent_space: str) -> Tensor:
        """Images of latents, as many at a time as PIXELS allow; the first one alone tells how large they are."""
        if not self._decoded_at_once:
            pixels = self.generator.decode(latents[:1], latent_space)[0, 0].numel()
            self._decoded_at_once = max(1, min(BATCH, PIXELS // pixels))
        return torch.cat(
            [self.generator.decode(part, latent_space) for part in torch.split(latents, self._decoded_at_once)]
        )

    def _latents(self, seed: int, start: int, stop: int, latent_space: str) -> Tensor:
        return self.generator.latents(range(seed * SEEDS + start, seed * SEEDS + stop), latent_space).to(self.device)

    def _named(self, space: str) -> str:
        """With the extractor of the run for "features"."""
        return self.features if space == "features" else space

    def _latent_space(self, name: str) -> str:
        """The latent space of that name; without one the first that has codes."""
        name = name or next(
            (latent_space for latent_space in self.generator.spaces if latent_space != REPLAYED), REPLAYED
        )
        if name not in self.generator.spaces:
            raise ValueError(unknown("latent space", name, list(self.generator.spaces)))
        return name

    def _encoder(self) -> Encoder:
        if not isinstance(self.generator, Encoder):
            raise ValueError(
                "this generator has no encoder, so real samples have no such codes; choose encode=prior (fresh draws), "
                "encode=inversion (optimisation), a generator that encodes, or another space with space=..."
            )
        return self.generator

    def _require_prior(self, latent_space: str) -> None:
        """Raises ValueError where the generator has no more than the samples that were made."""
        if latent_space not in self._drawn:
            try:
                self.generator.latents([PRIOR_SEEDS], self._latent_space(latent_space))
            except ValueError:
                raise ValueError("this generator makes no fresh draws: there are no codes to compare with") from None
            self._drawn.add(latent_space)

    def _discriminator(self) -> Discriminating:
        if not isinstance(self.generator, Discriminating):
            raise ValueError("this generator comes without a discriminator")
        return self.generator

    def _extractor(self, name: str) -> Extractor:
        if name not in self._extractors:
            self._extractors[name] = EXTRACTORS[name].function(self.data.name, **self.options.get(name, {}))
        return self._extractors[name]


def watched_view(views: Views, words: str) -> str | None:
    """The digest of today of a view that `Views.watched` put in words; None where there is no such view any more."""
    source, space, n, encode, seed, count = words.split()
    view = View(source, space, int(n) if n.isdigit() else n, encode)  # type: ignore[arg-type]
    try:
        return views.digest(view, int(seed), int(count))
    except (ValueError, LookupError):
        return None


def _split(view: View) -> Split:
    return "test" if view.source == "holdout" else "train"
