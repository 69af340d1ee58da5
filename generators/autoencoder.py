"""Autoencoders of diffusers as generators: the first stages of latent diffusion (arXiv:2112.10752, 3.1)."""

from collections.abc import Mapping
from typing import Any

from ..harness.core.files import digest
from ..harness.core.options import Count
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks.autoencoders import CHANNELS, PriorAutoencoder
from .networks.diffusers_kl import KLAutoencoder
from .networks.diffusers_parts import find_folder, hashes, open_network, read_json


def recognise(content: Any) -> bool:
    """Whether a checkpoint is the folder of an autoencoder of images."""
    config = content.get("config.json") if isinstance(content, Mapping) else None
    return isinstance(config, Mapping) and config.get("_class_name") in CHANNELS


@generator(recognise=recognise)
def autoencoder(dataset: str, path: str = "", size: Count | None = None) -> Generator:
    """An autoencoder of diffusers, to encode, decode and reconstruct images; its prior N(0, I) was not trained.

    It is an AutoencoderKL, an AsymmetricAutoencoderKL, an AutoencoderTiny, an AutoencoderDC or a VQModel.
    path: its folder, or the folder of a pipeline with one in vae/ or vqvae/. size: side of the images of the prior;
    null takes the sample_size of the folder, or 512 where it has none. Raises ValueError for another class.
    """
    folder = find_folder("autoencoder", path)
    if not (folder / "config.json").is_file():
        folder = next((folder / part for part in ("vae", "vqvae") if (folder / part).is_dir()), folder / "vae")
    config = read_json(folder / "config.json")
    kind = str(config.get("_class_name"))
    if kind not in CHANNELS:
        raise ValueError(f"{folder} holds a {kind}, not an autoencoder of images: {', '.join(CHANNELS)}")
    if kind == "AutoencoderKL" and size is None:
        return KLAutoencoder(folder)
    network = open_network(folder, kind)
    side = size or int(config.get("sample_size") or 512)
    files = hashes(folder, ".")
    card = {"format": f"diffusers {kind}", "files": files} | {
        "prior": "N(0, I) of scaled codes; it was not trained, so images of it need not look like data"
    }
    return PriorAutoencoder(network, side, digest("autoencoder", 1, files, side), card)
