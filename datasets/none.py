"""The empty data set, for generators that are evaluated without real samples."""

from collections.abc import Sequence

from ..harness.core.protocols import Dataset, Samples, Split
from ..harness.core.registry import dataset


class Nothing:
    """A Dataset without samples. Metrics that need real samples fail with a message that says so."""

    name = "none"
    fingerprint = "none 1"
    classes: Sequence[str] = ()

    def count(self, split: Split) -> int:
        return 0

    def take(self, split: Split, start: int, stop: int) -> Samples:
        raise ValueError("data set 'none' has no samples; choose another with dataset=NAME")


@dataset
def none() -> Dataset:
    """No real samples: only metrics that use generated samples and latents alone are available."""
    return Nothing()
