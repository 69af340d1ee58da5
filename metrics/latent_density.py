"""Latent density (arXiv:2407.15171), which measures how much training data lies near a latent code, and baselines."""

import math

import torch
from torch import Tensor

from ..harness.core.inputs import Array, require_neighbours, row_blocks, samples
from ..harness.core.options import Count, Positive
from ..harness.core.precision import full_precision
from ..harness.core.protocols import View
from ..harness.core.registry import metric
from .density_ratio import density_ratio as density_ratio
from .kernels.distances import (
    centred_norms,
    mean_of,
    paired_distances,
    squared_distance_tiles,
)
from .kernels.log_sum import LIMIT, NEGLIGIBLE, LogSum, finite, log_mixture, usual_rounding
from .kernels.memo import remember
from .kernels.moments import moments
from .kernels.nearest import nearest, nearest_others
from .kernels.scale import power_of_two, scaled
from .kernels.ties import shared_places

INDEPENDENT = 1e-10
"""Smallest share of a dimension's variance that is not explained by others, for which a covariance is inverted."""

SUBSET = 2000
"""Maximum number of reference rows from which the median pairwise distance is computed."""

LIMIT_FLOAT32 = 5e-4
"""Largest error bound, in nats, with which float32 products are used; the errors themselves are far smaller."""

FINE = 128
"""Longest inner product that is accumulated at once; sums of sums have far smaller rounding errors than long sums."""

SMALL = 1 << 22
"""Sets with fewer products than this are computed in float64, where it costs next to nothing."""


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2407.15171 eq. 1",
    version=2,
    fake=View("fake", "latent"),
    reference=View("real", "latent", n="all"),
)
def latent_density(fake: Array, reference: Array, bandwidth: Positive = 0.2, relative: bool = True) -> Tensor:
    """log D(z) of each code of fake [N, ...], float64 [N], at most 0; higher is denser. References: [M, ...].

        D(z) = (1/M) sum_i exp( -||z - z_i||^2 / (2 sigma^2) )

    As in the paper, there is no normalising factor. The log avoids the underflow of D in many dimensions and keeps the
    ranking. sigma is the bandwidth; if `relative`, it is multiplied by the median distance between references, see
    `median_distance`. The paper publishes neither its sigma nor its reference codes. Latents are flattened.
    The value is that of the float64 differences to 5e-4 nats for float32 codes, and to 1e-9 for float64 ones.
    Raises ValueError for bad input, a bandwidth so narrow that log D is outside the
    range of float64, or, if `relative`, references of which half of the pairs coincide.
    """
    return latent_density_profile(fake, reference, [bandwidth], relative)[0]


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2407.15171 eq. 1",
    version=2,
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
    if not bandwidths or not min(bandwidths) > 0 or not all(map(math.isfinite, bandwidths)):
        raise ValueError(f"bandwidth is {bandwidths}; it must be positive and finite")
    power = power_of_two(z, codes)
    factor = power * (median_distance(codes) if relative else 1.0)
    widths = [bandwidth * factor for bandwidth in bandwidths]
    if not 0 < min(widths) <= max(widths) < math.inf:
        raise ValueError(f"bandwidth is {bandwidths}, which beside these codes is outside the range of float64")
    with full_precision():
        found = _log_kernel_means(scaled(z, power), scaled(codes, power), widths)
    return finite(found.clamp_(max=0), f"log D with bandwidth={min(bandwidths):g}")


def _log_kernel_means(z: Tensor, codes: Tensor, widths: list[float]) -> Tensor:
    """log mean_i exp(-|z - codes_i|^2 / (2 width^2)), float64 [len(widths), N]; each row in the fastest exact way."""
    centre = mean_of(codes).to(z.dtype)
    norms, code_norms = centred_norms(z, centre), centred_norms(codes, centre)
    result = torch.empty(len(widths), len(z), dtype=torch.float64, device=z.device)
    small = len(z) * codes.numel() <= SMALL
    rows = torch.arange(len(z), device=z.device)
    for kind, limit in ((torch.float32, LIMIT_FLOAT32), (torch.float64, LIMIT)):
        if kind == torch.float32 and (small or z.dtype != kind):
            continue
        nats = 0.5 * usual_rounding(kind, min(FINE, z.shape[1]) + z.shape[1] // FINE) / min(widths) / min(widths)
        hopeful = nats * norms[rows] <= limit
        tried, rows = rows[hopeful], rows[~hopeful]
        if len(tried):
            own = norms[tried]
            found, others = _by_products(
                z if len(tried) == len(z) else z[tried], codes, centre, own, code_norms, widths, kind
            )
            result[:, tried] = found
            rows = torch.cat([rows, tried[nats * (own + others.amax(0)) > limit]])
    if len(rows):
        reach = norms[rows].sqrt() + code_norms.max().sqrt()
        result[:, rows] = _by_differences(z[rows].double(), codes, centre, widths, reach)
    return result - math.log(len(codes))


def _by_products(
    z: Tensor, codes: Tensor, centre: Tensor, norms: Tensor, code_norms: Tensor, widths: list[float], kind: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Logs of the sums from products of type `kind`, and the mean squared norms of the codes that make up each sum.

    With these norms, the error of a log is at most that of a squared distance of the row and such a code.
    """
    widest = max(widths)
    powers = [(widest / width) ** 2 for width in widths]
    sums = [LogSum(len(z), z.device) for _ in powers]
    z, start = z.to(kind), 0
    for part in (codes,) if codes.dtype == kind else row_blocks(codes):
        known = code_norms[start : start + len(part)]
        for rows, columns, values, _ in squared_distance_tiles(
            z, part.to(kind), centre=centre, scale=-0.5 / widest**2, norms=(norms, known), chunk=FINE
        ):
            values, marks = values[:, : columns.stop - columns.start], known[columns].to(kind)
            for power, total in zip(powers, sums, strict=True):
                total.add(rows, values if len(powers) == 1 else values * power, marks)
        start += len(part)
    return torch.stack([total.log() for total in sums]), torch.stack([total.mean() for total in sums])


def _by_differences(z: Tensor, codes: Tensor, centre: Tensor, widths: list[float], reach: Tensor) -> Tensor:
    """The same from the float64 differences to all references that can matter beside the nearest one."""
    sums = [LogSum(len(z), z.device) for _ in widths]
    nearest = torch.full_like(reach, torch.inf)
    error = usual_rounding(torch.float64, z.shape[1]) * reach.square()
    for block in row_blocks(codes):
        part = block.double()
        for rows, columns, values, _ in squared_distance_tiles(z, part, centre=centre):
            values = values[: rows.stop - rows.start, : columns.stop - columns.start]
            nearest[rows] = torch.minimum(nearest[rows], values.amin(1) + error[rows])
            furthest = nearest[rows] + error[rows] + 2 * NEGLIGIBLE * max(widths) ** 2
            i, j = (values <= furthest[:, None]).nonzero(as_tuple=True)
            i, j = i + rows.start, j + columns.start
            distances = paired_distances(z, part, i, j)
            for width, total in zip(widths, sums, strict=True):
                total.add_pairs(i, -0.5 * (distances / width).square())
    return torch.stack([total.log() for total in sums])


@remember
def median_distance(codes: Tensor) -> float:
    """Median distance between pairs of rows. Of more than 2,000 rows, it uses 2,000 drawn with seed 0.

    It is the median of the float64 differences: of an even number of pairs, the lower of the middle two.
    """
    if len(codes) < 2:
        raise ValueError(
            f"reference has {len(codes)} row; the median distance needs 2: give more, or set relative=False"
        )
    if len(codes) > SUBSET:
        codes = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))[:SUBSET].to(codes.device)]
    power = power_of_two(codes)
    rows = codes.double() * power
    centred = rows - mean_of(rows)
    norms = centred.square().sum(1)
    i, j = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    with full_precision():
        squared = (norms[:, None] + norms[None, :] - 2 * centred @ centred.T)[i, j]
    # Products place all but a few pairs below or above the median; the differences of these few decide.
    middle = (len(squared) - 1) // 2
    error = usual_rounding(torch.float64, rows.shape[1]) * 4 * float(norms.max())
    around = float(squared.kthvalue(middle + 1).values)
    below, near = int((squared < around - 2 * error).sum()), (squared - around).abs() <= 2 * error
    distances = paired_distances(rows, rows, i[near], j[near])
    median = float(distances.kthvalue(middle - below + 1).values) / power
    if median == 0:
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
    references, references that are all equal, or a covariance that is singular to rounding.
    """
    (z, codes) = samples(fake=fake, reference=reference)
    samples(2, reference=codes)
    power = power_of_two(z, codes)
    z, codes = scaled(z, power), scaled(codes, power)
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
    factor, failed = torch.linalg.cholesky_ex(shrunk)
    # The share of a dimension's variance that the dimensions before it do not explain; its rounding error is 1e-16.
    if bool(failed) or float((factor.diagonal().square() / shrunk.diagonal()).min()) < INDEPENDENT:
        raise ValueError(
            "reference: its covariance is singular to rounding: leave out dimensions that others determine"
        )
    constant = dimension * (math.log(power) - 0.5 * math.log(2 * math.pi)) - float(factor.diagonal().log().sum())
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


@metric(better="higher", kind="sample", source="arXiv:2206.06014", version=2, fake=View("fake", "latent"))
def hubness(fake: Array, k: Count = 5) -> Tensor:
    """k-occurrence of each code, float64 [N]: how many other codes have it among their k nearest. The mean is k.

    Liang et al. 2022 draw 10,000 codes, use k = 5, and keep codes that occur at least 50 times. In their lists, every
    code is also a neighbour of itself. Codes that are equally near share their places in a list equally.
    """
    (z,) = samples(fake=fake)
    require_neighbours("fake", len(z), k, others=True)
    found, places = shared_places(lambda n: nearest_others(z, n), k, len(z) - 1)
    return torch.bincount(found.indices.flatten(), places.flatten(), minlength=len(z))


@metric(
    better="higher",
    kind="sample",
    source="arXiv:1705.07120",
    version=2,
    fake=View("fake", "latent"),
    mean=View("real", "latent", n="all", encode="mean"),
    logvar=View("real", "latent", n="all", encode="logvar"),
)
def aggregate_posterior(fake: Array, mean: Array, logvar: Array) -> Tensor:
    """log q(z) of each code, float64 [N], in nats: q is the average of the Gaussians N(mean_i, diag exp(logvar_i)).

    The encoder gives mean and logvar [M, ...] for each real image, so there is no bandwidth to choose. The density is
    normalised, and accurate to 1e-9 nats or the rounding of float64.
    Raises ValueError for bad input, different numbers of means and log-variances, or a log density outside the range of
    float64.
    """
    z, centres, logs = samples(fake=fake, mean=mean, logvar=logvar)
    if len(centres) != len(logs):
        raise ValueError(f"mean has {len(centres)} rows, logvar has {len(logs)}: give one of each per real sample")
    return _log_aggregate(z, centres, logs).clone()


_log_aggregate = remember(log_mixture)


@metric(
    better="higher",
    kind="sample",
    source="arXiv:2010.02917",
    version=2,
    fake=View("fake", "latent"),
    mean=View("real", "latent", n="all", encode="mean"),
    logvar=View("real", "latent", n="all", encode="logvar"),
)
def aggregate_posterior_ratio(fake: Array, mean: Array, logvar: Array) -> Tensor:
    """log q(z) - log p(z), float64 [N], p standard normal: low where training codes are rarer than sampled codes."""
    (z,) = samples(fake=fake)
    prior = torch.cat([-0.5 * (block.double().square() + math.log(2 * math.pi)).sum(1) for block in row_blocks(z)])
    return finite(aggregate_posterior(fake, mean, logvar) - prior, "the log ratio")
