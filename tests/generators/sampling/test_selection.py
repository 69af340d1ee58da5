"""Selection: acceptance formulas, laws of what is kept, optimality by linear programming, chains."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import binom, kstest, norm
from torch import Tensor

from assay.generators.sampling.selection import (
    acceptance_rate,
    calibrated,
    discriminator_rejection,
    high_share,
    importance,
    metropolis_hastings,
    optimal_budgeted_rejection,
    top,
    uniform_draws,
)

RARE = 1e-6
"""False-alarm rate of each test of randomness here; all seeds are fixed."""


def normal(seeds: Sequence[int]) -> Tensor:
    return torch.tensor([np.random.default_rng(seed).standard_normal() for seed in seeds])


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("weight", [0.01, 0.3, 0.999, 1, 1.001, 2, 33, 100])
@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_importance_accepts_by_the_formulas(weight: float, quantile: float) -> None:
    scores = gauss(1000)
    threshold = float(scores.quantile(quantile))
    low = float((scores <= threshold).double().mean())
    accepted = importance(scores, threshold, weight)
    assert accepted.mean().item() == pytest.approx(acceptance_rate(low, weight), rel=1e-12)
    high = float(accepted[scores > threshold].sum() / accepted.sum())
    assert high == pytest.approx(high_share(low, weight), rel=1e-12)
    odds = float(accepted[scores > threshold].sum() / accepted[scores <= threshold].sum())
    assert odds == pytest.approx(weight * (1 - low) / low, rel=1e-12)


def test_the_worked_examples_and_the_worst_case() -> None:
    assert acceptance_rate(0.9, 100) == pytest.approx(0.109)
    assert acceptance_rate(0.1, 0.01) == pytest.approx(0.109)
    assert 1 / acceptance_rate(0.9, 100) == pytest.approx(9.17, abs=0.005)
    assert 1 / acceptance_rate(0.9, 1e12) == pytest.approx(1 / (1 - 0.9))
    assert 1 / acceptance_rate(0.9, 1e-12) == pytest.approx(1 / 0.9)


def test_a_tie_is_low_above_one_and_high_below() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0])
    assert importance(scores, 1, 4).tolist() == [0.25, 0.25, 1]
    assert importance(scores, 1, 0.25).tolist() == [1, 0.25, 0.25]
    assert importance(scores, 1, 1).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("weight", "threshold"), [(5.0, 0.5), (0.2, -0.5), (20.0, 1.0)])
def test_high_to_low_is_the_weight_times_the_prior_ratio(weight: float, threshold: float) -> None:
    low, seeds = float(norm.cdf(threshold)), range(10_000)
    scores = normal(seeds)
    kept = scores[uniform_draws(seeds) < importance(scores, threshold, weight)]
    least, most = binom.interval(1 - RARE, len(seeds), acceptance_rate(low, weight))
    assert least <= len(kept) <= most
    least, most = binom.interval(1 - RARE, len(kept), high_share(low, weight))
    assert least <= int((kept > threshold).sum()) <= most


def test_draws_are_uniform_and_independent_of_the_latents() -> None:
    seeds = range(5000)
    u = uniform_draws(seeds)
    assert kstest(u.numpy(), "uniform").pvalue > RARE
    correlation = float(torch.corrcoef(torch.stack([u, normal(seeds).double()]))[0, 1])
    assert abs(correlation) < norm.isf(RARE / 2) / math.sqrt(5000)
    assert torch.equal(
        uniform_draws([4, 2**70, 2]), torch.cat([uniform_draws([4]), uniform_draws([2**70]), uniform_draws([2])])
    )


def test_top_keeps_the_best_share() -> None:
    scores = torch.tensor([3.0, torch.nan, 1.0, 2.0, 2.0, -1.0])
    assert top(scores, 0.4).tolist() == [1, 0, 0, 1, 0, 0]  # two of five that have a score; the first of the tie
    assert top(scores, 1).tolist() == [1, 0, 1, 1, 1, 1]
    for share in (0, 1.5, 0.05):
        with pytest.raises(ValueError, match=f"share={share} of 5 scores keeps none"):
            top(scores, share)


def test_a_sample_without_score_is_never_kept() -> None:
    scores = torch.tensor([torch.nan, 0.0, 1.0])
    for accepted in (
        importance(scores, 0.5, 2),
        importance(scores, 0.5, 0.5),
        discriminator_rejection(scores),
        optimal_budgeted_rejection(scores, 1),
    ):
        assert accepted[0] == 0
        assert (accepted[1:] > 0).all()


def log_ratio(x: Tensor) -> Tensor:
    """log p / q for p = N(0.5, 0.7), q = N(0, 1)."""
    return -((x - 0.5) ** 2) / (2 * 0.49) + x**2 / 2 - math.log(0.7)


@pytest.mark.parametrize("kind", ["discriminator", "optimal"])
def test_rejection_by_the_true_ratio_gives_the_data(kind: str) -> None:
    burn_in = log_ratio(torch.linspace(-6, 6, 10001, dtype=torch.float64))

    def accept(logits: Tensor) -> Tensor:
        if kind == "optimal":
            return optimal_budgeted_rejection(logits, 0.01, burn_in)  # less than plain rejection keeps: not used
        return discriminator_rejection(logits, burn_in, quantile=None)

    seeds = range(3000)
    pool = normal(seeds)
    kept = pool[uniform_draws(seeds) < accept(log_ratio(pool))]
    assert kstest(kept.numpy(), norm(0.5, 0.7).cdf).pvalue > RARE
    assert kstest(pool[: len(kept)].numpy(), norm(0.5, 0.7).cdf).pvalue < RARE  # the test can tell
    least, most = binom.interval(1 - RARE, len(seeds), math.exp(-float(burn_in.max())))  # 1 / sup (p / q)
    assert least <= len(kept) <= most


def test_plain_discriminator_rejection_is_the_ratio_and_gamma_halves_its_quantile() -> None:
    logits = gauss(1001)
    plain = discriminator_rejection(logits, quantile=None)
    torch.testing.assert_close(plain, (logits - logits.max()).exp(), rtol=1e-5, atol=0)
    for quantile in (0.05, 0.5, 0.95):
        accepted = discriminator_rejection(logits, quantile=quantile)
        at = logits.argsort()[round(quantile * 1000)]
        assert accepted[at].item() == pytest.approx(0.5, abs=1e-9)
        assert torch.equal(accepted.argsort(), logits.argsort())


def test_discriminator_rejection_as_printed() -> None:
    logits, burn_in = gauss(50), 2 * gauss(400, seed=1)
    most = burn_in.max().item()
    assert logits.max() < most

    def printed(logit: float) -> float:
        return logit - most - math.log(1 - math.exp(logit - most - 1e-6))

    gamma = np.quantile([printed(each) for each in burn_in.tolist()], 0.95)
    expected = [1 / (1 + math.exp(gamma - printed(each))) for each in logits.tolist()]
    torch.testing.assert_close(
        discriminator_rejection(logits, burn_in), torch.tensor(expected).double(), rtol=1e-6, atol=0
    )
    above = discriminator_rejection(torch.tensor([most + 3, most + 9]), burn_in, quantile=None)
    assert above.tolist() == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("rate", [0.2, 0.37, 0.5, 0.8, 0.99, 1])
def test_the_budget_is_met_and_no_other_acceptance_does_better(rate: float) -> None:
    """Of a model uniform over 30 atoms; least total variation by linear programming, other divergences by rivals."""
    n = 30
    data = torch.softmax(1.2 * gauss(n), 0)
    accepted = optimal_budgeted_rejection((n * data).log() + 17, rate)  # a constant does not matter
    assert accepted.mean().item() == pytest.approx(max(rate, 1 / float(n * data.max())), rel=1e-12)
    rate = accepted.mean().item()

    def law(a: Tensor) -> Tensor:
        return a / a.sum()

    # Variables a and t >= |data - a / (n rate)|; the sum of t is twice the total variation.
    eye = np.eye(n)
    found = linprog(
        np.r_[np.zeros(n), np.ones(n)],
        A_ub=np.block([[eye / (n * rate), -eye], [-eye / (n * rate), -eye]]),
        b_ub=np.r_[data.numpy(), -data.numpy()],
        A_eq=np.r_[np.ones(n), np.zeros(n)][None],
        b_eq=[n * rate],
        bounds=[(0, 1)] * n + [(0, None)] * n,
    )
    assert float((law(accepted) - data).abs().sum()) == pytest.approx(found.fun, abs=1e-9)

    def divergences(a: Tensor) -> Tensor:
        p = law(a).clamp(min=1e-300)
        return torch.stack([(data * (data / p).log()).sum(), (p * (p / data).log()).sum(), ((p - data) ** 2 / p).sum()])

    best = divergences(accepted)
    for seed in range(50):  # rivals near it, of the same rate
        other = (accepted + 0.02 * gauss(n, seed=seed + 1)).clamp(1e-3, 1)
        for _ in range(200):
            other = (other + rate - other.mean()).clamp(1e-3, 1)
        if abs(float(other.mean()) - rate) < 1e-9:
            assert (divergences(other) >= best - 1e-9).all()


def test_a_large_ratio_overflows_nothing() -> None:
    accepted = optimal_budgeted_rejection(torch.tensor([5000.0, 0.0, -5000.0, -5000.0]), 0.5)
    assert accepted.tolist() == pytest.approx([1, 1, 0, 0])
    assert optimal_budgeted_rejection(torch.tensor([900.0, 0.0]), 1).tolist() == [1, 1]


def test_bad_arguments() -> None:
    scores = torch.zeros(3)
    for weight in (0, -1, math.inf):
        with pytest.raises(ValueError, match=f"weight={weight} must be positive"):
            importance(scores, 0, weight)
    with pytest.raises(ValueError, match="threshold=nan must be finite"):
        importance(scores, math.nan, 2)
    with pytest.raises(ValueError, match=r"scores are torch.float32 of shape \[3, 1\]"):
        top(scores[:, None], 0.5)
    with pytest.raises(ValueError, match="scores: number 1 is infinite"):
        importance(torch.tensor([0, torch.inf]), 0, 2)
    with pytest.raises(ValueError, match=r"quantile=95 must be in \[0, 1\]"):
        discriminator_rejection(scores, quantile=95)
    with pytest.raises(ValueError, match=r"rate=0 must be in \(0, 1\]"):
        optimal_budgeted_rejection(scores, 0)
    for empty in (discriminator_rejection, lambda nothing: optimal_budgeted_rejection(nothing, 0.5)):
        with pytest.raises(ValueError, match="of at least one sample"):
            empty(torch.full((3,), torch.nan))


# Chains, and what they need: log ratios of densities


def test_the_ends_of_long_chains_follow_the_data() -> None:
    """Proposals uniform over three kinds, of which the data have 1, 3 and 6 tenths."""
    kinds = torch.from_numpy(np.random.default_rng(0).integers(0, 3, 60_000))
    log_ratio = torch.tensor([0.1, 0.3, 0.6]).double().log()[kinds]
    draws = torch.from_numpy(np.random.default_rng(1).random(60_000))
    ends = kinds[metropolis_hastings(log_ratio, draws, length=30)]
    assert len(ends) == 2000
    for kind, share in enumerate((0.1, 0.3, 0.6)):
        low, high = binom.interval(1 - RARE, 2000, share)
        assert low <= int((ends == kind).sum()) <= high


def test_a_chain_step_by_step() -> None:
    ratio = torch.tensor([1.0, 4.0, 2.0, 8.0, 3.0, 1.0])
    draws = torch.tensor([0.9, 0.9, 0.6, 0.9, 0.374, 0.13])
    # 1, then 4 surely, then not 2 (2/4 < 0.6); 8, then 3 (3/8 > 0.374), then 1 (1/3 > 0.13).
    assert metropolis_hastings(ratio.log(), draws, 3).tolist() == [1, 5]
    assert metropolis_hastings(ratio.log(), draws, 1).tolist() == list(range(6)), "one proposal is plain sampling"
    # From a real image of ratio 6: 4 not (4/6 < 0.9), nothing else, so the chain begins again without it.
    assert metropolis_hastings(ratio.log(), draws, 3, start=torch.tensor([6.0, 1.0]).log()).tolist() == [1, 5]
    # From one of ratio 4.2: 1 not, but 4 (4/4.2 > 0.9), then not 2.
    assert metropolis_hastings(ratio.log(), draws, 3, start=torch.tensor([4.2, 99.0]).log()).tolist() == [1, 5]
    assert metropolis_hastings((100 + ratio.log()), draws, 3).tolist() == [1, 5], "a constant cancels"
    assert metropolis_hastings(ratio.log()[:5], draws[:5], 2).tolist() == [1, 3], "the last proposal makes no chain"


def test_calibration_finds_the_ratio_of_two_normals() -> None:
    """log N(x; 1, 1) / N(x; -1, 1) = 2 x, whatever scale and offset the logits come in, and whatever the counts."""
    real, fake = gauss(20_000, seed=1) + 1, gauss(5_000, seed=2) - 1
    x = torch.linspace(-2, 2, 9).double()
    found = calibrated(0.3 * x + 7, 0.3 * real + 7, 0.3 * fake + 7)
    # Standard errors of slope and offset are below 0.04 and 0.03: 5 of them, false alarm below 1 in 10^5.
    slope, offset = (found[-1] - found[0]) / 4, found[4]
    assert slope.item() == pytest.approx(2, abs=0.2)
    assert offset.item() == pytest.approx(0, abs=0.15)
    torch.testing.assert_close(found, slope * x + offset)


def test_calibration_of_sets_that_a_line_tells_apart_is_finite() -> None:
    found = calibrated(torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([1.0, 2.0]), torch.tensor([-2.0, -1.0]))
    assert found.isfinite().all()
    assert found[1].item() == pytest.approx(0, abs=1e-6)
    # Platt's targets: 3/4 and 1/4, so log odds of about log 3 where the sets lie.
    assert found[2].item() == pytest.approx(math.log(3), abs=0.5)


def test_chains_and_calibration_refuse_what_has_no_value() -> None:
    nan = torch.tensor([0.0, torch.nan, 1.0])
    with pytest.raises(ValueError, match="log_ratio: number 1 is NaN"):
        metropolis_hastings(nan, torch.rand(3), 1)
    with pytest.raises(ValueError, match="length=4 must be 1 to 3"):
        metropolis_hastings(torch.zeros(3), torch.rand(3), 4)
    with pytest.raises(ValueError, match="3 log ratios, 3 draws and 2 starts for 3 chains"):
        metropolis_hastings(torch.zeros(3), torch.rand(3), 1, torch.zeros(2))
    with pytest.raises(ValueError, match="fake has 3 logits, 1 of them NaN"):
        calibrated(torch.zeros(2), torch.zeros(2), nan)
