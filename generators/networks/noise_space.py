"""The latent spaces that diffusion models share: the noise at which sampling starts, and what it ends with."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from .ddim import batches
from .seeds import normal

AT_ONCE = 16
"""Number of seeds whose noise is in memory together."""


class Decoder(Protocol):
    """The first stage of a latent diffusion."""

    def decode(self, latents: Tensor) -> Tensor:
        """Images [N, C, H, W], nominally in [0, 1], of codes [N, c, h, w]."""
        ...


class NoiseSpace(ABC):
    """A diffusion model as a Generator. Space "x_T": standard normal noise [N, *shape].

    A latent diffusion has the space "z_0" [N, c, h, w] too: what its first stage decodes, sampled from the x_T of the
    same seeds. A conditional model without `label` takes class seed mod classes for each seed. Then x_T alone does not
    determine an image, so it cannot be decoded, and the first space is "z_0", or "x_0", the images in [-1, 1].

    shape: of the noise of an item; classes: 0 for an unconditional model.
    first_stage: to decode z_0; None where the network makes images.
    """

    def __init__(
        self,
        family: str,
        network: nn.Module,
        shape: Sequence[int],
        classes: int,
        label: int | None,
        fingerprint: str,
        card: Mapping[str, Any],
        first_stage: Decoder | None = None,
    ):
        if label is not None and not 0 <= label < classes:
            known = f"a class 0..{classes - 1}" if classes else "null: this file has no classes"
            raise ValueError(f"generator.{family}.label={label} must be {known}")
        self.family, self.network, self.shape, self.classes, self.label = family, network, tuple(shape), classes, label
        self.fingerprint, self.card, self.first_stage = fingerprint, card, first_stage
        drawn = bool(classes) and label is None
        self.spaces: Sequence[str] = ("z_0", "x_T") if first_stage else ("x_0", "x_T") if drawn else ("x_T",)

    @abstractmethod
    def sample(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """z_0, or images in [-1, 1], from a batch of noise [B, *shape] and the class of each item [B], if any."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """Move the network to the device on which `latents` samples."""
        self.network.to(device)
        return self

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        if space == "x_T":
            return normal(seeds, *self.shape)
        device = next(self.network.parameters()).device
        parts = [seeds[start : start + AT_ONCE] for start in range(0, len(seeds), AT_ONCE)]
        return torch.cat([self._sampled(normal(part, *self.shape).to(device), self._drawn(part)) for part in parts])

    def decode(self, latents: Tensor, space: str) -> Tensor:
        codes = latents if space != "x_T" else self._sampled(latents, self._chosen(len(latents)))
        return codes / 2 + 0.5 if self.first_stage is None else self.first_stage.decode(codes)

    def _drawn(self, seeds: Sequence[int]) -> Tensor | None:
        if not self.classes or self.label is not None:
            return self._chosen(len(seeds))
        return torch.tensor([seed % self.classes for seed in seeds])

    def _chosen(self, count: int) -> Tensor | None:
        if not self.classes:
            return None
        if self.label is None:
            raise ValueError(
                f"this model is conditional: choose generator.{self.family}.label=CLASS, or work in space "
                f"{self.spaces[0]}, where a code determines its image"
            )
        return torch.full((count,), self.label)

    def _sampled(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        self.network.to(noise.device)
        pieces = batches(noise)
        classes = [None] * len(pieces) if labels is None else batches(labels.to(noise.device))
        made = [self.sample(piece, some) for piece, some in zip(pieces, classes, strict=True)]
        return torch.cat(made)[: len(noise)]
