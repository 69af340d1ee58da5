"""Opening published files of GANs: the right family, every weight in its place; and those without a mapping network."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...harness.formats.checkpoint import Checkpoint, read_checkpoint, tensors_of
from ...harness.formats.weights import require_same
from .seeds import upstream_normal


def open_published(family: str, path: str, recognise: Callable[[Any], bool]) -> Checkpoint:
    """The file that option `path` of a generator names. Raises ValueError in one line where it is not of the family."""
    if not path or not Path(path).expanduser().is_file():
        missing = f"{path} does not exist" if path else f"generator {family} opens a published file"
        raise ValueError(f"{missing}; give generator.{family}.path=FILE")
    found = read_checkpoint(path)
    if not recognise(found.content):
        raise ValueError(f"{path} holds no {family} generator; `assay.load` tells which family a file belongs to")
    return found


def averaged(content: Any) -> dict[str, Tensor]:
    """The tensors of `G_ema`, the averaged generator in NVIDIA's layout; empty where there is no such module."""
    try:
        return tensors_of(content["G_ema"]) if isinstance(content, dict) and "G_ema" in content else {}
    except ValueError:
        return {}


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: str) -> None:
    """Give a network its weights and freeze it. Raises ValueError in one line where a name or a shape differs.

    Kernels are laid out channels last: depthwise and transposed convolutions run several times faster so on a CPU.
    """
    require_same(network, tensors, path)
    network.load_state_dict(tensors)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)


class DirectGAN:
    """A published network from z ~ N(0, I) straight to images in [-1, 1]. Space "z"; seed 7 is seed 7 of the public
    StyleGAN tools.
    """

    spaces: Sequence[str] = ("z",)

    def __init__(self, network: nn.Module, z_dim: int, fingerprint: str, card: Mapping[str, Any]):
        self.network, self.z_dim, self.fingerprint, self.card = network, z_dim, fingerprint, card

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        return upstream_normal(seeds, self.z_dim)

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        images: Tensor = self.network.to(latents.device)(latents)
        return (images + 1) / 2
