"""The simplest feature space: the pixels themselves."""

from torch import Tensor

from ...harness.core.protocols import Extractor
from ...harness.core.registry import extractor


class Pixels:
    """Flattens images [N, C, H, W] in [0, 1] to [N, C·H·W]."""

    fingerprint = "pixels 1"
    preprocessing = "none, pixels in [0, 1]"

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1).float()


@extractor
def pixels(dataset: str) -> Extractor:
    """The flattened pixels; distances are in units of intensity, with 1 from black to white."""
    return Pixels()
