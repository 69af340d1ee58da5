"""Progressive GAN (Karras et al. 2018, arXiv:1710.10196) from published files in PyTorch or TensorFlow layout."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks.published import DirectGAN, load_network, open_published, reading
from .networks.stored_options import number, require_understood, section
from .networks.stylegan2_layers import normalised


def doubling_kernel(weight: Tensor) -> Tensor:
    """The transposed convolution that is equivalent to doubling the pixels and then convolving, at 4/9 of the cost.

    weight [out, in, 3, 3] (padding 1) becomes [in, out, 4, 4] (stride 2, padding 1), the sum of four shifted copies of
    the flipped kernel.
    """
    return 4 * F.avg_pool2d(F.pad(weight.flip(2, 3), [1, 1, 1, 1]), 2, stride=1).transpose(0, 1)


class ProGANNetwork(nn.Module):
    """Maps z [N, latent_dim] to images [N, channels, 4·2^L, 4·2^L], nominally in [-1, 1], with L = len(widths) - 1.

    The gains of the equalised learning rate are folded into the weights, and the doubling of pixels into `up`.
    """

    def __init__(self, latent_dim: int, widths: Sequence[int], channels: int, leak: float = 0.2):
        super().__init__()
        self.dense = nn.Linear(latent_dim, 16 * widths[0])
        self.first = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        pairs = itertools.pairwise(widths)
        self.up = nn.ModuleList([nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in pairs])
        self.conv = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for width in widths[1:]])
        self.rgb = nn.Conv2d(widths[-1], channels, 1)
        self.leak = leak

    def forward(self, z: Tensor) -> Tensor:
        x = self.dense(normalised(z)).unflatten(1, (-1, 4, 4))
        x = self._activated(x.contiguous(memory_format=torch.channels_last))
        x = self._activated(self.first(x))
        for up, conv in zip(self.up, self.conv, strict=True):
            x = self._activated(conv(self._activated(up(x))))
        images: Tensor = self.rgb(x)
        return images

    def _activated(self, x: Tensor) -> Tensor:
        return normalised(F.leaky_relu(x, self.leak))


ARITHMETIC = {"equalizedlR": True, "perChannelNormalization": True, "lossCriterion": "WGANGP"}
"""Settings of a network in PyTorch layout of which one value is supported; the loss determines the last activation."""
KNOWN = (
    "num_channels", "resolution", "label_size", "fmap_base", "fmap_decay", "fmap_max", "latent_size", "fused_scale",
    "structure", "is_template_graph",
)  # fmt: skip
"""Options of a network in TensorFlow layout that its variables show, or that only affect its training."""
DEFAULTS = {
    "use_wscale": True,
    "use_leakyrelu": True,
    "use_pixelnorm": True,
    "pixelnorm_epsilon": 1e-8,
    "normalize_latents": True,
    "dtype": "float32",
}
Layers = dict[str, tuple[Tensor, Tensor]]
"""Weight and bias of each layer of ProGANNetwork, with gains folded in."""


def _pytorch(content: Mapping[str, Any]) -> tuple[Layers, float]:
    """Layers and negative slope from a file in PyTorch layout, where He's gain multiplies weights and biases."""
    config = content["config"].state
    if config.get("latentVectorDim") != config.get("noiseVectorDim"):
        raise ValueError("it is class-conditional, which is not supported: give an unconditional file")
    if config.get("alpha", 0) != 0:
        raise ValueError(f"it was saved while a level was fading in (alpha={config['alpha']}): give a later file")
    require_understood({name: config[name] for name in ARITHMETIC if name in config}, (), ARITHMETIC)
    left = {name.replace("module.", ""): value.float() for name, value in content["avgG"].items()}

    def layer(name: str) -> tuple[Tensor, Tensor]:
        weight, bias = left.pop(f"{name}.weight"), left.pop(f"{name}.bias")
        gain = math.sqrt(2 / weight[0].numel())
        return weight * gain, bias * gain

    levels = len({name.split(".")[1] for name in left if name.startswith("toRGBLayers.")})
    layers = {"dense": layer("formatLayer"), "first": layer("groupScale0.0"), "rgb": layer(f"toRGBLayers.{levels - 1}")}
    for i in range(levels - 1):
        weight, bias = layer(f"scaleLayers.{i}.0")
        layers[f"up.{i}"], layers[f"conv.{i}"] = (doubling_kernel(weight), bias), layer(f"scaleLayers.{i}.1")
    _require_used(left, "toRGBLayers.")
    return layers, number(config.get("leakyReluLeak", 0.2), "leakyReluLeak")


def _require_used(left: Mapping[str, Tensor], smaller: str) -> None:
    """Raises ValueError for a tensor that is not used. Names of tensors for smaller images begin with `smaller`."""
    if unknown := [name for name in left if not name.startswith(smaller)]:
        raise ValueError(f"it has {len(unknown)} unexpected tensors such as {min(unknown)[:200]}")


def _tensorflow(content: Sequence[Any]) -> tuple[Layers, float]:
    """Layers and negative slope from a file in TensorFlow layout; gains multiply only weights, kernels are HWIO."""
    state = content[2].state
    options = section(state, "static_kwargs")
    if options.get("label_size"):
        raise ValueError("it is class-conditional, which is not supported: give an unconditional file")
    require_understood(options, KNOWN, DEFAULTS)
    variables = {name: torch.as_tensor(value).float() for name, value in state["variables"]}
    if (lod := float(variables.pop("lod", torch.zeros(())))) != 0:
        raise ValueError(f"it was saved while a level was fading in (lod={lod:g}): give a later file")

    count = sum(name.startswith("ToRGB_lod") for name in variables) // 2

    def conv(name: str, gain: float = math.sqrt(2)) -> tuple[Tensor, Tensor]:
        weight = variables.pop(f"{name}/weight").permute(3, 2, 0, 1)
        return weight * (gain / math.sqrt(weight[0].numel())), variables.pop(f"{name}/bias")

    def doubling(name: str) -> tuple[Tensor, Tensor]:
        if f"{name}/Conv0_up/weight" not in variables:
            weight, bias = conv(f"{name}/Conv0")
            return doubling_kernel(weight), bias
        # The fused kernel is stored as [k, k, out, in], not flipped.
        weight = variables.pop(f"{name}/Conv0_up/weight").permute(2, 3, 0, 1).flip(2, 3)
        return doubling_kernel(weight * math.sqrt(2 / weight[0].numel())), variables.pop(f"{name}/Conv0_up/bias")

    dense = variables.pop("4x4/Dense/weight").T
    dense = dense * (math.sqrt(2) / 4 / math.sqrt(dense.shape[1]))
    bias = variables.pop("4x4/Dense/bias").repeat_interleave(16)
    layers = {"dense": (dense, bias), "first": conv("4x4/Conv"), "rgb": conv("ToRGB_lod0", gain=1)}
    for i in range(count - 1):
        name = f"{8 << i}x{8 << i}"
        layers[f"up.{i}"], layers[f"conv.{i}"] = doubling(name), conv(f"{name}/Conv1")
    _require_used(variables, "ToRGB_lod")
    return layers, 0.2


def _is_pytorch(content: Any) -> bool:
    averaged = content.get("avgG") if isinstance(content, dict) else None
    names = [name for name in averaged if isinstance(name, str)] if isinstance(averaged, dict) else ()
    return any("formatLayer" in name for name in names) and any("toRGBLayers" in name for name in names)


def _is_tensorflow(content: Any) -> bool:
    state = getattr(content[2], "state", None) if isinstance(content, tuple) and len(content) == 3 else None
    variables = state.get("variables") if isinstance(state, dict) else None
    pairs = variables if isinstance(variables, list) else []
    return any(isinstance(pair, tuple) and pair[:1] == ("4x4/Dense/weight",) for pair in pairs)


def recognise(content: Any) -> bool:
    """Whether a checkpoint holds a Progressive GAN in either layout."""
    return _is_pytorch(content) or _is_tensorflow(content)


@generator(recognise=recognise)
def progan(dataset: str, path: str = "") -> Generator:
    """Progressive GAN: a published .pth (PyTorch GAN Zoo) or .pkl (TensorFlow, fused or not).

    path: the file, of which the averaged generator is used.

    Raises ValueError with the option of the file that is not understood, or the tensor that does not fit.
    """
    found = open_published("progan", path, recognise)
    read: Callable[[Any], tuple[Layers, float]] = _pytorch if _is_pytorch(found.content) else _tensorflow
    with reading(path):
        layers, leak = read(found.content)
    widths = [len(layers["first"][1]), *(len(bias) for name, (_, bias) in layers.items() if name.startswith("conv."))]
    shape: dict[str, Any] = {
        "latent_dim": layers["dense"][0].shape[1],
        "widths": widths,
        "channels": len(layers["rgb"][1]),
        "leak": leak,
    }
    named = {name: dict(zip(("weight", "bias"), pair, strict=True)) for name, pair in layers.items()}
    tensors = {f"{name}.{part}": x for name, pair in named.items() for part, x in pair.items()}
    network = load_network(lambda: ProGANNetwork(**shape), tensors, path)
    has_discriminator = found.content.get("netD") if _is_pytorch(found.content) else found.content[1]
    discriminator = "in the file, not opened" if has_discriminator else "none in the file"
    card = {**found.card, "sha256": found.sha256, "network": shape, "discriminator": discriminator}
    return DirectGAN(network, shape["latent_dim"], digest("progan", 1, found.sha256), card)
