"""No generator, for studies that read no samples."""

from collections.abc import Sequence

from torch import Tensor

from ..harness.core.protocols import Generator
from ..harness.core.registry import generator


class Nothing:
    """A Generator with no samples at all: `total` is 0."""

    fingerprint, total = "none 1", 0
    spaces: Sequence[str] = ("none",)

    def latents(self, seeds: Sequence[int], space: str = "none") -> Tensor:
        raise ValueError("generator 'none' has no samples; choose another with generator=NAME")

    def decode(self, latents: Tensor, space: str = "none") -> Tensor:
        raise ValueError("generator 'none' has no samples; choose another with generator=NAME")


@generator
def none(dataset: str) -> Generator:
    """No samples, for studies of what others have measured, such as `humans`."""
    return Nothing()
