"""A convolutional network with random weights, a control for pretrained networks.

A result that also holds in this space is not due to pretraining. Naeem et al. 2020 (arXiv:2002.09797) use random
networks as feature spaces. This architecture is our own and not published.
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
    """Four stages of two 3×3 convolutions with ReLU, with 2×2 max pooling between stages.

    The feature is the concatenation of the spatial means of all stages. Weights are normal with variance 2 / fan-in
    (He et al. 2015, arXiv:1502.01852), so all stages have about the same scale. Biases are 0.
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
    """Features [N, 480] of a convolutional network with random weights, without training: a control.

    Images keep their size. Its layers are the outputs of its stages, stage1 to stage4. seed: seed of the weights.
    """
    if seed < 0:
        raise ValueError(f"extractor.random.seed={seed} must not be negative")
    network = RandomNetwork(seed)
    weights = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values()))
    preprocessing = (
        f"size unchanged, 2 x - 1, four stages of convolutions, mean of each over space; random weights of seed {seed}"
    )
    return Frozen("random", preprocessing, prepare, network, 0, PIXELS, weights.hexdigest(), pinned=False)
