"""EDM2: diffusion models of pixels or codes in NVIDIA's `.pkl` (arXiv:2312.02696), sampled without added noise."""

import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.options import Positive, Range
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from ..harness.formats.built import built
from ..harness.formats.checkpoint import Checkpoint, tensors_of
from .networks.diffusers_kl import KLAutoencoder
from .networks.edm2_unet import Precond, UNet
from .networks.karras import Solver, noise_levels, sample
from .networks.noise_space import Decoder, NoiseSpace
from .networks.published import open_published
from .networks.stored_options import arguments, attributes, class_name, shown, understood

UNUSED = ("use_fp16", "dropout")
"""Stored options of the computation and the training; here everything is float32, the sampler float64."""


class StabilityDecoder:
    """Images of codes that were standardised channel by channel from those of Stable Diffusion's autoencoder.

    vae: its folder; the public code feeds it images in [0, 1]. raw_mean, raw_std: of its codes, before they were given
    the mean `final_mean` and the standard deviation `final_std`. Raises ValueError unless these fit the autoencoder.
    """

    def __init__(
        self,
        vae: Path,
        raw_mean: Sequence[float] = (5.81, 3.25, 0.12, -2.15),
        raw_std: Sequence[float] = (4.17, 4.62, 3.71, 3.28),
        final_mean: float = 0.0,
        final_std: float = 0.5,
    ):
        self.autoencoder = KLAutoencoder(vae, 1.0)
        self.fingerprint, self.card = self.autoencoder.fingerprint, self.autoencoder.card
        channels = self.autoencoder.shape[0]
        numbers = (*raw_mean, *raw_std, final_mean, final_std)
        usual = all(map(math.isfinite, numbers)) and all((*raw_std, final_std))
        if not len(raw_mean) == len(raw_std) == channels or not usual:
            raise ValueError(f"statistics of {len(raw_mean)} channels do not fit vae={vae} with {channels} channels")
        mean, std = torch.tensor([raw_mean, raw_std])[:, :, None, None]
        self.mean, self.std, self.final_mean, self.final_std = mean, std, final_mean, final_std

    def decode(self, latents: Tensor) -> Tensor:
        raw = (latents - self.final_mean) / self.final_std * self.std.to(latents) + self.mean.to(latents)
        return 2 * self.autoencoder.decode(raw - self.autoencoder.shift) - 1


class Guided(torch.nn.Module):
    """D = D_guide + w (D - D_guide): classifier-free guidance or autoguidance (arXiv:2406.02507)."""

    def __init__(self, network: Precond, guide: Precond | None, guidance: float):
        super().__init__()
        self.network, self.guide, self.guidance = network, guide, guidance

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        found: Tensor = self.network(x, sigma, label)
        return found if self.guide is None else torch.lerp(self.guide(x, sigma, label), found, self.guidance)


class EDM2(NoiseSpace):
    """An EDM2 as a Generator. Spaces: "x_T", and "z_0" of latent models or "x_0" where seeds draw the class."""

    network: Guided

    def __init__(
        self,
        network: Guided,
        decoder: Decoder | None,
        levels: Tensor,
        solver: Solver,
        label: int | None,
        fingerprint: str,
        card: Mapping[str, Any],
    ):
        inner = network.network
        shape = (inner.img_channels, inner.img_resolution, inner.img_resolution)
        super().__init__("edm2", network, shape, inner.label_dim, label, fingerprint, card, decoder)
        self.levels, self.solver = levels, solver

    def sample(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        classes = None if labels is None else F.one_hot(labels, self.classes).float()
        return sample(lambda x, sigma: self.network(x, sigma, classes), noise, self.levels, self.solver)


def recognise(content: Any) -> bool:
    """Whether a checkpoint holds the averaged network of an EDM2 snapshot."""
    record = content.get("ema") if isinstance(content, Mapping) else None
    modules = attributes(record).get("_modules")
    return class_name(record) == "Precond" and isinstance(modules, dict) and "unet" in modules


@generator(recognise=recognise)
def edm2(
    dataset: str,
    path: str = "",
    vae: str = "",
    steps: Annotated[int, Range(least=2, most=10_000)] = 32,
    sigma_min: Positive = 0.002,
    sigma_max: Positive = 80.0,
    rho: Positive = 7.0,
    solver: Solver = "heun",
    guidance: Positive = 1.0,
    guide: str = "",
    label: int | None = None,
) -> Generator:
    """EDM2: a `.pkl` of pixels or of codes, sampled without added noise.

    vae: for a model of codes, the folder of the AutoencoderKL of diffusers that decodes them.
    steps: noise levels from sigma_max to sigma_min, evenly spaced in σ^(1/rho). solver: "heun" (algorithm 1 of EDM,
    2 · steps - 1 evaluations) or "euler" (steps).
    guidance: 1 for none, else the weight of the model against `guide`, the path of another EDM2: an unconditional one
    for classifier-free guidance, or a smaller or less trained one for autoguidance.
    label: the class of all samples of a conditional file; null draws one for each seed.

    Raises ValueError with the stored option or the tensor that does not fit.
    """
    found = open_published("edm2", path, recognise)
    network = _network(found, path)
    other = None
    if (guidance != 1) != bool(guide):
        raise ValueError(f"guidance={guidance:g} and guide={guide!r}: give both, or neither for no guidance")
    against = open_published("edm2", guide, recognise) if guide else None
    if against:
        other = _network(against, guide)
        shapes = [(n.img_channels, n.img_resolution) for n in (network, other)]
        if shapes[0] != shapes[1] or other.label_dim not in (0, network.label_dim):
            raise ValueError(f"guide={guide} is for images or classes of another number than {path}")
    decoder, codes = _decoder(found, path, vae, network.img_channels)
    try:
        levels = noise_levels(steps, sigma_min, sigma_max, rho)
    except ValueError as error:
        raise ValueError(f"generator edm2: {error}") from None
    fingerprint = digest(
        "edm2", 1, found.sha256, against and against.sha256, decoder and decoder.fingerprint, codes, steps, sigma_min,
        sigma_max, rho, solver, guidance, label,
    )  # fmt: skip
    card = {**found.card, "sha256": found.sha256, "classes": network.label_dim}
    card |= {"guide": against.sha256} if against else {}
    card |= {"vae": decoder.card, "codes": codes} if decoder else {}
    return EDM2(Guided(network, other, guidance), decoder, levels, solver, label, fingerprint, card)


def _network(found: Checkpoint, path: str) -> Precond:
    record = found.content["ema"]

    def make() -> Precond:
        options = arguments(record)
        outer = inspect.signature(Precond).parameters.keys() - {"network"}
        own = understood({name: value for name, value in options.items() if name in outer}, Precond, ())
        sizes = {name: own[name] for name in ("img_resolution", "img_channels", "label_dim")}
        rest = {name: value for name, value in options.items() if name not in outer}
        return Precond(**own, network=UNet(**sizes, **understood(rest, UNet, UNUSED)))

    return built(make, tensors_of(record), path)


def _decoder(found: Checkpoint, path: str, vae: str, channels: int) -> tuple[StabilityDecoder | None, dict[str, Any]]:
    """The first stage of a model of codes, with the options of the encoder that is stored beside the network."""
    encoder = found.content.get("encoder")
    name = "StandardRGBEncoder" if encoder is None else class_name(encoder)
    if name not in ("StandardRGBEncoder", "StabilityVAEEncoder"):
        raise ValueError(f"{path}: encoder={shown(name or type(encoder).__name__)} is not supported")
    try:
        options = {} if encoder is None else arguments(encoder)
    except ValueError as error:
        raise ValueError(f"{path}, encoder beside the network: {error}") from None
    if name == "StandardRGBEncoder":
        if options:
            raise ValueError(f"{path}: option {shown(next(iter(options)))} of StandardRGBEncoder is not supported")
        if vae:
            raise ValueError(f"{path} makes images, not codes; leave out generator.edm2.vae")
        if channels not in (1, 3):
            raise ValueError(f"{path} makes {channels} channels, but its encoder is that of images")
        return None, {}
    if not vae or not Path(vae).expanduser().is_dir():
        wanted = shown(options.get("vae_name", "stabilityai/sd-vae-ft-mse"))
        raise ValueError(
            f"{path} makes codes; give generator.edm2.vae=FOLDER of an AutoencoderKL of diffusers, that of {wanted}"
        )
    try:
        codes = understood(options, StabilityDecoder, ("vae_name", "batch_size"))
        decoder = StabilityDecoder(Path(vae).expanduser(), **codes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if decoder.autoencoder.shape[0] != channels:
        raise ValueError(f"vae={vae} decodes {decoder.autoencoder.shape[0]} channels, codes of {path} have {channels}")
    return decoder, codes
