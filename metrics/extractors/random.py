"""A convolutional network that was never trained, the control for those that were.

What a score says in this space too, it does not owe to training. Random networks as feature spaces: Naeem et al. 2020
(arXiv:2002.09797). The architecture is this file's own: not published.
"""

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...harness.core.protocols import Extractor
from ...harness.core.registry import extractor
from .frozen import Frozen
from .resize import rgb

WIDTHS = (3, 32, 64, 128, 256)
PIXELS = 16 * 224**2


class RandomNetwork(nn.Module):
    """Four stages of two 3×3 convolutions with ReLU, halved between; the feature is each stage's mean over space.

    Weights are normal with variance 2 / fan-in (He et al. 2015, arXiv:1502.01852), so every stage has about the same
    scale; biases are 0.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1),
                nn.ReLU(),
            )
            for inputs, outputs in pairwise(WIDTHS)
        )
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
            else:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        means = []
        for place, stage in enumerate(self.stages, start=1):
            x = stage(x if place == 1 else F.max_pool2d(x, 2, ceil_mode=True))
            means.append(x.mean((2, 3)))
            yield f"stage{place}", x
        yield "features", torch.cat(means, 1)


def prepare(images: Tensor) -> Tensor:
    return 2 * rgb(images) - 1


@extractor
def random(dataset: str, seed: int = 0) -> Extractor:
    """Features [N, 480] of a convolutional network with random weights, never trained: a control.

    Images keep their size. Its layers are the outputs of its stages, stage1 to stage4. seed: of the weights.
    """
    if seed < 0:
        raise ValueError(f"extractor.random.seed={seed} must not be negative")
    network = RandomNetwork(seed)
    weights = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values()))
    preprocessing = (
        f"size unchanged, 2 x - 1, four stages of convolutions, mean of each over space; random weights of seed {seed}"
    )
    return Frozen("random", preprocessing, prepare, network, 0, PIXELS, weights.hexdigest(), pinned=False)
