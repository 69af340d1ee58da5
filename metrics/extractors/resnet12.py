"""ResNet-12, the network of the few-shot literature, at any width.

As in Meta-Baseline (Chen et al. 2021, arXiv:2003.04390) and R-SVAE (Xu and Le, CVPR 2022), where the width is 64.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Three 3×3 convolutions plus a 1×1 shortcut, all normalised; LeakyReLU(0.1); 2×2 max pooling."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        layers: list[nn.Module] = []
        for before in (inputs, outputs, outputs):
            layers += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)]
        self.body = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.leaky_relu(self.body(x) + self.shortcut(x), 0.1), 2)


class ResNet12(nn.Module):
    """Four blocks of widths 1, 2, 4 and 8 times `width`, a spatial mean and a linear layer; it returns logits.

    Raises ValueError for images with fewer than 16 pixels per side.
    """

    def __init__(self, channels: int, size: int, classes: int, width: int = 64):
        super().__init__()
        if size < 16:
            raise ValueError(
                f"ResNet-12 halves images four times, so they need at least 16 pixels per side; these have {size}"
            )
        widths = (channels, width, 2 * width, 4 * width, 8 * width)
        blocks = [Block(before, after) for before, after in pairwise(widths)]
        self.features = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.last = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.features(images))
        return logits
