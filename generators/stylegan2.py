"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958): published files, and small networks trained by assay."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from ..harness.formats.checkpoint import Checkpoint, tensors_of
from ..harness.formats.weights import find_weights, read_weights
from .networks.published import averaged, load_weights, open_published
from .networks.style_space import StyleGAN
from .networks.stylegan2_networks import Discriminator, StyleGAN2Network
from .networks.stylegan2_tf import is_tensorflow, tensorflow_network

COMPANIONS = 3
"""Number of generated images that form a group of four with each image that the discriminator assesses."""


class StyleGAN2(StyleGAN):
    """A StyleGAN2, with its discriminator if the file has one."""

    network: StyleGAN2Network

    def __init__(
        self,
        network: StyleGAN2Network,
        discriminator: Discriminator | None,
        size: int,
        truncation: float,
        noise: str,
        label: int | None,
        fingerprint: str,
        card: Mapping[str, Any],
    ):
        super().__init__("stylegan2", network.eval().requires_grad_(False), truncation, label, fingerprint, card)
        self.discriminator = None if discriminator is None else discriminator.eval().requires_grad_(False)
        self.size, self.noise = size, noise

    def discriminate(self, images: Tensor) -> Tensor:
        """Logits [N] of images [N, C, H, W] in [0, 1]; higher is more real. Raises ValueError without a discriminator.

        The discriminator compares images within a group. Each image forms a group with the same three generated images,
        so that its logit does not depend on the batch.
        """
        if self.discriminator is None:
            raise ValueError("this file has no discriminator that assay can open; choose a file that has one")
        self.discriminator.to(images.device)
        space = self.spaces[0]
        companions = self.decode(self.latents(range(COMPANIONS), space).to(images.device), space)
        return self.discriminator.beside(self._framed(images), self._framed(companions))

    def _images(self, w: Tensor) -> Tensor:
        images = self.network.images(w, self.noise == "const")
        start = (images.shape[-1] - self.size) // 2
        return images[..., start : start + self.size, start : start + self.size]

    def _framed(self, images: Tensor) -> Tensor:
        border = self.network.synthesis.resolution - self.size
        before, after = border // 2, border - border // 2
        return torch.nn.functional.pad(images, (before, after, before, after)) * 2 - 1


def recognise(content: Any) -> bool:
    """Whether a checkpoint holds a StyleGAN2 generator in the layout of NVIDIA's PyTorch or TensorFlow code."""
    return is_tensorflow(content) or "synthesis.b4.const" in averaged(content)


@generator(recognise=recognise)
def stylegan2(
    dataset: str, path: str = "zoo", truncation: float = 1.0, noise: str = "const", label: int | None = None
) -> Generator:
    """StyleGAN2: a published .pkl (ADA, StyleGAN3's or TensorFlow code), or a network trained by assay.

    path: "zoo" for the weights that come with assay, a file made by `assay train generator=stylegan2`, or a published
    file. truncation: psi, 1 for none.
    noise: "const" (the maps in the file) or "none".
    label: the class of all samples of a conditional file; null draws one for each seed.
    """
    if noise not in ("const", "none"):
        raise ValueError(f"noise={noise!r} must be 'const' or 'none'")
    if path == "zoo" or path.endswith(".safetensors"):
        return _trained_by_assay(dataset, path, truncation, noise, label)
    found = open_published("stylegan2", path, recognise)
    network, discriminator, card = _published(found, path)
    fingerprint = digest("stylegan2", 1, found.sha256, truncation, noise, label)
    size = network.synthesis.resolution
    return StyleGAN2(network, discriminator, size, truncation, noise, label, fingerprint, card)


def _trained_by_assay(dataset: str, path: str, truncation: float, noise: str, label: int | None) -> Generator:
    tensors, architecture, sha256 = read_weights(find_weights("generator", "stylegan2", dataset, path), "stylegan2")
    shape = {key: value for key, value in architecture.items() if key not in ("family", "size")}
    network = StyleGAN2Network(**shape)
    discriminator = Discriminator(shape["resolution"], shape["image_channels"], shape["base"], shape["max_channels"])
    torch.nn.ModuleDict({"G": network, "D": discriminator}).load_state_dict(tensors)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as in `load_weights`: 1.7 times as fast
    fingerprint = digest("stylegan2", 1, sha256, truncation, noise, label)
    card = {"format": "assay", "sha256": sha256, "discriminator": "in the file"}
    return StyleGAN2(network, discriminator, architecture["size"], truncation, noise, label, fingerprint, card)


def _published(found: Checkpoint, path: str) -> tuple[StyleGAN2Network, Discriminator | None, dict[str, Any]]:
    """The averaged generator of a published file, its discriminator if it can be opened, and the card."""
    if is_tensorflow(found.content):
        shape, tensors = tensorflow_network(found.content[2])
        discriminator, note = None, "in the file, not opened (TensorFlow)"
    else:
        record = found.content["G_ema"]
        shape, tensors = _shape(record.state["_init_kwargs"]), tensors_of(record)
        discriminator, note = _discriminator(found.content.get("D"))
    network = StyleGAN2Network(**shape)
    load_weights(network, tensors, path)
    return network, discriminator, {**found.card, "sha256": found.sha256, "network": shape, "discriminator": note}


def _shape(init: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of StyleGAN2Network from the constructor arguments in a file of either PyTorch code base."""
    ada = "synthesis_kwargs" in init
    synthesis, mapping = init["synthesis_kwargs"] if ada else init, init.get("mapping_kwargs") or {}
    clamp = synthesis.get("conv_clamp", None if ada else 256)
    width = mapping.get("layer_features")
    return {
        "z_dim": int(init["z_dim"]),
        "c_dim": int(init["c_dim"]),
        "w_dim": int(init["w_dim"]),
        "resolution": int(init["img_resolution"]),
        "image_channels": int(init["img_channels"]),
        "base": int(synthesis.get("channel_base", 32768)),
        "max_channels": int(synthesis.get("channel_max", 512)),
        "mapping_layers": int(mapping.get("num_layers", 8)),
        "mapping_width": None if width is None else int(width),
        "mapping_lr": float(mapping.get("lr_multiplier", 0.01)),
        "architecture": str(synthesis.get("architecture", "skip")),
        "clamp": None if clamp is None else float(clamp),
    }


def _discriminator(record: Any) -> tuple[Discriminator | None, str]:
    """The discriminator of a file, and a note for the card. Only the unconditional residual one can be opened."""
    if record is None or not getattr(record, "state", None) or "_init_kwargs" not in record.state:
        return None, "none in the file"
    # Blocks of the published discriminator store a filter that only the other architectures use.
    unused = re.compile(r"b\d+\.resample_filter")
    init = record.state["_init_kwargs"]
    tensors = {name: tensor for name, tensor in tensors_of(record).items() if not unused.fullmatch(name)}
    options = {**init, **(init.get("block_kwargs") or {}), **(init.get("epilogue_kwargs") or {})}
    resolution = int(init.get("img_resolution", 0))
    if init.get("architecture", "resnet") != "resnet" or init.get("c_dim") or not resolution:
        return None, "in the file, not opened (conditional, or not the residual architecture)"
    clamp, group = options.get("conv_clamp", 256), options.get("mbstd_group_size", 4)
    network = Discriminator(
        resolution, int(init["img_channels"]), int(init.get("channel_base", 32768)), int(init.get("channel_max", 512)),
        int(group), None if clamp is None else float(clamp),
    )  # fmt: skip
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        return None, f"in the file, not opened ({' '.join(str(error).split())[:120]})"
    return network, "in the file (not proven equal to the published code)"
