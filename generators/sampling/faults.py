"""Faults of images whose truth is known: of the signal (blur, noise, a cover), and of the content.

All take an image [C, H, W] in [0, 1], the random generator that draws the details, and a function that draws an image
of another class. The object is what differs from the background, the median of the border; every fault of the content
changes it, wherever it lies.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Donor = Callable[[np.random.Generator], Tensor]
Fault = Callable[[Tensor, np.random.Generator, Donor], Tensor]

PART = 0.3
"""Share of the object, by how far it is from the background, that is missing or doubled."""
HOLE, SHIFT, MELTED = 1 / 9, 1 / 3, 1 / 9
"""Radius of a hole, distance of a doubled part, and root mean square of the displacement of what melts, of the side."""
KNOTS = 6
"""Random displacements on each side of an image that melts; between them it is smooth."""
OBJECT = 0.1
"""Least distance from the background, of the largest one, of a pixel of the object."""


def blurred(image: Tensor, rng: np.random.Generator, donor: Donor, spread: float = 1 / 14) -> Tensor:
    """By a Gaussian whose standard deviation is this share of the side."""
    std = image.shape[-1] * spread
    reach = min(int(3 * std), image.shape[-1] - 1)
    kernel = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * std**2))
    kernel = (kernel / kernel.sum())[None, None, None]
    rows = F.conv2d(F.pad(image[:, None], (reach, reach, 0, 0), "reflect"), kernel)
    both = F.conv2d(F.pad(rows, (0, 0, reach, reach), "reflect"), kernel.transpose(2, 3))
    return both[:, 0]


def noisy(image: Tensor, rng: np.random.Generator, donor: Donor, spread: float = 0.25) -> Tensor:
    """By normal noise with this standard deviation."""
    return image + spread * torch.from_numpy(rng.standard_normal(image.shape, np.float32))


def covered(image: Tensor, rng: np.random.Generator, donor: Donor) -> Tensor:
    """By a grey square with a third of the side, at a random position."""
    side = max(1, image.shape[-1] // 3)
    top, left = (int(rng.integers(0, size - side + 1)) for size in image.shape[1:])
    found = image.clone()
    found[:, top : top + side, left : left + side] = 0.5
    return found


def missing_part(image: Tensor, rng: np.random.Generator, donor: Donor) -> Tensor:
    """What lies beyond a random line, PART of the object, is background."""
    background, weight = _object(image)
    beyond, _ = _beyond(weight, rng, PART)
    return torch.where(beyond, background, image)


def doubled_part(image: Tensor, rng: np.random.Generator, donor: Donor) -> Tensor:
    """What lies beyond a random line is there again, moved along the line, to the side where more changes."""
    _, weight = _object(image)
    beyond, angle = _beyond(weight, rng, PART)
    part = beyond & (weight > OBJECT * weight.max())
    tried = []
    for sign in (1, -1):
        moved = [round(sign * SHIFT * image.shape[-1] * step) for step in (math.cos(angle), -math.sin(angle))]
        values, there = (_moved(each, *moved) for each in (image, part[None].float()))
        tried.append(torch.where(there > 0, values, image))
    return max(tried, key=lambda found: float((found - image).square().sum()))


def swapped_texture(image: Tensor, rng: np.random.Generator, donor: Donor) -> Tensor:
    """The object's pixels have the colours of those of an object of another class, in reading order, repeated."""
    other = donor(rng)
    (_, weight), (_, of_other) = _object(image), _object(other)
    here, there = (each > OBJECT * each.max() for each in (weight, of_other))
    colours = other[:, there]
    found = image.clone()
    found[:, here] = colours[:, torch.arange(int(here.sum())) % colours.shape[1]]
    return found


def hole(image: Tensor, rng: np.random.Generator, donor: Donor) -> Tensor:
    """A disc around a random point of the object is background."""
    background, weight = _object(image)
    height, width = weight.shape
    centre = int(rng.choice(height * width, p=(weight.flatten().double() / weight.double().sum()).numpy()))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    apart = (rows - centre // width).square() + (columns - centre % width).square()
    return torch.where(apart <= (HOLE * width) ** 2, background, image)


def melted(image: Tensor, rng: np.random.Generator, donor: Donor) -> Tensor:
    """Each pixel is taken from elsewhere, by a smooth random displacement."""
    _object(image)
    knots = torch.from_numpy(rng.standard_normal((1, 2, KNOTS, KNOTS), np.float32))
    field = F.interpolate(knots, image.shape[1:], mode="bicubic", align_corners=True)[0]
    field = field * (2 * MELTED / float(field.square().sum(0).mean().sqrt()))
    axes = [torch.linspace(-1, 1, size) for size in image.shape[1:]]
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    grid = torch.stack([columns + field[0], rows + field[1]], dim=-1)
    return F.grid_sample(image[None], grid[None], padding_mode="border", align_corners=True)[0]


def mixed_classes(image: Tensor, rng: np.random.Generator, donor: Donor) -> Tensor:
    """What lies beyond a random line, half of the object, is that of an image of another class."""
    _, weight = _object(image)
    beyond, _ = _beyond(weight, rng, 0.5)
    return torch.where(beyond, donor(rng), image)


SIGNAL: Mapping[str, Fault] = {"blurred": blurred, "noisy": noisy, "covered": covered}
CONTENT: Mapping[str, Fault] = {
    "missing part": missing_part,
    "doubled part": doubled_part,
    "swapped texture": swapped_texture,
    "hole": hole,
    "melted": melted,
    "mixed classes": mixed_classes,
}


def _object(image: Tensor) -> tuple[Tensor, Tensor]:
    """The background [C, 1, 1], and how far each pixel is from it [H, W]."""
    border = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], dim=1)
    background = border.median(dim=1).values[:, None, None]
    weight = (image - background).abs().mean(0)
    if not weight.any():
        raise ValueError("an image is of one colour, so no part of its object can have a fault; leave such images out")
    return background, weight


def _beyond(weight: Tensor, rng: np.random.Generator, share: float) -> tuple[Tensor, float]:
    """The pixels beyond a line of random direction, with at least `share` of the weight, bool [H, W]; the direction."""
    angle = float(rng.uniform(0, 2 * math.pi))
    rows, columns = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in weight.shape), indexing="ij")
    along = math.sin(angle) * columns + math.cos(angle) * rows
    order = along.flatten().argsort(descending=True)
    sums = weight.flatten().double()[order].cumsum(0)
    last = order[int((sums < share * sums[-1]).sum())]
    return along >= along.flatten()[last], angle


def _moved(image: Tensor, right: int, down: int) -> Tensor:
    """An image [C, H, W] moved by whole pixels; 0 where nothing comes from."""
    found = torch.zeros_like(image)
    height, width = image.shape[1:]
    rows, columns = (slice(max(0, step), min(size, size + step)) for step, size in ((down, height), (right, width)))
    of_rows, of_columns = (
        slice(max(0, -step), min(size, size - step)) for step, size in ((down, height), (right, width))
    )
    found[:, rows, columns] = image[:, of_rows, of_columns]
    return found
