"""Selection: which samples to keep, by any score of theirs; and what that costs in calls of the generator.

An acceptance [N], float64 in [0, 1], is the probability with which each sample is kept: a sample is kept where its
`uniform_draws` is below. It comes from a score: pseudo density and a threshold, a discriminator's logits, any other. A
sample without a score (NaN) is never kept.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...harness.core.inputs import Array

DRAWS = 0x5E1EC7
"""Given to the random generator beside a seed, so that the draw of a sample does not depend on its latent."""


def importance(scores: Array, threshold: float, weight: float) -> Tensor:
    """Acceptance of importance sampling (arXiv:2407.08659, Algorithm 2), by scores [N].

        weight w > 1:  1 if f > threshold, else 1/w;     w < 1:  1 if f < threshold, else w

    So samples over the threshold are `weight` times as frequent, against the others, as they were; 1 keeps all. The
    paper scores by pseudo density, and takes as threshold a quantile of that of the real samples.
    Raises ValueError for a weight that is not positive, or scores that are not [N].
    """
    f = _scores("scores", scores)
    if not 0 < weight < math.inf:
        raise ValueError(f"weight={weight} must be positive and finite: above 1 for high scores, below 1 for low ones")
    if not math.isfinite(threshold):
        raise ValueError(f"threshold={threshold} must be finite: a quantile of the real samples' scores")
    certain = f > threshold if weight > 1 else f < threshold
    return _defined(f, torch.where(certain, 1.0, f.new_tensor(min(weight, 1 / weight))))


def acceptance_rate(low: float, weight: float) -> float:
    """Expected share accepted by `importance`, where a share `low` of the samples is not over the threshold.

    (1 - low) + low / w for w > 1, low + (1 - low) w below; its inverse is the generator calls of a kept sample.
    """
    return 1 - low + low / weight if weight > 1 else low + (1 - low) * weight


def high_share(low: float, weight: float) -> float:
    """Expected share of accepted samples that are over the threshold: (1 - low) w / ((1 - low) w + low)."""
    return (1 - low) * weight / ((1 - low) * weight + low)


def top(scores: Array, share: float) -> Tensor:
    """Acceptance of truncation by a score: 1 for the highest round(share N) of scores [N], 0 for the others.

    Ties keep their order; the share is one of the samples that have a score.
    Raises ValueError unless 0 < share <= 1 and at least one sample is kept.
    """
    f = _scores("scores", scores)
    rows = (~f.isnan()).nonzero().flatten()
    kept = round(share * len(rows)) if 0 < share <= 1 else 0
    if not kept:
        raise ValueError(f"share={share} of {len(rows)} scores keeps none; choose it in (0, 1] and give enough samples")
    accepted = torch.zeros_like(f)
    accepted[rows[torch.argsort(f[rows], descending=True, stable=True)[:kept]]] = 1
    return accepted


def discriminator_rejection(logits: Array, burn_in: Array | None = None, quantile: float | None = 0.95) -> Tensor:
    """Acceptance of discriminator rejection sampling (arXiv:1810.06758), by logits [N] of the discriminator.

        F = L - M - log(1 - exp(L - M - 1e-6)),    acceptance = sigmoid(F - gamma)

    M is the greatest logit and gamma the `quantile` of F, both of the burn_in [B], by default of the logits themselves;
    quantile None is gamma = 0, which is plain rejection sampling, exp(L - M). A logit above the burn-in's M is its own
    M; in the paper it becomes that of all later samples too, here no sample depends on another.
    Right where L is log p_data / p_model, which needs a calibrated discriminator.
    Raises ValueError for a quantile outside [0, 1], or without any logit.
    """
    logit = _scores("logits", logits)
    known = logit if burn_in is None else _scores("burn_in", burn_in)
    known = known[~known.isnan()]
    if not len(known):
        raise ValueError("there is no logit to begin with: give a burn_in of samples that have one")
    if quantile is not None and not 0 <= quantile <= 1:
        raise ValueError(f"quantile={quantile} must be in [0, 1]; 0.95 is the 95th percentile")
    most = known.max()
    gamma = 0.0 if quantile is None else float(_log_odds(known, most).quantile(quantile))
    return _defined(logit, torch.sigmoid(_log_odds(logit, most) - gamma))


def _log_odds(logit: Tensor, most: Tensor) -> Tensor:
    below = logit - torch.maximum(logit, most)
    return below - torch.log(-torch.expm1(below - 1e-6))


def optimal_budgeted_rejection(log_ratio: Array, rate: float, pool: Array | None = None) -> Tensor:
    """Acceptance of optimal budgeted rejection sampling (arXiv:2311.00460): the best one that keeps a share `rate`.

        acceptance = min(1, c r / max r),    c >= 1 such that it is `rate` on average,    r = p_data / p_model

    log_ratio [N] is log r, up to a constant: a calibrated discriminator's logit, or `density_ratio`. Mean and maximum
    are over the `pool` [M] of log ratios, by default log_ratio itself. c = 1 is plain rejection sampling, whose result
    is already exact: a smaller rate than its own only wastes samples, and is not used.
    Raises ValueError unless 0 < rate <= 1, or without any log ratio.
    """
    log_r = _scores("log_ratio", log_ratio)
    known = log_r if pool is None else _scores("pool", pool)
    known = known[~known.isnan()].sort(descending=True).values
    if not len(known):
        raise ValueError("there is no log ratio to begin with: give a pool of samples that have one")
    if not 0 < rate <= 1:
        raise ValueError(f"rate={rate} must be in (0, 1]: the share of samples to keep")
    return _defined(log_r, (log_r + _log_scale(known, rate)).clamp(max=0).exp())


def _log_scale(log_r: Tensor, rate: float) -> Tensor:
    """log s with mean min(1, s r) = rate, and s max r >= 1, for log r in descending order; exact, no iteration."""
    # With the j greatest accepted surely, s = (rate N - j) / (sum of the others); the right j is the least that leaves
    # all the others below 1.
    sure = torch.arange(math.ceil(rate * len(log_r)), dtype=torch.float64)
    others = torch.logcumsumexp(log_r.flip(0), 0).flip(0)[: len(sure)]
    log_s = torch.log(rate * len(log_r) - sure) - others
    fits = log_s + log_r[: len(sure)] <= 1e-12
    found = log_s[fits][0] if bool(fits.any()) else log_s[-1]
    return torch.maximum(found, -log_r[0])


def metropolis_hastings(log_ratio: Array, draws: Array, length: int, start: Array | None = None) -> Tensor:
    """Positions [N // length] of the samples at the ends of Metropolis-Hastings chains (arXiv:1811.11357).

        accept y after x with probability min(1, (1/D(x) - 1) / (1/D(y) - 1)) = min(1, r(y) / r(x)),    r = D / (1 - D)

    log_ratio [N] is log r: a calibrated discriminator's logit; draws [N] uniform draws in [0, 1). Proposals do not
    depend on x, so chain i takes samples i * length to (i + 1) * length - 1, and costs `length` generator calls.
    start [N // length]: log ratios of real images that the chains begin at, which spares the burn-in; a chain that
    never leaves its real image begins again at its own first proposal, as all chains do without start.
    Raises ValueError for log ratios that are not finite, unless 1 <= length <= N, or when counts differ.
    """
    log_r, draws = _scores("log_ratio", log_ratio), _scores("draws", draws)
    if bool(log_r.isnan().any()):
        raise ValueError(f"log_ratio: number {int(log_r.isnan().nonzero()[0])} is NaN; a chain needs all of them")
    if not 1 <= length <= len(log_r):
        raise ValueError(f"length={length} must be 1 to {len(log_r)}, the number of proposals")
    chains = len(log_r) // length
    if len(draws) != len(log_r) or (start is not None and len(start) != chains):
        raise ValueError(
            f"{len(log_r)} log ratios, {len(draws)} draws and {chains if start is None else len(start)} starts "
            f"for {chains} chains: give a draw for each proposal, and a start for each chain"
        )
    proposed, log_draws = (x[: chains * length].view(chains, length) for x in (log_r, draws.log()))

    def walk(state: Tensor) -> Tensor:
        at = torch.full((chains,), -1, device=log_r.device)
        for step in range(length):
            accepted = log_draws[:, step] < proposed[:, step] - state
            state, at = torch.where(accepted, proposed[:, step], state), torch.where(accepted, step, at)
        return at

    alone = walk(log_r.new_full((chains,), -torch.inf))
    at = alone if start is None else walk(_scores("start", start))
    return torch.arange(chains, device=at.device) * length + torch.where(at < 0, alone, at)


def calibrated(logits: Array, real: Array, fake: Array) -> Tensor:
    """Logits [N] of a discriminator as log p_data / p_model, float64 [N]: a L + b, Platt's scaling (Platt 1999).

    a and b are fitted by logistic regression to the logits of held-out real images [R] and of generated ones [F], with
    Platt's smoothed targets and the same weight for both sets, so that the odds are a ratio of densities.
    Raises ValueError when either set is empty or not finite.
    """
    given, known = _scores("logits", logits), (_scores("real", real), _scores("fake", fake))
    for name, values in zip(("real", "fake"), known, strict=True):
        if not len(values) or bool(values.isnan().any()):
            raise ValueError(
                f"{name} has {len(values)} logits, {int(values.isnan().sum())} of them NaN; give finite ones"
            )
    every = torch.cat(known)
    middle, scale = every.mean(), every.std(correction=0).clamp(min=1e-12)
    x = [(values - middle) / scale for values in known]
    targets = (len(x[0]) + 1) / (len(x[0]) + 2), 1 / (len(x[1]) + 2)
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([line], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        log_odds = [line[0] * values + line[1] for values in x]
        entropy = [
            torch.nn.functional.binary_cross_entropy_with_logits(odds, torch.full_like(odds, target))
            for odds, target in zip(log_odds, targets, strict=True)
        ]
        total = torch.stack(entropy).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    slope, offset = line.detach().tolist()
    ratio: Tensor = slope * (given - middle) / scale + offset
    return ratio


def uniform_draws(seeds: Sequence[int]) -> Tensor:
    """Draws from [0, 1), float64 [N]: one for each seed, which depends on that seed alone."""
    return torch.tensor([np.random.default_rng([seed, DRAWS]).random() for seed in seeds], dtype=torch.float64)


def _scores(name: str, values: Array) -> Tensor:
    scores = torch.as_tensor(values).detach()
    if scores.ndim != 1 or scores.is_complex():
        raise ValueError(f"{name} are {scores.dtype} of shape {list(scores.shape)}; give one real number a sample, [N]")
    if bool(scores.isinf().any()):
        raise ValueError(
            f"{name}: number {int(scores.isinf().nonzero()[0])} is infinite; NaN marks one without a score"
        )
    return scores.double()


def _defined(scores: Tensor, acceptance: Tensor) -> Tensor:
    return acceptance.double().masked_fill(scores.isnan(), 0)
