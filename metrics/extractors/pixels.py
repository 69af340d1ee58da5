"""The plainest feature space: the pixels themselves."""

from torch import Tensor

from ...harness.core.protocols import Extractor
from ...harness.core.registry import extractor


class Pixels:
    """Images [N, C, H, W] in [0, 1], flattened to [N, C·H·W]."""

    fingerprint = "pixels 1"
    preprocessing = "none, pixels in [0, 1]"

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1).float()


@extractor
def pixels(dataset: str) -> Extractor:
    """The pixels themselves, flattened; distances then have the unit of intensity, 1 = black to white."""
    return Pixels()
