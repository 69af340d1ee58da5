"""StyleGAN3-T and -R (Karras et al. 2021, arXiv:2106.12423), and stems of StyleGAN-XL, from published files."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from ..harness.formats.built import whole
from ..harness.formats.checkpoint import tensors_of
from .networks.published import averaged, load_network, open_published, reading
from .networks.stored_options import arguments, class_name, number, require_understood, section, yes
from .networks.style_space import StyleGAN
from .networks.stylegan2_layers import EPSILON, GAIN, Dense, smoothed
from .networks.stylegan2_layers import Mapping as MappingNetwork
from .networks.stylegan2_nvidia import sizes_of
from .networks.stylegan_xl import ClassMapping, table_of, used

MAP = 2**27
"""Maximum number of elements in a feature map of a batch; it bounds the memory."""
LAYERS, TAPS = 200, 512
"""Maximum number of layers, and of filter taps per sample."""
IMMATERIAL = ("num_fp16_res", "magnitude_ema_beta")
"""Options that matter only in training, or change only rounding: assay computes in float32."""


def _at_most(most: int, least: int = 1) -> Callable[[Any, str], int]:
    return lambda value, name: whole(value, name, least, most)


KINDS: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "channel_base": ("base", _at_most(2**24)),
    "channel_max": ("max_channels", whole),
    "num_layers": ("layers", _at_most(LAYERS)),
    "num_critical": ("critical", _at_most(LAYERS, least=0)),
    "first_cutoff": ("first_cutoff", number),
    "first_stopband": ("first_stopband", number),
    "last_stopband_rel": ("last_stopband", number),
    "margin_size": ("margin", _at_most(2**16, least=0)),
    "output_scale": ("scale", number),
    "conv_kernel": ("kernel", _at_most(TAPS)),
    "filter_size": ("taps", _at_most(TAPS)),
    "lrelu_upsampling": ("raised", _at_most(TAPS)),
    "use_radial_filters": ("radial", yes),
}
"""Options in a file, their names as arguments of StyleGAN3Network, and how they are read."""


class Level(NamedTuple):
    """The sampling of a feature map.

    cutoff: frequency. rate: samples per unit of length; the image has side 1. size: samples per side, with margins.
    """

    cutoff: float
    rate: int
    size: int
    channels: int


def levels(
    resolution: int, image_channels: int, base: int = 32768, max_channels: int = 512, layers: int = 14,
    critical: int = 2, first_cutoff: float = 2.0, first_stopband: float = 2**2.1, last_stopband: float = 2**0.3,
    margin: int = 10,
) -> list[Level]:  # fmt: skip
    """Sampling of layers 0 to `layers`; cutoff and stopband grow geometrically (arXiv:2106.12423, section 3.2)."""
    found = []
    for i in range(layers + 1):
        e = min(i / (layers - critical), 1)
        cutoff = first_cutoff * (resolution / 2 / first_cutoff) ** e
        stopband = first_stopband * (resolution / 2 * last_stopband / first_stopband) ** e
        rate = 2 ** math.ceil(math.log2(min(2 * stopband, resolution)))
        size = resolution if i >= layers - 1 else rate + 2 * margin
        channels = image_channels if i == layers else round(min(base / 2 / cutoff, max_channels))
        found.append(Level(cutoff, rate, size, channels))
    return found


def _plane(taps: Tensor) -> Tensor:
    """The kernel [K, K] of a separable filter with taps [K]; a radial filter is stored as [K, K] already."""
    return torch.outer(taps, taps) if taps.ndim == 1 else taps


class Input(nn.Module):
    """Feature maps [N, C, S, S] of sine waves with stored frequencies, rotated and shifted as w says."""

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, level: Level, w_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(level.channels, level.channels))
        self.affine = Dense(w_dim, 4)
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", torch.randn(level.channels, 2))
        self.register_buffer("phases", torch.zeros(level.channels))
        self.level = level

    def forward(self, w: Tensor) -> Tensor:
        freqs, phases = (wave.to(w.dtype) for wave in self._waves(w.double()))
        cutoff, rate, size, channels = self.level
        amplitude = (1 - (freqs.norm(dim=2) - cutoff) / (rate / 2 - cutoff)).clamp(0, 1)
        at = (torch.arange(size, device=w.device) + 0.5 - size / 2) / rate
        along_x, along_y = at[:, None] * freqs[:, None, :, 0], at[:, None] * freqs[:, None, :, 1]
        cycles = along_x[:, None] + along_y[:, :, None] + phases[:, None, None]
        waves = (2 * math.pi * cycles).sin() * amplitude[:, None, None]
        maps: Tensor = waves @ self.weight.T / math.sqrt(channels)
        return maps.permute(0, 3, 1, 2)

    def _waves(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Frequencies [N, C, 2] and phases [N, C] in [-1/2, 1/2] from w [N, w_dim], in float64.

        If the direction is short before its normalisation, shifts are many periods long. In float32 the phase would
        lose precision, in a way that depends on the batch.
        """
        affine = self.affine
        pose = F.linear(w, affine.weight.double() * affine.scale, affine.bias.double())
        cosine, sine, right, down = (pose / pose[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        zero, one = torch.zeros_like(sine), torch.ones_like(sine)
        rotation = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], 1).reshape(-1, 3, 3)
        shift = torch.stack([one, zero, -right, zero, one, -down, zero, zero, one], 1).reshape(-1, 3, 3)
        matrix = rotation @ shift @ self.transform.double()
        phases = self.phases.double() + (self.freqs.double() @ matrix[:, :2, 2:]).squeeze(2)
        return self.freqs.double() @ matrix[:, :2, :2], phases - phases.round()


class Layer(nn.Module):
    """Modulated convolution, then a leaky ReLU at a raised sampling rate, between filters that prevent aliasing.

    Padding, filter taps and rates follow from the levels before and after the layer. Scaling weights per image is
    equivalent to scaling the input channels before a convolution with shared weights and the output channels after it.
    The published code divides styles by their root mean square over the batch; here it is over each sample, because
    demodulation cancels either.
    """

    magnitude_ema: Tensor
    up_filter: Tensor
    down_filter: Tensor

    def __init__(
        self, before: Level, after: Level, w_dim: int, kernel: int, taps: int, raised: int, radial: bool,
        clamp: float | None,
    ):  # fmt: skip
        super().__init__()
        rate = max(before.rate, after.rate) * raised
        self.up, self.down = rate // before.rate, rate // after.rate
        up_taps, down_taps = (taps * factor if factor > 1 else 1 for factor in (self.up, self.down))
        self.affine = Dense(w_dim, before.channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(after.channels, before.channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(after.channels))
        self.register_buffer("magnitude_ema", torch.ones(()))
        down_shape = (down_taps, down_taps) if radial and down_taps > 1 else (down_taps,)
        self.register_buffer("up_filter", torch.ones(up_taps) / up_taps, persistent=up_taps > 1)
        self.register_buffer("down_filter", torch.ones(down_shape) / down_taps, persistent=down_taps > 1)
        total = (after.size - 1) * self.down - (before.size + kernel - 1) * self.up + up_taps + down_taps - 1
        self.crop, self.clamp = up_taps - 1 - (total + self.up) // 2, clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w)
        style = style * style.square().mean(1, keepdim=True).rsqrt()
        weight = self.weight * self.weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
        demodulation = (style.square() @ weight.square().sum((2, 3)).T + EPSILON).rsqrt()
        x = x * (style * self.magnitude_ema.rsqrt())[:, :, None, None]
        x = F.conv2d(x, weight, padding=weight.shape[-1] - 1)
        x = x * demodulation[:, :, None, None] + self.bias[:, None, None]
        # The kernel includes the gain of the activation, because a leaky ReLU commutes with positive factors.
        kernel = (_plane(self.up_filter) * (self.up**2 * GAIN)).expand(x.shape[1], 1, -1, -1)
        x = F.conv_transpose2d(x, kernel, stride=self.up, padding=self.crop, groups=x.shape[1])
        x = F.leaky_relu(x, 0.2, inplace=True)
        if self.clamp is not None:
            x = x.clamp(-self.clamp, self.clamp)
        return smoothed(x, _plane(self.down_filter), padding=0, stride=self.down)


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to image channels: no normalisation, no filters, no activation."""

    magnitude_ema: Tensor

    def __init__(self, inputs: int, outputs: int, w_dim: int, clamp: float | None):
        super().__init__()
        self.affine = Dense(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("magnitude_ema", torch.ones(()))
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * (self.magnitude_ema * x.shape[1]).rsqrt()
        x = F.conv2d(x * style[:, :, None, None], self.weight, self.bias)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class Synthesis(nn.Module):
    """Maps w [N, num_ws, w_dim] to images [N, C, R, R], nominally in [-1, 1]."""

    def __init__(
        self, w_dim: int, sampling: Sequence[Level], critical: int, kernel: int, taps: int, raised: int, radial: bool,
        clamp: float | None, scale: float,
    ):  # fmt: skip
        super().__init__()
        last = len(sampling) - 1
        self.input = Input(sampling[0], w_dim)
        self.names: Sequence[str] = [f"L{i}_{level.size}_{level.channels}" for i, level in enumerate(sampling)]
        for i, (name, after) in enumerate(zip(self.names, sampling, strict=True)):
            before = sampling[max(i - 1, 0)]
            if i < last:
                layer: nn.Module = Layer(
                    before, after, w_dim, kernel, taps, raised, radial and i < last - critical, clamp
                )
            else:
                layer = ToRGB(before.channels, after.channels, w_dim, clamp)
            self.add_module(name, layer)
        self.num_ws, self.scale = len(sampling) + 1, scale

    def forward(self, w: Tensor) -> Tensor:
        x = self.input(w[:, 0]).contiguous(memory_format=torch.channels_last)
        for i, name in enumerate(self.names):
            x = self.get_submodule(name)(x, w[:, i + 1])
        images: Tensor = x * self.scale
        return images


class StyleGAN3Network(nn.Module):
    """Maps z to w and w to images; parameters have the names of the published files.

    table: in a StyleGAN-XL with classes, the shape of its table of class features.
    """

    def __init__(
        self, z_dim: int, c_dim: int, w_dim: int, resolution: int, image_channels: int, mapping_layers: int = 2,
        mapping_lr: float = 0.01, base: int = 32768, max_channels: int = 512, layers: int = 14, critical: int = 2,
        first_cutoff: float = 2.0, first_stopband: float = 2**2.1, last_stopband: float = 2**0.3, margin: int = 10,
        scale: float = 0.25, kernel: int = 3, taps: int = 6, raised: int = 2, radial: bool = False,
        clamp: float | None = 256.0, table: Sequence[int] | None = None,
    ):  # fmt: skip
        super().__init__()
        if table is None:
            self.mapping = MappingNetwork(z_dim, c_dim, w_dim, mapping_layers, lr=mapping_lr)
        else:
            self.mapping = ClassMapping(z_dim, c_dim, w_dim, mapping_layers, mapping_lr, table)
        sampling = levels(
            resolution, image_channels, base, max_channels, layers, critical,
            first_cutoff, first_stopband, last_stopband, margin,
        )  # fmt: skip
        self.synthesis = Synthesis(w_dim, sampling, critical, kernel, taps, raised, radial, clamp, scale)
        self.at_once = max(1, MAP // max(level.channels * (level.size * raised) ** 2 for level in sampling))

    @property
    def num_ws(self) -> int:
        return self.synthesis.num_ws

    def images(self, w: Tensor) -> Tensor:
        """Images from one w per image [N, w_dim] or one per layer [N, num_ws, w_dim], in batches of bounded size."""
        ws = w[:, None].expand(-1, self.synthesis.num_ws, -1) if w.ndim == 2 else w
        return torch.cat([self.synthesis(part) for part in torch.split(ws, self.at_once)])


def recognise(content: Any) -> bool:
    """Whether a checkpoint holds a StyleGAN3 generator."""
    return "synthesis.input.freqs" in averaged(content)


@generator(recognise=recognise)
def stylegan3(dataset: str, path: str = "", truncation: float = 1.0, label: int | None = None) -> Generator:
    """StyleGAN3, configurations T and R, and the stem of a StyleGAN-XL, the network that it grows from.

    path: the published .pkl. truncation: psi, 1 for none. label: the class of all samples of a conditional file; null
    draws one for each seed.

    Raises ValueError with the option of the file that is not understood, or the tensor that does not fit.
    """
    found = open_published("stylegan3", path, recognise)
    record = found.content["G_ema"]
    with reading(path):
        if "SuperresGenerator" in class_name(record):
            raise ValueError(
                "its class SuperresGenerator, layers of StyleGAN-XL after a stem, is not supported; give a stem"
            )
        shape, stored = _shape(arguments(record)), tensors_of(record)
        shape["table"] = table_of(stored)
    network = load_network(lambda: StyleGAN3Network(**shape), used(stored, shape["c_dim"]), path)
    discriminator = "none in the file" if found.content.get("D") is None else "in the file, not opened"
    card = {**found.card, "sha256": found.sha256, "network": shape, "discriminator": discriminator}
    fingerprint = digest("stylegan3", 1, found.sha256, truncation, label)
    return StyleGAN("stylegan3", network, truncation, label, fingerprint, card)


def _shape(init: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of StyleGAN3Network from the constructor arguments in a file; others keep their published defaults.

    Raises ValueError with the option that is not understood.
    """
    mapping = section(init, "mapping_kwargs")
    require_understood(mapping, ("num_layers", "lr_multiplier", "w_avg_beta", "rand_embedding"))
    clamp = init.get("conv_clamp", 256)
    shape: dict[str, Any] = {
        **sizes_of(init),
        "mapping_layers": whole(mapping.get("num_layers", 2), "mapping_kwargs.num_layers"),
        "mapping_lr": number(mapping.get("lr_multiplier", 0.01), "lr_multiplier"),
        "clamp": None if clamp is None else number(clamp, "conv_clamp", least=0),
    }
    for theirs, (ours, kind) in KINDS.items():
        if theirs in init:
            shape[ours] = kind(init[theirs], theirs)
    known = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "conv_clamp")
    require_understood(init, (*known, *KINDS, *IMMATERIAL))
    return shape
