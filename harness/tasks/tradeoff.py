"""What does choosing among samples buy? Precision against recall of equally many, chosen in many ways from one pool."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial

import numpy as np
import torch
from torch import Tensor

from ...metrics.intervals import proportion
from ...metrics.polarity import log_volumes, polarity_sample
from ...metrics.selection import (
    calibrated,
    coins,
    discriminator_rejection,
    importance,
    metropolis_hastings,
    optimal_budgeted_rejection,
    top,
)
from ...metrics.transport import steepness, transport
from ...metrics.truncation import redrawn
from ..progress import say
from ..protocols import Cell, Discriminating, Estimate, View
from ..registry import METRICS, task
from ..study import Study
from ..views import LENSES, REPLAYED, SEEDS
from .correlate import oriented
from .judged import Judged, bootstrapped, judge, resampled
from .tradeoff_page import ABOVE, ALL, BELOW, PLAIN, page, side_of

VERSION = 3
CHANCE = 20
"""Sets of samples drawn by chance, at least: recall depends on which samples happen to be in a set, all of them."""
STEEP = 100
"""Pairs of samples by which the discriminator's steepness is measured, as in its release."""
STANDARD = 0.02
"""How far mean and deviation of all coordinates may be from 0 and 1, noise apart, in a standard normal space."""


@task(page)
def tradeoff(
    study: Study,
    keep: float = 0.2,
    through: str = "features",
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

    importance SCORE   for each of `study.scores`, over `quantiles` and `weights` (arXiv:2407.08659, Algorithm 2). A
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

    through: the feature space that judges; choose another one than that which drives the scores.
    k:       of precision and recall. Gains are differences to plain sampling, the mean of many sets drawn by chance.
    Hypervolume is the area under a method's frontier, plain sampling included. It is that of the best of many, so noise
    alone raises it: its gain is over as many sets of samples drawn by chance. Intervals of gains and of hypervolume are
    percentiles of `resamples` bootstraps of samples and reals, the same for all methods; what was chosen, and the balls
    round it, stay as they are. Recall depends on all balls together, so it is lucky or not by which samples a set
    happens to hold: each bootstrap adds the luck of a set drawn by chance, the same to all settings of a method.
    Raises ValueError when fewer than 10 or k + 2 samples are kept, or for options out of range.
    """
    kept = round(keep * study.n)
    if not 0 < keep <= 1 or kept < max(k + 2, 10):
        raise ValueError(f"keep={keep} of n={study.n} keeps {kept} samples; {max(k + 2, 10)} are needed, at most all")
    if resamples < 20:
        raise ValueError(f"resamples={resamples} must be 20 or more")
    pool = Pool(study, kept, through, k)
    record = partial(_record, pool, resamples)
    for cell in study.cells(study.scores):
        scores = oriented(study, cell)
        at = partial(_thresholds, study, cell, scores, quantiles)
        record(f"importance {cell.label}", [cell], partial(_importance, pool, scores, at, weights),
               {"quantiles": list(quantiles), "weights": list(weights)})  # fmt: skip
        for name, sign in (("top", 1), ("bottom", -1)):
            chosen = partial(_extreme, pool, sign * scores, shares)
            record(f"{name} {cell.label}", [cell], chosen, {"shares": list(shares)})
    decodes = REPLAYED not in study.views.generator.spaces
    if decodes:
        _record_moved(pool, record, psis, space, thresholds)
        first = study.views.generator.spaces[0]
        if rhos and pool.codes(first)[0].numel() <= dimensions:
            record("polarity", [], partial(_polar, pool, first, rhos, volume), {"rhos": list(rhos), "volume": volume})
    if isinstance(study.views.generator, Discriminating):
        _record_discriminator(pool, record, percentiles, rates, lengths)
        if steps and decodes:
            record("transport", [], partial(_transported, pool, steps, step_sizes),
                   {"steps": list(steps), "step_sizes": list(step_sizes)})  # fmt: skip


Settings = Iterator[tuple[str, Judged | None]]
"""Settings of a method by name; None where the pool was spent before enough samples were accepted."""


class Pool:
    """The n generated samples of a study, and the reals that choices among them are compared with."""

    def __init__(self, study: Study, kept: int, through: str, k: int):
        self.study, self.kept, self.k = study, kept, k
        self.through = study.views.features if through == "features" else through
        self._by_chance: dict[int, Judged] = {}
        self.seeds = range(study.seed * SEEDS, study.seed * SEEDS + study.n)
        self.views = {"fake": View("fake", self.through), "real": View("real", self.through, n=kept)}

    @cached_property
    def fake(self) -> Tensor:
        return self.study.views.tensor(self.views["fake"], self.study.seed, self.study.n)

    @cached_property
    def real(self) -> Tensor:
        return self.study.views.tensor(self.views["real"], self.study.seed, self.study.n)

    def by_chance(self, index: int) -> Judged:
        """As many samples as all settings keep, drawn from the pool without any reason; a set for each index."""
        if index not in self._by_chance:
            order = np.random.default_rng([self.study.seed, index]).permutation(self.study.n)
            rows = torch.from_numpy(order[: self.kept])
            features = self.fake[rows.to(self.fake.device)]
            self._by_chance[index] = judge(features, self.real, self.k, rows, self.kept, with_frechet=index == 0)
        return self._by_chance[index]

    def judged(self, rows: Tensor, calls: int, features: Tensor | None = None) -> Judged:
        """features [m, D]: of the samples, where they are not those of the pool at `rows`."""
        features = self.fake[rows.to(self.fake.device)] if features is None else features
        return judge(features, self.real, self.k, rows, calls)

    def codes(self, space: str) -> Tensor:
        return self.study.views.tensor(View("fake", f"latent:{space}"), self.study.seed, self.study.n)

    def moved(self, codes: Tensor, space: str, calls: int | None = None) -> Judged:
        """The samples of other codes than the pool's; calls: one each, where not given."""
        features = self.study.views.seen(codes, space, self.through)
        return self.judged(torch.arange(self.kept), calls or self.kept, features.to(self.real))

    def accepted(self, acceptance: Tensor) -> Judged | None:
        """The first samples that are accepted, each with its probability; None when there are too few."""
        rows = (coins(self.seeds) < acceptance).nonzero().flatten()[: self.kept]
        return self.judged(rows, int(rows[-1]) + 1) if len(rows) == self.kept else None


def hypervolume(precision: Tensor, recall: Tensor) -> Tensor:
    """Area [B] that points [B, S] of precision and recall dominate, above and right of the origin."""
    order = recall.argsort(dim=1, descending=True)
    recall, best = recall.gather(1, order), precision.gather(1, order).cummax(dim=1).values
    widths = recall - torch.nn.functional.pad(recall[:, 1:], (0, 1))
    return (widths * best).sum(1)


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
        "columns": "setting ~ quantity", "method": method, "through": pool.through, "kept": pool.kept, "k": pool.k,
        "resamples": resamples, **{name: str(value) for name, value in knobs.items()},
    }  # fmt: skip
    pool.study.record("tradeoff", VERSION, params, cells, compute, {**pool.views, **(views or {})})


def _estimates(pool: Pool, resamples: int, settings: Callable[[], Settings]) -> Mapping[str, Estimate]:
    found: dict[str, Estimate] = {}
    judged: dict[str, Judged] = {}
    for name, one in settings():
        if one is None:
            say(f"{name}: fewer than {pool.kept} of {pool.study.n} samples were accepted; generate more with n=")
            found[f"{name} ~ precision"] = Estimate(math.nan, (math.nan, math.nan))
        else:
            judged[name] = one
    n, seed = pool.study.n, pool.study.seed
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


def _importance(
    pool: Pool, scores: Tensor, thresholds: Callable[[], Mapping[float, float]], weights: Sequence[float]
) -> Settings:
    for quantile, threshold in thresholds().items():
        for weight in weights:
            yield f"tau {quantile:g} w {weight:g}", pool.accepted(importance(scores, threshold, weight))


def _thresholds(study: Study, cell: Cell, scores: Tensor, quantiles: Sequence[float]) -> dict[float, float]:
    """Scores at quantiles: of held-out reals where the metric sees samples through an extractor, else of the pool."""
    if cell.views["fake"].through.partition(":")[0] not in LENSES and study.views.data.count("test"):
        views = {**cell.views, "fake": dataclasses.replace(cell.views["fake"], of="holdout")}
        tensors = {name: study.views.tensor(view, study.seed, study.n) for name, view in views.items()}
        sign = -1 if METRICS[cell.metric].better == "lower" else 1
        scores = sign * METRICS[cell.metric].function(**tensors, **cell.params).double().cpu()
    scores = scores[scores.isfinite()]
    return {quantile: float(scores.quantile(quantile)) for quantile in quantiles}


def _extreme(pool: Pool, scores: Tensor, shares: Sequence[float]) -> Settings:
    for share in shares:
        yield f"share {share:g}", pool.accepted(top(scores, share))


def _record_moved(
    pool: Pool, record: Callable[..., None], psis: Sequence[float], space: str, thresholds: Sequence[float]
) -> None:
    """Truncation: the same seeds, other codes."""
    if psis:
        chosen = _space(pool.study, space)
        record(f"truncation {chosen}", [], partial(_truncated, pool, chosen, psis), {"psis": list(psis)})
    prior = prior_space(pool.study)
    if thresholds and _is_standard(pool.codes(prior)):
        record(f"redrawn {prior}", [], partial(_redrawn, pool, prior, thresholds), {"thresholds": list(thresholds)})


def _space(study: Study, space: str) -> str:
    spaces = list(study.views.generator.spaces)
    if space == "auto":
        return "w" if "w" in spaces else spaces[0]
    if space not in spaces:
        raise ValueError(f"space={space!r} is not one of this generator's: {', '.join(spaces)}")
    return space


def _truncated(pool: Pool, space: str, psis: Sequence[float]) -> Settings:
    codes = pool.codes(space)
    mean = codes.mean(0)
    for psi in psis:
        yield f"psi {psi:g}", pool.moved(mean + psi * (codes[: pool.kept] - mean), space)


def prior_space(study: Study) -> str:
    """The space that sampling starts from: the noise of a diffusion model, else the first space."""
    spaces = study.views.generator.spaces
    return "x_T" if "x_T" in spaces else spaces[0]


def _is_standard(codes: Tensor) -> bool:
    """Whether codes look standard normal in all coordinates together."""
    std, mean = torch.std_mean(codes)
    reach = STANDARD + 5 / math.sqrt(codes.numel())
    return bool(mean.abs() < reach and (std - 1).abs() < reach)


def _redrawn(pool: Pool, space: str, thresholds: Sequence[float]) -> Settings:
    codes = pool.codes(space)[: pool.kept]
    for threshold in thresholds:
        yield f"threshold {threshold:g}", pool.moved(redrawn(codes, threshold, pool.seeds[: pool.kept]), space)


def _polar(pool: Pool, space: str, rhos: Sequence[float], volume: int) -> Settings:
    study, codes = pool.study, pool.codes(space)
    most = min(volume, codes[0].numel())
    # Forward mode: a pass a latent dimension, of which there are fewer than projections.
    volumes = log_volumes(lambda z: study.views.generator.decode(z, space), codes, most, forward=True, chunk=250).cpu()
    for rho in rhos:
        rows = polarity_sample(volumes, rho, pool.kept, study.seed)
        yield f"rho {rho:g}", pool.judged(rows, study.n)


def _record_discriminator(
    pool: Pool,
    record: Callable[..., None],
    percentiles: Sequence[float],
    rates: Sequence[float],
    lengths: Sequence[int],
) -> None:
    study = pool.study
    cell = study.cell("discriminator_logit")
    holdout = View("holdout", "discriminator", n="all")
    logits, known = oriented(study, cell), bool(study.views.data.count("test"))

    @cache
    def real() -> Tensor:
        return study.views.tensor(holdout, study.seed, study.n)[:, 0].double().cpu()

    @cache
    def log_ratio() -> Tensor:
        return calibrated(logits, real(), logits[logits.isfinite()]) if known else logits

    def rejection() -> Settings:
        for quantile in percentiles:
            yield f"gamma {quantile:g}", pool.accepted(discriminator_rejection(log_ratio(), quantile=quantile))

    def budgeted() -> Settings:
        for rate in rates:
            yield f"rate {rate:g}", pool.accepted(optimal_budgeted_rejection(log_ratio(), rate))

    def chains() -> Settings:
        for length in lengths:
            count = study.n // length
            start = None
            if known:
                drawn = np.random.default_rng([study.seed, length]).integers(len(real()), size=count)
                start = calibrated(real()[torch.from_numpy(drawn)], real(), logits)
            rows = metropolis_hastings(log_ratio(), coins(pool.seeds), length, start)[: pool.kept]
            enough = len(rows) == pool.kept
            yield f"length {length}", pool.judged(rows, pool.kept * length) if enough else None

    how = {"calibrated": f"by {study.views.data.count('test')} held-out images" if known else "no"}
    views = {"holdout": holdout} if known else {}
    record("discriminator rejection", [cell], rejection, {"percentiles": list(percentiles), **how}, views)
    record("optimal budgeted rejection", [cell], budgeted, {"rates": list(rates), **how}, views)
    record("Metropolis-Hastings", [cell], chains, {"lengths": list(lengths), **how}, views)


def _transported(pool: Pool, steps: Sequence[int], step_sizes: Sequence[float]) -> Settings:
    generator, space = pool.study.views.generator, pool.study.views.generator.spaces[0]
    assert isinstance(generator, Discriminating)
    codes = pool.codes(space)

    def critic(z: Tensor) -> Tensor:
        return generator.discriminate(generator.decode(z, space))

    slope = steepness(critic, codes[: 2 * STEEP])
    for size in step_sizes:
        for count, z in zip(steps, transport(critic, codes[: pool.kept], slope, steps, size), strict=True):
            calls = pool.kept * (count + 1) + min(2 * STEEP, len(codes))
            yield f"steps {count} size {size:g}", pool.moved(z, space, calls)
