"""The unit that convolutional networks repeat: convolution, batch normalisation, activation."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

Pair = int | tuple[int, int]


class ConvUnit(nn.Module):
    """Convolution without bias, batch normalisation with eps 1e-3 (TensorFlow's), activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Pair,
        stride: int,
        padding: Pair,
        activation: Callable[[Tensor], Tensor],
        groups: int = 1,
    ):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs, eps=1e-3)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv(x)))


def fold(network: nn.Module) -> None:
    """Replace every ConvUnit of a network in evaluation mode by one convolution with bias; equal up to rounding."""
    for unit in network.modules():
        if isinstance(unit, ConvUnit) and isinstance(unit.bn, nn.BatchNorm2d):
            unit.conv, unit.bn = fuse_conv_bn_eval(unit.conv, unit.bn), nn.Identity()
