"""The generator of nothing, for studies that make their own sets or read what others have measured."""

from collections.abc import Sequence

from torch import Tensor

from ..harness.core.protocols import Generator
from ..harness.core.registry import generator


class Nothing:
    """A Generator without samples: there are 0 of them. Metrics that need some fail with a message that says so."""

    fingerprint, total = "none 1", 0
    spaces: Sequence[str] = ("none",)

    def latents(self, seeds: Sequence[int], space: str = "none") -> Tensor:
        raise ValueError("generator 'none' has no samples; choose another with generator=NAME")

    def decode(self, latents: Tensor, space: str = "none") -> Tensor:
        raise ValueError("generator 'none' has no samples; choose another with generator=NAME")


@generator
def none(dataset: str) -> Generator:
    """No generated samples: for studies that make their own sets or read records, such as sanity and replicate."""
    return Nothing()
