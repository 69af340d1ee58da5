"""FastGAN as trained by Projected GAN (Liu et al. 2021, arXiv:2101.04775; Sauer et al. 2021, arXiv:2111.01007)."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from ..harness.formats.built import whole
from ..harness.formats.checkpoint import tensors_of
from ..harness.formats.inert import Inert
from .networks.published import DirectGAN, averaged, load_network, open_published, reading
from .networks.seeds import normal
from .networks.stored_options import require_understood
from .networks.stylegan2_layers import normalised
from .progan import doubling_kernel

WIDTHS = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 0.5, 512: 0.25, 1024: 0.125}
"""Number of channels at each resolution, in multiples of ngf."""
SOURCES = {64: 4, 128: 8, 256: 16, 512: 32}
"""The resolution of a feature map, and that of the small feature map which gates its channels."""

USUAL = {
    "eps": 1e-5,
    "mode": "nearest",
    "align_corners": None,
    "scale_factor": 2.0,
    "padding_mode": "zeros",
    "groups": 1,
}
"""Settings of the layers inside, in the attributes that torch's modules keep."""


class Noise(nn.Module):
    """Adds noise maps [1 or N, 1, H, W], scaled by one learned weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return x + self.weight * noise


def _level(inputs: int, outputs: int, lite: bool) -> nn.Sequential:
    """Doubling of the size, then twice convolution, noise, normalisation and gated linear unit; if lite, once and
    without noise.

    The doubling is folded into the first convolution. Layers have the numbers of the published files.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["1"] = nn.ConvTranspose2d(inputs, 2 * outputs, 4, stride=2, padding=1, bias=False)
    if lite:
        return nn.Sequential(layers | {"2": nn.BatchNorm2d(2 * outputs), "3": nn.GLU(1)})
    layers |= {"2": Noise(), "3": nn.BatchNorm2d(2 * outputs), "4": nn.GLU(1)}
    layers["5"] = nn.Conv2d(outputs, 2 * outputs, 3, padding=1, bias=False)
    return nn.Sequential(layers | {"6": Noise(), "7": nn.BatchNorm2d(2 * outputs), "8": nn.GLU(1)})


def _gate(inputs: int, outputs: int) -> nn.ModuleDict:
    """Maps a small feature map to factors in (0, 1) for the channels of a large one."""
    pool, conv = nn.AdaptiveAvgPool2d(4), nn.Conv2d(inputs, outputs, 4, bias=False)
    mix = nn.Conv2d(outputs, outputs, 1, bias=False)
    return nn.ModuleDict({"main": nn.Sequential(pool, conv, nn.SiLU(), mix, nn.Sigmoid())})


class FastGANNetwork(nn.Module):
    """Maps z [N, z_dim] to images [N, channels, resolution, resolution], nominally in [-1, 1].

    The published network draws new noise at every call. Here the noise maps are drawn once, from `noise_seed`, and are
    the same for every image, unless `forward` is given others.
    """

    def __init__(self, z_dim: int, ngf: int, resolution: int, channels: int, lite: bool, noise_seed: int = 0):
        super().__init__()
        width = {size: int(multiple * ngf) for size, multiple in WIDTHS.items()}
        first = nn.ConvTranspose2d(z_dim, 2 * width[4], 4, bias=False)
        self.init = nn.ModuleDict({"init": nn.Sequential(first, nn.BatchNorm2d(2 * width[4]), nn.GLU(1))})
        self.sizes = [size for size in WIDTHS if 8 <= size <= resolution]
        for size in WIDTHS:
            # The published networks contain the levels up to 256 at every resolution.
            if 8 <= size <= max(resolution, 256):
                self.add_module(f"feat_{size}", _level(width[size // 2], width[size], lite))
                if size in SOURCES:
                    self.add_module(f"se_{size}", _gate(width[SOURCES[size]], width[size]))
        self.to_big = nn.Conv2d(width[resolution], channels, 3, padding=1)
        noisy = [size for size in self.sizes for _ in range(0 if lite else 2)]
        draws = torch.split(normal([noise_seed], sum(size**2 for size in noisy))[0], [size**2 for size in noisy])
        for i, (draw, size) in enumerate(zip(draws, noisy, strict=True)):
            self.register_buffer(f"noise{i}", draw.reshape(1, 1, size, size), persistent=False)
        self.maps = len(noisy)

    def forward(self, z: Tensor, noise: Iterable[Tensor] | None = None) -> Tensor:
        """noise: maps [1 or N, 1, H, W] for the noise layers, from small to large, instead of the fixed ones."""
        maps = iter(noise if noise is not None else (self.get_buffer(f"noise{i}") for i in range(self.maps)))
        x = self.init["init"](normalised(z)[:, :, None, None]).contiguous(memory_format=torch.channels_last)
        features = {4: x}
        for size in self.sizes:
            for layer in self.get_submodule(f"feat_{size}").children():
                x = layer(x, next(maps)) if isinstance(layer, Noise) else layer(x)
            if size in SOURCES:
                x = x * self.get_submodule(f"se_{size}").get_submodule("main")(features[SOURCES[size]])
            features[size] = x
        images: Tensor = self.to_big(x)
        return images


def folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for FastGANNetwork: divided by their spectral norms (arXiv:1802.05957), with doublings folded in.

    A published file has weight_orig W and vectors u, v with sigma = uᵀ W v, where W is flattened to [outputs, inputs].
    """
    result = {}
    for name, tensor in tensors.items():
        layer, part = name.removeprefix("synthesis.").rsplit(".", 1)
        if part == "weight_orig":
            prefix = name.removesuffix("_orig")
            outputs_first = tensor.transpose(0, 1) if layer == "init.init.0" else tensor
            sigma = tensors[f"{prefix}_u"] @ outputs_first.flatten(1) @ tensors[f"{prefix}_v"]
            tensor, part = tensor / sigma, "weight"
        if layer.startswith("feat_") and layer.endswith(".1") and part == "weight":
            tensor = doubling_kernel(tensor)
        if part not in ("weight_u", "weight_v"):
            result[f"{layer}.{part}"] = tensor
    return result


def _require_usual(record: Inert) -> None:
    """Raises ValueError with the setting of a module inside that differs from the published networks."""
    waiting: list[Any] = [record]
    while waiting:
        state = waiting.pop().state
        require_understood({name: state[name] for name in USUAL if name in state}, (), USUAL)
        waiting += [module for module in state["_modules"].values() if module is not None]


def recognise(content: Any) -> bool:
    """Whether a checkpoint holds a FastGAN generator of Projected GAN."""
    names = averaged(content)
    return "synthesis.to_big.weight" in _plain(names) and any(name.startswith("synthesis.feat_8.") for name in names)


def _plain(names: Iterable[str]) -> set[str]:
    """Names of tensors without the addition that a spectral norm makes."""
    return {name.removesuffix("_orig") for name in names}


@generator(recognise=recognise)
def fastgan(dataset: str, path: str = "", noise_seed: int = 0) -> Generator:
    """FastGAN of Projected GAN (configurations fastgan and fastgan_lite), unconditional.

    path: the published .pkl. noise_seed: seed of the noise maps, which are the same for every image (lite has none).
    """
    found = open_published("fastgan", path, recognise)
    record = found.content["G_ema"]
    stored = tensors_of(record)
    if any(name.endswith("embed.weight") for name in _plain(stored)):
        raise ValueError(
            f"{path}: class-conditional FastGAN is not supported, because there is no public reference to check its "
            "layers; give an unconditional file"
        )
    with reading(path):
        _require_usual(record)
        tensors = folded(stored)
        first, last = tensors["init.init.0.weight"], tensors["to_big.weight"]
        resolution = whole(record.state["img_resolution"], "img_resolution")
        if resolution not in WIDTHS or resolution < 128:
            raise ValueError(f"img_resolution={resolution} is not 128, 256, 512 or 1024, the sizes that FastGAN makes")
    shape: dict[str, Any] = {
        "z_dim": first.shape[0],
        "ngf": first.shape[1] // 32,
        "resolution": resolution,
        "channels": last.shape[0],
        "lite": "feat_8.5.weight" not in tensors,
    }
    network = load_network(lambda: FastGANNetwork(**shape, noise_seed=noise_seed), tensors, path)
    discriminator = "none in the file" if found.content.get("D") is None else "in the file, not opened"
    card = {**found.card, "sha256": found.sha256, "network": shape, "discriminator": discriminator}
    return DirectGAN(network, shape["z_dim"], digest("fastgan", 1, found.sha256, noise_seed), card)
