"""Train a small StyleGAN2 of our own (arXiv:1912.04958): non-saturating loss, lazy R1, average of the weights."""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.protocols import Dataset
from ..harness.registry import trainer
from .seeds import normal
from .stylegan2_networks import Discriminator, StyleGAN2Network

EVERY = 16
"""R1 is computed at every 16th batch, 16 times as strong."""
RATE_OF_MEAN = 0.005
"""Share of each batch in the running mean of w."""


def padded(images: Tensor, resolution: int) -> Tensor:
    """Images in [0, 1] to [-1, 1], with a black border up to the resolution of the network."""
    border = resolution - images.shape[-1]
    before, after = border // 2, border - border // 2
    return F.pad(images, (before, after, before, after)) * 2 - 1


class StyleGAN2Training:
    """Non-saturating logistic losses with Adam; R1 on the real images; the generator kept is an average over time."""

    def __init__(
        self, data: Dataset, z_dim: int, base: int, most: int, epochs: int, batch: int, rate: float, gamma: float,
        half_life: float, seed: int,
    ):  # fmt: skip
        image_channels, size = data.take("train", 0, 1).images.shape[1:3]
        resolution = 2 ** (size - 1).bit_length()
        torch.manual_seed(seed)
        shape = {"z_dim": z_dim, "c_dim": 0, "w_dim": z_dim, "resolution": resolution, "image_channels": image_channels,
                 "base": base, "most": most, "mapping_layers": 2}  # fmt: skip
        self.architecture = {"family": "stylegan2", "size": size, **shape}
        self.live = StyleGAN2Network(**shape)
        self.average = copy.deepcopy(self.live).requires_grad_(False)
        self.discriminator = Discriminator(resolution, image_channels, base, most)
        self.network = nn.ModuleDict({"G": self.average, "D": self.discriminator})
        lazy = EVERY / (EVERY + 1)
        self.optimiser = torch.optim.Adam(self.live.parameters(), lr=rate, betas=(0.0, 0.99))
        self.opponent = torch.optim.Adam(self.discriminator.parameters(), lr=rate * lazy, betas=(0.0, 0.99**lazy))
        self.epochs, self.batch, self.z_dim, self.resolution, self.size = epochs, batch, z_dim, resolution, size
        self.gamma, self.decay = gamma, 0.5 ** (batch / half_life)

    def state(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {"network": self.network, "live": self.live, "optimiser": self.optimiser, "opponent": self.opponent}

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor | None]]) -> Iterator[dict[str, float]]:
        penalty = 0.0
        for step, (images, _) in enumerate(batches):
            real = padded(images, self.resolution)
            self.live.to(real.device)
            generator_loss = self._teach_generator(len(real), real.device)
            discriminator_loss = self._teach_discriminator(real)
            if step % EVERY == 0:
                penalty = self._penalise(real)
            self._average()
            yield {"generator": generator_loss, "discriminator": discriminator_loss, "gradient_penalty": penalty}

    def _teach_generator(self, count: int, device: torch.device) -> float:
        self.discriminator.requires_grad_(False)
        w = self.live.mapping(torch.randn(count, self.z_dim).to(device))
        self.live.mapping.w_avg.lerp_(w.detach().mean(0), RATE_OF_MEAN)
        loss = F.softplus(-self.discriminator(self.live.images(w))).mean()
        self._step(self.optimiser, loss)
        self.discriminator.requires_grad_(True)
        return loss.item()

    def _teach_discriminator(self, real: Tensor) -> float:
        with torch.no_grad():
            fake = self.live(torch.randn(len(real), self.z_dim).to(real))
        loss = F.softplus(self.discriminator(fake)).mean() + F.softplus(-self.discriminator(real)).mean()
        self._step(self.opponent, loss)
        return loss.item()

    def _penalise(self, real: Tensor) -> float:
        real = real.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(self.discriminator(real).sum(), real, create_graph=True)
        penalty = slope.square().sum((1, 2, 3)).mean()
        self._step(self.opponent, penalty * (self.gamma / 2 * EVERY))
        return penalty.item()

    @staticmethod
    def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    @torch.no_grad()
    def _average(self) -> None:
        self.average.to(next(self.live.parameters()).device)
        now = self.live.state_dict()
        learned = {name for name, _ in self.live.named_parameters()}
        for name, mean in self.average.state_dict().items():
            mean.lerp_(now[name], 1 - self.decay if name in learned else 1.0)

    @torch.no_grad()
    def pictures(self, count: int) -> Tensor:
        """Images [count, C, size, size] in [0, 1] of the averaged generator; the same latents at every call."""
        z = normal(range(count), self.z_dim).to(self.average.mapping.w_avg)
        start = (self.resolution - self.size) // 2
        images: Tensor = self.average(z)
        return images[..., start : start + self.size, start : start + self.size].add(1).div(2).clamp(0, 1)

    @torch.no_grad()
    def assess(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Mean logit of the discriminator on held-out and on generated images: near each other when it is fooled."""
        real = padded(images[:2000], self.resolution)
        fake = self.average(normal(range(len(real)), self.z_dim).to(real))
        logits = {"real": self.discriminator(real), "generated": self.discriminator(fake)}
        return {f"logit_{name}": float(values.mean()) for name, values in logits.items()}


@trainer("stylegan2")
def train_stylegan2(
    data: Dataset,
    seed: int,
    z_dim: int = 64,
    base: int = 512,
    most: int = 96,
    epochs: int = 8,
    batch: int = 32,
    rate: float = 2.5e-3,
    gamma: float = 0.1,
    half_life: float = 10_000.0,
) -> StyleGAN2Training:
    """Train StyleGAN2 on the images of a data set, with a border up to the next power of two.

    base, most: channels at resolution r are base / r, at most `most`. gamma: weight of R1. half_life: of the average
    of the generator's weights, in images.
    """
    return StyleGAN2Training(data, z_dim, base, most, epochs, batch, rate, gamma, half_life, seed)
