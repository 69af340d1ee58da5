"""Opening published files of GANs with checks of family and weights; and the GANs without a mapping network."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...harness.formats.built import Network, built, require_same
from ...harness.formats.checkpoint import Checkpoint, read_checkpoint, tensors_of
from .seeds import upstream_normal


def open_published(family: str, path: str, recognise: Callable[[Any], bool]) -> Checkpoint:
    """The file in option `path` of a generator. Raises ValueError when it is missing or of another family."""
    if not path or not Path(path).expanduser().is_file():
        missing = f"{path} does not exist" if path else f"generator {family} opens a published file"
        raise ValueError(f"{missing}; give generator.{family}.path=FILE")
    found = read_checkpoint(path)
    if not recognise(found.content):
        raise ValueError(f"{path} holds no {family} generator; `assay.load` finds the family of a file")
    return found


def averaged(content: Any) -> dict[str, Tensor]:
    """The tensors of `G_ema`, the averaged generator in NVIDIA's layout; empty if there is no such module."""
    try:
        return tensors_of(content["G_ema"]) if isinstance(content, dict) and "G_ema" in content else {}
    except ValueError:
        return {}


def load_network(make: Callable[[], Network], tensors: Mapping[str, Tensor], path: str) -> Network:
    """`built`, in the memory layout channels last.

    In that layout, depthwise and transposed convolutions are several times faster on a CPU.
    """
    return built(make, tensors, path).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: str) -> None:
    """Load the weights of a network and freeze it. Raises ValueError when a name or a shape differs.

    The memory layout is channels last, in which depthwise and transposed convolutions are several times faster on a
    CPU.
    """
    require_same(network, tensors, path)
    network.load_state_dict(tensors)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)


class DirectGAN:
    """A published network that maps z ~ N(0, I) directly to images in [-1, 1]. Its space is "z".

    Seed 7 gives the z of seed 7 in the public StyleGAN tools.
    """

    spaces: Sequence[str] = ("z",)

    def __init__(self, network: nn.Module, z_dim: int, fingerprint: str, card: Mapping[str, Any]):
        self.network, self.z_dim, self.fingerprint, self.card = network, z_dim, fingerprint, card

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        return upstream_normal(seeds, self.z_dim)

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        images: Tensor = self.network.to(latents.device)(latents)
        return (images + 1) / 2
