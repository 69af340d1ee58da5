"""Faults of images: what a sound image uint8 [C, H, W] becomes, as a pure function of the image and of a generator."""

from collections.abc import Callable, Mapping
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from ....metrics.extractors.resize import resize, tf1_bilinear

Picture = NDArray[np.uint8]
Fault = Callable[[Picture, np.random.Generator], Picture]


def _by_pillow(image: Picture, change: Callable[[Image.Image], Image.Image]) -> Picture:
    """An image uint8 [C, H, W] of 1 or 3 channels through Pillow and back."""
    grey = len(image) == 1
    changed = change(Image.fromarray(image[0] if grey else np.ascontiguousarray(image.transpose(1, 2, 0))))
    found = np.asarray(changed)
    return found[None] if grey else found.transpose(2, 0, 1)


def covered(image: Picture, rng: np.random.Generator) -> Picture:
    """A grey square with a third of the side, at a random position."""
    side = max(1, image.shape[2] // 3)
    top, left = (int(rng.integers(0, size - side + 1)) for size in image.shape[1:])
    changed = image.copy()
    changed[:, top : top + side, left : left + side] = 128
    return changed


def blurred(image: Picture, rng: np.random.Generator) -> Picture:
    """A Gaussian blur with a standard deviation of 1/28 of the side, one pixel of MNIST."""
    return _by_pillow(image, lambda each: each.filter(ImageFilter.GaussianBlur(image.shape[2] / 28)))


def noisy(image: Picture, rng: np.random.Generator) -> Picture:
    """Gaussian noise with a standard deviation of 0.1 of the range."""
    return (image + 25.5 * rng.standard_normal(image.shape)).round().clip(0, 255).astype(np.uint8)


def jpeg(image: Picture, quality: int) -> Picture:
    def change(each: Image.Image) -> Image.Image:
        file = BytesIO()
        each.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _by_pillow(image, change)


def cropped(image: Picture, rng: np.random.Generator) -> Picture:
    """A tenth of the side cut off on each side, and the rest resized to the old size."""
    height, width = image.shape[1:]
    across, down = round(width / 10), round(height / 10)
    box = (across, down, width - across, height - down)
    return _by_pillow(image, lambda each: each.crop(box).resize((width, height), Image.Resampling.BICUBIC))


def tf1(image: Picture, rng: np.random.Generator) -> Picture:
    """Resized to 1.5 times the side and back by TensorFlow 1's bilinear kernel, which shifts the image."""
    height, width = image.shape[1:]
    larger = resize(torch.from_numpy(image.copy())[None].float(), height * 3 // 2, width * 3 // 2, tf1_bilinear)
    back: Tensor = resize(larger, height, width, tf1_bilinear)[0]
    return back.round().clamp(0, 255).byte().numpy()


def aliased(image: Picture, rng: np.random.Generator) -> Picture:
    """Shrunk to 3/4 of the side by the nearest pixel, without antialiasing, and back by a bicubic kernel."""
    height, width = image.shape[1:]
    small = (width * 3 // 4, height * 3 // 4)
    return _by_pillow(
        image,
        lambda each: each.resize(small, Image.Resampling.NEAREST).resize((width, height), Image.Resampling.BICUBIC),
    )


def wrong_range(image: Picture, rng: np.random.Generator) -> Picture:
    """An image in [-1, 1] that is taken for one in [0, 1]: what is darker than the middle becomes black."""
    return (2 * image.astype(int) - 255).clip(0, 255).astype(np.uint8)


def wrong_channels(image: Picture, rng: np.random.Generator) -> Picture:
    """Blue, green, red taken for red, green, blue."""
    return image[::-1].copy()


FAULTS: Mapping[str, Fault] = {
    "covered": covered,
    "blurred": blurred,
    "noisy": noisy,
    "JPEG 25": lambda image, rng: jpeg(image, 25),
    "cropped": cropped,
}
"""Of which a growing share of the samples suffers."""
SLIPS: Mapping[str, Fault] = {
    "slip: TF1 bilinear": tf1,
    "slip: no antialiasing": aliased,
    "slip: JPEG 75": lambda image, rng: jpeg(image, 75),
    "slip: range": wrong_range,
    "slip: channels": wrong_channels,
}
"""Of preprocessing, from which all samples suffer; that of channels only images in colour."""


def suffering(name: str, images: Tensor) -> Tensor:
    """Images uint8 [N, C, H, W] with a fault; image i is changed as its place and the fault's name decide."""
    fault = {**FAULTS, **SLIPS}[name]
    rng = np.random.default_rng(list(name.encode()))
    changed = [fault(image, rng) for image in images.numpy()]
    return torch.from_numpy(np.stack(changed))
