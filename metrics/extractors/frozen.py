"""A pretrained network with frozen weights as a feature space."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ...harness.core.files import digest
from ...harness.formats.checkpoint import read_checkpoint
from .convolution import fold

Tensors = dict[str, Tensor]


class Frozen:
    """A network as a feature space; a call returns its last stage, "features".

    preprocessing: one line with the resizer, size, scaling, network, layer and weights; part of the fingerprint.
    prepare: maps images [N, 1 or 3, H, W] in [0, 1] to the input of the network.
    network: yields its stages with their names, in order.
    size:    side of the prepared images; 0 if they keep their size.
    pixels:  number of pixels processed at a time, so that memory does not grow with the number of images.
    sha256:  sha256 of the weights.
    pinned:  whether the weights are the published ones.
    """

    def __init__(
        self,
        name: str,
        preprocessing: str,
        prepare: Callable[[Tensor], Tensor],
        network: nn.Module,
        size: int,
        pixels: int,
        sha256: str,
        pinned: bool,
    ):
        self.name, self.preprocessing, self.pinned = name, preprocessing, pinned
        self.fingerprint = digest(name, 1, sha256, preprocessing)
        self.prepare, self.size, self.pixels = prepare, size, pixels
        network.eval().requires_grad_(False)
        fold(network)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: Tensor) -> Tensor:
        """Features [N, D], float32, of images [N, 1 or 3, H, W] in [0, 1]; differentiable."""
        area = self.size**2 or images.shape[-2] * images.shape[-1]
        features = []
        for part in torch.split(images, max(1, self.pixels // area)):
            for _, stage in self._stages(part):
                last = stage
            features.append(last)
        return torch.cat(features)

    def layers(self, images: Tensor) -> Mapping[str, Tensor]:
        """All stages but the features, by name, in order, of images [N, 1 or 3, H, W] in [0, 1]; differentiable.

        All images are processed at once, so memory grows with their number.
        """
        return {name: stage for name, stage in self._stages(images) if name != "features"}

    def _stages(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"{self.name} takes images [N, 1 or 3, H, W], these are {list(images.shape)}")
        prepared = self.prepare(images.float()).contiguous(memory_format=torch.channels_last)
        stages: Iterator[tuple[str, Tensor]] = self.network.to(images.device)(prepared)
        return stages


def read_tensors(path: Path) -> Tensors:
    """The tensors in a file by name, floating-point ones as float32. Raises ValueError when there are none."""
    content = read_checkpoint(path).content
    found = content.items() if isinstance(content, dict) else ()
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in found if isinstance(t, Tensor)}
    if not tensors:
        raise ValueError(f"{path} does not contain tensors by name: give a state dict")
    return tensors


def rename(tensors: Tensors, names: Mapping[str, str]) -> Tensors:
    """The tensors with new names: every match of each regular expression in a name is replaced, in order."""
    for pattern, name in names.items():
        tensors = {re.sub(pattern, name, key): tensor for key, tensor in tensors.items()}
    return tensors


@contextmanager
def layout_of(path: Path) -> Iterator[None]:
    """In this context, a KeyError for a missing tensor becomes a ValueError that names the tensor and the file."""
    try:
        yield
    except KeyError as absent:
        raise ValueError(f"{path} holds another network: it has no tensor {absent}") from None


def shapes(tensors: Tensors) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
