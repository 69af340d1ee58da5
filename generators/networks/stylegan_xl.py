"""The mapping network of StyleGAN-XL (Sauer et al. 2022, arXiv:2202.00273, section 3.2), whose stem is a StyleGAN3."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .stylegan2_layers import Dense, activated
from .stylegan2_layers import Mapping as MappingNetwork


class ClassMapping(MappingNetwork):
    """Maps z and one-hot labels to w; a class is a row of a table of image features, projected to the width of z.

    table: its rows, at least one per class, and their width. Each class has a mean w of its own, [c_dim, w_dim].
    """

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, layers: int, lr: float, table: Sequence[int]):
        super().__init__(z_dim, c_dim, w_dim, layers, lr=lr, embedding=z_dim)
        rows, width = table
        if rows < c_dim:
            raise ValueError(f"its table of classes has {rows} rows for {c_dim} classes")
        self.embed = nn.Embedding(rows, width)
        self.embed_proj = Dense(width, z_dim)
        self.register_buffer("w_avg", torch.zeros(c_dim, w_dim))

    def embedded(self, labels: Tensor) -> Tensor:
        return activated(self.embed_proj(self.embed(labels.argmax(1))))

    def truncated(self, w: Tensor, psi: float, labels: Tensor | None = None) -> Tensor:
        return super().truncated(w, psi) if labels is None or psi == 1 else (labels @ self.w_avg).lerp(w, psi)


def table_of(tensors: Mapping[str, Tensor]) -> list[int] | None:
    """Shape of the table of classes in a StyleGAN-XL; None if there is none, or none that is used."""
    return list(tensors["mapping.embed.weight"].shape) if "mapping.embed_proj.weight" in tensors else None


def used(tensors: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    """The tensors but the table of classes of a StyleGAN-XL without classes, which is in the file and not used."""
    return {name: x for name, x in tensors.items() if classes or name != "mapping.embed.weight"}
