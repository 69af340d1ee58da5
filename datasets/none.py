"""No data set: for generators that are looked at alone."""

from collections.abc import Sequence

from ..harness.core.protocols import Dataset, Samples, Split
from ..harness.core.registry import dataset


class Nothing:
    """A Dataset without samples; metrics that compare with real ones then fail and say so."""

    name = "none"
    fingerprint = "none 1"
    classes: Sequence[str] = ()

    def count(self, split: Split) -> int:
        return 0

    def take(self, split: Split, start: int, stop: int) -> Samples:
        raise ValueError("data set 'none' has no samples; choose another with dataset=NAME")


@dataset
def none() -> Dataset:
    """No real samples: only metrics of the generated samples and of the latent space apply."""
    return Nothing()
