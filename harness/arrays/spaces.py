"""The spaces of samples: each is a small object that gets its arrays from images, or from latents of a generator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..core.abilities import Diffusing, Discriminating, Encoder, HasPosterior
from ..core.files import digest
from ..core.protocols import Codes, Encoding, Extractor, Generator, View
from ..core.registry import unknown
from ..stats.jacobians import DIRECTIONS, singular_values, squared_stretch
from .inversion import invert

BATCH = 250
"""Samples that a network sees at a time."""
PIXELS = 2**20
"""Pixels decoded at a time: large images are decoded in smaller batches."""
PRIOR_SEEDS = 2**63
"""Seeds of reference codes drawn from a generator's own prior begin here."""
REPLAYED = "sample"
"""The latent space of samples that are shown again: their numbers, which are no codes."""
OF_CODES = ("latent", "stretch", "singular")
"""Spaces of what is known of a code before it is decoded; a colon and a latent space may follow."""
OF_STEPS = ("trajectory", "denoising")
"""Spaces of what a diffusion model does on the way to a sample."""
OWN = ("images", "labels", "posterior", "residual", "reencoded", "discriminator", *OF_CODES, *OF_STEPS)
"""Spaces that belong to the samples and to their generator; all others are those of extractors."""
NO_RESIDUAL = {"fake": ("prior", "logvar", "inversion")} | dict.fromkeys(("real", "holdout"), ("prior", "logvar"))
"""Codes of which an image has no residual; that of generated images by inversion is left out as too slow."""


def extracted(space: str) -> bool:
    """Whether an extractor leads to the space of this name."""
    return space.partition(":")[0] not in OWN


def in_latent_space(space: str, latent_space: str) -> str:
    """The same space of codes in another latent space, e.g. "stretch:w"; any other space as it is."""
    kind = space.partition(":")[0]
    return f"{kind}:{latent_space}" if kind in OF_CODES else space


def eight_bits(images: Tensor) -> Tensor:
    """Images, nominally in [0, 1], as they are stored: uint8."""
    return (images.clamp(0, 1) * 255).round().byte()


class Decoder:
    """Decodes latents of a generator, as many at a time as PIXELS allow."""

    def __init__(self, generator: Generator):
        self._generator, self._at_once = generator, 0

    def __call__(self, latents: Tensor, latent_space: str) -> Tensor:
        """Images as the generator makes them; the first one alone tells how large they are."""
        decode = self._generator.decode
        if not self._at_once:
            pixels = decode(latents[:1], latent_space)[0, 0].numel()
            self._at_once = max(1, min(BATCH, PIXELS // pixels))
        return torch.cat([decode(part, latent_space) for part in torch.split(latents, self._at_once)])


@dataclass(frozen=True)
class Space:
    """How to get the arrays of samples that are in one space.

    name:        in full: "latent:z", never "latent".
    fingerprint: of the network that leads there, "" without one.
    encode:      where its codes come from, "" in a space that has one answer only.
    drawn_from:  the latent space from whose codes the arrays are made directly; "" where they are made from images.
    """

    name: str
    decoder: Decoder
    fingerprint: str = ""
    encode: Codes | Literal[""] = ""
    drawn_from: str = ""

    def of_images(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """Of images [N, C, H, W] in [0, 1]; `seeds`, one an image, drive codes that are drawn and nothing else.

        Raises ValueError in a space whose arrays are not made from images.
        """
        raise ValueError(f"{self.name} is not made from images")

    def of_latents(self, latents: Tensor, latent_space: str) -> Tensor:
        """Of the generated samples that have these latents [N, ...]: of their images as they would be stored."""
        images = eight_bits(self.decoder(latents, latent_space)).float() / 255
        return self.of_images(images, range(len(latents)))


class Images(Space):
    """The samples themselves, uint8."""

    def of_images(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        return eight_bits(images)

    def of_latents(self, latents: Tensor, latent_space: str) -> Tensor:
        return eight_bits(self.decoder(latents, latent_space))


class Labels(Space):
    """The classes of real samples, which come with the data."""


class Drawn(Space):
    """The codes that generated samples have, or fresh ones of the prior."""

    def of_latents(self, latents: Tensor, latent_space: str) -> Tensor:
        if latent_space != self.drawn_from:
            raise ValueError(f"these samples have codes in {latent_space!r} alone; {self.name!r} asks for others")
        return latents


class Stretch(Drawn):
    """Squared lengths [N, K] of what decoding makes of K random directions at a code: `squared_stretch`."""

    def of_latents(self, latents: Tensor, latent_space: str) -> Tensor:
        codes = super().of_latents(latents, latent_space)
        return squared_stretch(lambda z: self.decoder(z, latent_space), codes)


class Singular(Drawn):
    """Singular values [N, D] of the Jacobian of decoding at a code."""

    def of_latents(self, latents: Tensor, latent_space: str) -> Tensor:
        codes = super().of_latents(latents, latent_space)
        return singular_values(lambda z: self.decoder(z, latent_space), codes)


@dataclass(frozen=True, kw_only=True)
class Steps(Drawn):
    """What a diffusion model says of its noise, or of the code that it makes of it."""

    tell: Callable[[Tensor], Tensor]

    def of_latents(self, latents: Tensor, latent_space: str) -> Tensor:
        return self.tell(super().of_latents(latents, latent_space))


@dataclass(frozen=True, kw_only=True)
class Encoded(Space):
    """The encoder's codes of images."""

    latent_space: str
    encoder: Encoder
    how: Encoding = "mean"

    def of_images(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        return self.encoder.encode(images, self.how, seeds)


@dataclass(frozen=True, kw_only=True)
class Posteriors(Space):
    """What the encoder says of images, from which their codes of all kinds follow."""

    encoder: HasPosterior

    def of_images(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        return self.encoder.posterior(images)


@dataclass(frozen=True, kw_only=True)
class Inverted(Space):
    """Codes that are optimised until they give the images."""

    latent_space: str
    generator: Generator

    def of_images(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        return invert(self.generator, images, self.latent_space)


@dataclass(frozen=True, kw_only=True)
class Residual(Space):
    """Mean squared error [N, 1] of an image decoded from its own code."""

    codes: Encoded | Inverted

    def of_images(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        return self.of_codes(self.codes.of_images(images, seeds), images)

    def of_codes(self, codes: Tensor, images: Tensor) -> Tensor:
        """The same where the codes are there already."""
        return (self.decoder(codes, self.codes.latent_space) - images).square().flatten(1).mean(1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class Logits(Space):
    """What the discriminator says of images, [N, 1]."""

    discriminator: Discriminating

    def of_images(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        return self.discriminator.discriminate(images)[:, None]


@dataclass(frozen=True, kw_only=True)
class Features(Space):
    """Features of images by an extractor."""

    extractor: Extractor

    def of_images(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        return self.extractor(images)


class Spaces:
    """Finds the space of a view of the samples of one generator, or of real ones that are compared with them."""

    def __init__(self, generator: Generator, extractor: Callable[[str], Extractor]):
        self._generator, self._extractor = generator, extractor
        self._decoder = Decoder(generator)
        self._fresh: set[str] = set()

    def find(self, view: View) -> Space:
        """The space of a view. Raises ValueError where there is no such view, LookupError for an unknown extractor."""
        kind, _, latent_space = view.space.partition(":")
        if extracted(kind):
            extractor = self._extractor(view.space)
            return Features(view.space, self._decoder, extractor.fingerprint, extractor=extractor)
        find = {
            "images": self._images, "labels": self._labels, "latent": self._latent, "posterior": self._posterior,
            "residual": self._residual, "reencoded": self._reencoded, "discriminator": self._logits,
            "stretch": self._of_jacobian, "singular": self._of_jacobian,
            "trajectory": self._of_steps, "denoising": self._of_steps,
        }[kind]  # fmt: skip
        return find(view, latent_space)

    def _images(self, view: View, latent_space: str) -> Space:
        return Images("images", self._decoder, drawn_from=self._generator.spaces[0] if view.source == "fake" else "")

    def _labels(self, view: View, latent_space: str) -> Space:
        if view.source == "fake":
            raise ValueError("generated samples have no labels")
        return Labels("labels", self._decoder)

    def _latent(self, view: View, latent_space: str) -> Space:
        latent_space = self._with_codes(latent_space)
        name = f"latent:{latent_space}"
        if view.source == "fake":
            return Drawn(name, self._decoder, drawn_from=latent_space)
        if view.encode == "prior":
            self._require_fresh(latent_space)
            return Drawn(name, self._decoder, self._generator.fingerprint, "prior", latent_space)
        return self._codes(view, latent_space)

    def _of_jacobian(self, view: View, latent_space: str) -> Space:
        kind, latent_space = view.space.partition(":")[0], self._with_codes(latent_space)
        if view.source != "fake":
            if view.encode != "prior":
                raise ValueError(f"{kind} describes the decoder at codes of the generator itself: choose encode=prior")
            self._require_fresh(latent_space)
        make, about = (Stretch, (DIRECTIONS,)) if kind == "stretch" else (Singular, ())
        encode: Codes | Literal[""] = "" if view.source == "fake" else "prior"
        return make(f"{kind}:{latent_space}", self._decoder, digest(kind, 1, *about), encode, latent_space)

    def _of_steps(self, view: View, latent_space: str) -> Space:
        generator, kind = self._generator, view.space
        if not isinstance(generator, Diffusing):
            raise ValueError("this generator is no diffusion model that shows its steps; latent_diffusion is one")
        if view.source != "fake":
            raise ValueError(f"{kind} describes how a sample was generated: real samples have none")
        walked = kind == "trajectory"
        tell = generator.trajectory if walked else generator.denoising_errors
        start = generator.noise_space if walked else generator.clean_space
        return Steps(kind, self._decoder, digest(kind, 1), drawn_from=start, tell=tell)

    def _posterior(self, view: View, latent_space: str) -> Space:
        if not isinstance(self._generator, HasPosterior):
            raise ValueError("this generator has no encoder that gives posteriors")
        return Posteriors("posterior", self._decoder, self._generator.encoder_fingerprint, encoder=self._generator)

    def _residual(self, view: View, latent_space: str) -> Space:
        latent_space = self._with_codes(latent_space)
        if view.encode in NO_RESIDUAL[view.source]:
            raise ValueError("a residual is that of an image: choose encode=mean, sample, or for a real one inversion")
        codes = self._codes(view, latent_space)
        return Residual(f"residual:{latent_space}", self._decoder, codes.fingerprint, codes.encode, codes=codes)

    def _reencoded(self, view: View, latent_space: str) -> Space:
        encoder, fingerprint = self._encoder(), self._generator.fingerprint
        return Encoded("reencoded", self._decoder, fingerprint, latent_space=self._named(""), encoder=encoder)

    def _logits(self, view: View, latent_space: str) -> Space:
        if not isinstance(self._generator, Discriminating):
            raise ValueError("this generator comes without a discriminator")
        return Logits("discriminator", self._decoder, self._generator.fingerprint, discriminator=self._generator)

    def _codes(self, view: View, latent_space: str) -> Encoded | Inverted:
        """Codes of images in a latent space. Raises ValueError where the encoder leads to another one."""
        name, fingerprint, how = f"latent:{latent_space}", self._generator.fingerprint, view.encode
        if how == "inversion":
            return Inverted(name, self._decoder, fingerprint, how, latent_space=latent_space, generator=self._generator)
        assert how != "prior"
        encoder = self._encoder()
        if latent_space != self._named(""):
            raise ValueError(
                f"the encoder's codes lie in latent space {self._named('')!r}, not in {latent_space!r}; "
                "there, reference codes come from encode=prior or encode=inversion"
            )
        return Encoded(name, self._decoder, fingerprint, how, latent_space=latent_space, encoder=encoder, how=how)

    def _encoder(self) -> Encoder:
        if not isinstance(self._generator, Encoder):
            raise ValueError(
                "this generator has no encoder, so real samples have no such codes; choose encode=prior (fresh draws), "
                "encode=inversion (optimisation), a generator that encodes, or another space with space=..."
            )
        return self._generator

    def _require_fresh(self, latent_space: str) -> None:
        """Raises ValueError where the generator has no more than the samples that were made."""
        if latent_space not in self._fresh:
            try:
                self._generator.latents([PRIOR_SEEDS], latent_space)
            except ValueError:
                raise ValueError("this generator makes no fresh draws: there are no codes to compare with") from None
            self._fresh.add(latent_space)

    def _with_codes(self, name: str) -> str:
        """The latent space of that name. Raises ValueError for the one of replayed samples."""
        name = self._named(name)
        if name == REPLAYED:
            raise ValueError("replayed samples have no latent codes, or these are in another space: space=latent:z")
        return name

    def _named(self, name: str) -> str:
        """The latent space of that name; without one the first that has codes."""
        spaces = self._generator.spaces
        name = name or next((space for space in spaces if space != REPLAYED), REPLAYED)
        if name not in spaces:
            raise ValueError(unknown("latent space", name, list(spaces)))
        return name
