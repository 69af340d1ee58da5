"""The arrays that metrics read: samples seen through something, made lazily, in shards, once."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
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
from .store import Key, Store

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

LENSES = ("images", "labels", "latent", "residual", "recoded", "discriminator")
"""What a view can be seen through besides extractors."""

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
        return _recent[name]

    def digest(self, view: View, seed: int, n: int) -> str:
        """Names the content of a view; makes nothing."""
        return digest([dataclasses.asdict(key) for key in self._keys(view, seed, n)])

    def complete(self, view: View, seed: int, n: int) -> None:
        """Make the shards that are missing or damaged, without loading the others."""
        if not all(self.store.has(key) for key in self._keys(view, seed, n)):
            self._shards(view, seed, n)

    def preprocessing(self, view: View) -> str:
        """The extractor of a view by name, and what it does; empty for what no extractor sees."""
        name = self._named(view.through)
        if name.partition(":")[0] in LENSES:
            return ""
        return f"{name}: {getattr(self._extractor(name), 'preprocessing', 'not told')}"

    def extractor(self, name: str) -> Extractor:
        """An extractor, opened; "features" is the one chosen for the run."""
        return self._extractor(self._named(name))

    def try_out(self, view: View) -> None:
        """Show one generated image to the network of a view. Raises ValueError where it takes no such images."""
        name = self._named(view.through)
        sees = name == "discriminator" or name.partition(":")[0] not in LENSES
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
        space = self.generator.spaces[0]
        with torch.no_grad():
            return self.generator.decode(self._latents(0, 0, 1, space), space).clamp(0, 1)

    def forget(self) -> None:
        """Drop the tensors kept in memory; they are read from the store again when asked for."""
        _recent.clear()

    def images(self, of: Literal["fake", "real", "holdout"], seed: int, n: int, indices: Sequence[int]) -> Tensor:
        """Chosen images out of n, uint8 [len(indices), C, H, W], for galleries; of volumes, their shaded surfaces."""
        return pictures(self.stored(of, seed, n, indices))

    def stored(self, of: Literal["fake", "real", "holdout"], seed: int, n: int, indices: Sequence[int]) -> Tensor:
        """Chosen images or volumes out of n as they are stored, uint8."""
        shards = self._shards(View(of, "images"), seed, n)
        return torch.stack([torch.from_numpy(shards[i // SHARD][i % SHARD].copy()) for i in indices])

    @torch.no_grad()
    def seen(self, latents: Tensor, space: str, through: str) -> Tensor:
        """What a view of generated samples would hold if these were their latents [N, ...]: the same, 8 bits deep."""
        through = self._named(through)
        if through.partition(":")[0] == "latent":
            if self._space(through.partition(":")[2]) != space:
                raise ValueError(f"these samples have codes in {space!r} alone; {through!r} asks for others")
            return latents.to(self.device)
        parts = []
        for part in torch.split(latents.to(self.device), BATCH):
            images = (self._decode(part, space).clamp(0, 1) * 255).round() / 255
            if through == "images":
                parts.append(images)
            elif through == "recoded":
                parts.append(self._encoder().encode(images, "mean", ()))
            elif through == "discriminator":
                parts.append(self._discriminator().discriminate(images)[:, None])
            else:
                parts.append(self._extractor(through)(images))
        return torch.cat(parts)

    def _shards(self, view: View, seed: int, n: int) -> list[np.ndarray[Any, Any]]:
        keys = self._keys(view, seed, n)
        missing = [key for key in keys if not self.store.has(key)]
        if missing:
            if view.of == "fake" and not missing[0].through.startswith(("latent", "images")):
                self.complete(View("fake", "images"), seed, n)
            producer = {"fake": "generated", "real": f"{self.data.name}", "holdout": f"{self.data.name}, held out"}[
                view.of
            ]
            what = f"{producer} → {missing[0].through} {missing[0].encode}".rstrip()
            with track(what, sum(key.stop - key.start for key in missing), "samples") as advance:
                for key in missing:
                    self.store.array(key, partial(self._make, view, key, advance))
        return [self.store.array(key, partial(self._make, view, key)) for key in keys]

    def _keys(self, view: View, seed: int, n: int) -> list[Key]:
        """Of all shards of a view. Raises ValueError where there is no such view."""
        through, lens, encode = self._lens(view)
        producer, seed, count = self._source(view, through, encode, seed, n)
        return [
            Key(producer, view.of, through, lens, encode, seed, start, min(start + SHARD, count))
            for start in range(0, count, SHARD)
        ]

    def _lens(self, view: View) -> tuple[str, str, str]:
        """What samples are seen through by its full name, the network's fingerprint, and how they are encoded."""
        through = self._named(view.through)
        kind, _, space = through.partition(":")
        if kind in ("latent", "residual"):
            space = self._space(space)
            if space == REPLAYED:
                raise ValueError(
                    "replayed samples have no latent codes, or these are in another space: through=latent:z"
                )
            if kind == "latent" and view.of == "fake":
                return f"{kind}:{space}", "", ""
            self._require_codes(view, kind, space)
            return f"{kind}:{space}", self.generator.fingerprint, view.encode
        if kind == "recoded":
            self._encoder()
            return through, self.generator.fingerprint, ""
        if kind == "discriminator":
            self._discriminator()
            return through, self.generator.fingerprint, ""
        return through, "" if kind in ("images", "labels") else self._extractor(through).fingerprint, ""

    def _require_codes(self, view: View, kind: str, space: str) -> None:
        """Raises ValueError where images have no such codes, or no residual of them."""
        if kind == "residual" and view.encode in NO_IMAGE[view.of]:
            raise ValueError("a residual is that of an image: choose encode=mean, sample, or for a real one inversion")
        if view.encode not in ("prior", "inversion"):
            self._encoder()
            if space != self._space(""):
                raise ValueError(
                    f"the encoder's codes lie in space {self._space('')!r}, not in {space!r}; there, "
                    "reference codes come from encode=prior or encode=inversion"
                )

    def _source(self, view: View, through: str, encode: str, seed: int, n: int) -> tuple[str, int, int]:
        """Fingerprint of what makes the samples, their seed, 0 where there is none, and how many there are."""
        kind, _, space = through.partition(":")
        if view.of == "fake":
            if kind == "labels":
                raise ValueError("generated samples have no labels")
            return self.generator.fingerprint, seed, n
        if encode == "prior":
            self._require_prior(space)
            count = PRIOR_CODES if view.n == "all" else n if view.n == "same" else view.n
            return self.generator.fingerprint, 0, count
        available = self.data.count(_split(view))
        if not available:
            split = "held-out" if view.of == "holdout" else "real"
            raise ValueError(
                f"data set {self.data.name!r} has no {split} samples, and this metric compares with them; "
                "choose one with dataset=NAME, e.g. dataset=folder dataset.folder.root=DIR"
            )
        count = available if view.n == "all" else min(n if view.n == "same" else view.n, available)
        return self.data.fingerprint, 0, count

    def _make(self, view: View, key: Key, advance: Callable[[int], None] = lambda amount: None) -> np.ndarray[Any, Any]:
        """One shard, in batches of a fixed size: the same bytes whoever makes it."""
        batches = []
        size = INVERTED if key.encode == "inversion" else BATCH
        with torch.no_grad():
            for start in range(key.start, key.stop, size):
                stop = min(start + size, key.stop)
                batches.append(self._batch(view, key, start, stop).cpu().numpy())
                advance(stop - start)
        return np.concatenate(batches)

    def _batch(self, view: View, key: Key, start: int, stop: int) -> Tensor:
        """Samples start..stop of a view, computed."""
        kind, _, space = key.through.partition(":")
        if kind == "latent" and view.of == "fake":
            return self._latents(key.seed, start, stop, space)
        if kind == "latent":
            return self._codes(view, key, start, stop, space)
        if kind == "residual":
            codes, images = self._codes(view, key, start, stop, space), self._images(view, key, start, stop)
            return (self._decode(codes, space) - images).square().flatten(1).mean(1, keepdim=True)
        if kind == "discriminator":
            return self._discriminator().discriminate(self._images(view, key, start, stop))[:, None]
        if kind == "images" and view.of == "fake":
            space = self.generator.spaces[0]
            decoded = self._decode(self._latents(key.seed, start, stop, space), space)
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
            shard_key = dataclasses.replace(key, through="images", lens="", encode="")
            shard = self.store.array(shard_key, partial(self._make, View("fake", "images"), shard_key))
            images = torch.from_numpy(shard[start - key.start : stop - key.start].copy())
        else:
            images = self.data.take(_split(view), start, stop).images
        return images.to(self.device).float() / 255

    def _codes(self, view: View, key: Key, start: int, stop: int, space: str) -> Tensor:
        """Reference codes: of the prior, or of real images by the encoder or by optimisation."""
        if view.encode == "prior":
            return self.generator.latents(range(PRIOR_SEEDS + start, PRIOR_SEEDS + stop), space).to(self.device)
        if view.encode == "inversion":
            if key.through.startswith("residual"):
                code_key = dataclasses.replace(key, through=f"latent:{space}")
                codes = self.store.array(
                    code_key, partial(self._make, View(view.of, "latent", encode="inversion"), code_key)
                )
                return torch.from_numpy(codes[start - key.start : stop - key.start].copy()).to(self.device)
            return invert(self.generator, self._images(view, key, start, stop), space)
        posterior_seeds = range(POSTERIOR_SEEDS + start, POSTERIOR_SEEDS + stop)
        encode: Encoding = view.encode
        return self._encoder().encode(self._images(view, key, start, stop), encode, posterior_seeds)

    def _decode(self, latents: Tensor, space: str) -> Tensor:
        """Images of latents, as many at a time as PIXELS allow; the first one alone tells how large they are."""
        if not self._decoded_at_once:
            pixels = self.generator.decode(latents[:1], space)[0, 0].numel()
            self._decoded_at_once = max(1, min(BATCH, PIXELS // pixels))
        return torch.cat([self.generator.decode(part, space) for part in torch.split(latents, self._decoded_at_once)])

    def _latents(self, seed: int, start: int, stop: int, space: str) -> Tensor:
        return self.generator.latents(range(seed * SEEDS + start, seed * SEEDS + stop), space).to(self.device)

    def _named(self, through: str) -> str:
        """With the extractor of the run for "features"."""
        return self.features if through == "features" else through

    def _space(self, name: str) -> str:
        """The latent space of that name; without one the first that has codes."""
        name = name or next((space for space in self.generator.spaces if space != REPLAYED), REPLAYED)
        if name not in self.generator.spaces:
            raise ValueError(unknown("latent space", name, list(self.generator.spaces)))
        return name

    def _encoder(self) -> Encoder:
        if not isinstance(self.generator, Encoder):
            raise ValueError(
                "this generator has no encoder, so real samples have no such codes; choose encode=prior (fresh draws), "
                "encode=inversion (optimisation), a generator that encodes, or another space with through=..."
            )
        return self.generator

    def _require_prior(self, space: str) -> None:
        """Raises ValueError where the generator has no more than the samples that were made."""
        if space not in self._drawn:
            try:
                self.generator.latents([PRIOR_SEEDS], self._space(space))
            except ValueError:
                raise ValueError("this generator makes no fresh draws: there are no codes to compare with") from None
            self._drawn.add(space)

    def _discriminator(self) -> Discriminating:
        if not isinstance(self.generator, Discriminating):
            raise ValueError("this generator comes without a discriminator")
        return self.generator

    def _extractor(self, name: str) -> Extractor:
        if name not in self._extractors:
            self._extractors[name] = EXTRACTORS[name].function(self.data.name, **self.options.get(name, {}))
        return self._extractors[name]


def _split(view: View) -> Split:
    return "test" if view.of == "holdout" else "train"
