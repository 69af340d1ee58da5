"""The latent spaces that diffusion models share: the noise at which sampling starts, and what it ends with."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
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
        sampled = ("z_0",) if first_stage else ("x_0",) if self._draws() else ()
        self.spaces: Sequence[str] = (*sampled, "x_T")

    @abstractmethod
    def sample(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """z_0, or images in [-1, 1], from a batch of noise [B, *shape] and the class of each item [B], if any."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """Move the network to the device on which `latents` samples."""
        self.network.to(device)
        return self

    def latents(self, seeds: Sequence[int], space: str = "x_T") -> Tensor:
        if space == "x_T":
            return normal(seeds, *self.shape)
        device = next(self.network.parameters()).device
        made = []
        for start in range(0, len(seeds), AT_ONCE):
            some = seeds[start : start + AT_ONCE]
            drawn = torch.tensor([seed % self.classes for seed in some]) if self._draws() else None
            made.append(self.by_batch(self.sample, normal(some, *self.shape).to(device), drawn))
        return torch.cat(made)

    def decode(self, latents: Tensor, space: str = "x_T") -> Tensor:
        codes = self.by_batch(self.sample, latents) if space == "x_T" else latents
        return codes / 2 + 0.5 if self.first_stage is None else self.first_stage.decode(codes)

    def by_batch(
        self, function: Callable[[Tensor, Tensor | None], Tensor], x: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """function(x, labels) with x [N, ...] and its labels [N] in batches of equal size, on the device of x.

        labels: None for the class of all items, if there are classes. Raises ValueError where seeds draw it.
        """
        if labels is None and self._draws():
            raise ValueError(
                f"this model is conditional: choose generator.{self.family}.label=CLASS, or work in space "
                f"{self.spaces[0]}, where a code determines its image"
            )
        if labels is None and self.label is not None:
            labels = torch.full((len(x),), self.label)
        self.network.to(x.device)
        pieces = batches(x)
        classes = [None] * len(pieces) if labels is None else batches(labels.to(x.device))
        return torch.cat([function(piece, some) for piece, some in zip(pieces, classes, strict=True)])[: len(x)]

    def _draws(self) -> bool:
        """Whether seeds draw the classes."""
        return bool(self.classes) and self.label is None
