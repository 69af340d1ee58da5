"""Variational autoencoder of shapes: 3D convolutions encode a volume, a feature volume and a small network decode it.

The decoder follows SDF-StyleGAN (arXiv:2206.12055): it maps the code to a coarse volume of features, interpolates the
features at a point, and maps them to the signed distance. The encoder and the objective are those of a VAE
(arXiv:1312.6114), the reconstruction error is that of DeepSDF (arXiv:1901.05103, eq. 4).
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.files import digest
from ..harness.core.protocols import Dataset, Encoding, Generator
from ..harness.core.registry import generator, trainer
from ..harness.formats.built import built
from ..harness.formats.weights import find_weights, read_weights
from ..harness.shapes.surfaces import TRUNCATION, grid, to_volume, voxel
from .networks.seeds import gaussian_codes, normal

COARSE = 4
"""Points per axis of the coarsest features, the first ones of the decoder."""
PATCH = 4
"""Points per axis of the patches in the first layer of the encoder."""
AT_ONCE = 4
"""Number of shapes decoded on the grid together; more would not fit in a processor's cache."""


class Residual(nn.Module):
    """x plus group normalisation, activation and convolution of x.

    Volumes of two points an axis are never computed in bfloat16: there the CPU kernel of oneDNN (torch 2.13) computes
    the gradient of the weights from uninitialised memory.
    """

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv3d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] > 2:
            return x + self.body(x)  # type: ignore[no-any-return]
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(next(self.parameters()).dtype)
            return x + self.body(x)  # type: ignore[no-any-return]


class SDFVAENetwork(nn.Module):
    """q(z|volume) = N(mean, exp(logvar)), and the signed distance of a code at a point.

    size: points per axis of the volumes, a multiple of 8. Distances are in units of `reach`, at which volumes are
    clamped. Buffers `centres` [classes, latent_dim] and `roots` [classes, latent_dim, latent_dim] store the means and
    the square roots of the covariances of the codes of each class.
    """

    centres: Tensor
    roots: Tensor

    def __init__(self, size: int, latent_dim: int, classes: int, width: int = 64, features: int = 16, hidden: int = 32):
        super().__init__()
        self.size, self.reach = size, TRUNCATION * voxel(size)
        half = width // 2
        self.encoder = nn.Sequential(
            nn.Conv3d(1, width, PATCH, stride=PATCH), Residual(width),
            nn.Conv3d(width, width, 2, stride=2), Residual(width),
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv3d(width, half, 1),
            nn.Flatten(), nn.Linear(half * (size // PATCH // 2) ** 3, 2 * latent_dim),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, width * COARSE**3), nn.Unflatten(1, (width, COARSE, COARSE, COARSE)), Residual(width),
            nn.ConvTranspose3d(width, width, 2, stride=2), Residual(width), nn.GroupNorm(8, width), nn.SiLU(),
            nn.ConvTranspose3d(width, features, 4, stride=2, padding=1),
        )  # fmt: skip
        self.reader = nn.Sequential(
            nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
        )
        self.register_buffer("centres", torch.zeros(classes, latent_dim))
        self.register_buffer("roots", torch.zeros(classes, latent_dim, latent_dim))
        last = self.encoder[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias[latent_dim:], -4.0)  # a small initial variance prevents posterior collapse

    def posterior(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each [N, latent_dim], of volumes [N, 1, R, R, R] in [0, 1]."""
        mean, logvar = self.encoder(volumes).float().chunk(2, dim=1)
        return mean, logvar

    def distances(self, latents: Tensor, points: Tensor) -> Tensor:
        """Signed distances [N, K], in units of `reach`, at points [K, 3] or [N, K, 3] of [-1, 1]^3."""
        at = points.flip(-1).expand(len(latents), -1, -1)[:, None, None]
        features = self.decoder(latents).to(points.dtype)
        return self._read(F.grid_sample(features, at, padding_mode="border", align_corners=True))

    def on_grid(self, latents: Tensor, resolution: int) -> Tensor:
        """Signed distances [N, R³], in units of `reach`, at the points of a grid; faster than `distances`."""
        size = (resolution,) * 3
        read = [
            self._read(F.interpolate(features, size=size, mode="trilinear", align_corners=True))
            for features in torch.split(self.decoder(latents), AT_ONCE)
        ]
        return torch.cat(read)

    def _read(self, features: Tensor) -> Tensor:
        distances: Tensor = self.reader(features.flatten(2).transpose(1, 2))
        return distances.squeeze(-1).to(features.dtype)


def censored_error(found: Tensor, known: Tensor) -> Tensor:
    """|found - known| in units of the reach; where `known` is clamped to ±1, a larger `found` has no error."""
    within = torch.where(known >= 1, found.clamp(max=1), torch.where(known <= -1, found.clamp(min=-1), found))
    return (within - known).abs()


class SDFVAE:
    """A trained SDF VAE as a Generator of volumes that can encode. Latent space "z", sampled from `prior`."""

    spaces: Sequence[str] = ("z",)

    def __init__(
        self,
        network: SDFVAENetwork,
        latent_dim: int,
        temperature: float,
        resolution: int,
        fingerprint: str,
        prior: str = "normal",
    ):
        self.network, self.latent_dim, self.temperature, self.prior = network, latent_dim, temperature, prior
        self.resolution, self.fingerprint = resolution, fingerprint

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        draws = self.temperature * normal(seeds, self.latent_dim)
        if self.prior == "normal":
            return draws
        centres, roots = self.network.centres.to(draws.device), self.network.roots.to(draws.device)
        classes = [seed % len(centres) for seed in seeds]
        # One by one, because the rounding of a matrix product depends on its number of rows.
        return torch.stack([centres[c] + roots[c] @ draw for c, draw in zip(classes, draws, strict=True)])

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        """Volumes [N, 1, R, R, R], nominally in [0, 1], not clamped; differentiable in `latents`."""
        network = self.network.to(latents.device)
        return to_volume(network.reach * network.on_grid(latents, self.resolution))

    def sdf(self, latents: Tensor, space: str, points: Tensor) -> Tensor:
        """Signed distances [N, K] of the shapes of `latents` at points [K, 3] of [-1, 1]^3; differentiable in both.

        The training clamps distances at two voxels of its grid; larger predicted distances mean at least that much.
        """
        network = self.network.to(latents.device)
        return network.reach * network.distances(latents, points)

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        """Codes [N, latent_dim] of volumes [N, 1, R, R, R] in [0, 1]; R must be that of the training."""
        expected, found = (1, *(self.network.size,) * 3), tuple(images.shape[1:])
        if found != expected:
            raise ValueError(f"sdf_vae was trained on volumes {expected}, these are {found}")
        return gaussian_codes(*self.network.to(images.device).posterior(images), how, seeds)


@generator
def sdf_vae(
    dataset: str, path: str = "zoo", temperature: float = 1.0, prior: str = "normal", resolution: int | None = None
) -> Generator:
    """VAE of shapes: volumes of signed distances, and the distance at any point.

    path: "zoo" for the weights that come with assay, or a file made by `assay train generator=sdf_vae`.
    prior: "normal", z ~ N(0, temperature² I); or "classes", a Gaussian fitted to the training codes of each class after
    training (as in arXiv:1903.12436), with its standard deviation times `temperature`. The class is the seed modulo the
    number of classes.
    resolution: points per axis of a volume, at least as many as in the training; null for that number.

    Raises LookupError without weights for the data set, ValueError for options out of range.
    """
    if temperature < 0:
        raise ValueError(f"generator.sdf_vae.temperature={temperature} must not be negative")
    if prior not in ("normal", "classes"):
        raise ValueError(f"generator.sdf_vae.prior={prior!r} must be normal or classes")
    file = find_weights("generator", "sdf_vae", dataset, path)
    tensors, architecture, sha256 = read_weights(file, "sdf_vae")
    network = built(
        lambda: SDFVAENetwork(**{key: architecture[key] for key in ("size", "latent_dim", "classes")}), tensors, file
    )
    size = network.size if resolution is None else resolution
    if size < network.size:
        raise ValueError(
            f"generator.sdf_vae.resolution={resolution} must be at least {network.size}, that of the training"
        )
    fingerprint = digest("sdf_vae", 1, sha256, temperature, prior, size)
    return SDFVAE(network, architecture["latent_dim"], temperature, size, fingerprint, prior)


class SDFVAETraining:
    """Minimises weight · E|error| + KL with Adam; the learning rate falls to 0 along a cosine.

    The error is computed at `points` random grid points of each shape, half of them near its surface and half anywhere.
    Convolutions run in bfloat16 where the device has units for it. The moments of the codes of each class are computed
    in the last epoch, when the network hardly changes.
    """

    def __init__(
        self,
        data: Dataset,
        latent_dim: int,
        weight: float,
        points: int,
        epochs: int,
        batch: int,
        lr: float,
        seed: int,
    ):
        images = data.take("train", 0, 1).images
        if images.ndim != 5:
            raise ValueError(
                f"data set {data.name!r} has no volumes: choose one of shapes, e.g. dataset=sdf_primitives"
            )
        if images.shape[-1] % (2 * PATCH):
            raise ValueError(
                f"{data.name} has {images.shape[-1]} points per axis; sdf_vae takes a multiple of {2 * PATCH}"
            )
        if points < 1 or weight <= 0 or latent_dim < 1:
            raise ValueError(f"points={points}, latent_dim={latent_dim} and weight={weight} must be above 0")
        torch.manual_seed(seed)
        shape = {"size": images.shape[-1], "latent_dim": latent_dim, "classes": max(1, len(data.classes))}
        self.architecture = {"family": "sdf_vae", **shape}
        self.network = SDFVAENetwork(**shape)
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=lr)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, epochs)
        self.weight, self.points, self.epochs, self.batch = weight, points, epochs, batch
        self._grid = grid(images.shape[-1])

    def state(self) -> dict[str, nn.Module | torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler]:
        return {"network": self.network, "optimiser": self.optimiser, "schedule": self.schedule}

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor | None]]) -> Iterator[dict[str, float]]:
        self.network.train()
        codes_and_labels: list[tuple[Tensor, Tensor]] = []
        for volumes, labels in batches:
            known = 1 - 2 * volumes.flatten(1)
            chosen = self._drawn(known)
            with torch.autocast(volumes.device.type, torch.bfloat16, enabled=fast_in_bfloat16(volumes.device)):
                mean, logvar = self.network.posterior(volumes)
                codes = mean + torch.exp(logvar / 2) * torch.randn_like(mean)
                found = self.network.distances(codes, self._grid.to(volumes.device)[chosen])
            error = censored_error(found, known.gather(1, chosen)).mean()
            kl = divergence(mean, logvar).mean()
            self.optimiser.zero_grad()
            (self.weight * error + kl).backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            codes_and_labels.append((codes.detach(), torch.zeros_like(codes[:, 0]) if labels is None else labels))
            yield {"error": error.item(), "kl": kl.item()}
        self.schedule.step()
        if self.schedule.last_epoch == self.epochs:
            self._keep_moments(*map(torch.cat, zip(*codes_and_labels, strict=True)))

    def _keep_moments(self, codes: Tensor, labels: Tensor) -> None:
        for label in range(len(self.network.centres)):
            members = codes[labels == label].double()
            if len(members) > 1:
                values, vectors = torch.linalg.eigh(torch.cov(members.T))
                self.network.centres[label] = members.mean(0)
                self.network.roots[label] = vectors * values.clamp(min=0).sqrt()

    def _drawn(self, known: Tensor) -> Tensor:
        """Indices [N, points] of random grid points."""
        near = (known.abs() < 1).float()
        odds = near / near.sum(1, keepdim=True).clamp(min=1) + 1 / near.shape[1]
        return torch.multinomial(odds, self.points, replacement=True)

    @torch.no_grad()
    def assess(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Quality of held-out shapes decoded from their mean codes, and of these codes.

        error: mean |error| of the distance in voxels, at grid points within two voxels of the true surface. iou: mean
        intersection over union of the solids, in [0, 1]. kl: KL divergence in nats. collapsed_dimensions: number of
        dimensions of the code in which the standard deviation of the means is below 0.17.
        """
        self.network.eval()
        means, errors, overlaps, kls = [], [], [], []
        for volumes in torch.split(images, 50):
            mean, logvar = self.network.posterior(volumes)
            known = 1 - 2 * volumes.flatten(1)
            found = self.network.on_grid(mean, self.network.size)
            near = known.abs() < 1
            errors.append((censored_error(found, known) * near).sum(1) / near.sum(1).clamp(min=1) * TRUNCATION)
            both, either = ((known < 0) & (found < 0)).sum(1), ((known < 0) | (found < 0)).sum(1)
            overlaps.append(both / either.clamp(min=1))
            means.append(mean)
            kls.append(divergence(mean, logvar))
        collapsed = (torch.cat(means).std(dim=0, correction=0) < 0.17).sum()
        return {
            "error": float(torch.cat(errors).mean()), "iou": float(torch.cat(overlaps).mean()),
            "kl": float(torch.cat(kls).mean()), "collapsed_dimensions": float(collapsed),
        }  # fmt: skip


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether convolutions run faster in bfloat16. On a processor without units for it they take 30 times as long."""
    if device.type == "cpu":
        able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in torch 2.6
        return any(able.get(unit) for unit in ("amx_bf16", "avx512_bf16", "bf16"))
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z|volume) | N(0, I)) in nats [N]."""
    return -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(1)


@trainer("sdf_vae")
def train_sdf_vae(
    data: Dataset,
    seed: int,
    latent_dim: int = 48,
    weight: float = 5000.0,
    points: int = 1024,
    epochs: int = 22,
    batch: int = 32,
    lr: float = 2e-3,
) -> SDFVAETraining:
    """Train the VAE of shapes on the volumes of a data set.

    weight: weight of the error relative to the KL divergence in nats. points: grid points per shape and step.
    """
    return SDFVAETraining(data, latent_dim, weight, points, epochs, batch, lr, seed)
