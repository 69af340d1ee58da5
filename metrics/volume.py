"""Volume scores: how much a decoder stretches its latent space near a code, alone and beside a density of codes."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..harness.core.inputs import Array, samples
from ..harness.core.protocols import View
from ..harness.core.registry import metric
from .density_ratio import density_ratio
from .latent_density import aggregate_posterior, aggregate_posterior_ratio, gaussian_log_density

ROUNDING = 1e-5
"""Singular values below this share of the largest may be rounding of float32: their logarithm would mean nothing."""


@metric(
    better="lower",
    kind="sample",
    source="arXiv:2408.08307; the norm: https://doi.org/10.1080/03610918908812806",
    reads={"form": {"norm": ("stretch",), "logdet": ("singular",)}},
    stretch=View("fake", "stretch"),
    singular=View("fake", "singular"),
)
def log_volume(
    stretch: Array | None = None, singular: Array | None = None, form: Literal["norm", "logdet"] = "norm"
) -> Tensor:
    """How much decoding stretches the latent space at each code, float64 [N]; lower is better, as far as is known.

    J is the Jacobian of decoding at the code; the output is neither clamped nor rounded.
    norm:   log ‖J‖ in the Frobenius norm. stretch [N, K]: D |J v_k|² for K = 6 random orthonormal directions of the D
            dimensions, whose mean is ‖J‖² on average over directions (all axes where D <= 6). 6 derivatives a sample.
    logdet: ½ log det J'J, the sum of the logarithms of all singular values [N, D] of J. D derivatives a sample, for at
            most 128 dimensions. NaN where the rank is not full to rounding, as in StyleGAN2's z, whose length is
            ignored.
    A derivative in forward mode takes as long as two to three generator calls; the sample itself need not be made.
    Direction: in trials on our VAE, latent diffusion, StyleGAN2 and sdf_vae, samples of low norm were better (partial
    rank correlations of .36 to .54). On known faults it was worse than latent density. Test the sign before using it.
    Raises ValueError for bad or negative input, or where the array of the form is not given.
    """
    lengths, values = _given(stretch=stretch, singular=singular)
    if form == "logdet":
        return _log_determinant(_needed("singular", values, "form=logdet"))
    return log_norm(_needed("stretch", lengths, "form=norm"))


@metric(
    better="higher",
    kind="sample",
    source="not published as a score; the change of variables: arXiv:1410.8516",
    reads={
        "q": {
            "posterior": ("mean", "logvar"),
            "posterior_ratio": ("mean", "logvar"),
            "ratio": ("reference", "prior"),
            "prior": ("prior",),
        },
        "volume": {"norm": ("stretch",), "logdet": ("singular",)},
    },
    fake=View("fake", "latent"),
    stretch=View("fake", "stretch"),
    singular=View("fake", "singular"),
    mean=View("real", "latent", n="all"),
    logvar=View("real", "latent", n="all", encode="logvar"),
    reference=View("real", "latent", n="all", encode="sample"),
    prior=View("real", "latent", n="all", encode="prior"),
)
def volume_corrected_density(
    fake: Array,
    stretch: Array | None = None,
    singular: Array | None = None,
    mean: Array | None = None,
    logvar: Array | None = None,
    reference: Array | None = None,
    prior: Array | None = None,
    q: Literal["auto", "posterior", "posterior_ratio", "ratio", "prior"] = "auto",
    volume: Literal["norm", "logdet"] = "norm",
    form: Literal["difference", "standardised"] = "difference",
) -> Tensor:
    """log q(z) - log vol J(z) of each code of fake [N, ...], float64 [N]; higher is better, as far as is known.

    The change of variables, which latent density leaves out: the log density of the decoded sample on the manifold of
    all samples, in nats, where log vol J = ½ log det J'J (volume=logdet, [N, D] singular values). volume=norm has
    D log(‖J‖ / √D) in its place, from stretch [N, K] as in `log_volume`: the volume if J stretched all directions
    equally, which is never less than the volume, but for the error of the estimate.
    q: posterior        log q(z) of `aggregate_posterior`, from mean and logvar [M, ...];
       posterior_ratio  log q(z) - log N(z; 0, I) of `aggregate_posterior_ratio`, from the same;
       ratio            the learned log q(z) - log p(z) of `density_ratio`, from reference and prior: it is no density,
                        so that the sampled codes count as evenly spread;
       prior            log density of a Gaussian fitted to prior [M, ...], codes that the generator draws: the prior
                        itself where that is normal, an approximation of it elsewhere, as in StyleGAN2's w;
       auto             posterior where the generator has an encoder in this space, else prior.
    form: difference, as above; or standardised, (rank of log q + rank of -log vol) / (2 N), in (0, 1]: both have
    the same weight, whatever their units. Ranks are those among the samples given, so this score depends on them.
    Costs as `log_volume` and q together. NaN where the volume is not defined.
    Raises ValueError for bad input, where an array that q or the volume needs is not given, or as q raises it.
    """
    codes = {"mean": mean, "logvar": logvar, "reference": reference, "prior": prior}
    given = {name: array for name, array in codes.items() if array is not None}
    z, *found = samples(fake=fake, **given)
    known = dict(zip(given, found, strict=True))
    lengths, values = _given(stretch=stretch, singular=singular)
    if volume == "logdet":
        logs = _log_determinant(_needed("singular", values, "volume=logdet"))
    else:
        logs = z.shape[1] * (log_norm(_needed("stretch", lengths, "volume=norm")) - 0.5 * math.log(z.shape[1]))
    if len(logs) != len(z):
        raise ValueError(f"fake has {len(z)} rows, of volumes there are {len(logs)}: give one of each per sample")
    if q == "auto":
        q = "posterior" if "mean" in known else "prior"
    needs = {"ratio": ["reference", "prior"], "prior": ["prior"]}.get(q, ["mean", "logvar"])
    density = DENSITIES[q](z, *(_needed(name, known.get(name), f"q={q}") for name in needs))
    if form == "difference":
        return density - logs
    defined = logs.isfinite()
    score = torch.full_like(logs, torch.nan)
    score[defined] = (_ranks(density[defined]) + _ranks(-logs[defined])) / 2
    return score


DENSITIES: dict[str, Callable[..., Tensor]] = {
    "posterior": aggregate_posterior,
    "posterior_ratio": aggregate_posterior_ratio,
    "ratio": density_ratio,
    "prior": gaussian_log_density,
}
"""By q, the logarithms of densities or of their ratios, of codes and of what they are found from."""


def log_norm(stretch: Tensor) -> Tensor:
    """log ‖J‖ in the Frobenius norm, float64 [N], from squared lengths [N, K]; NaN where J is 0."""
    logs = 0.5 * (torch.logsumexp(stretch.double().log(), 1) - math.log(stretch.shape[1]))
    return torch.where(logs.isfinite(), logs, torch.nan)


def _log_determinant(values: Tensor) -> Tensor:
    """½ log det J'J, float64 [N], from all singular values [N, D]; NaN where the least may be rounding."""
    values = values.double()
    full = values.amin(1) > ROUNDING * values.amax(1)
    return torch.where(full, values.log().sum(1), torch.nan)


def not_negative(**named: Array) -> Tensor:
    """Numbers [N, K] that are at least 0; ValueError for any other."""
    ((name, array),) = named.items()
    (x,) = samples(**{name: array})
    if bool((x < 0).any()):
        raise ValueError(f"{name}: {int((x < 0).any(1).sum())} rows are negative; give lengths, squared or not")
    return x


def _given(**named: Array | None) -> list[Tensor | None]:
    return [None if array is None else not_negative(**{name: array}) for name, array in named.items()]


def _needed(name: str, array: Tensor | None, by: str) -> Tensor:
    if array is None:
        raise ValueError(f"{name} is not given, and {by} needs it: give the array, or choose another")
    return array


def _ranks(values: Tensor) -> Tensor:
    """Ranks of values [N] as shares of N, float64; equal values share theirs."""
    from scipy.stats import rankdata  # here, because it loads for a second

    return torch.from_numpy(rankdata(values.cpu().numpy())).to(values) / max(1, len(values))
