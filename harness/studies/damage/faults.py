"""Faults of images: what a sound image uint8 [C, H, W] becomes, as a pure function of the image and of a generator."""

from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ....generators.sampling.faults import Fault, blurred, covered, noisy
from ....metrics.extractors.resize import resize, tf1_bilinear

Picture = NDArray[np.uint8]
Change = Callable[[Picture, np.random.Generator], Picture]


def _by_pillow(image: Picture, change: Callable[[Image.Image], Image.Image]) -> Picture:
    """An image uint8 [C, H, W] of 1 or 3 channels through Pillow and back."""
    grey = len(image) == 1
    changed = change(Image.fromarray(image[0] if grey else np.ascontiguousarray(image.transpose(1, 2, 0))))
    found = np.asarray(changed)
    return found[None] if grey else found.transpose(2, 0, 1)


def _of_signal(fault: Fault) -> Change:
    """A fault that `generators.sampling.faults` knows, of 8-bit images."""

    def change(image: Picture, rng: np.random.Generator) -> Picture:
        given = torch.from_numpy(image.copy()).float() / 255
        found: Picture = (fault(given, rng, lambda _: given).clamp(0, 1) * 255).round().byte().numpy()
        return found

    return change


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


FAULTS: Mapping[str, Change] = {
    "covered": _of_signal(covered),
    "blurred": _of_signal(partial(blurred, spread=1 / 28)),
    "noisy": _of_signal(partial(noisy, spread=0.1)),
    "JPEG 25": lambda image, rng: jpeg(image, 25),
    "cropped": cropped,
}
"""Of which a growing share of the samples suffers: a cover of a third of the side, a blur by 1/28 of it (one pixel of
MNIST), noise of a tenth of the range."""
SLIPS: Mapping[str, Change] = {
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
