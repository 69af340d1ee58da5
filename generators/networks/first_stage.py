"""The first stage of latent-diffusion (arXiv:2112.10752): it encodes images [N, C, H, W] in [-1, 1], and decodes codes.

There are two kinds. VQ (arXiv:2012.09841) replaces each code by the nearest one of a codebook before decoding. The
encoder of KL outputs mean and log variance of a normal distribution. The networks are built from the tensors of a file.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .from_tensors import adopt, children, convolution, rehearse, shape_of
from .openai_unet import attend

Tensors = Mapping[str, Tensor]

TRAINING = ("loss.", "model_ema.")
"""Names of what only training needs: the networks of the losses, and moving averages, which the public code leaves."""


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class Block(nn.Module):
    """Residual block."""

    def __init__(self, tensors: Tensors, name: str):
        super().__init__()
        self.conv1, self.conv2 = convolution(tensors, f"{name}.conv1"), convolution(tensors, f"{name}.conv2")
        self.norm1, self.norm2 = _norm(self.conv1.in_channels), _norm(self.conv2.in_channels)
        widens = f"{name}.nin_shortcut.weight" in tensors
        self.nin_shortcut = convolution(tensors, f"{name}.nin_shortcut") if widens else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        total: Tensor = self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(h)))
        return total


class Attention(nn.Module):
    """Self-attention over all positions with one head."""

    def __init__(self, tensors: Tensors, name: str):
        super().__init__()
        if f"{name}.to_qkv.weight" in tensors:
            raise ValueError(
                f"{name} is linear attention (attn_type: linear), which is not supported, only vanilla and none"
            )
        self.q, self.k, self.v = (convolution(tensors, f"{name}.{part}") for part in "qkv")
        self.proj_out, self.norm = convolution(tensors, f"{name}.proj_out"), _norm(self.q.in_channels)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (part(h).flatten(2).transpose(1, 2)[:, None] for part in (self.q, self.k, self.v))
        h = attend(q, k, v)[:, 0].transpose(1, 2).reshape(x.shape)
        total: Tensor = x + self.proj_out(h)
        return total


class Middle(nn.Module):
    """Residual block, attention unless the file has none (attn_type: none), residual block."""

    def __init__(self, tensors: Tensors, name: str):
        super().__init__()
        self.block_1, self.block_2 = Block(tensors, f"{name}.block_1"), Block(tensors, f"{name}.block_2")
        attended = any(key.startswith(f"{name}.attn_1.") for key in tensors)
        self.attn_1 = Attention(tensors, f"{name}.attn_1") if attended else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return h


class Resample(nn.Module):
    """A convolution that halves the size, or doubling of the size followed by a convolution."""

    def __init__(self, tensors: Tensors, name: str, up: bool):
        super().__init__()
        self.up = up
        out, channels, size = shape_of(tensors, f"{name}.conv.weight", 4)[:3]
        self.conv = nn.Conv2d(channels, out, size, stride=1 if up else 2, padding=size // 2 if up else 0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else F.pad(x, (0, 1, 0, 1))
        resampled: Tensor = self.conv(x)
        return resampled


def _resample(tensors: Tensors, name: str, up: bool) -> nn.Module:
    return Resample(tensors, name, up) if f"{name}.conv.weight" in tensors else nn.Identity()


class Level(nn.Module):
    """Residual blocks of one size, each followed by attention if the level has any, then a change of size."""

    def __init__(self, tensors: Tensors, name: str):
        super().__init__()
        self.block = nn.ModuleList(Block(tensors, block) for block in children(tensors, f"{name}.block"))
        self.attn = nn.ModuleList(Attention(tensors, attention) for attention in children(tensors, f"{name}.attn"))
        self.downsample = _resample(tensors, f"{name}.downsample", up=False)
        self.upsample = _resample(tensors, f"{name}.upsample", up=True)

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        resampled: Tensor = self.upsample(self.downsample(x))
        return resampled


class Encoder(nn.Module):
    """Maps images to the input of quant_conv."""

    def __init__(self, tensors: Tensors, name: str = "encoder"):
        super().__init__()
        self.conv_in, self.conv_out = convolution(tensors, f"{name}.conv_in"), convolution(tensors, f"{name}.conv_out")
        self.down = nn.ModuleList(Level(tensors, level) for level in children(tensors, f"{name}.down"))
        self.mid, self.norm_out = Middle(tensors, f"{name}.mid"), _norm(self.conv_out.in_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        h: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(x))))
        return h


class Decoder(nn.Module):
    """Maps the output of post_quant_conv to images."""

    def __init__(self, tensors: Tensors, name: str = "decoder"):
        super().__init__()
        self.conv_in, self.conv_out = convolution(tensors, f"{name}.conv_in"), convolution(tensors, f"{name}.conv_out")
        self.up = nn.ModuleList(Level(tensors, level) for level in children(tensors, f"{name}.up"))
        self.mid, self.norm_out = Middle(tensors, f"{name}.mid"), _norm(self.conv_out.in_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        image: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return image


class FirstStage(nn.Module):
    """The encoder and decoder of a state dict. tensors: of any floating type; they are converted to float32.

    What only training needs, the losses with their discriminators and moving averages, is left out.
    Raises ValueError with the name of the first tensor that is missing, unexpected, or of another shape.
    """

    def __init__(self, tensors: Tensors):
        super().__init__()
        if "quantize.embed.weight" in tensors:
            raise ValueError(
                "quantize.embed is a Gumbel quantiser (GumbelVQ), which draws its codes; it is not supported"
            )
        tensors = {name: x for name, x in tensors.items() if not name.startswith(TRAINING)}
        with torch.device("meta"):
            self.encoder, self.decoder = Encoder(tensors), Decoder(tensors)
            self.quant_conv = convolution(tensors, "quant_conv")
            self.post_quant_conv = convolution(tensors, "post_quant_conv")
            self.quantised = "quantize.embedding.weight" in tensors
            if self.quantised:
                codebook = nn.Embedding(*shape_of(tensors, "quantize.embedding.weight", 2))
                self.quantize = nn.ModuleDict({"embedding": codebook})
        self.channels = self.post_quant_conv.in_channels
        self.image_channels = self.encoder.conv_in.in_channels
        self.factor: int = 2 ** (len(self.decoder.up) - 1)
        adopt(self, tensors)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """VQ: codes [N, c, h, w] before quantisation, and None. KL: mean and log variance of the codes."""
        h = self.quant_conv(self.encoder(images))
        if self.quantised:
            return h, None
        mean, logvar = h.chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, codes: Tensor) -> Tensor:
        """Images from codes. Gradients ignore the quantisation (straight-through estimator)."""
        if self.quantised:
            codes = self.nearest(codes.detach()) + (codes - codes.detach())
        images: Tensor = self.decoder(self.post_quant_conv(codes))
        return images

    def forward(self, images: Tensor) -> Tensor:
        """Reconstructions of images."""
        return self.decode(self.posterior(images)[0])

    def require_runs(self, side: int) -> None:
        """Raises ValueError unless images of this size are reconstructed in their size."""
        images = torch.empty(1, self.image_channels, side, side, device="meta")
        if (made := rehearse(self, images)) != images.shape:
            raise ValueError(f"images of shape {list(images.shape)} are reconstructed as {list(made)}")

    @property
    def codebook(self) -> Tensor:
        """The entries [K, c] of a VQ first stage."""
        embedding: Any = self.quantize["embedding"]
        entries: Tensor = embedding.weight
        return entries

    def nearest(self, codes: Tensor) -> Tensor:
        """The codebook vector nearest to each position of codes [N, c, h, w], of the same shape."""
        rows = codes.permute(0, 2, 3, 1).flatten(0, 2)
        index = torch.cdist(rows, self.codebook, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
        n, c, h, w = codes.shape
        return self.codebook[index].view(n, h, w, c).permute(0, 3, 1, 2)
