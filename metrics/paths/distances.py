"""Distances between images that are Euclidean in an embedding: pixels, network features, and both after equalisation.

A distance is defined by an embedding e of images [N, C, H, W] as points [N, F]: m(x, y) = |e(x) - e(y)|. The image of
each vertex of a path is therefore embedded only once, although two segments end in it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Embedding = Callable[[Tensor], Tensor]
"""Maps images [N, ...] to points [N, F], differentiably; the distance of two images is that of their points."""

Layers = Callable[[Tensor], Mapping[str, Tensor]]
"""Maps images [N, C, H, W] in [0, 1] to the activations [N, ...] of the layers of a network, by name."""

VGG_LAYERS = ("conv1_2", "conv2_2", "conv3_2", "conv4_2", "conv5_2")
EPSILON = 1e-3
"""Its square is added to the variance in equalisation; it is less than one step of 8-bit images, 1/255."""


@dataclass(frozen=True)
class Distance:
    """An embedding with its preprocessing: images are first reduced in size, then equalised.

    size:      images whose longer side exceeds it are reduced to it by area averages; None: never.
    equalised: per "image" (all channels together) or per "channel"; None: no equalisation.
    typical:   mean and standard deviation of an equalised image, as `embed` expects them.
    """

    embed: Embedding
    size: int | None = 256
    equalised: Literal["image", "channel"] | None = None
    typical: tuple[float, float] = (0.0, 1.0)

    def __call__(self, images: Tensor) -> Tensor:
        """Points [N, F]. Raises ValueError for anything but floating images [N, C, H, W]."""
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                f"images are {images.dtype} of shape {list(images.shape)}; give floating-point [N, C, H, W]"
            )
        if self.size is not None:
            images = at_most(images, self.size)
        if self.equalised is not None:
            images = equalise(images, self.equalised, *self.typical)
        return self.embed(images)


def pixel_distance(size: int | None = 256) -> Distance:
    """The distance whose square is the mean squared error of the pixels over all channels."""
    return Distance(_mean_square, size)


def feature_distance(
    layers: Layers,
    names: Sequence[str] | None = None,
    size: int | None = 256,
    typical: tuple[float, float] = (0.45, 0.23),
) -> Distance:
    """The distance whose square is sum_j 1/N_j |V_j(x) - V_j(y)|^2 over layers j with N_j outputs V_j (Laine 2018).

    names:   the layers to use; by default all.
    typical: mean and standard deviation of an equalised image. The defaults are those of photographs, so that the
             network receives inputs in its usual range; (0, 1) disables this. The paper does not state what it does.

    The distance raises ValueError for layers that the network does not have.
    """

    def embed(images: Tensor) -> Tensor:
        found = layers(images)
        if missing := [name for name in names or () if name not in found]:
            raise ValueError(f"the network has no layer {', '.join(missing)}; it has {', '.join(found)}")
        return torch.cat([_mean_square(found[name]) for name in names or found], 1)

    return Distance(embed, size, typical=typical)


def vgg_distance(layers: Layers) -> Distance:
    """The distance of Laine 2018 (https://openreview.net/forum?id=BJslDBkwG): five layers of VGG-19 at 256 pixels.

    layers: gives the activations of VGG-19, including conv1_2, conv2_2, conv3_2, conv4_2 and conv5_2, after ReLU.
    """
    return feature_distance(layers, VGG_LAYERS)


def equalised(distance: Distance, per_channel: bool = False) -> Distance:
    """The same distance between equalised images, which ignores differences of brightness and contrast.

    Each image is standardised over all channels together, or with `per_channel` in each channel, which also removes a
    colour cast. The embedding receives images with the mean and standard deviation `distance.typical`.
    """
    return replace(distance, equalised="channel" if per_channel else "image")


def equalise(images: Tensor, over: Literal["image", "channel"], mean: float, std: float) -> Tensor:
    """Images [N, C, H, W] shifted and scaled to the given mean and standard deviation; differentiable."""
    axes = (1, 2, 3) if over == "image" else (2, 3)
    variance, centre = torch.var_mean(images, axes, correction=0, keepdim=True)
    return (images - centre) * (std / (variance + EPSILON**2).sqrt()) + mean


def at_most(images: Tensor, size: int) -> Tensor:
    """Images [N, C, H, W] reduced by area averages so that the longer side has at most `size` pixels."""
    height, width = images.shape[2:]
    longer = max(height, width)
    if longer <= size:
        return images
    return F.adaptive_avg_pool2d(images, (max(1, height * size // longer), max(1, width * size // longer)))


def _mean_square(values: Tensor) -> Tensor:
    """Points [N, F] whose squared distance is the mean squared difference of the values [N, ...]."""
    points = values.flatten(1)
    return points / math.sqrt(points.shape[1])
