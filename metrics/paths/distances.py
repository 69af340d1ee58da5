"""Distances between images that are Euclidean in an embedding: pixels, network features, and both after equalisation.

A distance is given by the map e of images [N, C, H, W] to points [N, F]: m(x, y) = |e(x) - e(y)|. So the image of every
vertex of a path is looked at once, however many segments end in it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Embedding = Callable[[Tensor], Tensor]
"""Images [N, ...] to points [N, F], differentiable; their squared Euclidean distance is the squared distance."""

Layers = Callable[[Tensor], Mapping[str, Tensor]]
"""Images [N, C, H, W] in [0, 1] to the activations [N, ...] of the layers of a network, by name."""

VGG_LAYERS = ("conv1_2", "conv2_2", "conv3_2", "conv4_2", "conv5_2")
EPSILON = 1e-3
"""Added in square to the variance that equalisation divides by: below the least step of 8-bit images, 1/255."""


@dataclass(frozen=True)
class Distance:
    """An embedding with what is done to the images before: made smaller, then equalised.

    size:      images with a longer side are reduced to it by the mean over areas; None: never.
    equalised: per "image" over all channels, or per "channel"; None: not at all.
    typical:   mean and standard deviation of an equalised image, such as `embed` expects.
    """

    embed: Embedding
    size: int | None = 256
    equalised: Literal["image", "channel"] | None = None
    typical: tuple[float, float] = (0.0, 1.0)

    def __call__(self, images: Tensor) -> Tensor:
        """Points [N, F]. Raises ValueError for anything but floating images [N, C, H, W]."""
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(f"images are {images.dtype} of shape {list(images.shape)}; give floating [N, C, H, W]")
        if self.size is not None:
            images = at_most(images, self.size)
        if self.equalised is not None:
            images = equalise(images, self.equalised, *self.typical)
        return self.embed(images)


def pixel_distance(size: int | None = 256) -> Distance:
    """Squared: the mean squared error of the pixels, over all channels."""
    return Distance(_mean_square, size)


def feature_distance(
    layers: Layers,
    names: Sequence[str] | None = None,
    size: int | None = 256,
    typical: tuple[float, float] = (0.45, 0.23),
) -> Distance:
    """Squared: sum_j 1/N_j |V_j(x) - V_j(y)|^2 over layers j with outputs V_j of N_j numbers. Laine 2018.

    names: which of the layers, by default all. An equalised image has the mean and standard deviation `typical` of
    photographs, so that the network sees its usual range; the paper does not say whether it did this: (0, 1) leaves it
    out. Raises ValueError, when called, for layers that the network does not have.
    """

    def embed(images: Tensor) -> Tensor:
        found = layers(images)
        if missing := [name for name in names or () if name not in found]:
            raise ValueError(f"the network has no layer {', '.join(missing)}; it has {', '.join(found)}")
        return torch.cat([_mean_square(found[name]) for name in names or found], 1)

    return Distance(embed, size, typical=typical)


def vgg_distance(layers: Layers) -> Distance:
    """The distance of Laine 2018 (https://openreview.net/forum?id=BJslDBkwG): five layers of VGG-19 at 256 pixels.

    layers: the activations of VGG-19, among them conv1_2, conv2_2, conv3_2, conv4_2 and conv5_2, after ReLU.
    """
    return feature_distance(layers, VGG_LAYERS)


def equalised(distance: Distance, per_channel: bool = False) -> Distance:
    """The same between images with zero mean and unit variance: brightness and contrast no longer count.

    Each image over all its channels together, or (`per_channel`, which removes the cast of colour too) each channel.
    What the embedding then gets has `distance.typical` as mean and standard deviation.
    """
    return replace(distance, equalised="channel" if per_channel else "image")


def equalise(images: Tensor, over: Literal["image", "channel"], mean: float, std: float) -> Tensor:
    """Images [N, C, H, W] moved and scaled to a mean and a standard deviation each; gradients pass through both."""
    axes = (1, 2, 3) if over == "image" else (2, 3)
    variance, centre = torch.var_mean(images, axes, correction=0, keepdim=True)
    return (images - centre) * (std / (variance + EPSILON**2).sqrt()) + mean


def at_most(images: Tensor, size: int) -> Tensor:
    """Images [N, C, H, W] whose longer side has at most `size` pixels, reduced by the mean over areas."""
    height, width = images.shape[2:]
    longer = max(height, width)
    if longer <= size:
        return images
    return F.adaptive_avg_pool2d(images, (max(1, height * size // longer), max(1, width * size // longer)))


def _mean_square(values: Tensor) -> Tensor:
    """Values [N, ...] as points [N, F] whose squared distance is the mean squared difference."""
    points = values.flatten(1)
    return points / math.sqrt(points.shape[1])
