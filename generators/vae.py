"""Convolutional variational autoencoder (Kingma and Welling 2013, arXiv:1312.6114)."""

import itertools
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.files import digest
from ..harness.core.protocols import Dataset, Encoding, Generator
from ..harness.core.registry import generator, trainer
from ..harness.formats.built import built
from ..harness.formats.weights import find_weights, read_weights
from .networks.seeds import gaussian_codes, normal


def _sizes(size: int) -> list[int]:
    """Spatial sizes of the levels; each is half the previous one, rounded up, until at most 7 pixels remain."""
    sizes = [size]
    while sizes[-1] > 7:
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


class VAENetwork(nn.Module):
    """q(z|x) = N(mean(x), exp(logvar(x))) and p(x|z) = Bernoulli per pixel; images [N, C, H, W] with H = W."""

    def __init__(self, channels: int, size: int, latent_dim: int, width: int = 32, hidden: int = 128):
        super().__init__()
        sizes = _sizes(size)
        widths = [channels, *(width * 2 ** min(level, 2) for level in range(len(sizes) - 1))]
        encoder: list[nn.Module] = []
        for w, next_w in itertools.pairwise(widths):
            encoder += [nn.Conv2d(w, next_w, 3, stride=2, padding=1), nn.SiLU()]
        flat = widths[-1] * sizes[-1] ** 2
        encoder += [nn.Flatten(), nn.Linear(flat, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latent_dim)]
        decoder: list[nn.Module] = [nn.Linear(latent_dim, hidden), nn.SiLU(), nn.Linear(hidden, flat)]
        decoder += [nn.Unflatten(1, (widths[-1], sizes[-1], sizes[-1]))]
        for level in reversed(range(len(sizes) - 1)):
            decoder += [nn.SiLU(), nn.Conv2d(widths[level + 1], 4 * widths[level], 3, padding=1), nn.PixelShuffle(2)]
            if 2 * sizes[level + 1] != sizes[level]:
                decoder += [nn.ZeroPad2d((0, -1, 0, -1))]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each [N, latent_dim], of images [N, C, H, W] in [0, 1]."""
        mean, logvar = self.encoder(images).chunk(2, dim=1)
        return mean, logvar

    def negative_elbo(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction error and KL divergence, in nats per image, averaged over the batch."""
        mean, logvar = self.posterior(images)
        logits = self.decoder(mean + torch.exp(logvar / 2) * noise)
        reconstruction = F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
        kl = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum() / len(images)
        return reconstruction, kl


class VAE:
    """A trained VAE as a Generator that can also encode. Latent space "z": N(0, temperature² I)."""

    spaces: Sequence[str] = ("z",)

    def __init__(self, network: VAENetwork, latent_dim: int, temperature: float, weights: str):
        self.network, self.latent_dim, self.temperature = network, latent_dim, temperature
        self.fingerprint, self.encoder_fingerprint = digest("vae", 1, weights, temperature), digest("vae", weights)

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        return self.temperature * normal(seeds, self.latent_dim)

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        return torch.sigmoid(self.network.to(latents.device).decoder(latents))

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        return self.codes(self.posterior(images), how, seeds)

    def posterior(self, images: Tensor) -> Tensor:
        """Means and log variances beside each other, [N, 2 latent_dim]."""
        found: Tensor = self.network.to(images.device).encoder(images)
        return found

    def codes(self, posterior: Tensor, how: Encoding, seeds: Sequence[int]) -> Tensor:
        mean, logvar = posterior.chunk(2, dim=1)
        return gaussian_codes(mean, logvar, how, seeds)


@generator
def vae(dataset: str, path: str = "zoo", temperature: float = 1.0) -> Generator:
    """Convolutional VAE; samples z ~ N(0, temperature² I).

    path: "zoo" for the weights that come with assay, or a file made by `assay train generator=vae`.
    """
    if temperature < 0:
        raise ValueError(f"temperature={temperature} must not be negative")
    file = find_weights("generator", "vae", dataset, path)
    tensors, architecture, sha256 = read_weights(file, "vae")
    network = built(
        lambda: VAENetwork(**{key: architecture[key] for key in ("channels", "size", "latent_dim")}), tensors, file
    )
    return VAE(network, architecture["latent_dim"], temperature, sha256)


class VAETraining:
    """Minimises the negative ELBO with Adam; the learning rate falls to 0 along a cosine."""

    def __init__(self, data: Dataset, latent_dim: int, epochs: int, batch: int, lr: float, seed: int):
        channels, size = data.take("train", 0, 1).images.shape[1:3]
        torch.manual_seed(seed)
        self.architecture = {"family": "vae", "channels": channels, "size": size, "latent_dim": latent_dim}
        self.network = VAENetwork(channels, size, latent_dim)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=lr)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, epochs)
        self.epochs, self.batch, self.latent_dim = epochs, batch, latent_dim

    def state(self) -> dict[str, nn.Module | torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler]:
        return {"network": self.network, "optimiser": self.optimiser, "schedule": self.schedule}

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor | None]]) -> Iterator[dict[str, float]]:
        self.network.train()
        for images, _ in batches:
            noise = torch.randn(len(images), self.latent_dim).to(images)
            reconstruction, kl = self.network.negative_elbo(images, noise)
            self.optimiser.zero_grad()
            (reconstruction + kl).backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            yield {"reconstruction": reconstruction.item(), "kl": kl.item()}
        self.schedule.step()

    @torch.no_grad()
    def assess(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Test ELBO in nats per image, and the number of collapsed latent dimensions.

        A dimension has collapsed if the standard deviation of the posterior means is below 0.17.
        """
        self.network.eval()
        mean, _ = self.network.posterior(images)
        noise = torch.randn(len(images), self.latent_dim, generator=torch.Generator().manual_seed(0)).to(images)
        reconstruction, kl = self.network.negative_elbo(images, noise)
        collapsed = (mean.std(dim=0) < 0.17).sum()
        return {"reconstruction": float(reconstruction), "kl": float(kl), "collapsed_dimensions": float(collapsed)}


@trainer("vae")
def train_vae(
    data: Dataset, seed: int, latent_dim: int = 16, epochs: int = 30, batch: int = 128, lr: float = 1e-3
) -> VAETraining:
    """Train the VAE on the images of a data set."""
    return VAETraining(data, latent_dim, epochs, batch, lr, seed)
