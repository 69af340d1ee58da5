"""The UNets of EDM files (arXiv:2206.00364): DDPM++ and NCSN++ ("SongUNet"), and ADM ("DhariwalUNet").

Modules and arguments have the names of the public files, of which the names of tensors and stored options are made.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .openai_unet import attend
from .stored_options import shown


class Conv(nn.Module):
    """A convolution, resampling with a FIR filter, or both; kernel: 0 for resampling alone.

    The filter is applied first. fused: in halving, it comes after the convolution.
    """

    resample_filter: Tensor

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        resize: str = "",
        taps: Sequence[float] = (1, 1),
        fused: bool = False,
    ):
        super().__init__()
        self.kernel, self.resize, self.fused = kernel, resize, fused
        if kernel:
            self.weight = nn.Parameter(torch.zeros(out, channels, kernel, kernel))
            self.bias = nn.Parameter(torch.zeros(out))
        if resize:
            self.register_buffer("resample_filter", torch.zeros(1, 1, len(taps), len(taps)))

    def forward(self, x: Tensor) -> Tensor:
        same = self.kernel // 2
        if self.fused:
            reach = (self.resample_filter.shape[-1] - 1) // 2
            x = F.conv2d(x, self.weight, padding=same + reach)
            return self._halved(x, 0) + self.bias[:, None, None]
        if self.resize:
            reach = (self.resample_filter.shape[-1] - 1) // 2
            x = self._halved(x, reach) if self.resize == "down" else self._doubled(x, reach)
        return F.conv2d(x, self.weight, self.bias, padding=same) if self.kernel else x

    def _halved(self, x: Tensor, padding: int) -> Tensor:
        taps = self.resample_filter.expand(x.shape[1], -1, -1, -1)
        return F.conv2d(x, taps, stride=2, padding=padding, groups=x.shape[1])

    def _doubled(self, x: Tensor, padding: int) -> Tensor:
        taps = 4 * self.resample_filter.expand(x.shape[1], -1, -1, -1)
        return F.conv_transpose2d(x, taps, stride=2, padding=padding, groups=x.shape[1])


def group_norm(channels: int, eps: float) -> nn.GroupNorm:
    """At most 32 groups, of at least 4 channels."""
    return nn.GroupNorm(min(32, channels // 4), channels, eps=eps)


class Block(nn.Module):
    """A residual block, followed by self-attention where there are heads."""

    def __init__(
        self,
        channels: int,
        out: int,
        embedding: int,
        heads: int,
        resize: str = "",
        taps: Sequence[float] = (1, 1),
        film: bool = True,
        project: bool = False,
        scale: float = 1.0,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.in_channels, self.heads, self.film, self.scale = channels, heads, film, scale
        self.norm0, self.norm1 = group_norm(channels, eps), group_norm(out, eps)
        self.conv0, self.conv1 = Conv(channels, out, 3, resize, taps), Conv(out, out, 3)
        self.affine = nn.Linear(embedding, 2 * out if film else out)
        self.skip: nn.Module | None = None
        if resize or channels != out:
            self.skip = Conv(channels, out, 1 if project or channels != out else 0, resize, taps)
        if heads:
            if out % heads:
                raise ValueError(f"attention over {out} channels cannot be divided into {heads} heads")
            self.norm2, self.qkv, self.proj = group_norm(out, eps), Conv(out, 3 * out, 1), Conv(out, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv0(F.silu(self.norm0(x)))
        shift = self.affine(embedding)[:, :, None, None]
        if self.film:
            scale, shift = shift.chunk(2, dim=1)
            h = F.silu(torch.addcmul(shift, self.norm1(h), scale + 1))
        else:
            h = F.silu(self.norm1(h + shift))
        x = (self.conv1(h) + (self.skip(x) if self.skip else x)) * self.scale
        if not self.heads:
            return x
        q, k, v = self.qkv(self.norm2(x)).flatten(2).unflatten(1, (self.heads, -1, 3)).transpose(2, 4).unbind(3)
        attended = attend(q, k, v).transpose(2, 3).reshape(x.shape)
        total: Tensor = (self.proj(attended) + x) * self.scale
        return total


def frequencies(noise: Tensor, width: int, last: bool) -> Tensor:
    """[N, width]: cosines, then sines, at frequencies from 1 down to 1/10000, which is reached if `last`."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=noise.device) / (half - last)
    angles = noise[:, None] * (1 / 10000) ** steps
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def require_waves(width: int) -> int:
    """`width` if it is that of sines and cosines at two frequencies or more. Raises ValueError otherwise."""
    if width < 4 or width % 2:
        raise ValueError(f"{width} channels for the noise level are too few, or an odd number")
    return width


class Fourier(nn.Module):
    """Cosines and sines at frequencies that were drawn before the training."""

    freqs: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("freqs", torch.zeros(width // 2))

    def forward(self, noise: Tensor) -> Tensor:
        angles = noise[:, None] * (2 * math.pi * self.freqs)
        return torch.cat([angles.cos(), angles.sin()], dim=1)


def require_even(resolution: int, levels: int, taps: Sequence[float]) -> None:
    """Raises ValueError unless images can be halved and doubled again so often with these taps."""
    if not levels or resolution < 1 or resolution % 2 ** (levels - 1):
        raise ValueError(f"img_resolution={resolution} cannot be halved on the way through {levels} sizes")
    if len(taps) % 2 or not sum(taps):
        raise ValueError(f"resample_filter={list(taps)[:9]} must have an even number of taps and a sum")


class Trunk(nn.Module):
    """The encoder and decoder of both networks.

    encoder: "residual" and "skip" also show it the halved image; decoder: "skip" adds up images of all sizes,
    "standard" makes one at the end, "" none and has more attention. block(channels, out, attention, resize) makes a
    residual block.
    """

    def __init__(
        self,
        resolution: int,
        channels: tuple[int, int, int],
        widths: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        block: Callable[[int, int, bool, str], Block],
        encoder: str = "standard",
        decoder: str = "",
        taps: Sequence[float] = (1, 1),
    ):
        super().__init__()
        require_even(resolution, len(widths), taps)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        side, out, images = channels
        sizes = [resolution >> level for level in range(len(widths))]
        skips = [out]
        for size, width in zip(sizes, widths, strict=True):
            name = f"{size}x{size}"
            if size == resolution:
                self.enc[f"{name}_conv"] = Conv(side, out, 3)
            else:
                self.enc[f"{name}_down"] = block(out, out, False, "down")
                if encoder == "skip":
                    self.enc[f"{name}_aux_down"] = Conv(side, side, 0, "down", taps)
                    self.enc[f"{name}_aux_skip"] = Conv(side, out, 1)
                if encoder == "residual":
                    self.enc[f"{name}_aux_residual"] = Conv(side, out, 3, "down", taps, fused=True)
                    side = out
                skips.append(out)
            for i in range(blocks):
                self.enc[f"{name}_block{i}"] = block(out, width, size in attention, "")
                out = width
                skips.append(out)
        for size, width in reversed(list(zip(sizes, widths, strict=True))):
            name, deepest = f"{size}x{size}", size == sizes[-1]
            if deepest:
                self.dec[f"{name}_in0"], self.dec[f"{name}_in1"] = block(out, out, True, ""), block(out, out, False, "")
            else:
                self.dec[f"{name}_up"] = block(out, out, False, "up")
            for i in range(blocks + 1):
                attends = size in attention and (i == blocks or not decoder)
                self.dec[f"{name}_block{i}"] = block(out + skips.pop(), width, attends, "")
                out = width
            if decoder == "skip" or (decoder and size == resolution):
                if decoder == "skip" and not deepest:
                    self.dec[f"{name}_aux_up"] = Conv(images, images, 0, "up", taps)
                self.dec[f"{name}_aux_norm"] = group_norm(out, 1e-6)
                self.dec[f"{name}_aux_conv"] = Conv(out, images, 3)
        self.out = out

    def through(self, x: Tensor, embedding: Tensor) -> Tensor:
        """The images of the decoder, or its features if it makes none."""
        skips: list[Tensor] = []
        side = x
        for name, module in self.enc.items():
            if name.endswith("aux_down"):
                side = module(side)
            elif name.endswith("aux_skip"):
                x = skips[-1] = skips[-1] + module(side)
            elif name.endswith("aux_residual"):
                x = skips[-1] = side = (x + module(side)) / math.sqrt(2)
            else:
                x = module(x, embedding) if isinstance(module, Block) else module(x)
                skips.append(x)
        image: Tensor | None = None
        normed = x
        for name, module in self.dec.items():
            if name.endswith("aux_up"):
                image = module(image)
            elif name.endswith("aux_norm"):
                normed = module(x)
            elif name.endswith("aux_conv"):
                change = module(F.silu(normed))
                image = change if image is None else image + change
            else:
                x = module(torch.cat([x, skips.pop()], dim=1) if "_block" in name else x, embedding)
        return x if image is None else image


class SongUNet(Trunk):
    """DDPM++ and NCSN++ of Song et al. (arXiv:2011.13456) as EDM has them. Raises ValueError for unknown options."""

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        embedding_type: str = "positional",
        channel_mult_noise: int = 1,
        encoder_type: str = "standard",
        decoder_type: str = "standard",
        resample_filter: Sequence[float] = (1, 1),
    ):
        one_of("embedding_type", embedding_type, "positional", "fourier")
        one_of("encoder_type", encoder_type, "standard", "skip", "residual")
        one_of("decoder_type", decoder_type, "standard", "skip")
        width, wide = model_channels * channel_mult_noise, model_channels * channel_mult_emb
        options: dict[str, Any] = {"film": False, "project": True, "scale": math.sqrt(0.5), "eps": 1e-6}
        super().__init__(
            img_resolution,
            (in_channels, model_channels, out_channels),
            [model_channels * mult for mult in channel_mult],
            num_blocks,
            attn_resolutions,
            lambda cin, cout, attention, resize: Block(
                cin, cout, wide, int(attention), resize, resample_filter, **options
            ),
            encoder_type,
            decoder_type,
            resample_filter,
        )
        self.width, self.label_dim = require_waves(width), label_dim
        if embedding_type == "fourier":
            self.map_noise = Fourier(width)
        if label_dim:
            self.map_label = nn.Linear(label_dim, width)
        if augment_dim:
            self.map_augment = nn.Linear(augment_dim, width, bias=False)
        self.map_layer0, self.map_layer1 = nn.Linear(width, wide), nn.Linear(wide, wide)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """x [N, C, H, W]; noise [N], the conditioning on its level; label [N, label_dim], None for none."""
        e = self.map_noise(noise) if hasattr(self, "map_noise") else frequencies(noise, self.width, last=True)
        e = e.unflatten(1, (2, -1)).flip(1).flatten(1)
        if label is not None:
            e = e + self.map_label(label * math.sqrt(self.label_dim))
        return self.through(x, F.silu(self.map_layer1(F.silu(self.map_layer0(e)))))


class DhariwalUNet(Trunk):
    """ADM of Dhariwal and Nichol (arXiv:2105.05233) as EDM has it."""

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_emb: int = 4,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (32, 16, 8),
    ):
        widths, wide = [model_channels * mult for mult in channel_mult], model_channels * channel_mult_emb
        super().__init__(
            img_resolution,
            (in_channels, widths[0], 0),
            widths,
            num_blocks,
            attn_resolutions,
            lambda cin, cout, attention, resize: Block(cin, cout, wide, cout // 64 if attention else 0, resize),
        )
        self.width = require_waves(model_channels)
        if augment_dim:
            self.map_augment = nn.Linear(augment_dim, model_channels, bias=False)
        self.map_layer0, self.map_layer1 = nn.Linear(model_channels, wide), nn.Linear(wide, wide)
        if label_dim:
            self.map_label = nn.Linear(label_dim, wide, bias=False)
        self.out_norm, self.out_conv = group_norm(self.out, 1e-5), Conv(self.out, out_channels, 3)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """x [N, C, H, W]; noise [N], the conditioning on its level; label [N, label_dim], None for none."""
        e = self.map_layer1(F.silu(self.map_layer0(frequencies(noise, self.width, last=False))))
        e = F.silu(e if label is None else e + self.map_label(label))
        image: Tensor = self.out_conv(F.silu(self.out_norm(self.through(x, e))))
        return image


NETWORKS: Mapping[str, type[SongUNet | DhariwalUNet]] = {"SongUNet": SongUNet, "DhariwalUNet": DhariwalUNet}


def one_of(name: str, value: Any, *known: str) -> None:
    """Raises ValueError with the name of an option whose value is not one of the known ones."""
    if value not in known:
        raise ValueError(f"{name}={shown(value)!r} is not supported, only {' and '.join(map(repr, known))}")
