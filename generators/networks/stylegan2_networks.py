"""The generator and the discriminator of StyleGAN2, built from `stylegan2_layers`."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ...harness.formats.built import whole
from .stylegan2_layers import EPSILON, Conv, Dense, Mapping, ModulatedConv, ToRGB, activated, fir, upsampled

Architecture = Literal["skip", "resnet"]


def channels(resolution: int, base: int, max_channels: int) -> dict[int, int]:
    """Number of channels at each resolution r from 4 to `resolution`: base / r, at most `max_channels`.

    Raises ValueError unless `resolution` is a power of 2, and where `base` leaves no channel.
    """
    if whole(resolution, "resolution", least=4).bit_count() > 1:
        raise ValueError(f"resolution={resolution} must be a power of 2")
    if base < resolution:
        raise ValueError(f"base={base} leaves no channel at resolution {resolution}")
    return {2**level: min(base // 2**level, max_channels) for level in range(2, int(math.log2(resolution)) + 1)}


class SynthesisBlock(nn.Module):
    """One resolution: a constant (at 4 x 4) or a convolution that doubles the size, a convolution, and the image."""

    resample_filter: Tensor

    def __init__(
        self, inputs: int, outputs: int, w_dim: int, size: int, image_channels: int, architecture: Architecture,
        last: bool, clamp: float | None, noisy: bool, taps: int,
    ):  # fmt: skip
        super().__init__()
        self.register_buffer("resample_filter", fir(taps))
        if inputs:
            self.conv0 = ModulatedConv(inputs, outputs, w_dim, size, up=True, clamp=clamp, noisy=noisy, taps=taps)
        else:
            self.const = nn.Parameter(torch.randn(outputs, size, size))
        self.conv1 = ModulatedConv(outputs, outputs, w_dim, size, clamp=clamp, noisy=noisy, taps=taps)
        if last or architecture == "skip":
            self.torgb = ToRGB(outputs, image_channels, w_dim, clamp)
        if inputs and architecture == "resnet":
            self.skip = Conv(inputs, outputs, 1, bias=False, active=False, resample="up", taps=taps)
        self.first, self.residual = not inputs, bool(inputs) and architecture == "resnet"
        self.convolutions = 1 if self.first else 2

    def forward(self, x: Tensor, image: Tensor | None, w: Tensor, noisy: bool) -> tuple[Tensor, Tensor | None]:
        """w [N, convolutions + 1, w_dim]; the last w is for the image layer."""

        def noise(layer: ModulatedConv) -> Tensor | None:
            return layer.noise_const if noisy and layer.noisy else None

        if self.first:
            x = self.conv1(self.const.expand(len(w), -1, -1, -1), w[:, 0], noise(self.conv1))
        elif self.residual:
            y = self.skip(x, gain=math.sqrt(0.5))
            x = self.conv0(x, w[:, 0], noise(self.conv0))
            x = y + self.conv1(x, w[:, 1], noise(self.conv1), gain=math.sqrt(0.5))
        else:
            x = self.conv0(x, w[:, 0], noise(self.conv0))
            x = self.conv1(x, w[:, 1], noise(self.conv1))
        if image is not None:
            image = upsampled(image, self.resample_filter)
        if hasattr(self, "torgb"):
            colours = self.torgb(x, w[:, self.convolutions])
            image = colours if image is None else image + colours
        return x, image


class Synthesis(nn.Module):
    """Maps w [N, num_ws, w_dim] to images [N, C, R, R], nominally in [-1, 1]."""

    def __init__(
        self, w_dim: int, resolution: int, image_channels: int, base: int = 32768, max_channels: int = 512,
        architecture: Architecture = "skip", clamp: float | None = None, noisy: bool = True, taps: int = 4,
        widths: Sequence[int] | None = None,
    ):  # fmt: skip
        super().__init__()
        inputs = 0
        sizes = channels(resolution, base, max_channels)
        if widths is not None:
            sizes = dict(zip(sizes, widths, strict=True))
        for size, outputs in sizes.items():
            block = SynthesisBlock(
                inputs, outputs, w_dim, size, image_channels, architecture, size == resolution, clamp, noisy, taps
            )
            self.add_module(f"b{size}", block)
            inputs = outputs
        self.resolution, self.num_ws = resolution, 2 * len(sizes)

    def blocks(self) -> list[SynthesisBlock]:
        return [block for block in self.children() if isinstance(block, SynthesisBlock)]

    def forward(self, w: Tensor, noisy: bool = True) -> Tensor:
        x, position = w.new_empty(0), 0
        image: Tensor | None = None
        for block in self.blocks():
            x, image = block(x, image, w[:, position : position + block.convolutions + 1], noisy)
            position += block.convolutions
        assert image is not None
        return image


class StyleGAN2Network(nn.Module):
    """Maps z to w and w to images; parameters have the names of the published files.

    widths: number of channels at 4, 8, 16, ..., instead of those of `base` and `max_channels`. noisy: whether layers
    have noise maps. taps: size of the smoothing kernels. embedding: width of an embedded label.
    """

    def __init__(
        self, z_dim: int, c_dim: int, w_dim: int, resolution: int, image_channels: int, base: int = 32768,
        max_channels: int = 512, mapping_layers: int = 8, mapping_width: int | None = None, mapping_lr: float = 0.01,
        architecture: Architecture = "skip", clamp: float | None = None, noisy: bool = True, taps: int = 4,
        embedding: int | None = None, widths: Sequence[int] | None = None,
    ):  # fmt: skip
        super().__init__()
        self.mapping = Mapping(z_dim, c_dim, w_dim, mapping_layers, mapping_width, mapping_lr, embedding)
        self.synthesis = Synthesis(
            w_dim, resolution, image_channels, base, max_channels, architecture, clamp, noisy, taps, widths
        )

    @property
    def num_ws(self) -> int:
        return self.synthesis.num_ws

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.images(self.mapping(z, labels))

    def images(self, w: Tensor, noisy: bool = True) -> Tensor:
        """Images from one w per image [N, w_dim] or one per layer [N, num_ws, w_dim]."""
        images: Tensor = self.synthesis(w[:, None].expand(-1, self.num_ws, -1) if w.ndim == 2 else w, noisy)
        return images


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the size; the first one takes the image."""

    def __init__(self, image_channels: int, inputs: int, outputs: int, clamp: float | None):
        super().__init__()
        if image_channels:
            self.fromrgb = Conv(image_channels, inputs, 1, clamp=clamp)
        self.conv0 = Conv(inputs, inputs, 3, clamp=clamp)
        self.conv1 = Conv(inputs, outputs, 3, resample="down", clamp=clamp)
        self.skip = Conv(inputs, outputs, 1, bias=False, active=False, resample="down")
        self.first = bool(image_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fromrgb(x) if self.first else x
        y = self.skip(x, gain=math.sqrt(0.5))
        out: Tensor = y + self.conv1(self.conv0(x), gain=math.sqrt(0.5))
        return out


class Epilogue(nn.Module):
    """Maps features of 4 x 4 to a logit; one more channel has their standard deviation within groups of the batch."""

    def __init__(self, width: int, group: int, clamp: float | None):
        super().__init__()
        self.conv = Conv(width + (1 if group > 1 else 0), width, 3, clamp=clamp)
        self.fc, self.out = Dense(width * 16, width), Dense(width, 1)
        self.group = group

    def forward(self, x: Tensor, companions: Tensor | None = None) -> Tensor:
        """Logits [N] of features [N, C, 4, 4]. Groups are parts of the batch, or each item with the same companions."""
        if self.group > 1:
            spread = self._spread_of_groups(x) if companions is None else self._spread_beside(x, companions)
            x = torch.cat([x, spread[:, None, None, None].expand(-1, 1, 4, 4)], 1)
        logits: Tensor = self.out(activated(self.fc(self.conv(x).flatten(1))))
        return logits[:, 0]

    def _spread_of_groups(self, x: Tensor) -> Tensor:
        members = next(m for m in range(min(self.group, len(x)), 0, -1) if len(x) % m == 0)
        groups = x.reshape(members, -1, *x.shape[1:])
        return groups.var(0, correction=0).add(EPSILON).sqrt().mean((1, 2, 3)).repeat(members)

    def _spread_beside(self, x: Tensor, companions: Tensor) -> Tensor:
        groups = torch.cat([x[None], companions[: self.group - 1, None].expand(-1, *x.shape)])
        return groups.var(0, correction=0).add(EPSILON).sqrt().mean((1, 2, 3))


class Discriminator(nn.Module):
    """The unconditional residual discriminator: it maps images [N, C, R, R] in [-1, 1] to logits [N]."""

    def __init__(
        self, resolution: int, image_channels: int, base: int = 32768, max_channels: int = 512, group: int = 4,
        clamp: float | None = None,
    ):  # fmt: skip
        super().__init__()
        widths = channels(resolution, base, max_channels)
        self.sizes: Sequence[int] = sorted(widths, reverse=True)[:-1]
        for size in self.sizes:
            block = DiscriminatorBlock(
                image_channels if size == resolution else 0, widths[size], widths[size // 2], clamp
            )
            self.add_module(f"b{size}", block)
        self.b4 = Epilogue(widths[4], group, clamp)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.b4(self._maps(images))
        return logits

    def beside(self, images: Tensor, companions: Tensor) -> Tensor:
        """Logits [N] of images [N, C, R, R]; each forms a group with the same companions [3, C, R, R]."""
        logits: Tensor = self.b4(self._maps(images), self._maps(companions))
        return logits

    def _maps(self, x: Tensor) -> Tensor:
        for size in self.sizes:
            x = self.get_submodule(f"b{size}")(x)
        return x
