"""VGG-16 and VGG-19 trained on ImageNet (Simonyan and Zisserman 2014, arXiv:1409.1556, configurations D and E)."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ...harness.core.protocols import Extractor
from ...harness.core.registry import extractor
from ...harness.formats.built import built
from ...harness.formats.download import Published, find_published
from .frozen import Frozen, read_tensors
from .resize import IMAGENET, bicubic, resize, rgb, standardise

VGG16 = Published(
    "vgg16-397923af.pth",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
)
VGG19 = Published("vgg19-dcbb9e9d.pth", "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth", "dcbb9e9d")

WIDTHS, HIDDEN = (64, 128, 256, 512, 512), 4096
PIXELS = 8 * 224**2
SMALLEST = 32
"""Smallest side of an image: five halvings leave one pixel."""


class VGGNetwork(nn.Module):
    """Five groups of 3×3 convolutions, each followed by 2×2 max pooling, then three linear layers.

    depths: number of convolutions in each group. `features` and `classifier` are numbered as in torchvision.
    """

    def __init__(self, depths: Sequence[int]):
        super().__init__()
        self.features = nn.Sequential()
        self.names: dict[int, str] = {}
        width = 3
        for group, (depth, outputs) in enumerate(zip(depths, WIDTHS, strict=True), start=1):
            for place in range(1, depth + 1):
                self.features.extend([nn.Conv2d(width, outputs, 3, padding=1), nn.ReLU()])
                self.names[len(self.features) - 1] = f"conv{group}_{place}"
                width = outputs
            self.features.append(nn.MaxPool2d(2))
        self.classifier = nn.Sequential()
        for inputs in (49 * width, HIDDEN):
            self.classifier.extend([nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Dropout()])
        self.classifier.append(nn.Linear(HIDDEN, 1000))

    def forward(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        for place, layer in enumerate(self.features):
            x = layer(x)
            if self.names.get(place, "").endswith("_2"):
                yield self.names[place], x
        x = F.adaptive_avg_pool2d(x, 7).flatten(1)
        yield "features", self.classifier[:5](x)


def prepare(images: Tensor, size: int) -> Tensor:
    if size:
        images = resize(images, size, size, bicubic)
    if min(images.shape[2:]) < SMALLEST:
        shape = "x".join(map(str, images.shape[2:]))
        raise ValueError(f"VGG takes at least {SMALLEST}x{SMALLEST} pixels, images have {shape}; set another size")
    return standardise(rgb(images), *IMAGENET)


def _vgg(name: str, published: Published, depths: Sequence[int], path: str, download: bool, size: int) -> Extractor:
    weights = find_published(published, name, path, download)
    network = built(partial(VGGNetwork, depths), read_tensors(weights.path), weights.path)
    resizer = f"antialiased bicubic to {size}x{size}" if size else "size unchanged"
    preprocessing = f"{resizer}, ImageNet mean and deviation, {name}, second linear layer after ReLU; {weights.origin}"
    return Frozen(
        name, preprocessing, partial(prepare, size=size), network, size, PIXELS, weights.sha256, weights.pinned
    )


@extractor
def vgg16(dataset: str, path: str = "", download: bool = False, size: int = 224) -> Extractor:
    """Features [N, 4096] of torchvision's VGG-16: the second linear layer after ReLU.

    Its layers are conv1_2, conv2_2, conv3_2, conv4_2 and conv5_2, each after ReLU.

    path: file of the weights, published as vgg16-397923af.pth; by default the cached file.
    download: allow the download of the published file, 553 MB.
    size: side to which images are resized; 0 keeps their size, which must then be at least 32.

    Published precision and recall use other weights and another resizer, so their values differ.
    Raises FileNotFoundError when there are no weights, ValueError when the file holds another network.
    """
    return _vgg("vgg16", VGG16, (2, 2, 3, 3, 3), path, download, size)


@extractor
def vgg19(dataset: str, path: str = "", download: bool = False, size: int = 256) -> Extractor:
    """Features [N, 4096] of torchvision's VGG-19: the second linear layer after ReLU.

    Its layers are conv1_2, conv2_2, conv3_2, conv4_2 and conv5_2, each after ReLU: those of the path energy.

    path: file of the weights, published as vgg19-dcbb9e9d.pth; by default the cached file.
    download: allow the download of the published file, 575 MB.
    size: side to which images are resized; 0 keeps their size, which must then be at least 32.

    Raises FileNotFoundError when there are no weights, ValueError when the file holds another network.
    """
    return _vgg("vgg19", VGG19, (2, 2, 4, 4, 4), path, download, size)
