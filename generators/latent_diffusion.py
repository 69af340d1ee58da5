"""Diffusion in the latent space of our VAE: a learned prior of its codes.

Latent diffusion (arXiv:2112.10752) with a multilayer perceptron, v-prediction (arXiv:2202.00512) and a cosine schedule.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..harness.core.files import digest
from ..harness.core.protocols import Dataset, Encoding, Generator
from ..harness.core.registry import generator, trainer
from ..harness.formats.built import built
from ..harness.formats.weights import find_weights, read_weights
from .networks import ddim
from .networks.openai_unet import time_embedding
from .networks.seeds import normal
from .vae import VAE, VAENetwork

SIGNAL = ddim.cosine(1000)
"""ᾱ at each timestep of the training."""


class Denoiser(nn.Module):
    """Predicts v from codes [N, D] at timesteps [N] with residual blocks; each adds an embedding of the time."""

    def __init__(self, latent_dim: int, width: int, depth: int):
        super().__init__()
        self.width = width
        self.first, self.last = nn.Linear(latent_dim, width), nn.Linear(width, latent_dim)
        self.shift = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(depth)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = time_embedding(t, self.width)
        h = self.first(x)
        for shift, block in zip(self.shift, self.blocks, strict=True):
            h = h + block(h + shift(time))
        velocity: Tensor = self.last(h)
        return velocity


class LatentDiffusionNetwork(nn.Module):
    """The VAE, the mean and scale [D] of its codes, and the denoiser of codes standardised with them."""

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int, size: int, latent_dim: int, width: int, depth: int):
        super().__init__()
        self.denoiser = Denoiser(latent_dim, width, depth)
        self.vae = VAENetwork(channels, size, latent_dim)
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("scale", torch.ones(latent_dim))

    def predict(self, x: Tensor, t: int, signal: float) -> tuple[Tensor, Tensor]:
        """x_0 and ε from standardised noisy codes x [N, D] at timestep t, where ᾱ is `signal`."""
        return ddim.from_velocity(x, self.denoiser(x, torch.full((len(x),), t, device=x.device)), signal)

    def sample(self, x_T: Tensor, levels: ddim.Levels) -> Tensor:
        """Codes [N, D] of the VAE from standard normal noise x_T [N, D]."""
        return self.mean + self.scale * ddim.sample(self.predict, x_T, levels)


class LatentDiffusion:
    """Trained latent diffusion as a Generator that can also encode, and that shows its steps.

    Latent spaces: "x_T" is N(0, I); "z_0" has the codes that the VAE decodes, sampled from the x_T of the same seeds.
    """

    spaces: Sequence[str] = ("z_0", "x_T")
    noise_space, clean_space = "x_T", "z_0"

    def __init__(self, network: LatentDiffusionNetwork, latent_dim: int, steps: int, fingerprint: str):
        self.network, self.latent_dim, self.fingerprint = network, latent_dim, fingerprint
        self.vae = VAE(network.vae, latent_dim, 1.0, fingerprint)
        self.levels = ddim.respaced(SIGNAL, steps)

    def latents(self, seeds: Sequence[int], space: str = "z_0") -> Tensor:
        x_T = normal(seeds, self.latent_dim).to(self.network.mean)
        return x_T if space == "x_T" else self.network.sample(x_T, self.levels)

    def decode(self, latents: Tensor, space: str = "z_0") -> Tensor:
        network = self.network.to(latents.device)
        return self.vae.decode(network.sample(latents, self.levels) if space == "x_T" else latents)

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        return self.vae.encode(images, how, seeds)

    def invert(self, codes: Tensor, repeats: int = 3) -> Tensor:
        """x_T [N, D] from codes z_0 [N, D], approximately, by DDIM inversion."""
        network = self.network.to(codes.device)
        return ddim.invert(network.predict, (codes - network.mean) / network.scale, self.levels, repeats)

    def trajectory(self, noise: Tensor) -> Tensor:
        return ddim.trajectory(self.network.to(noise.device).predict, noise, self.levels)

    def denoising_errors(self, clean: Tensor) -> Tensor:
        network = self.network.to(clean.device)
        return ddim.denoising_errors(network.predict, (clean - network.mean) / network.scale, self.levels)


@generator
def latent_diffusion(dataset: str, path: str = "zoo", steps: int = 50) -> Generator:
    """Latent diffusion on the codes of the VAE, sampled with `steps` DDIM steps.

    path: "zoo" for the weights that come with assay, or a file made by `assay train generator=latent_diffusion`, which
    includes the VAE.
    """
    file = find_weights("generator", "latent_diffusion", dataset, path)
    tensors, architecture, sha256 = read_weights(file, "latent_diffusion")
    keys = ("channels", "size", "latent_dim", "width", "depth")
    network = built(lambda: LatentDiffusionNetwork(**{key: architecture[key] for key in keys}), tensors, file)
    fingerprint = digest("latent_diffusion", 1, sha256, steps)
    return LatentDiffusion(network, architecture["latent_dim"], steps, fingerprint)


def frechet(a: Tensor, b: Tensor) -> float:
    """Fréchet distance |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of normals fitted to two sets of rows [N, D]."""
    a, b = a.double(), b.double()
    A, B = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(A)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ B @ root).clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + A.trace() + B.trace() - 2 * overlap)


class LatentDiffusionTraining:
    """Minimises the squared error of v with Adam, on new posterior samples of the training images in each batch.

    The learning rate falls to 0 along a cosine. The result is an exponential moving average of the trained network.
    """

    def __init__(
        self,
        data: Dataset,
        start: str,
        vae: str,
        width: int,
        depth: int,
        epochs: int,
        batch: int,
        lr: float,
        ema: float,
        seed: int,
    ):
        family = "latent_diffusion" if start else "vae"
        tensors, options, sha256 = read_weights(find_weights("generator", family, data.name, start or vae), family)
        if not start:
            options = options | {"width": width, "depth": depth, "vae_sha256": sha256}
        shape = {key: options[key] for key in ("channels", "size", "latent_dim", "width", "depth")}
        self.architecture: Mapping[str, Any] = {
            "family": "latent_diffusion", **shape, "vae_sha256": options["vae_sha256"]
        }  # fmt: skip
        torch.manual_seed(seed)
        self.network = LatentDiffusionNetwork(**shape)
        (self.network if start else self.network.vae).load_state_dict(tensors)
        self.network.requires_grad_(False)
        images = data.take("train", 0, data.count("train")).images
        codes = [self.network.vae.posterior(part.float() / 255) for part in torch.split(images, 1000)]
        self.codes, self.deviation = torch.cat([m for m, _ in codes]), torch.cat([(v / 2).exp() for _, v in codes])
        if not start:
            self.network.mean.copy_(self.codes.mean(0))
            self.network.scale.copy_((self.codes.var(0) + self.deviation.square().mean(0)).sqrt())
        self.online = copy.deepcopy(self.network.denoiser).requires_grad_(True)
        self.optimiser = torch.optim.Adam(self.online.parameters(), lr=lr)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, epochs)
        self.epochs, self.batch, self.ema = epochs, batch, ema
        self.rows: Callable[[], Tensor] = lambda: torch.randperm(len(self.codes))

    def state(self) -> dict[str, Any]:
        parts = ("network", "online", "optimiser", "schedule")
        return {name: getattr(self, name) for name in parts}

    def _loss(self, denoiser: nn.Module, codes: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Mean squared error of v on codes [N, D] of the VAE, at random timesteps."""
        clean = (codes - self.network.mean) / self.network.scale
        t = torch.randint(len(SIGNAL), (len(codes),), generator=rng).to(codes.device)
        noise = torch.randn(codes.shape, generator=rng).to(codes)
        signal = SIGNAL.to(codes)[t, None]
        a, b = signal.sqrt(), (1 - signal).sqrt()
        error: Tensor = denoiser(a * clean + b * noise, t) - (a * noise - b * clean)
        return error.square().mean()

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor | None]]) -> Iterator[dict[str, float]]:
        self.online.to(self.network.mean.device)
        self.optimiser.load_state_dict(self.optimiser.state_dict())  # moves a resumed state to the present device
        order = torch.split(self.rows(), self.batch)
        for rows, (images, _) in zip(order, batches, strict=True):
            codes = self.codes[rows] + self.deviation[rows] * torch.randn(len(rows), self.codes.shape[1])
            loss = self._loss(self.online, codes.to(images.device))
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            for average, value in zip(self.network.denoiser.parameters(), self.online.parameters(), strict=True):
                average.lerp_(value.detach(), 1 - self.ema)
            yield {"denoising": loss.item()}
        self.schedule.step()

    @torch.no_grad()
    def pictures(self, count: int) -> Tensor:
        """Images [count, C, H, W] in [0, 1], sampled in 50 steps; the same noise at every call."""
        x_T = normal(range(count), self.codes.shape[1]).to(self.network.mean)
        codes = self.network.sample(x_T, ddim.respaced(SIGNAL, 50))
        return torch.sigmoid(self.network.vae.decoder(codes))

    @torch.no_grad()
    def assess(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Denoising loss on test codes, and Fréchet distances in the VAE's latent space; lower is better.

        The distances are from posterior samples of the test images to equally many samples of this model in 50 steps,
        of the VAE's prior, and of the posteriors of training images; the last one is the floor.
        """
        rng = torch.Generator().manual_seed(0)
        noise = partial(torch.randn, generator=rng)
        mean, logvar = self.network.vae.posterior(images)
        test = mean + torch.exp(logvar / 2) * noise(mean.shape).to(mean)
        rows = torch.randperm(len(self.codes), generator=rng)[: len(test)]
        train = (self.codes[rows] + self.deviation[rows] * noise(self.codes[rows].shape)).to(test)
        sampled = self.network.sample(noise(test.shape).to(test), ddim.respaced(SIGNAL, 50))
        return {
            "denoising": float(self._loss(self.network.denoiser, test, rng)),
            "frechet": frechet(sampled, test),
            "frechet_of_prior": frechet(noise(test.shape).to(test), test),
            "frechet_of_training_codes": frechet(train, test),
        }


@trainer("latent_diffusion")
def train_latent_diffusion(
    data: Dataset,
    seed: int,
    vae: str = "zoo",
    width: int = 96,
    depth: int = 3,
    epochs: int = 150,
    batch: int = 512,
    lr: float = 2e-3,
    ema: float = 0.999,
    start: str = "",
) -> LatentDiffusionTraining:
    """Train the denoiser on the codes of a trained VAE.

    vae: "zoo", or a file made by `assay train generator=vae`. width, depth: size of the denoiser.
    ema: decay of the moving average per batch.
    start: weights to continue from, "zoo" or a file made by this trainer. The file provides denoiser, VAE and scale of
    its codes, so vae, width and depth are ignored; the optimiser starts anew.
    """
    return LatentDiffusionTraining(data, start, vae, width, depth, epochs, batch, lr, ema, seed)
