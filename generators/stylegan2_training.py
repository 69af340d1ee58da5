"""Training of a small StyleGAN2 (arXiv:1912.04958): non-saturating loss, lazy R1, moving average of the weights.

It starts from random weights or from weights trained by assay. With an acceptance rule for samples it is Algorithm 3 of
arXiv:2407.08659.
"""

import copy
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.protocols import Dataset
from ..harness.core.registry import trainer
from ..harness.formats.weights import find_weights, read_weights
from .networks.seeds import normal
from .networks.stylegan2_networks import Discriminator, StyleGAN2Network

R1_INTERVAL = 16
"""R1 is computed every 16th batch, with 16 times the weight."""
MEAN_W_RATE = 0.005
"""Weight of each batch in the running mean of w."""
MIN_TRIED = 16
"""Minimum number of samples that are generated together for acceptance."""
MAX_TRIED = 10_000
"""The training stops with an error after this many generated samples per required one."""


def padded(images: Tensor, resolution: int) -> Tensor:
    """Images in [0, 1] scaled to [-1, 1], with a black border up to the resolution of the network."""
    border = resolution - images.shape[-1]
    before, after = border // 2, border - border // 2
    return F.pad(images, (before, after, before, after)) * 2 - 1


class StyleGAN2Training:
    """Minimises non-saturating logistic losses with Adam, with R1 on real images; the result is the averaged generator.

    accept: maps images [N, C, H, W] to bool [N]. If it is given, both losses use only accepted samples. The generator
    has neither new noise nor style mixing, so the latent of an accepted image reproduces it.
    """

    accept: Callable[[Tensor], Tensor] | None = None

    def __init__(
        self, data: Dataset, start: str, z_dim: int, base: int, max_channels: int, epochs: int, batch: int, lr: float,
        gamma: float, half_life: float, seed: int,
    ):  # fmt: skip
        image_channels, size = data.take("train", 0, 1).images.shape[1:3]
        resolution = 2 ** (size - 1).bit_length()
        torch.manual_seed(seed)
        self.architecture = {
            "family": "stylegan2", "size": size, "z_dim": z_dim, "c_dim": 0, "w_dim": z_dim, "resolution": resolution,
            "image_channels": image_channels, "base": base, "max_channels": max_channels, "mapping_layers": 2,
        }  # fmt: skip
        known: dict[str, Tensor] = {}
        if start:
            file = find_weights("generator", "stylegan2", data.name, start)
            known, self.architecture, _ = read_weights(file, "stylegan2")
            stored = [self.architecture[key] for key in ("image_channels", "size")]
            if stored != [image_channels, size]:
                raise ValueError(
                    f"start={start}: its images have {stored[0]} channels and {stored[1]} pixels per side, those of "
                    f"{data.name} {image_channels} and {size}; choose weights or data that fit"
                )
        shape = {key: value for key, value in self.architecture.items() if key not in ("family", "size")}
        self.live = StyleGAN2Network(**shape)
        self.average = copy.deepcopy(self.live).requires_grad_(False)
        self.discriminator = Discriminator(resolution, image_channels, shape["base"], shape["max_channels"])
        self.network = nn.ModuleDict({"G": self.average, "D": self.discriminator})
        if known:
            self.network.load_state_dict(known)
            self.live.load_state_dict(self.average.state_dict())
        lazy = R1_INTERVAL / (R1_INTERVAL + 1)
        self.optimiser = torch.optim.Adam(self.live.parameters(), lr=lr, betas=(0.0, 0.99))
        self.opponent = torch.optim.Adam(self.discriminator.parameters(), lr=lr * lazy, betas=(0.0, 0.99**lazy))
        self.epochs, self.batch, self.resolution, self.size = epochs, batch, resolution, size
        self.z_dim, self.gamma, self.decay, self.tried = shape["z_dim"], gamma, 0.5 ** (batch / half_life), 0

    def state(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {"network": self.network, "live": self.live, "optimiser": self.optimiser, "opponent": self.opponent}

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor | None]]) -> Iterator[dict[str, float]]:
        penalty = 0.0
        for step, (images, _) in enumerate(batches):
            real = padded(images, self.resolution)
            self.live.to(real.device)
            self.tried = 0
            generator_loss = self._teach_generator(len(real), real.device)
            discriminator_loss = self._teach_discriminator(real)
            if step % R1_INTERVAL == 0:
                penalty = self._penalise(real)
            self._average()
            losses = {"generator": generator_loss, "discriminator": discriminator_loss, "gradient_penalty": penalty}
            yield losses if self.accept is None else losses | {"tried_for_one": self.tried / (2 * len(real))}

    @torch.no_grad()
    def _latents(self, count: int, device: torch.device) -> Tensor:
        """Latents [count, z_dim] from the prior; with `accept`, only those whose sample it accepts."""
        if self.accept is None:
            return torch.randn(count, self.z_dim).to(device)
        kept, tried = torch.empty(0, self.z_dim, device=device), 0
        while len(kept) < count:
            if tried > MAX_TRIED * count:
                raise ValueError(f"only {len(kept)} of {tried} generated samples were accepted: choose milder weights")
            z = torch.randn(max(count - len(kept), MIN_TRIED), self.z_dim).to(device)
            kept = torch.cat([kept, z[self.accept(self._cropped(self.live(z)))]])
            tried += len(z)
        self.tried += tried
        return kept[:count]

    def _teach_generator(self, count: int, device: torch.device) -> float:
        self.discriminator.requires_grad_(False)
        w = self.live.mapping(self._latents(count, device))
        self.live.mapping.w_avg.lerp_(w.detach().mean(0), MEAN_W_RATE)
        loss = F.softplus(-self.discriminator(self.live.images(w))).mean()
        self._step(self.optimiser, loss)
        self.discriminator.requires_grad_(True)
        return loss.item()

    def _teach_discriminator(self, real: Tensor) -> float:
        with torch.no_grad():
            fake = self.live(self._latents(len(real), real.device))
        loss = F.softplus(self.discriminator(fake)).mean() + F.softplus(-self.discriminator(real)).mean()
        self._step(self.opponent, loss)
        return loss.item()

    def _penalise(self, real: Tensor) -> float:
        real = real.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(self.discriminator(real).sum(), real, create_graph=True)
        penalty = slope.square().sum((1, 2, 3)).mean()
        self._step(self.opponent, penalty * (self.gamma / 2 * R1_INTERVAL))
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
        return torch.cat([self._cropped(self.average(part)).clamp(0, 1) for part in torch.split(z, 250)])

    def _cropped(self, images: Tensor) -> Tensor:
        """Images without the border, nominally in [0, 1]."""
        start = (self.resolution - self.size) // 2
        return images[..., start : start + self.size, start : start + self.size].add(1).div(2)

    @torch.no_grad()
    def assess(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Mean logit of the discriminator on held-out and on generated images; equal if it cannot separate them."""
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
    max_channels: int = 96,
    epochs: int = 8,
    batch: int = 32,
    lr: float = 2.5e-3,
    gamma: float = 0.1,
    half_life: float = 10_000.0,
    start: str = "",
) -> StyleGAN2Training:
    """Train StyleGAN2 on the images of a data set, with a border up to the next power of two.

    base, max_channels: the number of channels at resolution r is base / r, at most `max_channels`.
    gamma: weight of R1. half_life: of the average of the generator's weights, in images.
    start: weights to continue from, "zoo" or a file made by this trainer. The file provides the discriminator and the
    averaged generator, from which the live generator starts too; z_dim, base and max_channels are ignored. The
    optimisers start anew.
    """
    return StyleGAN2Training(data, start, z_dim, base, max_channels, epochs, batch, lr, gamma, half_life, seed)
