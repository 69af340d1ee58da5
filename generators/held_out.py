"""The held-out images of a data set in a generator's place: what a perfect generator would score, for every metric."""

import torch
from torch import Tensor

from ..harness.files import digest
from ..harness.protocols import Generator
from ..harness.registry import DATASETS, generator
from .replay import Replay, Stored


@generator
def held_out(dataset: str) -> Generator:
    """Real against real: the held-out images of the data set, shown as samples; n is at most their number.

    Metrics that compare with held-out images then compare them with themselves. Raises ValueError for a data set that
    has to be told where its files are, or that holds none out.
    """
    try:
        data = DATASETS[dataset].function()
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"generator held_out opens data set {dataset!r} with its default options, and that fails ({error}); use "
            "generator=replay generator.path=FOLDER with the held-out images"
        ) from None
    count = data.count("test")
    if not count:
        raise ValueError(f"data set {dataset!r} holds no samples out")

    def load(numbers: list[int]) -> Tensor:
        return torch.stack([data.take("test", number, number + 1).images[0] for number in numbers])

    return Replay(Stored(load, count, [data.fingerprint], None), None, digest("held_out", 1, data.fingerprint))
