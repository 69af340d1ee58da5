"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958): published files, and small networks trained by assay."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from ..harness.formats.built import whole
from ..harness.formats.checkpoint import Checkpoint
from ..harness.formats.weights import find_weights, is_own_file, read_weights
from .networks.published import averaged, load_network, open_published, reading
from .networks.seeds import normal
from .networks.stored_options import arguments
from .networks.style_space import StyleGAN
from .networks.stylegan2_networks import Discriminator, StyleGAN2Network
from .networks.stylegan2_nvidia import nvidia_discriminator, nvidia_network
from .networks.stylegan2_rosinality import is_rosinality, rosinality_network
from .networks.stylegan2_tf import is_tensorflow, tensorflow_network

MEAN_CODES = 4096
"""Number of random codes of which the mean w is computed where a file has none."""
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
    """Whether a checkpoint holds a StyleGAN2 generator in the layout of NVIDIA's PyTorch or TensorFlow code, or of
    rosinality/stylegan2-pytorch."""
    return is_tensorflow(content) or is_rosinality(content) or "synthesis.b4.const" in averaged(content)


@generator(recognise=recognise)
def stylegan2(
    dataset: str, path: str = "zoo", truncation: float = 1.0, noise: str = "const", label: int | None = None
) -> Generator:
    """StyleGAN2: a published .pkl (ADA, StyleGAN3's or TensorFlow code) or .pt (rosinality), or one trained by assay.

    path: "zoo" for the weights that come with assay, a file made by `assay train generator=stylegan2`, or a published
    file, of which the averaged generator is used.
    truncation: psi, 1 for none. A .pt of rosinality without `latent_avg` takes the mean of 4,096 codes drawn with
    seed 0, as many as its authors' script draws.
    noise: "const" (the maps in the file) or "none".
    label: the class of all samples of a conditional file; null draws one for each seed.

    Raises ValueError with the option of the file that is not understood, or the tensor that does not fit.
    """
    if noise not in ("const", "none"):
        raise ValueError(f"noise={noise!r} must be 'const' or 'none'")
    if is_own_file(path):
        return _trained_by_assay(dataset, path, truncation, noise, label)
    found = open_published("stylegan2", path, recognise)
    network, discriminator, card = _published(found, path, truncation, noise)
    fingerprint = digest("stylegan2", 1, found.sha256, truncation, noise, label)
    size = network.synthesis.resolution
    return StyleGAN2(network, discriminator, size, truncation, noise, label, fingerprint, card)


def _trained_by_assay(dataset: str, path: str, truncation: float, noise: str, label: int | None) -> Generator:
    file = find_weights("generator", "stylegan2", dataset, path)
    tensors, architecture, sha256 = read_weights(file, "stylegan2")
    shape = {key: value for key, value in architecture.items() if key not in ("family", "size")}

    def make() -> torch.nn.ModuleDict:
        opponent = Discriminator(shape["resolution"], shape["image_channels"], shape["base"], shape["max_channels"])
        return torch.nn.ModuleDict({"G": StyleGAN2Network(**shape), "D": opponent})

    both = load_network(make, tensors, str(file))
    with reading(file):
        size = whole(architecture["size"], "size", most=shape["resolution"])
    network, discriminator = both["G"], both["D"]
    assert isinstance(network, StyleGAN2Network)
    assert isinstance(discriminator, Discriminator)
    fingerprint = digest("stylegan2", 1, sha256, truncation, noise, label)
    card = {"format": "assay", "sha256": sha256, "discriminator": "in the file"}
    return StyleGAN2(network, discriminator, size, truncation, noise, label, fingerprint, card)


def _published(
    found: Checkpoint, path: str, truncation: float, noise: str
) -> tuple[StyleGAN2Network, Discriminator | None, dict[str, Any]]:
    """The averaged generator of a published file, its discriminator if it can be opened, and the card."""
    content = found.content
    discriminator, note = None, "in the file, not opened (another layout)"
    with reading(path):
        if is_tensorflow(content):
            shape, tensors = tensorflow_network(content[2])
        elif is_rosinality(content):
            shape, tensors = rosinality_network(content, noise == "const")
            note = note if "d" in content else "none in the file"
        else:
            shape, tensors = nvidia_network(content["G_ema"])
            ada = "synthesis_kwargs" in arguments(content["G_ema"])
            discriminator, note = nvidia_discriminator(content.get("D"), ada, path)
    network = load_network(lambda: StyleGAN2Network(**shape), tensors, path)
    card = {**found.card, "sha256": found.sha256, "network": shape, "discriminator": note}
    if is_rosinality(content) and "latent_avg" not in content and truncation != 1:
        mapping = network.mapping
        mapping.w_avg.copy_(mapping(normal([0], MEAN_CODES, mapping.z_dim)[0]).mean(0))
        card["mean_w"] = f"of {MEAN_CODES:,} codes drawn with seed 0; the file has none"
    return network, discriminator, card
