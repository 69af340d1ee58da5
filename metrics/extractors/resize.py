"""Preparation of images for a pretrained network: size, colour and range. All functions are differentiable.

A separable resize is a matrix product on each side of the image. The matrices have the precision of the programs that
they reproduce, so features agree with those of these programs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of the channels of ImageNet's images in [0, 1], as torchvision's networks expect them."""

Taps = Callable[[int, int], Tensor]
"""taps(before, after): weights [after, before] that map a row of pixels to the resized row."""


def tf1_bilinear(before: int, after: int) -> Tensor:
    """TensorFlow 1's default, which defines FID: pixel i is sampled at i · before / after.

    There are no half-pixel centres and no antialiasing. Beyond the last pixel, its value is repeated.
    """
    at = torch.arange(after) * torch.tensor(before / after)
    low = at.floor()
    weights, rows = torch.zeros(after, before), torch.arange(after)
    weights[rows, low.long()] = 1 - (at - low)
    weights[rows, (low.long() + 1).clamp(max=before - 1)] += at - low
    return weights


def bicubic(before: int, after: int) -> Tensor:
    """Pillow's antialiased bicubic (a = -0.5): the kernel is wider by before / after when the image shrinks."""
    scale = before / after
    centre = (torch.arange(after, dtype=torch.float64) + 0.5) * scale
    x = (torch.arange(before, dtype=torch.float64) + 0.5 - centre[:, None]).abs() / max(scale, 1)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0))
    return (weights / weights.sum(1, keepdim=True)).float()


def resize(images: Tensor, height: int, width: int, taps: Taps) -> Tensor:
    """Images [N, C, H, W] resized to [N, C, height, width]; values are neither clamped nor rounded."""
    if images.shape[2:] == (height, width):
        return images
    vertical, horizontal = taps(images.shape[2], height), taps(images.shape[3], width)
    return vertical.to(images) @ (images @ horizontal.T.to(images))


def shorter_side(images: Tensor, size: int, taps: Taps) -> Tensor:
    """Resize the shorter side to `size`, then crop the central square: [N, C, size, size]."""
    short = min(images.shape[2:])
    height, width = (size * side // short for side in images.shape[2:])
    top, left = round((height - size) / 2), round((width - size) / 2)
    return resize(images, height, width, taps)[:, :, top : top + size, left : left + size]


def rgb(images: Tensor) -> Tensor:
    """Grey images [N, 1, H, W] with their channel repeated three times; colour images are unchanged."""
    return images.expand(-1, 3, -1, -1)


def standardise(images: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """(x - mean) / deviation for each channel of [N, 3, H, W]."""
    shift, scale = (torch.tensor(values, device=images.device)[:, None, None] for values in (mean, deviation))
    return (images - shift) / scale
