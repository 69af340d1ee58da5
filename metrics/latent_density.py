"""Latent density (arXiv:2407.15171), which measures how much training data lies near a latent code, and baselines."""

import math

import torch
from torch import Tensor

from ..harness.core.inputs import BLOCK_ELEMENTS, Array, require_neighbours, row_blocks, samples
from ..harness.core.options import Count, Positive
from ..harness.core.protocols import View
from ..harness.core.registry import metric
from .density_ratio import density_ratio as density_ratio
from .kernels.distances import BLOCK, PANEL, mean_of, nearest, nearest_others, squared_distance_tiles
from .kernels.memo import remember
from .kernels.moments import moments

SUBSET = 2000
"""Maximum number of reference rows from which the median pairwise distance is computed."""


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2407.15171 eq. 1",
    fake=View("fake", "latent"),
    reference=View("real", "latent", n="all"),
)
def latent_density(fake: Array, reference: Array, bandwidth: Positive = 0.2, relative: bool = True) -> Tensor:
    """log D(z) of each code of fake [N, ...], float64 [N], at most 0; higher is denser. References: [M, ...].

        D(z) = (1/M) sum_i exp( -||z - z_i||^2 / (2 sigma^2) )

    As in the paper, there is no normalising factor. The log avoids the underflow of D in many dimensions and keeps the
    ranking. sigma is the bandwidth; if `relative`, it is multiplied by the median distance between references, see
    `median_distance`. The paper publishes neither its sigma nor its reference codes. Latents are flattened.
    Raises ValueError for bad input, or references that coincide.
    """
    return latent_density_profile(fake, reference, [bandwidth], relative)[0]


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2407.15171 eq. 1",
    fake=View("fake", "latent"),
    reference=View("real", "latent", n="all", encode="sample"),
    mean=View("real", "latent", n="all"),
)
def active_latent_density(
    fake: Array, reference: Array, mean: Array, bandwidth: Positive = 0.2, least_std: Positive = 0.17
) -> Tensor:
    """`latent_density` in the dimensions that the encoder uses, float64 [N]; higher is denser. A variant of our own.

    A dimension is used if the posterior means [M, D] have a standard deviation of at least `least_std` in it. The other
    dimensions have collapsed to the prior: they do not change the image and only add noise to the distances.
    Raises ValueError as `latent_density` does, and when no dimension is left.
    """
    z, codes, means = samples(fake=fake, reference=reference, mean=mean)
    used = means.double().std(0) >= least_std
    if not used.any():
        raise ValueError(
            f"mean: all {len(used)} dimensions have a standard deviation below least_std={least_std}: none is left"
        )
    return latent_density(z[:, used], codes[:, used], bandwidth)


def latent_density_profile(fake: Array, reference: Array, bandwidths: list[float], relative: bool = True) -> Tensor:
    """`latent_density` for several bandwidths in one pass over the distances, float64 [len(bandwidths), N]."""
    z, codes = samples(fake=fake, reference=reference)
    if not bandwidths or min(bandwidths) <= 0 or not all(map(math.isfinite, bandwidths)):
        raise ValueError(f"bandwidth is {bandwidths}; it must be positive and finite")
    widest = max(bandwidths) * (median_distance(codes) if relative else 1.0)
    powers = [(max(bandwidths) / bandwidth) ** 2 for bandwidth in bandwidths]
    sums = [LogSum(len(z), z.device) for _ in powers]
    for tile in squared_distance_tiles(z, codes, scale=-0.5 / widest**2):
        for power, total in zip(powers, sums, strict=True):
            total.add(tile.rows, tile.values if len(powers) == 1 else tile.values * power)
    return torch.stack([total.log() for total in sums]) - math.log(len(codes))


class LogSum:
    """log sum exp over the columns of a matrix that arrives in tiles; it accumulates in float64."""

    def __init__(self, rows: int, device: torch.device):
        self.peak = torch.full((rows,), -torch.inf, dtype=torch.float64, device=device)
        self.total = torch.zeros(rows, dtype=torch.float64, device=device)

    def add(self, rows: slice, values: Tensor) -> None:
        """Add a tile: the first rows of values [>= len(rows), n] belong to `rows`. `values` is overwritten."""
        values = values[: rows.stop - rows.start]
        old = self.peak[rows]
        peak = torch.maximum(old, values.amax(1))
        peak = peak.to(values.dtype).double()
        # Terms below exp(-80) are negligible beside the largest term, 1, and denormal numbers are slow on a CPU.
        terms = values.sub_(peak.to(values.dtype)[:, None]).clamp_(min=-80).exp_().sum(1)
        self.total[rows] = self.total[rows] * (old - peak).exp() + terms.double()
        self.peak[rows] = peak

    def log(self) -> Tensor:
        return self.peak + self.total.log()


@remember
def median_distance(codes: Tensor) -> float:
    """Median distance between pairs of rows. Of more than 2,000 rows, it uses 2,000 drawn with seed 0."""
    if len(codes) < 2:
        raise ValueError(
            f"reference has {len(codes)} row; the median distance needs 2: give more, or set relative=False"
        )
    if len(codes) > SUBSET:
        codes = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))[:SUBSET].to(codes.device)]
    centred = codes.double() - mean_of(codes)
    squared = centred.square().sum(1)
    distances = squared[:, None] + squared[None, :] - 2 * centred @ centred.T
    upper = torch.triu_indices(len(codes), len(codes), 1, device=codes.device)
    median = float(distances[upper[0], upper[1]].median().clamp(min=0).sqrt())
    if median <= 1e-7 * float(squared.mean().sqrt()) or median == 0:
        raise ValueError(
            "reference: half of the pairs coincide, so the median distance is 0: "
            "set relative=False and give an absolute bandwidth"
        )
    return median


@metric(better="higher", kind="sample", source="arXiv:1809.11096 section 3.1", fake=View("fake", "latent"))
def negative_norm(fake: Array) -> Tensor:
    """-||z|| of each code, float64 [N]: the truncation trick as a score, and the null model of latent scores."""
    (z,) = samples(fake=fake)
    return -torch.cat([block.double().norm(dim=1) for block in row_blocks(z)])


@metric(
    better="higher",
    kind="sample",
    source="arXiv:1812.04948 appendix B",
    fake=View("fake", "latent"),
    reference=View("real", "latent", n="all"),
)
def negative_distance_to_mean(fake: Array, reference: Array) -> Tensor:
    """-||z - mean of the references||, float64 [N]: truncation per sample; latent density for wide kernels."""
    z, codes = samples(fake=fake, reference=reference)
    mean = mean_of(codes)
    return -torch.cat([(block.double() - mean).norm(dim=1) for block in row_blocks(z)])


@metric(
    better="higher",
    kind="sample",
    source="https://doi.org/10.1016/S0047-259X(03)00096-4",
    fake=View("fake", "latent"),
    reference=View("real", "latent", n="all"),
)
def gaussian_log_density(fake: Array, reference: Array) -> Tensor:
    """log N(z; mean, S) of each code, float64 [N], in nats; S is the shrunk covariance of the references.

    Ledoit and Wolf 2004: S = (1 - w) C + w (tr C / D) I, with the covariance C (divided by M) and the w in [0, 1] that
    minimises the expected error. It takes D^2 memory and D^3 time. Raises ValueError for bad input, fewer than 2
    references, or references that are all equal.
    """
    (z, codes) = samples(fake=fake, reference=reference)
    samples(2, reference=codes)
    m, dimension = codes.shape
    known = moments(codes)
    covariance = known.scatter / m
    scale = float(covariance.trace()) / dimension
    if scale == 0:
        raise ValueError(f"reference: all {m} rows are equal, so their covariance is 0: give codes that differ")
    spread = float(covariance.square().sum()) - dimension * scale**2
    fourth = sum(float((block.double() - known.mean).square().sum(1).square().sum()) for block in row_blocks(codes))
    noise = (fourth / m - float(covariance.square().sum())) / m
    weight = min(1.0, noise / spread) if spread > 0 else 1.0
    shrunk = (1 - weight) * covariance
    shrunk.diagonal().add_(weight * scale)
    factor = torch.linalg.cholesky(shrunk)
    constant = -0.5 * dimension * math.log(2 * math.pi) - float(factor.diagonal().log().sum())
    white = [
        torch.linalg.solve_triangular(factor, (block.double() - known.mean).T, upper=False) for block in row_blocks(z)
    ]
    return torch.cat([constant - 0.5 * block.square().sum(0) for block in white])


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2204.06507",
    fake=View("fake", "latent"),
    reference=View("real", "latent", n="all"),
)
def latent_knn(fake: Array, reference: Array, k: Count = 10) -> Tensor:
    """Negative mean distance to the k nearest reference codes, float64 [N]; higher is denser. It needs no bandwidth.

    The source uses the distance to the k-th neighbour in feature space. The mean over the k neighbours and the latent
    space are our choice.
    """
    z, codes = samples(fake=fake, reference=reference)
    require_neighbours("reference", len(codes), k, others=False)
    return -nearest(z, codes, k).distances.mean(1)


@metric(better="higher", kind="sample", source="arXiv:2206.06014", fake=View("fake", "latent"))
def hubness(fake: Array, k: Count = 5) -> Tensor:
    """k-occurrence of each code, float64 [N]: how many other codes have it among their k nearest. The mean is k.

    Liang et al. 2022 draw 10,000 codes, use k = 5, and keep codes that occur at least 50 times. In their lists, every
    code is also a neighbour of itself.
    """
    (z,) = samples(fake=fake)
    require_neighbours("fake", len(z), k, others=True)
    return torch.bincount(nearest_others(z, k).indices.flatten(), minlength=len(z)).double()


@metric(
    better="higher",
    kind="sample",
    source="arXiv:1705.07120",
    fake=View("fake", "latent"),
    mean=View("real", "latent", n="all", encode="mean"),
    logvar=View("real", "latent", n="all", encode="logvar"),
)
def aggregate_posterior(fake: Array, mean: Array, logvar: Array) -> Tensor:
    """log q(z) of each code, float64 [N], in nats: q is the average of the Gaussians N(mean_i, diag exp(logvar_i)).

    The encoder gives mean and logvar [M, ...] for each real image, so there is no bandwidth to choose. The density is
    normalised. Raises ValueError for bad input, or different numbers of means and log-variances.
    """
    z, centres, logs = samples(fake=fake, mean=mean, logvar=logvar)
    if len(centres) != len(logs):
        raise ValueError(f"mean has {len(centres)} rows, logvar has {len(logs)}: give one of each per real sample")
    # -1/2 sum_j (z_j - m_j)^2 / s_j^2 is linear in (z^2, z, 1), so one matrix product computes it. It is in float64
    # because its terms nearly cancel.
    middle = mean_of(centres)
    total = LogSum(len(z), z.device)
    width = max(1, min(PANEL, BLOCK_ELEMENTS // z.shape[1]))
    for start in range(0, len(centres), width):
        m = centres[start : start + width].double() - middle
        log = logs[start : start + width].double()
        precision = (-log).exp()
        constant = -0.5 * (m.square() * precision + log + math.log(2 * math.pi)).sum(1)
        right = torch.cat([-0.5 * precision, m * precision, constant[:, None]], 1)
        for first in range(0, len(z), BLOCK):
            block = z[first : first + BLOCK].double() - middle
            left = torch.cat([block.square(), block, block.new_ones(len(block), 1)], 1)
            total.add(slice(first, first + len(block)), left @ right.T)
    return total.log() - math.log(len(centres))


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2010.02917",
    fake=View("fake", "latent"),
    mean=View("real", "latent", n="all", encode="mean"),
    logvar=View("real", "latent", n="all", encode="logvar"),
)
def aggregate_posterior_ratio(fake: Array, mean: Array, logvar: Array) -> Tensor:
    """log q(z) - log p(z), float64 [N], p standard normal: low where training codes are rarer than sampled codes."""
    (z,) = samples(fake=fake)
    prior = torch.cat([-0.5 * (block.double().square() + math.log(2 * math.pi)).sum(1) for block in row_blocks(z)])
    return aggregate_posterior(fake, mean, logvar) - prior
