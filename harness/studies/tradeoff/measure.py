"""What does choosing among samples buy? Precision against recall of equally many, chosen in many ways from one pool."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...arrays.views import REPLAYED
from ...core.progress import say
from ...core.protocols import Cell, Discriminating, Estimate, View
from ...core.registry import study
from ...run import Run
from ...stats.intervals import proportion
from ..judged import Judged, bootstrapped, resampled
from ..spaces import chosen_space, prior_space
from .methods import (
    ByDiscriminator,
    Pool,
    Settings,
    by_importance,
    by_polarity,
    extremes,
    is_standard,
    transported,
    truncated,
    with_redrawn,
)
from .page import ABOVE, ALL, BELOW, PLAIN, page, side_of

VERSION = 3
CHANCE = 20
"""Sets of samples drawn by chance, at least: recall depends on which samples happen to be in a set, all of them."""


@study(page)
def tradeoff(
    run: Run,
    keep: float = 0.2,
    judge_space: str = "features",
    k: int = 3,
    quantiles: Sequence[float] = (0.1, 0.2, 0.5, 0.8, 0.9),
    weights: Sequence[float] = (0.01, 0.1, 0.3, 0.5, 2, 3.3, 10, 100),
    shares: Sequence[float] = (0.25, 0.5, 0.75, 0.9),
    psis: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.3),
    space: str = "auto",
    thresholds: Sequence[float] = (0.5, 1, 1.5, 2),
    rhos: Sequence[float] = (),
    volume: int = 30,
    dimensions: int = 64,
    percentiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
    rates: Sequence[float] = (0.25, 0.5, 0.75),
    lengths: Sequence[int] = (2, 3, 5, 10),
    steps: Sequence[int] = (4, 9),
    step_sizes: Sequence[float] = (0.01, 0.03, 0.1),
    resamples: int = 500,
) -> None:
    """Precision, recall and Fréchet distance of round(keep · n) samples chosen from n, by each method and each knob.

    All methods draw from the same n generated samples, take the first that they accept, and are compared with as many
    real ones as they keep, in one feature space. A setting that accepts too few of the n has no numbers. `calls` are
    generator calls a kept sample.

    importance SCORE   for each of `run.scores`, over `quantiles` and `weights` (arXiv:2407.08659, Algorithm 2). A
                       quantile is one of the scores of held-out real samples, where these can be scored; else of the n.
    top, bottom SCORE  the `shares` with the highest scores, and with the lowest.
    truncation         codes of `space` moved to psi of their distance from the mean code; "auto" is w, or else the
                       first space. Other samples than those of the pool, but of the same seeds.
    redrawn            coordinates of the prior's codes beyond `thresholds` drawn again, where the prior is standard
                       normal (arXiv:1809.11096).
    polarity           for each of `rhos`, by the `volume` largest singular values; by default left out, as it needs a
                       Jacobian of every sample, which no `calls` count; so where codes have more than `dimensions`.
    discriminator      rejection with gamma at `percentiles`, optimal budgeted rejection at `rates` and Metropolis-
                       Hastings chains of `lengths`, by the logits of the generator's own discriminator, where there is
                       one, calibrated on held-out real images where there are any. And transport: codes moved to where
                       the discriminator likes them, by `steps` of `step_sizes`, each a call and a backward pass.
    Of a generator that shows samples again, and makes no others, samples are chosen by their scores alone.

    judge_space: the feature space that judges; choose another one than that which drives the scores.
    k:       of precision and recall. Gains are differences to plain sampling, the mean of many sets drawn by chance.
    Hypervolume is the area under a method's frontier, plain sampling included. It is that of the best of many, so noise
    alone raises it: its gain is over as many sets of samples drawn by chance. Intervals of gains and of hypervolume are
    percentiles of `resamples` bootstraps of samples and reals, the same for all methods; what was chosen, and the balls
    round it, stay as they are. Recall depends on all balls together, so it is lucky or not by which samples a set
    happens to hold: each bootstrap adds the luck of a set drawn by chance, the same to all settings of a method.
    Raises ValueError when fewer than 10 or k + 2 samples are kept, or for options out of range.
    """
    kept = round(keep * run.n)
    if not 0 < keep <= 1 or kept < max(k + 2, 10):
        raise ValueError(f"keep={keep} of n={run.n} keeps {kept} samples; {max(k + 2, 10)} are needed, at most all")
    if resamples < 20:
        raise ValueError(f"resamples={resamples} must be 20 or more")
    pool = Pool(run, kept, judge_space, k)
    record = partial(_record, pool, resamples)
    for cell in run.cells(run.scores):
        scores = run.oriented(cell)
        record(f"importance {cell.label}", [cell], partial(by_importance, pool, cell, scores, quantiles, weights),
               {"quantiles": list(quantiles), "weights": list(weights)})  # fmt: skip
        for name, sign in (("top", 1), ("bottom", -1)):
            chosen = partial(extremes, pool, sign * scores, shares)
            record(f"{name} {cell.label}", [cell], chosen, {"shares": list(shares)})
    spaces = run.views.generator.spaces
    decodes, first, prior = REPLAYED not in spaces, spaces[0], prior_space(run)
    if decodes and psis:
        in_space = chosen_space(run, space, auto="w" if "w" in spaces else first)
        record(f"truncation {in_space}", [], partial(truncated, pool, in_space, psis), {"psis": list(psis)})
    if decodes and thresholds and is_standard(pool.codes(prior)):
        record(f"redrawn {prior}", [], partial(with_redrawn, pool, prior, thresholds), {"thresholds": list(thresholds)})
    if decodes and rhos and pool.codes(first)[0].numel() <= dimensions:
        chosen = partial(by_polarity, pool, first, rhos, volume)
        record("polarity", [], chosen, {"rhos": list(rhos), "volume": volume})
    if isinstance(run.views.generator, Discriminating):
        by = ByDiscriminator(pool)
        for name, chosen, knob in (
            ("discriminator rejection", partial(by.rejection, percentiles), {"percentiles": list(percentiles)}),
            ("optimal budgeted rejection", partial(by.budgeted_rejection, rates), {"rates": list(rates)}),
            ("Metropolis-Hastings", partial(by.chains, lengths), {"lengths": list(lengths)}),
        ):
            record(name, [by.cell], chosen, {**knob, "calibrated": by.calibration}, by.views)
        if decodes and steps:
            record("transport", [], partial(transported, pool, steps, step_sizes),
                   {"steps": list(steps), "step_sizes": list(step_sizes)})  # fmt: skip


def _record(
    pool: Pool,
    resamples: int,
    method: str,
    cells: Sequence[Cell],
    settings: Callable[[], Settings],
    knobs: Mapping[str, object],
    views: Mapping[str, View] | None = None,
) -> None:
    compute = partial(_estimates, pool, resamples, settings)
    params = {
        "columns": "setting ~ quantity", "method": method, "judge_space": pool.judge_space, "kept": pool.kept, "k": pool.k,
        "resamples": resamples, **{name: str(value) for name, value in knobs.items()},
    }  # fmt: skip
    pool.run.record("tradeoff", VERSION, params, cells, compute, {**pool.views, **(views or {})})


def _estimates(pool: Pool, resamples: int, settings: Callable[[], Settings]) -> Mapping[str, Estimate]:
    found: dict[str, Estimate] = {}
    judged: dict[str, Judged] = {}
    for name, one in settings():
        if one is None:
            say(f"{name}: fewer than {pool.kept} of {pool.run.n} samples were accepted; generate more with n=")
            found[f"{name} ~ precision"] = Estimate(math.nan, (math.nan, math.nan))
        else:
            judged[name] = one
    n, seed = pool.run.n, pool.run.seed
    chance = [pool.by_chance(i) for i in range(max(CHANCE, len(judged)))]
    by_chance = resampled(chance, n, resamples, seed)
    plain_precision, (plain_recall, luck) = by_chance[0].mean(1), _with_luck(by_chance[1], seed)
    found |= {
        f"{PLAIN} ~ precision": bootstrapped(plain_precision, pool.kept),
        f"{PLAIN} ~ recall": bootstrapped(plain_recall, pool.kept),
        f"{PLAIN} ~ frechet_distance": chance[0].frechet,
        f"{PLAIN} ~ calls": Estimate(1, (math.nan, math.nan), pool.kept),
    }
    precision, recall = resampled(list(judged.values()), n, resamples, seed) if judged else torch.empty(2, 1, 0)
    recall = recall + luck[:, None]
    gains = {"precision gain": precision - plain_precision[:, None], "recall gain": recall - plain_recall[:, None]}
    for i, (name, one) in enumerate(judged.items()):
        numbers = {
            "precision": proportion(one.hits),
            "recall": proportion(one.held),
            "frechet_distance": one.frechet,
            "calls": Estimate(one.calls / len(one.rows), (math.nan, math.nan), len(one.rows)),
            **{what: bootstrapped(gain[:, i], pool.kept) for what, gain in gains.items()},
        }
        found |= {f"{name} ~ {quantity}": estimate for quantity, estimate in numbers.items()}
    for side in (ABOVE, BELOW):
        columns = [i for i, name in enumerate(judged) if side_of(name) == side]
        if columns:
            found |= {f"{side} ~ {what}": bootstrapped(gain[:, columns].mean(1), pool.kept)
                      for what, gain in gains.items()}  # fmt: skip
    if judged:
        plain = plain_precision[:, None], plain_recall[:, None]
        area = hypervolume(torch.cat([plain[0], precision], 1), torch.cat([plain[1], recall], 1))
        alike = (torch.cat([one, sets[:, : len(judged)]], 1) for one, sets in zip(plain, by_chance, strict=True))
        found[f"{ALL} ~ hypervolume"] = bootstrapped(area, pool.kept)
        found[f"{ALL} ~ hypervolume gain"] = bootstrapped(area - hypervolume(*alike), pool.kept)
    return found


def _with_luck(recall: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Of C sets by chance [1 + resamples, C]: the mean of as many drawn anew in each resample, and the luck of one."""
    resamples, sets = len(recall) - 1, recall.shape[1]
    rng = np.random.default_rng([seed, sets])
    drawn = torch.from_numpy(rng.integers(sets, size=(resamples, sets)))
    mean = torch.cat([recall[:1].mean(1), recall[1:].gather(1, drawn).mean(1)])
    off = (recall[0] - recall[0].mean()) * math.sqrt(sets / (sets - 1))
    return mean, torch.cat([off.new_zeros(1), off[torch.from_numpy(rng.integers(sets, size=resamples))]])


def hypervolume(precision: Tensor, recall: Tensor) -> Tensor:
    """Area [B] that points [B, S] of precision and recall dominate, above and right of the origin."""
    order = recall.argsort(dim=1, descending=True)
    recall, best = recall.gather(1, order), precision.gather(1, order).cummax(dim=1).values
    widths = recall - torch.nn.functional.pad(recall[:, 1:], (0, 1))
    return (widths * best).sum(1)
