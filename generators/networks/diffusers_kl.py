"""The AutoencoderKL of a diffusers folder: the first stage of latent diffusion (arXiv:2112.10752, 3.1)."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...harness.core.files import digest
from ...harness.core.protocols import Encoding
from .diffusers_parts import check_images, hashes, in_pieces, open_network
from .seeds import gaussian_codes, normal


class KLAutoencoder:
    """q(z|x) = N(mean(x), exp(logvar(x))) and a decoder, both in the scaled latent space of latent diffusion models.

    Scaled codes are (z - shift_factor) · scale; the default of `scale` is the folder's scaling_factor. The prior of
    space "z", [N, C, h, w], is the N(0, I) of the KL term. It does not model the distribution of codes of images, so
    images decoded from it need not look like data.
    """

    spaces: Sequence[str] = ("z",)

    def __init__(self, folder: Path, scale: float | None = None):
        self.vae = open_network(folder, "AutoencoderKL")
        config = self.vae.config
        self.scale = float(config.scaling_factor if scale is None else scale)
        self.shift = float(config.get("shift_factor") or 0)
        self.channels, self.factor = int(config.in_channels), 2 ** (len(config.block_out_channels) - 1)
        self.shape = (int(config.latent_channels), *2 * (int(config.sample_size) // self.factor,))
        files = hashes(folder, ".")
        self.fingerprint = digest("autoencoder_kl", 1, files)
        self.card = {"format": "diffusers AutoencoderKL", "files": files, "scaling_factor": self.scale} | {
            "prior": "N(0, I) in the scaled latent space; it was not trained, so images of it need not look like data"
        }

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        return normal(seeds, *self.shape)

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        vae = self.vae.to(latents.device)
        return in_pieces(lambda z: vae.decode(z / self.scale + self.shift).sample / 2 + 0.5, latents)

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        check_images(images, self.channels, self.factor)
        vae = self.vae.to(images.device)

        def moments(x: Tensor) -> Tensor:
            posterior = vae.encode(2 * x - 1).latent_dist
            return torch.stack([posterior.mean, posterior.logvar], 1)

        mean, logvar = in_pieces(moments, images).unbind(1)
        mean, logvar = (mean - self.shift) * self.scale, logvar + 2 * math.log(self.scale)
        return gaussian_codes(mean, logvar, how, seeds)
