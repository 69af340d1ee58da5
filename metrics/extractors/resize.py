"""How images become the input of a pretrained network: sizes, colours, ranges. Everything here is differentiable.

A separable resize is a matrix on each side of the image. The matrices are made in the precision of the programs whose
resize they repeat, so features agree with theirs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of the channels of ImageNet's images in [0, 1], as torchvision's networks expect them."""

Taps = Callable[[int, int], Tensor]
"""taps(before, after): the weights [after, before] with which a row of pixels makes the resized row."""


def tf1_bilinear(before: int, after: int) -> Tensor:
    """TensorFlow 1's default, with which FID was defined: pixel i lies at i · before / after.

    There are no half-pixel centres and no antialiasing; beyond the last pixel the last is repeated.
    """
    at = torch.arange(after) * torch.tensor(before / after)
    low = at.floor()
    weights, rows = torch.zeros(after, before), torch.arange(after)
    weights[rows, low.long()] = 1 - (at - low)
    weights[rows, (low.long() + 1).clamp(max=before - 1)] += at - low
    return weights


def bicubic(before: int, after: int) -> Tensor:
    """Pillow's bicubic (a = -0.5), antialiased: the kernel widens with before / after where the image shrinks."""
    scale = before / after
    centre = (torch.arange(after, dtype=torch.float64) + 0.5) * scale
    x = (torch.arange(before, dtype=torch.float64) + 0.5 - centre[:, None]).abs() / max(scale, 1)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0))
    return (weights / weights.sum(1, keepdim=True)).float()


def resize(images: Tensor, height: int, width: int, taps: Taps) -> Tensor:
    """Images [N, C, H, W] to [N, C, height, width]; values are neither clamped nor rounded."""
    if images.shape[2:] == (height, width):
        return images
    vertical, horizontal = taps(images.shape[2], height), taps(images.shape[3], width)
    return vertical.to(images) @ (images @ horizontal.T.to(images))


def shorter_side(images: Tensor, size: int, taps: Taps) -> Tensor:
    """The shorter side to `size`, then the square in the middle: [N, C, size, size]."""
    short = min(images.shape[2:])
    height, width = (size * side // short for side in images.shape[2:])
    top, left = round((height - size) / 2), round((width - size) / 2)
    return resize(images, height, width, taps)[:, :, top : top + size, left : left + size]


def rgb(images: Tensor) -> Tensor:
    """Grey images [N, 1, H, W] with their channel three times; colour images as they are."""
    return images.expand(-1, 3, -1, -1)


def standardise(images: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """(x - mean) / deviation for each channel of [N, 3, H, W]."""
    shift, scale = (torch.tensor(values, device=images.device)[:, None, None] for values in (mean, deviation))
    return (images - shift) / scale
