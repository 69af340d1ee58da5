"""What a generator, a data set, an extractor or a training can do beyond what its protocol asks for: types only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .protocols import Dataset, Encoding, FeatureModel, Generator, Statistics, Truth

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class HasStatistics(Protocol):
    """The optional knowledge of a data set of the mean and covariance of features of real samples, and nothing else."""

    statistics: Statistics


@runtime_checkable
class HasAttributes(Protocol):
    """The optional knowledge that a data set has of its classes without looking at an image.

    kinds: of each class, to what group it belongs; attributes [C, S] float32: what is said of each class.
    """

    kinds: Sequence[str]
    attributes: Tensor


@runtime_checkable
class ClassSubset(Dataset, Protocol):
    """The optional ability of a data set to leave out classes. options: by which its name opens the same again."""

    options: Mapping[str, Any]

    def only(self, classes: Sequence[int]) -> ClassSubset:
        """The data set that has the classes of these numbers alone, numbered in this order."""
        ...


@runtime_checkable
class HasTotal(Protocol):
    """The optional knowledge of a generator that its samples are stored: seed i is sample i, and there are no others.

    total: how many there are; None where they are made when they are asked for, after all.
    """

    total: int | None


@runtime_checkable
class Encoder(Protocol):
    """The optional ability to find latent codes of real samples."""

    def encode(self, images: Tensor, how: Encoding, seeds: Sequence[int]) -> Tensor:
        """Codes [N, ...] of images [N, C, H, W] in [0, 1]; `seeds` drive "sample" alone, one seed an item."""
        ...


@runtime_checkable
class HasPosterior(Protocol):
    """The optional ability of an encoder to give the posterior of an image, from which all of its codes follow.

    A network then sees each real image once, whatever codes are asked for.
    encoder_fingerprint: of what decides the posterior; generators that differ in how they sample alone share it.
    """

    encoder_fingerprint: str

    def posterior(self, images: Tensor) -> Tensor:
        """What describes the posteriors of images [N, C, H, W] in [0, 1], as one tensor [N, ...]."""
        ...

    def codes(self, posterior: Tensor, how: Encoding, seeds: Sequence[int]) -> Tensor:
        """`encode` of the images that have these posteriors."""
        ...


@runtime_checkable
class Discriminating(Protocol):
    """The optional ability to tell real images from generated ones: a discriminator kept with its generator."""

    def discriminate(self, images: Tensor) -> Tensor:
        """Logits [N] of images [N, C, H, W] in [0, 1]; higher looks more real; none depends on the other images."""
        ...


@runtime_checkable
class Diffusing(Protocol):
    """The optional ability of a diffusion model to show the steps of its sampler.

    noise_space, clean_space: the latent spaces of x_T, from which it starts, and of x_0, which it denoises.
    """

    noise_space: str
    clean_space: str

    def trajectory(self, noise: Tensor) -> Tensor:
        """How far the prediction of x_0 moves at each step from noise x_T [N, ...], first from 0: [N, steps + 1]."""
        ...

    def denoising_errors(self, clean: Tensor) -> Tensor:
        """Mean squared errors [N, K] of predictions of x_0 [N, ...] from a little noise, in K draws of it."""
        ...


@runtime_checkable
class HasGroundTruth(Protocol):
    """The optional ability to say what is wrong with samples: of a generator by seed, of a data set's test split by
    number. `states` names what a sample can be, the first is sound; `kinds` names the classes.
    """

    states: Sequence[str]
    kinds: Sequence[str]

    def truth(self, numbers: Sequence[int]) -> Truth: ...


@runtime_checkable
class CanBreak(Protocol):
    """The optional ability of a data set to show held-out samples with a fault. `states`: the first is sound."""

    states: Sequence[str]

    def broken_as(self, state: str, start: int, stop: int) -> Tensor: ...


@runtime_checkable
class Layered(Protocol):
    """The optional ability of an extractor to show what its network computes on the way."""

    def layers(self, images: Tensor) -> Mapping[str, Tensor]:
        """Activations [N, ...] by name, in order, of images [N, C, H, W] in [0, 1]; differentiable."""
        ...


@runtime_checkable
class CanSample(Protocol):
    """The optional ability of a training to show how far it is."""

    def pictures(self, count: int) -> Tensor:
        """Samples [count, C, H, W] in [0, 1] of the network as it stands; the same latents at every call."""
        ...


@runtime_checkable
class OwnsSampler(Protocol):
    """A training that draws the training images of an epoch itself.

    rows: gives their rows, int64 [M], in a new order at every call; set by whoever weighs the images.
    """

    rows: Callable[[], Tensor]


@runtime_checkable
class AcceptsSamples(Protocol):
    """A training that also learns from samples of its own, and can choose among them.

    accept: images [B, C, H, W], nominally in [0, 1], to which of them are learned from, bool [B]; None for all.
    """

    accept: Callable[[Tensor], Tensor] | None


@runtime_checkable
class FeatureGenerator(Generator, Protocol):
    """The optional ability of a generator to learn, where it is used, features of a class from what is known of it."""

    def learn(
        self, features: Tensor, conditions: Tensor, seed: int, state: Mapping[str, Tensor] | None = None
    ) -> FeatureModel:
        """Learn from features [N, D], each with the semantics [N, S] of its class; or take over a `state`."""
        ...
