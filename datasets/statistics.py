"""Reference statistics in place of real samples: the mean and covariance that others have published."""

from collections.abc import Sequence
from pathlib import Path

from ..harness.core.files import digest, sha256_of
from ..harness.core.protocols import Dataset, Samples, Split
from ..harness.core.protocols import Statistics as Known
from ..harness.core.registry import dataset
from ..harness.formats.statistics import read_statistics


class Statistics:
    """A Dataset that has no samples, only the mean and covariance of their features (`HasStatistics`)."""

    name = "statistics"
    classes: Sequence[str] = ()

    def __init__(self, statistics: Known, fingerprint: str):
        self.statistics, self.fingerprint = statistics, fingerprint

    def count(self, split: Split) -> int:
        return 0

    def take(self, split: Split, start: int, stop: int) -> Samples:
        raise ValueError("data set 'statistics' has no samples; choose another with dataset=NAME")


@dataset
def statistics(path: str = "", key: str = "", sigma: str = "") -> Dataset:
    """Mean and covariance of features of real samples, as published for the Fréchet distance, without the samples.

    path: a .npz file with mu [D] and sigma [D, D] (pytorch-fid, clean-fid, guided-diffusion, EDM), a pickle or torch
        file with these, with a pair for each metric (EDM2), or with the sums that StyleGAN2-ADA keeps; or the .npy file
        of the mean.
    key: which pair, where there are several: the metric, or "spatial" for mu_s and sigma_s of guided-diffusion.
    sigma: the .npy file of the covariance, beside that of the mean.

    That the features are those of the run is taken on trust: the file does not say. Metrics that need samples fail.
    Raises FileNotFoundError, and ValueError with the file and what is wrong in it.
    """
    if not path:
        raise ValueError("data set statistics needs a file: give dataset.statistics.path=FILE.npz")
    known = read_statistics(path, key, sigma)
    files = [sha256_of(Path(file).expanduser()) for file in (path, sigma) if file]
    return Statistics(known, digest("statistics", 1, files, key))
