"""AutoencoderKL of a diffusers folder as a generator: the first stage of latent diffusion (arXiv:2112.10752, 3.1)."""

from collections.abc import Mapping
from typing import Any

from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks.diffusers_kl import KLAutoencoder
from .networks.diffusers_parts import find_folder, read_json


def recognise(content: Any) -> bool:
    """Whether a checkpoint is the folder of an AutoencoderKL."""
    config = content.get("config.json") if isinstance(content, Mapping) else None
    return isinstance(config, Mapping) and config.get("_class_name") == "AutoencoderKL"


@generator(recognise=recognise)
def autoencoder_kl(dataset: str, path: str = "") -> Generator:
    """AutoencoderKL of diffusers, to encode, decode and reconstruct images; its prior N(0, I) was not trained.

    path: its folder, or the folder of a pipeline with an AutoencoderKL in vae/. Raises ValueError for another class.
    """
    folder = find_folder("autoencoder_kl", path)
    if not (folder / "config.json").is_file():
        folder = folder / "vae"
    if (found := read_json(folder / "config.json").get("_class_name")) != "AutoencoderKL":
        raise ValueError(f"{folder} holds a {found}, not an AutoencoderKL")
    return KLAutoencoder(folder)
