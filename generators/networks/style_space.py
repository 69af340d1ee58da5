"""The latent spaces that all StyleGANs share: normal z, mapped and truncated w, and w+ with one w per layer."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .seeds import upstream_normal
from .stylegan2_layers import Mapping as MappingNetwork


class StyleNetwork(Protocol):
    """The interface of a network that the latent spaces need."""

    mapping: MappingNetwork

    @property
    def num_ws(self) -> int: ...

    def images(self, w: Tensor) -> Tensor:
        """Images, nominally in [-1, 1], from one w per image [N, w_dim] or one per layer [N, num_ws, w_dim]."""
        ...

    def to(self, device: torch.device) -> Any: ...


class StyleGAN:
    """A StyleGAN as a Generator. Spaces: normal "z", "w" [N, w_dim] after mapping and truncation, "w+" one w per layer.

    A conditional file without `label` draws the class of each seed: seed mod classes. Then z alone does not determine
    an image, so "w" is the first space and "z" cannot be decoded. Seed 7 is seed 7 of the public tools.
    """

    def __init__(
        self,
        family: str,
        network: StyleNetwork,
        truncation: float,
        label: int | None,
        fingerprint: str,
        card: Mapping[str, Any],
    ):
        self.classes = network.mapping.c_dim
        if label is not None and not 0 <= label < self.classes:
            known = f"a class 0..{self.classes - 1}" if self.classes else "null: this file has no classes"
            raise ValueError(f"generator.{family}.label={label} must be {known}")
        self.family, self.truncation, self.label = family, truncation, label
        self.spaces: Sequence[str] = ("w", "w+", "z") if self.classes and label is None else ("z", "w", "w+")
        self.fingerprint, self.card = fingerprint, card
        self.network = network

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        mapping = self.network.mapping
        z = upstream_normal(seeds, mapping.z_dim).to(mapping.w_avg.device)
        if space == "z":
            return z
        w = self._mapped(z, [seed % max(self.classes, 1) for seed in seeds] if self.label is None else None)
        return w if space == "w" else w[:, None].repeat(1, self.network.num_ws, 1)

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        self.network.to(latents.device)
        return (self._images(self._mapped(latents, None) if space == "z" else latents) + 1) / 2

    def _images(self, w: Tensor) -> Tensor:
        return self.network.images(w)

    def _mapped(self, z: Tensor, labels: Sequence[int] | None) -> Tensor:
        """Truncated w [N, w_dim] from z [N, z_dim]; labels: the class of each z if the generator has classes."""
        mapping = self.network.mapping
        if not self.classes:
            return mapping.truncated(mapping(z), self.truncation)
        if labels is None and self.label is None:
            raise ValueError(
                f"this generator is conditional: choose generator.{self.family}.label=CLASS, or work in space w, where "
                "the code determines the class"
            )
        chosen = torch.tensor([self.label] * len(z) if labels is None else labels, device=z.device)
        one_hot = F.one_hot(chosen, self.classes).to(z)
        return mapping.truncated(mapping(z, one_hot), self.truncation, one_hot)
