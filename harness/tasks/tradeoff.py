"""What does choosing among samples buy? Precision against recall of equally many, chosen in many ways from one pool."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...metrics.balls import neighbour_pass
from ...metrics.frechet import frechet_distance
from ...metrics.intervals import proportion
from ...metrics.polarity import log_volumes, polarity_sample
from ...metrics.selection import coins, discriminator_rejection, importance, optimal_budgeted_rejection, top
from ..progress import say
from ..protocols import Cell, Discriminating, Estimate, View
from ..registry import METRICS, task
from ..stats import percentile_interval
from ..study import Study
from ..views import LENSES, SEEDS
from .correlate import oriented
from .tradeoff_page import ALL, PLAIN, page

VERSION = 1


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
    rhos: Sequence[float] = (),
    volume: int = 30,
    percentiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
    rates: Sequence[float] = (0.25, 0.5, 0.75),
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
    polarity           for each of `rhos`, by the `volume` largest singular values; by default left out, as it needs a
                       Jacobian of every sample.
    discriminator      rejection with gamma at `percentiles`, and optimal budgeted rejection at `rates`, by the logits
                       of the generator's own discriminator, where there is one.

    through: the feature space that judges; choose another one than that which drives the scores.
    k:       of precision and recall. Gains are differences to the first round(keep · n) samples, plain.
    Hypervolume is the area under a method's frontier, plain sampling included. It is that of the best of many, so noise
    alone raises it: its gain is over as many sets of samples drawn by chance. Intervals of gains and of hypervolume are
    percentiles of `resamples` bootstraps of samples and reals, the same for all methods; what was chosen, and the balls
    round it, stay as they are.
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
        thresholds = partial(_thresholds, study, cell, scores, quantiles)
        record(f"importance {cell.label}", [cell], partial(_importance, pool, scores, thresholds, weights),
               {"quantiles": list(quantiles), "weights": list(weights)})  # fmt: skip
        for name, sign in (("top", 1), ("bottom", -1)):
            chosen = partial(_extreme, pool, sign * scores, shares)
            record(f"{name} {cell.label}", [cell], chosen, {"shares": list(shares)})
    if psis:
        chosen_space = _space(study, space)
        record(f"truncation {chosen_space}", [], partial(_truncated, pool, chosen_space, psis), {"psis": list(psis)})
    if rhos:
        record("polarity", [], partial(_polar, pool, rhos, volume), {"rhos": list(rhos), "volume": volume})
    if isinstance(study.views.generator, Discriminating):
        _record_discriminator(pool, record, percentiles, rates)


class Judged(NamedTuple):
    """The samples of one setting, judged; calls: of the generator, in all.

    rows [m]: positions of their seeds; hits [m]: which are in a real ball; held [N]: which reals are in one of theirs.
    """

    rows: Tensor
    hits: Tensor
    held: Tensor
    frechet: Estimate
    calls: int


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

    @cached_property
    def plain(self) -> Judged:
        return self.judged(torch.arange(self.kept), self.kept)

    def by_chance(self, index: int) -> Judged:
        """As many samples as all settings keep, drawn from the pool without any reason; a set for each index."""
        if index not in self._by_chance:
            order = np.random.default_rng([self.study.seed, index]).permutation(self.study.n)
            self._by_chance[index] = self.judged(torch.from_numpy(order[: self.kept]), self.kept)
        return self._by_chance[index]

    def judged(self, rows: Tensor, calls: int, features: Tensor | None = None) -> Judged:
        """features [m, D]: of the samples, where they are not those of the pool at `rows`."""
        features = self.fake[rows.to(self.fake.device)] if features is None else features
        balls = neighbour_pass(features, self.real, self.k)
        frechet = frechet_distance(features, self.real)
        return Judged(rows, (balls.real_balls > 0).cpu(), (balls.fake_balls > 0).cpu(), frechet, calls)

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
) -> None:
    compute = partial(_estimates, pool, resamples, settings)
    params = {
        "columns": "setting ~ quantity", "method": method, "through": pool.through, "kept": pool.kept, "k": pool.k,
        "resamples": resamples, **{name: str(value) for name, value in knobs.items()},
    }  # fmt: skip
    pool.study.record("tradeoff", VERSION, params, cells, compute, pool.views)


def _estimates(pool: Pool, resamples: int, settings: Callable[[], Settings]) -> Mapping[str, Estimate]:
    found: dict[str, Estimate] = {}
    judged = {PLAIN: pool.plain}
    for name, one in settings():
        if one is None:
            say(f"{name}: fewer than {pool.kept} of {pool.study.n} samples were accepted; generate more with n=")
            found[f"{name} ~ precision"] = Estimate(math.nan, (math.nan, math.nan))
        else:
            judged[name] = one
    precision, recall = _resampled(list(judged.values()), pool.study.n, resamples, pool.study.seed)
    for i, (name, one) in enumerate(judged.items()):
        numbers = {
            "precision": proportion(one.hits),
            "recall": proportion(one.held),
            "frechet_distance": one.frechet,
            "calls": Estimate(one.calls / len(one.rows), (math.nan, math.nan), len(one.rows)),
        }
        if name != PLAIN:
            numbers["precision gain"] = _bootstrapped(precision[:, i] - precision[:, 0], len(one.rows))
            numbers["recall gain"] = _bootstrapped(recall[:, i] - recall[:, 0], len(one.held))
        found |= {f"{name} ~ {quantity}": estimate for quantity, estimate in numbers.items()}
    area = hypervolume(precision, recall)
    by_chance = [pool.plain, *(pool.by_chance(i) for i in range(len(judged) - 1))]
    chance = hypervolume(*_resampled(by_chance, pool.study.n, resamples, pool.study.seed))
    found[f"{ALL} ~ hypervolume"] = _bootstrapped(area, pool.kept)
    found[f"{ALL} ~ hypervolume gain"] = _bootstrapped(area - chance, pool.kept)
    return found


def _resampled(judged: Sequence[Judged], n: int, resamples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Precision and recall [1 + resamples, S] of each setting; row 0 is the samples themselves."""
    rng = np.random.default_rng(seed)

    def counts(size: int) -> Tensor:
        drawn = rng.multinomial(size, np.full(size, 1 / size), size=resamples)
        return torch.from_numpy(np.concatenate([np.ones((1, size)), drawn]))

    seeds, reals = counts(n), counts(len(judged[0].held))
    precision, recall = [], []
    for one in judged:
        present = seeds[:, one.rows]
        precision.append(present @ one.hits.double() / present.sum(1).clamp(min=1))
        recall.append(reals @ one.held.double() / reals.sum(1))
    return torch.stack(precision, 1), torch.stack(recall, 1)


def _bootstrapped(values: Tensor, n: int) -> Estimate:
    low, high = percentile_interval(values[1:])
    return Estimate(float(values[0]), (float(low), float(high)), n)


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


def _space(study: Study, space: str) -> str:
    spaces = list(study.views.generator.spaces)
    if space == "auto":
        return "w" if "w" in spaces else spaces[0]
    if space not in spaces:
        raise ValueError(f"space={space!r} is not one of this generator's: {', '.join(spaces)}")
    return space


def _truncated(pool: Pool, space: str, psis: Sequence[float]) -> Settings:
    views, study = pool.study.views, pool.study
    codes = views.tensor(View("fake", f"latent:{space}"), study.seed, study.n)
    mean, extract = codes.mean(0), views.extractor(pool.through)
    for psi in psis:
        features = []
        with torch.no_grad():
            for part in torch.split(mean + psi * (codes[: pool.kept] - mean), 100):
                images = (views.generator.decode(part, space).clamp(0, 1) * 255).round() / 255  # as samples are stored
                features.append(extract(images))
        yield f"psi {psi:g}", pool.judged(torch.arange(pool.kept), pool.kept, torch.cat(features).to(pool.real))


def _polar(pool: Pool, rhos: Sequence[float], volume: int) -> Settings:
    study = pool.study
    generator, space = study.views.generator, study.views.generator.spaces[0]
    codes = study.views.tensor(View("fake", f"latent:{space}"), study.seed, study.n)
    volumes = log_volumes(lambda z: generator.decode(z, space), codes, min(volume, codes[0].numel())).cpu()
    for rho in rhos:
        rows = polarity_sample(volumes, rho, pool.kept, study.seed)
        yield f"rho {rho:g}", pool.judged(rows, study.n)


def _record_discriminator(
    pool: Pool, record: Callable[..., None], percentiles: Sequence[float], rates: Sequence[float]
) -> None:
    cell = pool.study.cell("discriminator_logit")
    logits = oriented(pool.study, cell)

    def rejection() -> Settings:
        for quantile in percentiles:
            yield f"gamma {quantile:g}", pool.accepted(discriminator_rejection(logits, quantile=quantile))

    def budgeted() -> Settings:
        for rate in rates:
            yield f"rate {rate:g}", pool.accepted(optimal_budgeted_rejection(logits, rate))

    record("discriminator rejection", [cell], rejection, {"percentiles": list(percentiles)})
    record("optimal budgeted rejection", [cell], budgeted, {"rates": list(rates)})
