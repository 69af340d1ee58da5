"""Networks and functions that make images: their samples are drawn once, and are stored samples from then on."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...generators.networks.seeds import normal
from ...generators.replay import NOTHING, Replay, Stored
from ..arrays.shards import SEEDS
from ..core.digests import hexadecimal, packed
from ..core.files import digest
from ..core.progress import track
from ..core.texts import Texts
from ..formats.image_arrays import CHANNELS
from ..formats.images import contents_of
from .calls import evaluating
from .samples import Collected, Images, Range, content

FIRST = 8
"""Samples that a network or a function makes at first: they tell how large its images are, and which axes they have."""


class Decoder:
    """A network from normal latents to images as a Generator that has made its samples.

    Space "sample" has the numbers of the samples that were made; space "z" the latents N(0, I) [N, *latent], which the
    network decodes: in evaluation mode, with its own device and type, and as it was left afterwards.
    """

    spaces: Sequence[str] = ("sample", "z")

    def __init__(self, module: nn.Module, latent: Sequence[int], count: int, seed: int, value_range: Range | None):
        self._module, self._latent, self._first = module, tuple(latent), seed * SEEDS
        self._range = value_range or (0.0, 1.0)
        self.total = count

        def make(numbers: Sequence[int]) -> Any:
            return self._decoded(self.latents(numbers, "z"))

        pixels = _drawn(type(module).__name__, make, range(count), value_range).pixels
        self.samples = _replayed(pixels, np.arange(count), content(pixels))
        weights = [tensor.detach().cpu() for tensor in module.state_dict().values() if isinstance(tensor, Tensor)]
        known = [content(tensor.reshape(-1).view(torch.uint8).numpy()) for tensor in weights if tensor.numel()]
        self.fingerprint = digest("module", 1, self.samples.fingerprint, known, self._latent, seed)

    def latents(self, seeds: Sequence[int], space: str = "sample") -> Tensor:
        """Seed i of a sample is that of the repeat; other seeds are draws of the prior."""
        if space == "sample":
            return self.samples.latents(seeds)
        return normal([self._first + seed for seed in seeds], *self._latent)

    def decode(self, latents: Tensor, space: str = "sample") -> Tensor:
        if space == "sample":
            return self.samples.decode(latents)
        low, high = self._range
        images = self._decoded(latents).to(latents.device)
        return images.float() / 255 if images.dtype == torch.uint8 else (images - low) / (high - low)

    def _decoded(self, latents: Tensor) -> Tensor:
        like = next((tensor for tensor in _tensors(self._module) if tensor.is_floating_point()), latents)
        with evaluating(self._module):
            images = self._module(latents.to(like))
        if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in CHANNELS:
            got = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(
                f"generator: {type(self._module).__name__} returns {got} and not a tensor [N, 1 or 3, H, W]; wrap it "
                "in a module that does"
            )
        return images


def drawn(make: Callable[[list[int]], Any], count: int, seed: int, value_range: Range | None) -> Images:
    """The samples of a function from seeds to images: those of seeds r·2³² on, as of any generator."""
    name = getattr(make, "__name__", type(make).__name__)
    if inspect.isgeneratorfunction(make):
        raise ValueError(f"generator: {name} is a function that yields; call it, {name}(), to give what it yields")
    return _drawn(name, make, range(seed * SEEDS, seed * SEEDS + count), value_range)


def stored(images: Images) -> Replay:
    """Images as a Generator, in the order of their contents, as in a folder; `names` are their places as given."""
    contents = contents_of(images.pixels)
    order = np.argsort(contents, kind="stable")
    known = digest("images", 1, [images.pixels.shape[1], list(hexadecimal(contents, order))])
    return _replayed(images.pixels, order, known, Texts.of(map(str, order)))


def _replayed(pixels: NDArray[np.uint8], order: NDArray[np.int64], known: str, names: Texts = NOTHING) -> Replay:
    """Seed i is the image at place order[i]."""

    def load(numbers: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.array(pixels[order[numbers]]))

    return Replay(Stored(load, len(order), packed((), 0), None, names), None, known)


def _drawn(name: str, make: Callable[[list[int]], Any], seeds: range, value_range: Range | None) -> Images:
    with Collected("generator", value_range) as collected, torch.no_grad():
        with track(f"generated by {name}", len(seeds), "samples") as advance:
            while (done := collected.count) < len(seeds):
                asked = list(seeds[done : done + (collected.at_once if done else FIRST)])
                collected.add(make(asked))
                if (made := collected.count - done) != len(asked):
                    raise ValueError(
                        f"generator: {name} made {made} images of {len(asked)} seeds; it must make one of each seed"
                    )
                advance(made)
        return collected.images()


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
