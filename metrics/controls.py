"""Control scores that need no model. A score that does not predict quality better than these is not useful."""

import io

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..harness.core.inputs import Array, images, row_blocks, samples
from ..harness.core.options import Seed
from ..harness.core.protocols import View
from ..harness.core.registry import metric

CONTROL = "not published; https://docs.pytorch.org/docs/stable/generated/torch"


@metric(
    better="neither",
    kind="sample",
    source=f"{CONTROL}.rand.html",
    fake=View("fake", "images"),
)
def random_score(fake: Array, seed: Seed = 0) -> Tensor:
    """Uniform numbers in [0, 1) that are independent of the samples, float64 [N], drawn with `seed`."""
    (x,) = samples(fake=fake)
    return torch.rand(len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(x.device)


@metric(better="neither", kind="sample", modality="image", source="arXiv:2406.03537", fake=View("fake", "images"))
def png_bytes(fake: Array) -> Tensor:
    """Size in bytes of each image [N, C, H, W] in [0, 1] as an 8-bit PNG file, float64 [N]: its complexity."""
    x = _pictures(fake)
    pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    sizes = []
    for picture in pixels:
        file = io.BytesIO()
        Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(file, "PNG", optimize=True)
        sizes.append(file.tell())
    return torch.tensor(sizes, dtype=torch.float64, device=x.device)


@metric(
    better="neither",
    kind="sample",
    modality="image",
    source="https://doi.org/10.1109/ICPR.2000.903548",
    fake=View("fake", "images"),
)
def laplacian_variance(fake: Array) -> Tensor:
    """Variance over pixels of the 4-neighbour Laplacian of the mean channel, float64 [N]: sharpness or noise."""
    x = _pictures(fake)
    if min(x.shape[2:]) < 3 or max(x.shape[2:]) < 4:
        raise ValueError(
            f"fake has images of {x.shape[2]} x {x.shape[3]} pixels; a variance of the Laplacian needs at least 3 x 4"
        )
    kernel = x.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=torch.float64)[None, None]
    parts = [F.conv2d(block.double().mean(1, keepdim=True), kernel).flatten(1).var(1) for block in row_blocks(x)]
    return torch.cat(parts)


@metric(better="neither", kind="sample", modality="image", source=f"{CONTROL}.mean.html", fake=View("fake", "images"))
def mean_intensity(fake: Array) -> Tensor:
    """Mean intensity of each image [N, C, H, W] in [0, 1], float64 [N]."""
    return _pictures(fake).double().flatten(1).mean(1)


def _pictures(fake: Array) -> Tensor:
    x = images("fake", fake)
    if not x.shape[2] * x.shape[3]:
        raise ValueError(f"fake has images of {x.shape[2]} x {x.shape[3]} pixels: give images that have pixels")
    return x
