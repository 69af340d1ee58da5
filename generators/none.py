"""The generator that makes nothing, for studies that make their own sets."""

from collections.abc import Sequence

from torch import Tensor

from ..harness.core.protocols import Generator
from ..harness.core.registry import generator

REFUSED = "generator 'none' makes no samples; choose another with generator=NAME"


class Nothing:
    """A Generator without samples. Metrics that need generated samples fail with a message that says so."""

    spaces: Sequence[str] = ("z",)
    fingerprint = "none 1"

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        raise ValueError(REFUSED)

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        raise ValueError(REFUSED)


@generator
def none(dataset: str) -> Generator:
    """No generated samples: for studies that make their own sets, such as sanity."""
    return Nothing()
