"""Vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929)."""

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); x is [N, tokens, width]."""

    def __init__(self, width: int, hidden: int, heads: int, eps: float, activation: Callable[[Tensor], Tensor]):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.heads, self.activation = heads, activation

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + self.proj(attended)
        return x + self.fc2(self.activation(self.fc1(self.norm2(x))))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """A transformer over patches and a class token; the feature is the normalised class token.

    shapes: the shapes of its tensors by name. They determine the width, the depth and the number of patches, whether
            tokens are normalised before the first block (`pre_norm`), and whether the feature is projected
            (`projection`).
    unit:   whether the feature is scaled to length 1.
    """

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        heads: int,
        eps: float,
        activation: Callable[[Tensor], Tensor],
        unit: bool = False,
    ):
        super().__init__()
        width, colours, patch, _ = shapes["patch.weight"]
        hidden, depth = shapes["blocks.0.fc1.weight"][0], sum(name.endswith(".norm1.weight") for name in shapes)
        self.patch = nn.Conv2d(colours, width, patch, patch, bias="patch.bias" in shapes)
        self.token = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.zeros(shapes["position"]))
        self.pre_norm = nn.LayerNorm(width, eps) if "pre_norm.weight" in shapes else nn.Identity()
        self.blocks = nn.ModuleList(Block(width, hidden, heads, eps, activation) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps)
        projected = shapes.get("projection.weight")
        self.projection = nn.Linear(width, projected[0], bias=False) if projected else nn.Identity()
        self.unit = unit

    def forward(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        patches = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(images), 1, -1), patches], 1)
        x = self.pre_norm(x + self.position)
        for place, block in enumerate(self.blocks, start=1):
            x = block(x)
            yield f"block{place}", x
        feature = self.projection(self.norm(x[:, 0]))
        yield "features", F.normalize(feature) if self.unit else feature
