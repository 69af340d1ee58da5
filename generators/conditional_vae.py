"""Conditional VAE of features (R-SVAE: Xu and Le, CVPR 2022; github.com/cvlab-stonybrook/fsl-rsvae)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.files import digest
from ..harness.core.progress import say
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks.seeds import normal

VARIANTS = ("repaired", "published")
DECODERS = ("mini", "tiered")
USED = 0.17
"""A latent dimension is in use if the standard deviation of its posterior means over features is at least this."""
WARM = 0.5
"""Share of the epochs over which the weight of the KL divergence rises from 0 to 1."""


class ConditionalVAENetwork(nn.Module):
    """q(z|x, a) = N(mean, exp(logvar)) and a decoder of [z ; a], for features x [N, D] and conditions a [N, S].

    relu_heads: keep mean and logvar at or above 0, as published; the posterior is then at least as wide as the prior.
    decoder: "mini" has a hidden layer, "tiered" none; both end in BatchNorm and ReLU. Weights and biases of all linear
    layers start from N(0, 0.02²).
    """

    def __init__(self, dimension: int, conditions: int, latent: int, hidden: int, relu_heads: bool, decoder: str):
        super().__init__()
        self.relu_heads = relu_heads
        self.encoder = nn.Sequential(nn.Linear(dimension + conditions, hidden), nn.LeakyReLU(0.01))
        self.mean, self.logvar = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        inputs = latent + conditions
        layers: list[nn.Module] = [nn.Linear(inputs, dimension)]
        if decoder == "mini":
            layers = [nn.Linear(inputs, hidden), nn.LeakyReLU(0.01), nn.Linear(hidden, dimension)]
        self.decoder = nn.Sequential(*layers, nn.BatchNorm1d(dimension), nn.ReLU())
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.02)
                nn.init.normal_(module.bias, 0, 0.02)

    def posterior(self, features: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each [N, latent]."""
        hidden = self.encoder(torch.cat([features, conditions], 1))
        mean, logvar = self.mean(hidden), self.logvar(hidden)
        return (F.relu(mean), F.relu(logvar)) if self.relu_heads else (mean, logvar)

    def forward(self, latents: Tensor, conditions: Tensor) -> Tensor:
        """Features [N, D] decoded from latents [N, latent] and conditions [N, S]."""
        features: Tensor = self.decoder(torch.cat([latents, conditions], 1))
        return features


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(logvar)) from N(0, 1) for each entry, in nats."""
    return -0.5 * (1 + logvar - mean.square() - logvar.exp())


class ConditionalVAE:
    """A generator of features that has no weights of its own: `learn` trains it on features of the base classes."""

    spaces: Sequence[str] = ("z",)

    def __init__(
        self, variant: str, decoder: str, latent: int, hidden: int, beta: float, epochs: int, batch: int, lr: float
    ):
        self.variant, self.decoder, self.latent, self.hidden, self.beta = variant, decoder, latent, hidden, beta
        self.epochs, self.batch, self.lr = epochs, batch, lr
        options = (variant, decoder, latent, hidden, beta, epochs, batch, lr)
        self.fingerprint = digest("conditional_vae", 1, *options)

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        return normal(seeds, self.latent)

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        raise ValueError(
            "conditional_vae generates features, not images, and only once it has learned: use study=few_shot"
        )

    def learn(
        self, features: Tensor, conditions: Tensor, seed: int, state: Mapping[str, Tensor] | None = None
    ) -> "LearntVAE":
        """A VAE trained on features [N, D] with their conditions [N, S], or one with the `state` of such a training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = ConditionalVAENetwork(
                features.shape[1],
                conditions.shape[1],
                self.latent,
                self.hidden,
                self.variant == "published",
                self.decoder,
            ).to(features.device)
            if state is None:
                self._train(network, features, conditions)
            else:
                network.load_state_dict(dict(state))
        return LearntVAE(network.eval().requires_grad_(False))

    def _train(self, network: ConditionalVAENetwork, features: Tensor, conditions: Tensor) -> None:
        optimiser = torch.optim.Adam(network.parameters(), lr=self.lr)
        with torch.enable_grad():
            for epoch in range(self.epochs):
                for rows in torch.split(torch.randperm(len(features)), self.batch):
                    if len(rows) == 1:  # BatchNorm needs two rows for a variance
                        continue
                    x, a = features[rows.to(features.device)], conditions[rows.to(features.device)]
                    mean, logvar = network.posterior(x, a)
                    z = mean + torch.exp(logvar / 2) * torch.randn(mean.shape).to(mean)
                    loss = self.loss(x, network(z, a), mean, logvar, min(1.0, epoch / (WARM * self.epochs)))
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()

    def loss(
        self, features: Tensor, reconstruction: Tensor, mean: Tensor, logvar: Tensor, warmth: float = 1.0
    ) -> Tensor:
        """Published: mean squared error over entries + beta KL. Repaired: the negative ELBO up to a constant.

        KL is summed over dimensions and averaged over the batch. The negative ELBO is D/2 log(mean squared error) + KL.
        Its Gaussian likelihood has one variance, the optimal one for any scale of the features (arXiv:2006.13202). Its
        KL has weight `warmth`, which rises from 0 to 1 over the first share WARM of the epochs: the published initial
        weights are small, and a full KL would make the posterior collapse before codes are useful (arXiv:1511.06349).
        """
        error, kl = F.mse_loss(reconstruction, features), divergence(mean, logvar).sum(1).mean()
        if self.variant == "published":
            return error + self.beta * kl
        return features.shape[1] / 2 * torch.log(error) + warmth * kl


class LearntVAE:
    """A trained conditional VAE as a FeatureModel."""

    def __init__(self, network: ConditionalVAENetwork):
        self.network = network

    @property
    def state(self) -> Mapping[str, Tensor]:
        return self.network.state_dict()

    def posterior(self, features: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.posterior(features, conditions)

    def decode(self, latents: Tensor, conditions: Tensor) -> Tensor:
        features: Tensor = self.network(latents, conditions)
        return features

    def assess(self, features: Tensor, conditions: Tensor) -> dict[str, float]:
        """KL in nats, variance of posterior means over features, and errors; warns if the posterior has collapsed.

        used dimensions: those whose means have a standard deviation of at least USED. error: mean squared error of
        features decoded from their own mean code; error of any code: from the mean code of another feature. If the two
        errors agree, codes carry no information.
        """
        mean, logvar = self.posterior(features, conditions)
        kl, spread = divergence(mean, logvar).mean(0), mean.std(0)
        other = mean.roll(max(1, len(mean) // 2), 0)
        found = {
            "KL": float(kl.sum()),
            "KL a dimension": float(kl.mean()),
            "variance of means": float(spread.square().mean()),
            "used dimensions": float((spread >= USED).sum()),
            "error": float(F.mse_loss(self.decode(mean, conditions), features)),
            "error of any code": float(F.mse_loss(self.decode(other, conditions), features)),
        }
        if not found["used dimensions"]:
            say(
                f"posterior collapse: the standard deviation of mean codes is at most {float(spread.max()):.2g} in "
                f"each of {len(spread)} dimensions (KL {found['KL']:.2g} nats), so a code says nothing about its "
                "feature, and a selection of codes is random or by their norm"
            )
        return found


@generator
def conditional_vae(
    dataset: str,
    variant: str = "repaired",
    decoder: str = "mini",
    latent: int = 512,
    hidden: int = 4096,
    beta: float = 0.005,
    epochs: int = 60,
    batch: int = 256,
    lr: float = 1e-3,
) -> Generator:
    """Conditional VAE that study=few_shot trains on features of base classes and uses to generate novel ones.

    variant: "published" has ReLU on both heads of the encoder, and the loss error + beta KL; "repaired" (ours) has
             linear heads, and the negative ELBO with a warm-up. See `ConditionalVAE.loss`.
    decoder: "mini", with a hidden layer, or "tiered", without. Published beta and epochs: 0.005 and 60 for mini, 0.05
             and 35 for tiered. The default latent and hidden sizes are for features of 512 dimensions.
    """
    for option, value, known in (("variant", variant, VARIANTS), ("decoder", decoder, DECODERS)):
        if value not in known:
            raise ValueError(f"{option}={value!r} must be {' or '.join(known)}")
    if min(latent, hidden, epochs) < 1 or batch < 2:
        raise ValueError(
            f"latent={latent}, hidden={hidden}, epochs={epochs} must be 1 or more, batch={batch} 2 or more"
        )
    return ConditionalVAE(variant, decoder, latent, hidden, beta, epochs, batch, lr)
