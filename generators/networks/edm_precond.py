"""The preconditioned denoisers of EDM files: D(x; σ) = c_skip x + c_out F(c_in x; c_noise) (arXiv:2206.00364, eq. 7).

Each class is a column of table 1; its arguments have the names of the public files.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .edm_unet import NETWORKS, one_of
from .stored_options import understood

TRAINING_ONLY = ("dropout", "label_dropout")
"""Options of the networks that do not change what a trained network computes."""


class Preconditioned(nn.Module):
    """options: those of the network of type `model_type`. Raises ValueError for an option that is not understood."""

    outputs = 1
    """Channels of the network's output for each channel of the image."""

    def __init__(
        self, img_resolution: int, img_channels: int, label_dim: int, model_type: str, options: Mapping[str, Any]
    ):
        super().__init__()
        one_of("model_type", model_type, *NETWORKS)
        network = NETWORKS[model_type]
        sizes = (img_resolution, img_channels, img_channels * self.outputs, label_dim)
        self.model = network(*sizes, **understood(options, network, TRAINING_ONLY))
        self.img_resolution, self.img_channels, self.label_dim = img_resolution, img_channels, label_dim

    def limits(self) -> tuple[float, float]:
        """The smallest and the largest σ that the network knows."""
        raise NotImplementedError

    def coefficients(self, sigma: Tensor) -> tuple[Tensor | float, Tensor | float, Tensor | float, Tensor]:
        """c_skip, c_out, c_in and c_noise for a scalar σ."""
        raise NotImplementedError

    def nearest(self, sigma: Tensor) -> Tensor:
        """The noise levels next to `sigma` [n] among those that the network knows."""
        return sigma

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor | None = None) -> Tensor:
        """Images without noise from x [N, C, R, R] at noise level σ, a scalar; label [N, label_dim] for classes."""
        x, sigma = x.float(), sigma.float()
        skip, out, scale, noise = self.coefficients(sigma)
        found = self.model(scale * x, noise.float().expand(len(x)), label)
        clean: Tensor = skip * x + out * found[:, : self.img_channels]
        return clean


class EDMPrecond(Preconditioned):
    """The last column, "EDM"."""

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        sigma_min: float = 0,
        sigma_max: float = math.inf,
        sigma_data: float = 0.5,
        model_type: str = "DhariwalUNet",
        *,
        options: Mapping[str, Any],
    ):
        super().__init__(img_resolution, img_channels, label_dim, model_type, options)
        if sigma_data <= 0:
            raise ValueError(f"sigma_data={sigma_data} must be positive")
        self.known, self.sigma_data = (sigma_min, sigma_max), sigma_data

    def limits(self) -> tuple[float, float]:
        return self.known

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        total = sigma.square() + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt(), total.rsqrt(), sigma.log() / 4


class VPPrecond(Preconditioned):
    """The first column, "VP": β rises from beta_min by beta_d, and the network was trained with M timesteps."""

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        beta_d: float = 19.9,
        beta_min: float = 0.1,
        M: int = 1000,
        epsilon_t: float = 1e-5,
        model_type: str = "SongUNet",
        *,
        options: Mapping[str, Any],
    ):
        super().__init__(img_resolution, img_channels, label_dim, model_type, options)
        if not (0 < beta_d < 1000 and 0 <= beta_min < 1000 and 0 < epsilon_t < 1 and M):
            raise ValueError(f"beta_d={beta_d}, beta_min={beta_min}, M={M}, epsilon_t={epsilon_t} are no schedule")
        self.beta_d, self.beta_min, self.M, self.epsilon_t = beta_d, beta_min, M, epsilon_t

    def limits(self) -> tuple[float, float]:
        lowest, highest = (
            math.sqrt(math.expm1(self.beta_d * t * t / 2 + self.beta_min * t)) for t in (self.epsilon_t, 1.0)
        )
        return lowest, highest

    def coefficients(self, sigma: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
        power = sigma.square() + 1
        t = ((self.beta_min**2 + 2 * self.beta_d * power.log()).sqrt() - self.beta_min) / self.beta_d
        return 1.0, -sigma, power.rsqrt(), (self.M - 1) * t


class VEPrecond(Preconditioned):
    """The second column, "VE"."""

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        sigma_min: float = 0.02,
        sigma_max: float = 100,
        model_type: str = "SongUNet",
        *,
        options: Mapping[str, Any],
    ):
        super().__init__(img_resolution, img_channels, label_dim, model_type, options)
        self.known = (sigma_min, sigma_max)

    def limits(self) -> tuple[float, float]:
        return self.known

    def coefficients(self, sigma: Tensor) -> tuple[float, Tensor, float, Tensor]:
        return 1.0, sigma, 1.0, (sigma / 2).log()


class IDDPMPrecond(Preconditioned):
    """The third column, "iDDPM + DDIM": M noise levels u, largest first and then 0, which are in the file.

    C_1 and C_2 are what the levels were computed from.
    """

    u: Tensor
    outputs = 2

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        C_1: float = 0.001,
        C_2: float = 0.008,
        M: int = 1000,
        model_type: str = "DhariwalUNet",
        *,
        options: Mapping[str, Any],
    ):
        super().__init__(img_resolution, img_channels, label_dim, model_type, options)
        if not M:
            raise ValueError("M=0 must be positive")
        self.register_buffer("u", torch.zeros(M + 1))

    def limits(self) -> tuple[float, float]:
        return float(self.u[-2]), float(self.u[0])

    def nearest(self, sigma: Tensor) -> Tensor:
        return self.u[self._index(sigma)].to(sigma.dtype)

    def coefficients(self, sigma: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
        return 1.0, -sigma, (sigma.square() + 1).rsqrt(), len(self.u) - 2 - self._index(sigma)

    def _index(self, sigma: Tensor) -> Tensor:
        return (sigma.to(self.u)[..., None] - self.u).abs().argmin(-1)


KINDS: Mapping[str, type[EDMPrecond | VPPrecond | VEPrecond | IDDPMPrecond]] = {
    "EDMPrecond": EDMPrecond,
    "VPPrecond": VPPrecond,
    "VEPrecond": VEPrecond,
    "iDDPMPrecond": IDDPMPrecond,
}
