"""The diffusion transformer of DiT (arXiv:2212.09748) and SiT (arXiv:2401.08740): files, network and guidance."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...harness.formats.built import built
from ...harness.formats.checkpoint import Checkpoint
from .diffusers_kl import KLAutoencoder
from .from_tensors import children, shape_of
from .openai_unet import attend, time_embedding
from .stored_options import attributes, shown

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""Attention heads of the published sizes S, B, L and XL, by their width."""
WAVES = 256
"""Sines and cosines of the time."""
SCALE = 0.18215
"""What the public code multiplies codes of the first stage by."""
GUIDED = 3
"""Channels to which the public code applies guidance; published images are made so, although z_0 has four."""


class Block(nn.Module):
    """Attention and a perceptron, each scaled, shifted and gated by the condition (adaLN-Zero)."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"attention over {width} channels cannot be divided into {heads} heads")
        self.heads = heads
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition)[:, None].chunk(6, dim=2)
        qkv = self.attn["qkv"](modulated(x, shift1, scale1)).unflatten(2, (3, self.heads, -1))
        attended = attend(*qkv.permute(2, 0, 3, 1, 4))
        x = x + gate1 * self.attn["proj"](attended.transpose(1, 2).flatten(2))
        hidden = F.gelu(self.mlp["fc1"](modulated(x, shift2, scale2)), approximate="tanh")
        total: Tensor = x + gate2 * self.mlp["fc2"](hidden)
        return total


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Tokens [N, T, D], normalised, then scaled and shifted by [N, 1, D]."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Transformer(nn.Module):
    """The network, with its sizes taken from the tensors of a file.

    heads: None for those of the published size of this width. classes: without the null class, which is the last row of
    the table. Raises ValueError with what is missing or does not fit.
    """

    def __init__(self, tensors: Mapping[str, Tensor], heads: int | None):
        super().__init__()
        width, self.channels, self.patch, _ = shape_of(tensors, "x_embedder.proj.weight", 4)
        rows = shape_of(tensors, "y_embedder.embedding_table.weight", 2)[0]
        self.classes = rows - 1
        tokens = shape_of(tensors, "pos_embed", 3)[1]
        self.side = math.isqrt(tokens)
        if self.classes < 1 or self.side**2 != tokens:
            raise ValueError(
                f"{rows} rows of classes and {tokens} positions are not those of a square DiT with classes"
            )
        if heads is None and width not in HEADS:
            raise ValueError(f"{width} channels are none of the published sizes; give the option heads=NUMBER")
        heads = HEADS[width] if heads is None else heads
        outputs = shape_of(tensors, "final_layer.linear.weight", 2)[0]
        if not self.patch or outputs % self.patch**2:
            raise ValueError(f"{outputs} outputs cannot be divided into patches of {self.patch} × {self.patch}")
        self.outputs = outputs // self.patch**2
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(self.channels, width, self.patch, stride=self.patch)})
        time = nn.Sequential(nn.Linear(WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.t_embedder = nn.ModuleDict({"mlp": time})
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(rows, width)})
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.blocks = nn.ModuleList(
            Block(width, heads, shape_of(tensors, f"{name}.mlp.fc1.weight", 2)[0])
            for name in children(tensors, "blocks")
        )
        linear, modulation = nn.Linear(width, outputs), nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.final_layer = nn.ModuleDict({"linear": linear, "adaLN_modulation": modulation})

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Outputs [N, outputs, H, W] for codes [N, C, H, W] at times t [N] and labels [N]; label `classes` is null."""
        condition = self.t_embedder["mlp"](time_embedding(t, WAVES)) + self.y_embedder["embedding_table"](label)
        tokens = self.x_embedder["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.final_layer["adaLN_modulation"](condition)[:, None].chunk(2, dim=2)
        pieces = self.final_layer["linear"](modulated(tokens, shift, scale))
        grid = pieces.unflatten(2, (self.patch, self.patch, -1)).unflatten(1, (self.side, self.side))
        codes: Tensor = grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return codes

    def guided(self, x: Tensor, t: Tensor, label: Tensor, guidance: float) -> Tensor:
        """Outputs with classifier-free guidance (arXiv:2207.12598, eq. 6) in the first GUIDED channels; 1 for none."""
        if guidance == 1:
            whole: Tensor = self(x, t, label)
            return whole
        null = torch.full_like(label, self.classes)
        found, without = self(x.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([label, null])).chunk(2)
        mixed = without[:, :GUIDED] + guidance * (found - without)[:, :GUIDED]
        return torch.cat([mixed, found[:, GUIDED:]], dim=1)


def state_of(content: Any) -> Mapping[str, Any]:
    """The averaged weights in a snapshot of the training, else the content itself."""
    state = content.get("ema", content) if isinstance(content, Mapping) else {}
    return state if isinstance(state, Mapping) else {}


def flags_of(content: Any) -> Mapping[str, Any]:
    """The arguments of the training script in a snapshot; none where the file is a state dict."""
    return attributes(content.get("args")) if isinstance(content, Mapping) else {}


def is_transformer(content: Any, family: str) -> bool:
    """Whether a checkpoint has the tensors of both families, and does not say that it is of the other one."""
    names = ("x_embedder.proj.weight", "y_embedder.embedding_table.weight", "final_layer.adaLN_modulation.1.weight")
    tensors, model = state_of(content), flags_of(content).get("model", family)
    fits = all(isinstance(tensors.get(name), Tensor) for name in names)
    return fits and isinstance(model, str) and model.startswith(family)


def open_transformer(found: Checkpoint, path: str, heads: int | None) -> Transformer:
    """The network of a file. Raises ValueError with what does not fit."""
    tensors = state_of(found.content)
    network = built(lambda: Transformer(tensors, heads), tensors, path)
    if network.outputs not in (network.channels, 2 * network.channels):
        raise ValueError(f"{path} predicts {network.outputs} channels of codes of {network.channels}")
    stored = flags_of(found.content).get("num_classes", network.classes)
    if stored != network.classes:
        raise ValueError(f"{path}: num_classes={shown(stored)} does not fit {network.classes} classes and a null class")
    return network


def open_decoder(family: str, folder: str, channels: int) -> KLAutoencoder:
    """The first stage in option `vae`. Raises ValueError unless it decodes codes of so many channels."""
    if not folder or not Path(folder).expanduser().is_dir():
        missing = f"{folder} is no folder" if folder else f"generator {family} makes codes z_0"
        raise ValueError(
            f"{missing}; give generator.{family}.vae=FOLDER of an AutoencoderKL of diffusers, such as that of "
            "stabilityai/sd-vae-ft-ema, with which the published files were trained"
        )
    decoder = KLAutoencoder(Path(folder).expanduser(), SCALE)
    if decoder.shape[0] != channels or decoder.shift:
        raise ValueError(
            f"vae={folder} decodes {decoder.shape[0]} channels with shift_factor={decoder.shift:g}; codes of the "
            f"network have {channels} and no shift"
        )
    return decoder
