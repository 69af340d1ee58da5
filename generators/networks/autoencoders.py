"""Autoencoders of diffusers: images in [0, 1] to scaled codes and back."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...harness.core.protocols import Encoding
from .diffusers_parts import check_images, in_pieces
from .seeds import gaussian_codes, normal

CHANNELS: Mapping[str, str] = {
    "AsymmetricAutoencoderKL": "down_block_out_channels",
    "AutoencoderDC": "encoder_block_out_channels",
    "AutoencoderKL": "block_out_channels",
    "AutoencoderTiny": "encoder_block_out_channels",
    "VQModel": "block_out_channels",
}
"""Classes whose encoder is understood; what their configuration calls the channels of the encoder's levels."""


class Codec:
    """The decoder of an autoencoder of images. Scaled codes are (z - shift_factor) · scaling_factor, if it has these.

    decode: differentiable, and not clamped. The network computes in its own precision, codes and images are float32.
    """

    def __init__(self, network: Any):
        self.network = network
        self.scale = float(network.config.get("scaling_factor") or 1)
        self.shift = float(network.config.get("shift_factor") or 0)

    def scaled(self, codes: Tensor) -> Tensor:
        """Codes as the decoder takes them, scaled; of neighbouring numbers the one that `decode` turns into them."""
        codes = codes.float()
        first = (codes - self.shift) * self.scale
        near = first.detach()
        near = torch.stack(
            [near, *(torch.nextafter(near, torch.full_like(near, end)) for end in (math.inf, -math.inf))]
        )
        missed = (self._unscaled(near) - codes.detach()).abs()
        return first + (near.gather(0, missed.argmin(0, keepdim=True))[0] - first).detach()

    def _unscaled(self, codes: Tensor) -> Tensor:
        return codes / self.scale + self.shift

    def decode(self, codes: Tensor) -> Tensor:
        """Images [N, C, H, W] of scaled codes."""
        network, kept = self.network.to(codes.device), self.network.dtype
        # As SDXL does: these decoders overflow in half precision.
        upcast = kept == torch.float16 and bool(network.config.get("force_upcast"))
        if upcast:
            network.to(torch.float32)
        found = network.decode(self._unscaled(codes).to(network.dtype)).sample
        if upcast:
            network.to(kept)
        images: Tensor = found[:, :, 0] if found.ndim == 5 and found.shape[2] == 1 else found
        return images.float() / 2 + 0.5


class Autoencoder(Codec):
    """A decoder with its encoder. Raises ValueError for a class whose encoder is not understood.

    A network without a posterior encodes to points: "sample" equals "mean", and "logvar" raises ValueError. Codes of a
    VQModel are not quantised; decoding quantises them.
    """

    def __init__(self, network: Any):
        super().__init__(network)
        self.kind = type(network).__name__
        if self.kind not in CHANNELS:
            raise ValueError(f"{self.kind} is not supported; autoencoders of images are {', '.join(CHANNELS)}")
        self.channels = int(network.config.in_channels)
        self.factor = 2 ** (len(network.config[CHANNELS[self.kind]]) - 1)

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        """Scaled codes of images [N, C, H, W] in [0, 1]."""
        check_images(images, self.channels, self.factor)
        network = self.network.to(images.device)

        def moments(x: Tensor) -> Tensor:
            found = network.encode((2 * x - 1).to(network.dtype))
            if hasattr(found, "latent_dist"):
                return torch.stack([found.latent_dist.mean, found.latent_dist.logvar], 1).float()
            codes: Tensor = found.latent if hasattr(found, "latent") else found.latents
            return codes[:, None].float()

        mean, *rest = in_pieces(moments, images).unbind(1)
        if rest:
            return gaussian_codes(self.scaled(mean), rest[0] + 2 * math.log(self.scale), how, seeds)
        if how == "logvar":
            raise ValueError(f"{self.kind} encodes to points, so there is no log variance; choose encode=mean")
        return self.scaled(mean)


class PriorAutoencoder(Autoencoder):
    """An autoencoder as a Generator. The prior of space "z", [N, c, h, w], is N(0, I), which was not trained.

    Images decoded from it need not look like data. size: side of its images, which gives h and w.
    """

    spaces: Sequence[str] = ("z",)

    def __init__(self, network: Any, size: int, fingerprint: str, card: Mapping[str, Any]):
        super().__init__(network)
        if size % self.factor:
            raise ValueError(f"size={size} must be divisible by {self.factor}, the factor of {self.kind}")
        self.shape = (int(network.config.latent_channels), *2 * (size // self.factor,))
        self.fingerprint, self.card = fingerprint, card

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        return normal(seeds, *self.shape)

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        return in_pieces(super().decode, latents)
