"""The UNet of improved-diffusion, guided-diffusion (ADM) and latent-diffusion, built from the tensors of a file.

arXiv:2102.09672, arXiv:2105.05233 (appendix), arXiv:2112.10752 (3.3: cross-attention). Names and shapes of the tensors
determine the whole network except the number of its attention heads.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .from_tensors import adopt, children, convolution, linear, shape_of

GROUPS = 32


@dataclass(frozen=True)
class Heads:
    """The attention heads: `width` channels per head, or else `count` heads (`count_up` in the upsampling half).

    new_order: whether the rows of `qkv` are ordered [q, k, v][head] ("new attention order") or [head][q, k, v]
    ("legacy").
    """

    count: int | None = None
    width: int | None = None
    count_up: int | None = None
    new_order: bool = False

    def number(self, channels: int, up: bool) -> int:
        """Number of heads for `channels`. Raises ValueError when the channels cannot be divided into heads."""
        count = channels // self.width if self.width else (self.count_up if up else None) or self.count or 0
        if count < 1 or channels % count or (self.width and channels % self.width):
            raise ValueError(f"attention over {channels} channels cannot be divided into {self}")
        return count


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √width) v, each [N, heads, positions, width]."""
    # For other memory layouts torch stores all attention scores and is several times slower.
    return F.scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous())


class Attention(nn.Module):
    """Self-attention over all positions of [N, C, H, W]."""

    def __init__(self, channels: int, heads: int, new_order: bool):
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv, self.proj_out = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat))
        if self.new_order:
            q, k, v = qkv.unflatten(1, (3, self.heads, -1)).unbind(1)
        else:
            q, k, v = qkv.unflatten(1, (self.heads, 3, -1)).unbind(2)
        h = attend(*(y.transpose(2, 3) for y in (q, k, v))).transpose(2, 3)
        change: Tensor = self.proj_out(h.flatten(1, 2))
        return x + change.view_as(x)


class Down(nn.Module):
    """A convolution that halves the size."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        half: Tensor = self.op(x)
        return half


class Up(nn.Module):
    """Nearest-neighbour doubling of the size, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        double: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return double


class Residual(nn.Module):
    """Residual block with a time embedding.

    film: whether the embedding scales and shifts the features; otherwise it is added.
    resize: whether the block also halves ("down") or doubles ("up") the size.
    """

    def __init__(self, channels: int, out: int, time: int, film: bool, resize: Literal["", "down", "up"]):
        super().__init__()
        self.film, self.resize = film, resize
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * out if film else out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        norm, activation, convolution = self.in_layers
        h = convolution(self._resized(activation(norm(x))))
        shift = self.emb_layers(time)[:, :, None, None]
        if self.film:
            scale, shift = shift.chunk(2, dim=1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + shift)
        total: Tensor = self.skip_connection(self._resized(x)) + h
        return total

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.resize == "up" else x


class CrossAttention(nn.Module):
    """Attention of positions [N, P, C] over a context [N, Q, D], or over themselves."""

    def __init__(self, tensors: Mapping[str, Tensor], name: str, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (linear(tensors, f"{name}.to_{part}", bias=False) for part in "qkv")
        self.to_out = nn.Sequential(linear(tensors, f"{name}.to_out.0"))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        projected = self.to_q(x), self.to_k(context), self.to_v(context)
        h = attend(*(y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in projected))
        out: Tensor = self.to_out(h.transpose(1, 2).flatten(2))
        return out


class GatedLinear(nn.Module):
    """x a · gelu(x b) (arXiv:2002.05202)."""

    def __init__(self, tensors: Mapping[str, Tensor], name: str):
        super().__init__()
        self.proj = linear(tensors, f"{name}.proj")

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        gated: Tensor = value * F.gelu(gate)
        return gated


class TransformerBlock(nn.Module):
    """Self-attention, attention over the context, and a gated layer, each after a norm and added to its input."""

    def __init__(self, tensors: Mapping[str, Tensor], name: str, heads: int):
        super().__init__()
        self.attn1, self.attn2 = (CrossAttention(tensors, f"{name}.attn{i}", heads) for i in (1, 2))
        if self.attn1.to_k.in_features != self.attn1.to_q.in_features:
            raise ValueError(f"{name}.attn1 has no self-attention (disable_self_attentions), which is not supported")
        width = self.attn1.to_q.in_features
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        layers = GatedLinear(tensors, f"{name}.ff.net.0"), nn.Identity(), linear(tensors, f"{name}.ff.net.2")
        self.ff = nn.ModuleDict({"net": nn.Sequential(*layers)})

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), context)
        total: Tensor = x + self.ff["net"](self.norm3(x))
        return total


class SpatialTransformer(nn.Module):
    """Transformer blocks over all positions of [N, C, H, W], with a context [N, Q, D]."""

    def __init__(self, tensors: Mapping[str, Tensor], name: str, heads: Heads):
        super().__init__()
        if len(tensors[f"{name}.proj_in.weight"].shape) == 2:
            raise ValueError(
                f"{name}.proj_in is a linear layer (use_linear_in_transformer, Stable Diffusion 2), which is not "
                "supported, only a convolution"
            )
        self.norm = nn.GroupNorm(GROUPS, shape_of(tensors, f"{name}.norm.weight", 1)[0], eps=1e-6)
        self.proj_in, self.proj_out = (convolution(tensors, f"{name}.proj_{end}") for end in ("in", "out"))
        number = heads.number(self.proj_in.out_channels, up=False)
        blocks = children(tensors, f"{name}.transformer_blocks")
        self.transformer_blocks = nn.ModuleList(TransformerBlock(tensors, block, number) for block in blocks)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.proj_in(self.norm(x))
        flat = h.flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            flat = block(flat, context)
        total: Tensor = x + self.proj_out(flat.transpose(1, 2).reshape(h.shape))
        return total


class Stack(nn.ModuleList):
    """Blocks in sequence; residual blocks also get the time embedding, transformers the context."""

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None) -> Tensor:
        for block in self:
            if isinstance(block, Residual):
                x = block(x, time)
            else:
                x = block(x, context) if isinstance(block, SpatialTransformer) else block(x)
        return x


class UNet(nn.Module):
    """Predicts the noise (and the variance, if `out_channels` is twice `in_channels`) in images [N, C, H, W].

    tensors: the state dict of the file, of any floating type; they are converted to float32.
    Raises ValueError with the name of the first tensor that is missing, unexpected, or of another shape, and when
    attention cannot be divided into heads.
    """

    def __init__(self, tensors: Mapping[str, Tensor], heads: Heads):
        super().__init__()
        self.width = shape_of(tensors, "time_embed.0.weight", 2)[1]
        into, out = children(tensors, "input_blocks"), children(tensors, "output_blocks")
        ups = [i for i, name in enumerate(out) if _goes_up(tensors, name)]
        per_level = ups[0] + 1 if ups else max(len(out), 1)
        self.levels = len(out) // per_level
        with torch.device("meta"):
            self.time_embed = nn.Sequential(linear(tensors, "time_embed.0"), nn.SiLU(), linear(tensors, "time_embed.2"))
            self.classes = tensors["label_emb.weight"].shape[0] if "label_emb.weight" in tensors else 0
            if self.classes:
                self.label_emb = nn.Embedding(*shape_of(tensors, "label_emb.weight", 2))
            self.input_blocks = nn.ModuleList(
                _stack(tensors, name, heads, "down" if i % per_level == 0 else "") for i, name in enumerate(into)
            )
            self.middle_block = _stack(tensors, "middle_block", heads, "")
            self.output_blocks = nn.ModuleList(_stack(tensors, name, heads, "up") for name in out)
            channels = shape_of(tensors, "out.0.weight", 1)[0]
            self.out = nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), convolution(tensors, "out.2"))
        self.in_channels, self.out_channels = (
            shape_of(tensors, "input_blocks.0.0.weight", 4)[1],
            len(tensors["out.2.weight"]),
        )
        contexts = {block.attn2.to_k.in_features for block in self.modules() if isinstance(block, TransformerBlock)}
        if len(contexts) > 1:
            raise ValueError(f"cross-attention takes contexts of several widths, {sorted(contexts)}")
        self.context = contexts.pop() if contexts else 0
        adopt(self, tensors)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """x [N, C, H, W]; t [N], not necessarily integers; label [N] if the network has classes, otherwise None.

        context [N, Q, `self.context`] if the network has cross-attention (`self.context` > 0), otherwise None.
        """
        time = self.time_embed(time_embedding(t, self.width))
        if label is not None:
            time = time + self.label_emb(label)
        skips = []
        for stack in self.input_blocks:
            x = stack(x, time, context)
            skips.append(x)
        x = self.middle_block(x, time, context)
        for stack in self.output_blocks:
            x = stack(torch.cat([x, skips.pop()], dim=1), time, context)
        prediction: Tensor = self.out(x)
        return prediction


def is_unet(content: Any, axes: int) -> bool:
    """Whether a checkpoint is the state dict of a UNet whose attention, if it has any, has weights of so many axes."""
    names = ("time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.0.in_layers.0.weight", "out.2.weight")
    fits = isinstance(content, Mapping) and all(isinstance(content.get(name), Tensor) for name in names)
    return fits and getattr(content.get("middle_block.1.qkv.weight"), "ndim", 3) == axes


def time_embedding(t: Tensor, width: int) -> Tensor:
    """[N, width]: cosines, then sines, of t at frequencies from 1 down to 1/10000; an odd width ends with a zero."""
    half = width // 2
    angles = t.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / half)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, width % 2))


def _stack(tensors: Mapping[str, Tensor], name: str, heads: Heads, resize: Literal["", "down", "up"]) -> Stack:
    """The blocks name.0, name.1, …

    resize: in networks that resize in residual blocks, which have no `op` and `conv`, the change of size; all residual
    blocks of a stack make it for "down", all but the first one for "up".
    """
    stack = Stack()
    has_residual = False
    for block in children(tensors, name):
        if f"{block}.in_layers.0.weight" in tensors:
            resizes = resize == "down" or (resize == "up" and has_residual)
            stack.append(_residual(tensors, block, resize if resizes else ""))
            has_residual = True
        elif f"{block}.qkv.weight" in tensors:
            channels = shape_of(tensors, f"{block}.norm.weight", 1)[0]
            number = heads.number(channels, up=name.startswith("output_blocks"))
            stack.append(Attention(channels, number, heads.new_order))
        elif f"{block}.proj_in.weight" in tensors:
            stack.append(SpatialTransformer(tensors, block, heads))
        elif f"{block}.op.weight" in tensors:
            stack.append(Down(shape_of(tensors, f"{block}.op.weight", 4)[0]))
        elif f"{block}.conv.weight" in tensors:
            stack.append(Up(shape_of(tensors, f"{block}.conv.weight", 4)[0]))
        else:
            stack.append(convolution(tensors, block))
    return stack


def _residual(tensors: Mapping[str, Tensor], name: str, resize: Literal["", "down", "up"]) -> Residual:
    out, channels = shape_of(tensors, f"{name}.in_layers.2.weight", 4)[:2]
    rows, time = shape_of(tensors, f"{name}.emb_layers.1.weight", 2)
    return Residual(channels, out, time, rows == 2 * out, resize)


def _goes_up(tensors: Mapping[str, Tensor], name: str) -> bool:
    """Whether an entry of `output_blocks` ends with an upsampling: a convolution, or a second residual block."""
    last = [name, *children(tensors, name)][-1]
    return f"{last}.conv.weight" in tensors or (not last.endswith(".0") and f"{last}.in_layers.0.weight" in tensors)
