"""Selection: rules that decide from a score which samples to keep, and their cost in generator calls.

An acceptance [N], float64 in [0, 1], is the probability of keeping each sample; a sample is kept if its uniform draw is
below its acceptance. The score can be a pseudo density, the logits of a discriminator, or any other. A sample without a
score (NaN) is never kept.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...harness.core.inputs import Array

DRAWS = 0x5E1EC7
"""Added to the seed of the random generator, so that the draw of a sample is independent of its latent."""


def importance(scores: Array, threshold: float, weight: float) -> Tensor:
    """Acceptance [N] of importance sampling (arXiv:2407.08659, Algorithm 2) from scores f [N].

        weight w > 1:  1 if f > threshold, else 1/w;     w < 1:  1 if f < threshold, else w

    This multiplies the odds of a sample above the threshold by `weight`; weight 1 keeps all. In the paper the score is
    pseudo density, and the threshold is a quantile of the scores of real samples.
    Raises ValueError for a weight that is not positive and finite, a threshold that is not finite, or scores not [N].
    """
    f = _scores("scores", scores)
    if not 0 < weight < math.inf:
        raise ValueError(f"weight={weight} must be positive and finite: above 1 for high scores, below 1 for low ones")
    if not math.isfinite(threshold):
        raise ValueError(f"threshold={threshold} must be finite: a quantile of the real samples' scores")
    certain = f > threshold if weight > 1 else f < threshold
    return _defined(f, torch.where(certain, 1.0, f.new_tensor(min(weight, 1 / weight))))


def acceptance_rate(low: float, weight: float) -> float:
    """Expected share of samples that `importance` accepts, if a share `low` of them is not above the threshold.

    (1 - low) + low / w for w > 1, else low + (1 - low) w. Its inverse is the number of generator calls per kept sample.
    """
    return 1 - low + low / weight if weight > 1 else low + (1 - low) * weight


def high_share(low: float, weight: float) -> float:
    """Expected share of accepted samples that are above the threshold: (1 - low) w / ((1 - low) w + low)."""
    return (1 - low) * weight / ((1 - low) * weight + low)


def top(scores: Array, share: float) -> Tensor:
    """Acceptance of truncation by a score: 1 for the highest round(share N) of scores [N], 0 for the others.

    N counts the samples that have a score. Among equal scores the first ones are kept.
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
    """Acceptance [N] of discriminator rejection sampling (arXiv:1810.06758) from logits L [N] of the discriminator.

        F = L - M - log(1 - exp(L - M - 1e-6)),    acceptance = sigmoid(F - gamma)

    M is the maximum of the logits and gamma the `quantile` of F, both over `burn_in` [B], by default the logits
    themselves. quantile None sets gamma = 0, plain rejection sampling with acceptance exp(L - M). A logit above M
    replaces M for its own sample; in the paper it also does so for all later samples, but here samples are independent.
    The rule is exact if L = log p_data / p_model, which requires a calibrated discriminator.
    Raises ValueError for a quantile outside [0, 1], or if there is no logit.
    """
    logit = _scores("logits", logits)
    known = logit if burn_in is None else _scores("burn_in", burn_in)
    known = known[~known.isnan()]
    if not len(known):
        raise ValueError("burn_in has no logit: give logits of at least one sample")
    if quantile is not None and not 0 <= quantile <= 1:
        raise ValueError(f"quantile={quantile} must be in [0, 1]; 0.95 is the 95th percentile")
    highest = known.max()
    gamma = 0.0 if quantile is None else float(_log_odds(known, highest).quantile(quantile))
    return _defined(logit, torch.sigmoid(_log_odds(logit, highest) - gamma))


def _log_odds(logit: Tensor, highest: Tensor) -> Tensor:
    """F of `discriminator_rejection`: the log odds of acceptance with probability exp(L - M)."""
    difference = logit - torch.maximum(logit, highest)
    return difference - torch.log(-torch.expm1(difference - 1e-6))


def optimal_budgeted_rejection(log_ratio: Array, rate: float, pool: Array | None = None) -> Tensor:
    """Acceptance [N] of optimal budgeted rejection sampling (arXiv:2311.00460): optimal among rules that keep `rate`.

        acceptance = min(1, c r / max r),    c >= 1 with mean acceptance `rate`,    r = p_data / p_model

    log_ratio [N] is log r up to a constant: the logit of a calibrated discriminator, or `density_ratio`. Mean and
    maximum are over the log ratios of `pool` [M], by default log_ratio itself. c = 1 is plain rejection sampling, which
    is already exact; a rate below that of c = 1 would only waste samples, so c = 1 is then used.
    Raises ValueError unless 0 < rate <= 1, or if there is no log ratio.
    """
    log_r = _scores("log_ratio", log_ratio)
    known = log_r if pool is None else _scores("pool", pool)
    known = known[~known.isnan()].sort(descending=True).values
    if not len(known):
        raise ValueError("pool has no log ratio: give log ratios of at least one sample")
    if not 0 < rate <= 1:
        raise ValueError(f"rate={rate} must be in (0, 1]: the share of samples to keep")
    return _defined(log_r, (log_r + _log_scale(known, rate)).clamp(max=0).exp())


def _log_scale(log_r: Tensor, rate: float) -> Tensor:
    """log s with mean(min(1, s r)) = rate and s max r >= 1, for log r in descending order; exact, without iteration."""
    # If the j largest have acceptance 1, s = (rate N - j) / (sum of the rest). The solution is the smallest j for which
    # s r <= 1 for all the rest.
    certain = torch.arange(math.ceil(rate * len(log_r)), dtype=torch.float64)
    rest = torch.logcumsumexp(log_r.flip(0), 0).flip(0)[: len(certain)]
    log_s = torch.log(rate * len(log_r) - certain) - rest
    fits = log_s + log_r[: len(certain)] <= 1e-12
    found = log_s[fits][0] if bool(fits.any()) else log_s[-1]
    return torch.maximum(found, -log_r[0])


def metropolis_hastings(log_ratio: Array, draws: Array, length: int, start: Array | None = None) -> Tensor:
    """Positions [N // length] of the last samples of Metropolis-Hastings chains (arXiv:1811.11357).

        accept y after x with probability min(1, (1/D(x) - 1) / (1/D(y) - 1)) = min(1, r(y) / r(x)),    r = D / (1 - D)

    log_ratio [N] is log r, the logit of a calibrated discriminator; draws [N] are uniform in [0, 1). Proposals do not
    depend on x, so the proposals of chain i are samples i * length to (i + 1) * length - 1; a chain costs `length`
    generator calls. start [N // length]: log ratios of real images at which the chains start, which makes a burn-in
    unnecessary. A chain that never leaves its real image is run again from its own first proposal, as all chains are
    without `start`.
    Raises ValueError for log ratios that are not finite, unless 1 <= length <= N, or when counts differ.
    """
    log_r, draws = _scores("log_ratio", log_ratio), _scores("draws", draws)
    if bool(log_r.isnan().any()):
        raise ValueError(f"log_ratio: number {int(log_r.isnan().nonzero()[0])} is NaN; chains need finite log ratios")
    if not 1 <= length <= len(log_r):
        raise ValueError(f"length={length} must be 1 to {len(log_r)}, the number of proposals")
    chains = len(log_r) // length
    if len(draws) != len(log_r) or (start is not None and len(start) != chains):
        raise ValueError(
            f"{len(log_r)} log ratios, {len(draws)} draws and {chains if start is None else len(start)} starts "
            f"for {chains} chains: give one draw per proposal and one start per chain"
        )
    proposed, log_draws = (x[: chains * length].view(chains, length) for x in (log_r, draws.log()))

    def walk(state: Tensor) -> Tensor:
        at = torch.full((chains,), -1, device=log_r.device)
        for step in range(length):
            accepted = log_draws[:, step] < proposed[:, step] - state
            state, at = torch.where(accepted, proposed[:, step], state), torch.where(accepted, step, at)
        return at

    without_start = walk(log_r.new_full((chains,), -torch.inf))
    at = without_start if start is None else walk(_scores("start", start))
    return torch.arange(chains, device=at.device) * length + torch.where(at < 0, without_start, at)


def calibrated(logits: Array, real: Array, fake: Array) -> Tensor:
    """Logits L [N] of a discriminator calibrated to log p_data / p_model, float64 [N]: a L + b (Platt 1999).

    a and b are fitted by logistic regression on the logits of held-out real images [R] and of generated images [F],
    with Platt's smoothed targets. Both sets have the same weight, so that the odds are a ratio of densities.
    Raises ValueError when one of the sets is empty or not finite.
    """
    logit, known = _scores("logits", logits), (_scores("real", real), _scores("fake", fake))
    for name, values in zip(("real", "fake"), known, strict=True):
        if not len(values) or bool(values.isnan().any()):
            raise ValueError(
                f"{name} has {len(values)} logits, {int(values.isnan().sum())} of them NaN; give finite ones"
            )
    both = torch.cat(known)
    mean, scale = both.mean(), both.std(correction=0).clamp(min=1e-12)
    x = [(values - mean) / scale for values in known]
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
    ratio: Tensor = slope * (logit - mean) / scale + offset
    return ratio


def uniform_draws(seeds: Sequence[int]) -> Tensor:
    """Uniform draws from [0, 1), float64 [N]; draw i depends on seeds[i] alone."""
    return torch.tensor([np.random.default_rng([seed, DRAWS]).random() for seed in seeds], dtype=torch.float64)


def _scores(name: str, values: Array) -> Tensor:
    scores = torch.as_tensor(values).detach()
    if scores.ndim != 1 or scores.is_complex():
        raise ValueError(f"{name} are {scores.dtype} of shape {list(scores.shape)}; give one real per sample, [N]")
    if bool(scores.isinf().any()):
        raise ValueError(
            f"{name}: number {int(scores.isinf().nonzero()[0])} is infinite; use NaN for a sample without a score"
        )
    return scores.double()


def _defined(scores: Tensor, acceptance: Tensor) -> Tensor:
    return acceptance.double().masked_fill(scores.isnan(), 0)
