"""The Inception-v3 of FID (Szegedy et al. 2015, arXiv:1512.00567; Heusel et al. 2017, arXiv:1706.08500)."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...harness.core.protocols import Extractor
from ...harness.core.registry import extractor
from ...harness.formats.built import built
from ...harness.formats.download import Published, find_published
from .convolution import ConvUnit, Pair
from .frozen import Frozen, read_tensors
from .resize import resize, rgb, tf1_bilinear

WEIGHTS = Published(
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
TORCHSCRIPT = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""sha256 of inception-2015-12-05.pt, the same network as a TorchScript archive."""

SIZE, PIXELS = 299, 16 * 299**2

Row = Sequence[tuple[Pair, ...]]
"""A sequence of units, each (outputs, kernel); a unit with two kernels is a pair of parallel units."""


def average(x: Tensor) -> Tensor:
    # TensorFlow excludes the padding from the mean.
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


def unit(inputs: int, outputs: int, kernel: Pair, stride: int = 1, padded: bool = True) -> ConvUnit:
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    return ConvUnit(inputs, outputs, kernel, stride, (height // 2, width // 2) if padded else 0, F.relu)


class Mixed(nn.Module):
    """Parallel branches with concatenated outputs. Unit names are those of torchvision: branch, position, a or b.

    pool: the first operation of branch "branch_pool"; if it is `halve`, the other branches end with stride 2.
    """

    def __init__(self, inputs: int, pool: Callable[[Tensor], Tensor], **branches: Row):
        super().__init__()
        self.pool, self.branches = pool, {branch: list[list[str]]() for branch in branches}
        for branch, row in branches.items():
            width = inputs
            for place, (outputs, *kernels) in enumerate(row, start=1):
                assert isinstance(outputs, int)
                stride = 2 if pool is halve and place == len(row) else 1
                name = f"{branch}_{place}" if len(row) > 1 else branch
                names = [name + letter for letter in "ab"] if len(kernels) == 2 else [name]
                for name, kernel in zip(names, kernels, strict=True):
                    self.add_module(name, unit(width, outputs, kernel, stride, padded=stride == 1))
                self.branches[branch].append(names)
                width = outputs

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch, row in self.branches.items():
            y = self.pool(x) if branch == "branch_pool" else x
            for names in row:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            outputs.append(y)
        return torch.cat(outputs, 1)


def mixed_5(inputs: int, pooled: int) -> Mixed:
    single: Row = [(48, 1), (64, 5)]
    double: Row = [(64, 1), (96, 3), (96, 3)]
    pool: Row = [(pooled, 1)]
    return Mixed(inputs, average, branch1x1=[(64, 1)], branch5x5=single, branch3x3dbl=double, branch_pool=pool)


def mixed_6a() -> Mixed:
    double: Row = [(64, 1), (96, 3), (96, 3)]
    return Mixed(288, halve, branch3x3=[(384, 3)], branch3x3dbl=double, branch_pool=[])


def mixed_6(width: int) -> Mixed:
    wide, tall = (1, 7), (7, 1)
    single: Row = [(width, 1), (width, wide), (192, tall)]
    double: Row = [(width, 1), (width, tall), (width, wide), (width, tall), (192, wide)]
    return Mixed(768, average, branch1x1=[(192, 1)], branch7x7=single, branch7x7dbl=double, branch_pool=[(192, 1)])


def mixed_7a() -> Mixed:
    row: Row = [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)]
    return Mixed(768, halve, branch3x3=[(192, 1), (320, 3)], branch7x7x3=row, branch_pool=[])


def mixed_7(inputs: int, pool: Callable[[Tensor], Tensor]) -> Mixed:
    wide, tall = (1, 3), (3, 1)
    single: Row = [(384, 1), (384, wide, tall)]
    double: Row = [(448, 1), (384, 3), (384, wide, tall)]
    return Mixed(inputs, pool, branch1x1=[(320, 1)], branch3x3=single, branch3x3dbl=double, branch_pool=[(192, 1)])


class InceptionNetwork(nn.Module):
    """The network of 2015-12-05: pool branches use means without padding, and the last one uses a maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = unit(3, 32, 3, stride=2, padded=False)
        self.Conv2d_2a_3x3 = unit(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = unit(32, 64, 3)
        self.Conv2d_3b_1x1 = unit(64, 80, 1)
        self.Conv2d_4a_3x3 = unit(80, 192, 3, padded=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = mixed_5(192, 32), mixed_5(256, 64), mixed_5(288, 64)
        self.Mixed_6a = mixed_6a()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (mixed_6(width) for width in (128, 160, 160, 192))
        self.Mixed_7a = mixed_7a()
        self.Mixed_7b, self.Mixed_7c = mixed_7(1280, average), mixed_7(2048, maximum)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        yield "Conv2d_2b_3x3", x
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(halve(x)))
        yield "Conv2d_4a_3x3", x
        x = halve(x)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
                yield name, x
        yield "features", x.mean((2, 3))


def prepare(images: Tensor) -> Tensor:
    return (rgb(resize(images, SIZE, SIZE, tf1_bilinear)) * 255 - 128) / 128


@extractor
def inception(dataset: str, path: str = "", download: bool = False) -> Extractor:
    """Features [N, 2048] of FID: the spatial mean of the last block of the Inception-v3 of 2015-12-05.

    path: file of the weights, published as pt_inception-2015-12-05-6726825d.pth; by default the cached file.
        The same network as TorchScript, inception-2015-12-05.pt, is rejected: its tensors have other names.
    download: allow the download of the published file, 96 MB.

    Only features of the published weights give the FID; `pinned` and `preprocessing` state whether they are used.
    Raises FileNotFoundError when there are no weights, ValueError when the file holds another network.
    """
    weights = find_published(WEIGHTS, "inception", path, download)
    if weights.sha256 == TORCHSCRIPT:
        raise ValueError(
            f"{weights.path} names its tensors in a way for which no map is published; "
            f"give {WEIGHTS.file}, the same network, from {WEIGHTS.url}"
        )
    network = built(InceptionNetwork, read_tensors(weights.path), weights.path)
    preprocessing = (
        "TensorFlow 1 bilinear (no half-pixel centres, no antialiasing) to 299x299, (255 x - 128) / 128, "
        f"Inception-v3 of 2015-12-05, mean of Mixed_7c; {weights.origin}"
    )
    return Frozen("inception", preprocessing, prepare, network, SIZE, PIXELS, weights.sha256, weights.pinned)
