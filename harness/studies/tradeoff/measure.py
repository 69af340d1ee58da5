"""What does choosing among samples buy? Precision against recall of equally many, chosen in many ways from one pool."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from ...arrays.spaces import REPLAYED
from ...core.abilities import Discriminating
from ...core.progress import say
from ...core.protocols import Cell, Estimate, Part, Row, View
from ...core.registry import study
from ...run import MetricSpec, Run
from ...stats.intervals import half_samples, share
from ..judged import JUDGING, Judged, fewest, without_interval
from ..spaces import chosen_space, in_latent_space, prior_space
from .beside import beside
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
from .names import ABOVE, ALL, AREA, AREA_GAIN, BELOW, CALLS, FRECHET, GAIN, PLAIN, PRECISION, RECALL, SETTING, side_of
from .page import page

SIDES = {"top": 1, "bottom": -1}
Truncation = Callable[[], Sequence[tuple[str, Judged | None]]]
CHANCE = 20
"""Sets of samples drawn by chance, at least: recall depends on which samples happen to be in a set, all of them."""


@dataclass(frozen=True)
class Options:
    """What is kept, how it is judged, and the settings of each method; none of them leave a method out.

    keep:        the share of the n samples that every method keeps.
    judge_space: the feature space that judges; choose another one than that which drives the scores. Of several it is
                 the first that these samples have.
    k:           neighbours of precision and recall.
    quantiles, weights: of importance sampling: thresholds as quantiles of the scores, and weights w.
    shares:      of the samples with the highest and with the lowest scores. sides: "top", "bottom" or both.
    scores:      by which is chosen; those of the run where none are named.
    psis:        of truncation: what is left of the distance from the mean code.
    space:       of truncation; "auto" is w, or else the first space.
    thresholds:  beyond which coordinates of the prior's codes are drawn again.
    rhos, volume, dimensions: of polarity: exponents, how many of the largest singular values make a volume, and for how
                 many dimensions of the codes at most. Left out by default: it needs a Jacobian of every sample, which
                 no `calls` count.
    percentiles: gammas of discriminator rejection. rates: of optimal budgeted rejection, the share it accepts.
    lengths:     of Metropolis-Hastings chains.
    steps, step_sizes: of transport.
    latent:      space of the codes by which scores of codes are computed; "auto" is w where there is one, since in z,
                 where references are draws of the prior, a density of codes says no more than their norm.
    halves:      random halves of samples and reals that tell how sure a gain is.
    nulls:       times that the scores of a method are dealt out at random among the samples.
    beside:      whether each setting is also compared with chance by its Fréchet distance, and with truncation of
                 equal recall by its precision.
    """

    keep: float = 0.2
    judge_space: str | Sequence[str] = "features"
    k: int = 3
    quantiles: Sequence[float] = (0.1, 0.2, 0.5, 0.8, 0.9)
    weights: Sequence[float] = (0.01, 0.1, 0.3, 0.5, 2, 3.3, 10, 100)
    shares: Sequence[float] = (0.25, 0.5, 0.75, 0.9)
    sides: Sequence[str] = ("top", "bottom")
    scores: Sequence[MetricSpec] = ()
    psis: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.3)
    space: str = "auto"
    thresholds: Sequence[float] = (0.5, 1, 1.5, 2)
    rhos: Sequence[float] = ()
    volume: int = 30
    dimensions: int = 64
    percentiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)
    rates: Sequence[float] = (0.25, 0.5, 0.75)
    lengths: Sequence[int] = (2, 3, 5, 10)
    steps: Sequence[int] = (4, 9)
    step_sizes: Sequence[float] = (0.01, 0.03, 0.1)
    latent: str = "auto"
    halves: int = 20
    nulls: int = 5
    beside: bool = False


@study(version=4, uses=JUDGING, page=page, tradeoff=("setting", "quantity"))
def tradeoff(run: Run, options: Options) -> Iterator[Part]:
    """Precision, recall and Fréchet distance of round(keep · n) samples chosen from n, by each method and setting.

    All methods draw from the same n generated samples, take the first that they accept, and are compared with as many
    real ones as they keep, in one feature space. A setting that accepts too few of the n has no numbers. Calls are
    generator calls for each kept sample. In the picture a line joins the settings of a method that no other of its
    settings beats in both precision and recall; the star is plain sampling. Methods stand in the order of their gain.

    importance SCORE   for each of `run.scores`, over `quantiles` and `weights` (arXiv:2407.08659, Algorithm 2). A
                       quantile is one of the scores of held-out real samples, where these can be scored; else of the n.
    top, bottom SCORE  the `shares` with the highest scores, and with the lowest.
    truncation         codes moved to psi of their distance from the mean code. These are other samples than those of
                       the pool, but of the same seeds.
    redrawn            coordinates of the prior's codes beyond `thresholds` drawn again, where the prior is standard
                       normal (arXiv:1809.11096).
    polarity           for each of `rhos`, by the `volume` largest singular values.
    discriminator      rejection with gamma at `percentiles`, optimal budgeted rejection at `rates` and Metropolis-
                       Hastings chains of `lengths`, by the logits of the generator's own discriminator, where there is
                       one, calibrated on held-out real images where there are any. And transport: codes moved to where
                       the discriminator likes them, by `steps` of `step_sizes`, each a call and a backward pass.
    Of a generator that shows samples again, and makes no others, samples are chosen by their scores alone.

    With `beside`, "frechet_distance saved" is 1 less the ratio to the mean distance of sets drawn by chance: above 0
    the set is nearer to the reals. "precision over truncation" is the difference to truncation at equal recall, of
    `psis` and of plain sampling, between which it is interpolated; undefined where none recalls as much, or none as
    little.

    Gains in precision and recall are differences to plain sampling, the mean of many sets drawn by chance. Hypervolume
    is the area under a method's frontier, plain sampling included. It is that of the best of many, so noise alone
    raises it. Its gain is therefore over the same settings of the same method with its scores dealt out at random
    among the samples, the mean of `nulls` deals; for a method without scores, over as many sets drawn by chance.

    Intervals hold for other samples and other reals: they come from random halves of both, in which the balls are found
    anew, the same halves for all methods. Which samples are chosen, and the thresholds, stay as they are. Claims are
    corrected for all gains of the run (Holm).
    Raises ValueError when fewer than 10 or 2 (k + 2) samples are kept, or for options out of range.
    """
    kept, least = round(options.keep * run.n), fewest(options.k)
    if not 0 < options.keep <= 1 or kept < least:
        raise ValueError(f"keep={options.keep} of n={run.n} keeps {kept} samples; {least} are needed, at most all")
    if wrong := set(options.sides) - SIDES.keys():
        raise ValueError(f"sides={sorted(wrong)} must be among {', '.join(SIDES)}")
    if options.halves < 2 or options.nulls < 1:
        raise ValueError(f"halves={options.halves} must be 2 or more, and nulls={options.nulls} 1 or more")
    spaces = run.views.generator.spaces
    latent = chosen_space(run, options.latent, auto="w" if "w" in spaces else spaces[0])
    pool = Pool(run, kept, _judge_space(run, options.judge_space), options.k, options.halves)
    decodes, first, prior = REPLAYED not in spaces, spaces[0], prior_space(run)
    space = chosen_space(run, options.space, auto="w" if "w" in spaces else first)
    truncation = cache(lambda: list(truncated(pool, space, options.psis if decodes else ())))
    part = partial(_part, pool, options, truncation)
    cells = (in_latent_space(run, cell, latent) for cell in run.cells(list(options.scores) or run.scores))
    for cell in {cell.label: cell for cell in cells}.values():
        scores = partial(run.oriented, cell)
        if options.quantiles and options.weights:
            chosen = partial(by_importance, pool, cell, options.quantiles, options.weights)
            yield part(f"importance {cell.label}", chosen, ["quantiles", "weights"], [cell], scores=scores)
        for name in options.sides if options.shares else ():
            chosen = partial(extremes, pool, SIDES[name], options.shares)
            yield part(f"{name} {cell.label}", chosen, ["shares"], [cell], scores=scores)
    if decodes and options.psis:
        yield part(f"truncation {space}", lambda: iter(truncation()), ["psis"])
    if decodes and options.thresholds and is_standard(pool.codes(prior)):
        yield part(f"redrawn {prior}", partial(with_redrawn, pool, prior, options.thresholds), ["thresholds"])
    if decodes and options.rhos and pool.codes(first)[0].numel() <= options.dimensions:
        yield part("polarity", partial(by_polarity, pool, first, options.rhos, options.volume), ["rhos", "volume"])
    if isinstance(run.views.generator, Discriminating):
        by = ByDiscriminator(pool)
        for name, chosen, knob in (
            ("discriminator rejection", partial(by.rejection, options.percentiles), "percentiles"),
            ("optimal budgeted rejection", partial(by.budgeted_rejection, options.rates), "rates"),
            ("Metropolis-Hastings", partial(by.chains, options.lengths), "lengths"),
        ):
            more = {"calibrated": by.calibration}
            if getattr(options, knob):
                yield part(name, chosen, [knob], [by.cell], by.views, more, scores=lambda: by.log_ratio)
        if decodes and options.steps:
            chosen = partial(transported, pool, options.steps, options.step_sizes)
            yield part("transport", chosen, ["step_sizes", "steps"])


def _judge_space(run: Run, spaces: str | Sequence[str]) -> str:
    """The first of the spaces that these samples have. Raises ValueError, for the last, where they have none."""
    *others, last = [spaces] if isinstance(spaces, str) else spaces
    for space in others:
        try:
            run.views.try_out(View("fake", space))
        except (ValueError, LookupError):
            continue
        return space
    return last


def _part(
    pool: Pool,
    options: Options,
    truncation: Truncation,
    method: str,
    settings: Callable[..., Settings],
    knobs: Sequence[str],
    cells: Sequence[Cell] = (),
    views: Mapping[str, View] | None = None,
    more: Mapping[str, str] | None = None,
    scores: Callable[[], Tensor] | None = None,
) -> Part:
    """The part of a method. knobs: names of the options that only it depends on; more: what else is in its setting.

    scores: what `settings` is given, where it chooses by scores.
    """
    found = {
        "method": method, "kept": pool.kept, "k": pool.k, "judge_space": pool.judge_space, "halves": options.halves,
        **{name: _as_text(getattr(options, name)) for name in knobs}, **(more or {}),
    }  # fmt: skip
    if scores:
        found["nulls"] = options.nulls
    if options.beside:
        found["beside"] = f"chance, truncation {_as_text(options.psis)}"
    setting = {name: found.pop(name) for name in SETTING if name in found}
    rows = partial(_rows, pool, settings, scores, options.nulls, truncation if options.beside else None)
    return Part(rows, setting, cells=cells, views={**pool.views, **(views or {})})


def _as_text(option: Any) -> str:
    return str(list(option) if isinstance(option, Sequence) else option)


def _rows(
    pool: Pool,
    settings: Callable[..., Settings],
    scores: Callable[[], Tensor] | None,
    nulls: int,
    truncation: Truncation | None,
) -> Iterator[Row]:
    judged: dict[str, Judged] = {}
    for setting, one in settings(scores()) if scores else settings():
        if one is None:
            say(f"{setting}: fewer than {pool.kept} of {pool.run.n} samples were accepted; generate more with n=")
            yield Row((setting, PRECISION), without_interval(math.nan, 0))
        else:
            judged[setting] = one
    chance = [pool.by_chance(i) for i in range(max(CHANCE, len(judged)))]
    plain = _points(chance).mean(1)
    for at, quantity in enumerate((PRECISION, RECALL)):
        yield Row((PLAIN, quantity), _halved(plain[:, at], pool.kept))
    yield Row((PLAIN, FRECHET), chance[0].frechet())
    yield Row((PLAIN, CALLS), without_interval(1, pool.kept))
    if not judged:
        return
    points = _points(list(judged.values()))
    gains = points - plain[:, None]
    for i, (setting, one) in enumerate(judged.items()):
        yield Row((setting, PRECISION), share(one.hits, one.halves[:, 0]))
        yield Row((setting, RECALL), share(one.held, one.halves[:, 1]))
        yield Row((setting, FRECHET), one.frechet())
        yield Row((setting, CALLS), without_interval(one.calls / len(one.rows), len(one.rows)))
        for at, quantity in enumerate(GAIN.values()):
            yield Row((setting, quantity), _halved(gains[:, i, at], pool.kept))
    if truncation:
        truncated = [one for _, one in truncation() if one is not None]
        yield from beside(judged, chance, [*truncated, pool.as_they_come] if truncated else [])
    for side in (ABOVE, BELOW):
        columns = [i for i, setting in enumerate(judged) if side_of(setting) == side]
        if columns:
            for at, quantity in enumerate(GAIN.values()):
                yield Row((side, quantity), _halved(gains[:, columns, at].mean(1), pool.kept))
    found = _area(points, plain)
    yield Row((ALL, AREA), _halved(found, pool.kept))
    if scores:
        deals = (settings(pool.dealt_out(scores(), deal)) for deal in range(nulls))
        by_chance = [_area(_points([one for _, one in deal if one is not None]), plain) for deal in deals]
        null = torch.stack(by_chance).mean(0)
    else:
        null = _area(_points(chance[: len(judged)]), plain)
    yield Row((ALL, AREA_GAIN), _halved(found - null, pool.kept))


def _points(judged: Sequence[Judged]) -> Tensor:
    """Precision and recall [1 + halves, S, 2] of S sets: row 0 is of the whole sets, the others of halves."""
    whole = torch.tensor([[one.precision, one.recall] for one in judged], dtype=torch.float64).view(-1, 2)
    return torch.cat([whole[None], torch.stack([one.halves for one in judged], 1)])


def _halved(values: Tensor, n: int) -> Estimate:
    """The first of values [1 + halves], with the interval that the others tell."""
    return half_samples(float(values[0]), values[1:], n)


def _area(points: Tensor, plain: Tensor) -> Tensor:
    """Hypervolume [B] of points [B, S, 2], plain sampling [B, 2] included."""
    every = torch.cat([plain[:, None], points], 1)
    return hypervolume(every[..., 0], every[..., 1])


def hypervolume(precision: Tensor, recall: Tensor) -> Tensor:
    """Area [B] that points [B, S] of precision and recall dominate, above and right of the origin."""
    order = recall.argsort(dim=1, descending=True)
    recall, best = recall.gather(1, order), precision.gather(1, order).cummax(dim=1).values
    widths = recall - torch.nn.functional.pad(recall[:, 1:], (0, 1))
    return (widths * best).sum(1)
