"""Does a score tell how far an edit may go? Samples moved along directions of attributes, and scores along the way."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from ....generators.sampling.editing import Direction, agreement, attribute_direction, one_maximum, stops
from ....generators.sampling.smooth import smooth_functions
from ...arrays.spaces import OF_CODES
from ...core.protocols import Cell, Estimate, Part, Row, View
from ...core.registry import METRICS, study
from ...report.figures import save, short
from ...run import MetricSpec, Run
from ...shapes.pictures import pictures
from ...stats import intervals
from ...stats.correlations import Correlations
from ..spaces import chosen_space
from .frames import frames
from .page import page
from .quantities import (
    AGREEMENT,
    AWAY,
    BEYOND,
    CHANGE,
    FALL,
    FIT,
    GAIN,
    ITSELF,
    MOVES,
    NORM,
    ONE_MAXIMUM,
    OVER_NORM,
    WALKED,
)  # fmt: skip

RESAMPLES = 200
"""Bootstrap resamples of the correlations of signals."""


@dataclass(frozen=True)
class Options:
    """What is edited, and how far.

    attributes: sample metrics.
    spaces: latent spaces, of those that the generator has; by default its first.
    reach:  how far an edit goes each way, in standard deviations of the latents along the direction.
    steps:  points along an edit, the sample itself in the middle: an odd number, 5 or more.
    count:  how many samples are edited, 10 to n. shown: edits in the picture.
    smooth, draws: what the same would be by arbitrary smooth functions of the latent, so many of each of these lengths,
            in standard deviations along the edit, over which a function changes.
    """

    attributes: Sequence[MetricSpec] = ("mean_intensity", "laplacian_variance")
    spaces: Sequence[str] = ()
    reach: float = 4.0
    steps: int = 17
    count: int = 400
    shown: int = 4
    smooth: Sequence[float] = (1.0, 3.0)
    draws: int = 20


@study(
    version=2,
    page=page,
    edit=("score", "quantity", "signal"),
    edit_course=("score", "at"),
    edit_chance=("length", "draw", "quantity", "signal"),
    edit_signals=("signal", "other"),
)
def edit(run: Run, options: Options) -> Iterator[Part]:
    """Samples edited along the direction in latent space in which an attribute rises fastest, and scores on the way.

    The direction is that of a linear model of the attribute in the latents of all samples; edits go both ways.
    Distances are in standard deviations of the latents along the direction, falls and gains in standard deviations of
    samples. For every score the table holds whether it has one maximum on the way, where that is, how far the score
    falls, and whether it agrees with the signals of quality along each edit (rank correlation, the mean over edits).

    It also holds what stopping by the score gains. Walks stop before the score has fallen by some amount, which is the
    same for all walks, and such that they change the attribute by as much on average as walks that go half the way. The
    gain is the quality of the samples where the walks stop, less what it would be if as many walks stopped as early,
    but in random order. A gain counts where the attribute does not change less. There are two baselines: minus the way
    walked, which knows nothing of samples, and minus the norm of the latent.

    The paper (arXiv:2407.15171) prints scores above a few edited faces; its directions are not published.
    """
    if options.steps < 5 or options.steps % 2 == 0 or not options.reach > 0:
        raise ValueError(f"steps={options.steps} must be odd, 5 or more, and reach={options.reach} positive")
    if not 10 <= options.count <= run.n:
        raise ValueError(f"count={options.count} must be 10 or more, and at most n={run.n}")
    scores, signals = run.cells(run.scores), run.cells(run.quality_signals)
    first = run.views.generator.spaces[0]
    signals = list({cell.label: cell for cell in signals}.values())
    made = [cell for cell in signals if not run.failed(cell)]
    yield Part(partial(_signals, run, made), {"resamples": RESAMPLES}, "edit_signals", made)
    for space in options.spaces or [first]:
        if space not in run.views.generator.spaces:
            continue
        for attribute in run.cells(options.attributes):
            chosen = chosen_space(run, space, first)
            edits = Edits(run, chosen, attribute, options.reach, options.steps, options.count)
            cells = list({cell.label: cell for cell in [*scores, *signals, attribute]}.values())
            yield Part(partial(edits.rows, scores, signals), edits.setting, "edit", cells)
            yield Part(partial(edits.course, cells), edits.setting, "edit_course", cells)
            setting = edits.setting | {"smooth": str(list(options.smooth)), "draws": options.draws}
            rows = partial(edits.by_chance, signals, options.smooth, options.draws)
            if options.smooth and options.draws:
                yield Part(rows, setting, "edit_chance", [*signals, attribute, run.cell(NORM)])
            for score in scores[:1]:
                sign = -1 if METRICS[score.metric].better == "lower" else 1
                picture = frames(edits.images(options.shown), score.label, sign * edits.curves(score)[: options.shown])
                save(picture, run.figure("edit", short(edits.setting)))


def _signals(run: Run, signals: Sequence[Cell]) -> Iterator[Row]:
    """Rank correlation of each pair of signals."""
    names = [cell.label for cell in signals]
    columns = {cell.label: run.oriented(cell) for cell in signals}
    found = Correlations(columns, torch.zeros(run.n), RESAMPLES, run.seed).of(names, names)
    yield from (Row(pair, value) for pair, value in found.items() if names.index(pair[0]) < names.index(pair[1]))


@dataclass
class Edits:
    """Edits along one direction, and every score on them; each found once, when needed."""

    run: Run
    space: str
    attribute: Cell
    reach: float
    steps: int
    count: int
    _curves: dict[str, Tensor] = field(default_factory=dict)
    _edited: dict[str, Tensor] = field(default_factory=dict)

    @property
    def setting(self) -> dict[str, str | int | float]:
        """What all rows of these edits have in common, by the names in SETTING."""
        return {
            "attribute": self.attribute.label, "edits": self.count, "reach": self.reach, "space": self.space,
            "steps": self.steps,
        }  # fmt: skip

    # The edits

    @cached_property
    def direction(self) -> Direction:
        return attribute_direction(self._codes(self.run.n).flatten(1), self.run.sample_scores(self.attribute))

    def _codes(self, n: int) -> Tensor:
        return self.run.views.tensor(View("fake", f"latent:{self.space}"), self.run.seed, self.run.n)[:n]

    @cached_property
    def at(self) -> Tensor:
        """Points [T] of an edit in standard deviations; 0 in the middle."""
        return torch.linspace(-self.reach, self.reach, self.steps, dtype=torch.float64)

    def latents(self, count: int) -> Tensor:
        """Latents [count, T, ...] of the first edits."""
        codes = self._codes(count)
        move = (self.direction.unit * self.direction.scale).view(codes.shape[1:])
        at = self.at.to(codes).view(1, -1, *[1] * (codes.ndim - 1))
        return codes[:, None] + at * move

    def images(self, count: int) -> Tensor:
        """Images uint8 [count, T, C, H, W] of the first edits."""
        with torch.no_grad():
            codes = self.latents(min(count, self.count)).flatten(0, 1)
            stored = (self.run.views.of_latents(codes, self.space, "images") * 255).round().byte().cpu()
        images = pictures(stored)
        return images.view(-1, self.steps, *images.shape[1:])

    def curves(self, cell: Cell) -> Tensor:
        """A score along every edit, higher is better where it has a direction: [P, T] float64."""
        if cell.label not in self._curves:
            metric = METRICS[cell.metric]
            inputs = self.run.inputs(self._here(cell), self._in_space)
            found = metric.function(**inputs, **cell.params).double().cpu()
            self._curves[cell.label] = (-1 if metric.better == "lower" else 1) * found.view(self.count, self.steps)
        return self._curves[cell.label]

    def _here(self, cell: Cell) -> Cell:
        """The cell with the latent space in which edits are made."""
        here = {kind: f"{kind}:{self.space}" for kind in OF_CODES}
        views = {name: replace(view, space=here.get(view.space, view.space)) for name, view in cell.views.items()}
        return replace(cell, views=views)

    def _in_space(self, space: str) -> Tensor:
        """The edited samples in a space."""
        if space not in self._edited:
            codes = self.latents(self.count).flatten(0, 1)
            self._edited[space] = self.run.views.of_latents(codes, self.space, space)
        return self._edited[space]

    # The tables

    def rows(self, scores: Sequence[Cell], signals: Sequence[Cell]) -> Iterator[Row]:
        """Of the attribute, of every score, and of every score beside every signal."""
        attribute, curves = self.curves(self.attribute), {cell.label: self.curves(cell) for cell in scores}
        walked = -self.at.abs().expand_as(attribute)
        moves = agreement(attribute, self.at.expand_as(attribute))
        yield Row((self.attribute.label, MOVES, ITSELF), intervals.mean(moves))
        fit = Estimate(self.direction.fit, (math.nan, math.nan), self.run.n)
        yield Row((self.attribute.label, FIT, ITSELF), fit)
        for name, along in {**curves, WALKED: walked}.items():
            yield from (Row((name, quantity, ITSELF), value) for quantity, value in self._shape(along).items())
        change = self._change
        for name, along in curves.items():
            yield Row((name, CHANGE, ITSELF), intervals.mean(self._gains(along, change, change)))
        for signal in signals:
            yield from self._beside(signal, curves, walked, change)

    def _beside(self, signal: Cell, curves: Mapping[str, Tensor], walked: Tensor, change: Tensor) -> Iterator[Row]:
        """How scores go with one signal along edits, and whether it is better where they say stop."""
        quality = self._in_deviations(self.curves(signal))
        near = agreement(walked, quality)
        yield Row((WALKED, AGREEMENT, signal.label), intervals.mean(near))
        gains = {name: self._gains(along, change, quality) for name, along in curves.items()}
        for name, along in curves.items():
            agreeing = agreement(along, quality)
            found = {AGREEMENT: agreeing, BEYOND: agreeing - near, GAIN: gains[name]}
            if NORM in gains and name != NORM:
                found[OVER_NORM] = gains[name] - gains[NORM]
            for quantity, values in found.items():
                yield Row((name, quantity, signal.label), intervals.mean(values))

    def by_chance(self, signals: Sequence[Cell], lengths: Sequence[float], draws: int) -> Iterator[Row]:
        """Gains of stopping by arbitrary smooth functions of the latent, as many of each length."""
        codes = self._codes(self.run.n).flatten(1)
        step, spread = self.direction.unit * self.direction.scale, codes.std(0)
        change = self._change
        quality = {signal.label: self._in_deviations(self.curves(signal)) for signal in signals}
        norm = self.curves(self.run.cell(NORM))
        by_norm = {name: self._gains(norm, change, of) for name, of in quality.items()}
        for length in lengths:
            functions = smooth_functions(codes[: self.count], step, self.at, length, draws, self.run.seed, spread)
            for draw, along in enumerate(functions):
                for name, of in quality.items():
                    gains = self._gains(along, change, of)
                    for quantity, values in {GAIN: gains, OVER_NORM: gains - by_norm[name]}.items():
                        yield Row((f"{length:g}", draw, quantity, name), intervals.mean(values))

    @cached_property
    def _change(self) -> Tensor:
        """By how much the attribute is another one than at the sample itself, in deviations: [P, T]."""
        change = self._in_deviations(self.curves(self.attribute))
        return (change - change[:, self._middle, None]).abs()

    @property
    def _middle(self) -> int:
        return self.steps // 2

    def _in_deviations(self, curves: Tensor) -> Tensor:
        return curves / curves[:, self._middle].std()

    def _shape(self, curves: Tensor) -> Mapping[str, Estimate]:
        """One maximum, where, and how far the score falls to the ends in standard deviations of samples."""
        whole = curves[curves.isfinite().all(1)]
        if len(whole) < 2:
            return {}
        fall = whole[:, self._middle] - (whole[:, 0] + whole[:, -1]) / 2
        found = {
            ONE_MAXIMUM: intervals.proportion(one_maximum(whole)),
            AWAY: intervals.mean(self.at[whole.argmax(1)].abs()),
        }
        if spread := float(whole[:, self._middle].std()):
            found[FALL] = intervals.mean(fall / spread)
        return found

    def _gains(self, curves: Tensor, change: Tensor, what: Tensor) -> Tensor:
        """`what` where walks stop by a score, less that of stops in random order: [P], the mean of both ways."""
        score, changed, value = (
            torch.cat([x[:, self._middle :], x[:, : self._middle + 1].flip(1)]) for x in (curves, change, what)
        )
        stopped = stops(score, changed, float(changed[:, self._middle // 2].mean()))
        by_chance = torch.bincount(stopped, minlength=self._middle + 1).double() / len(stopped)
        gain = value.gather(1, stopped[:, None])[:, 0] - value @ by_chance
        return gain.view(2, -1).mean(0)

    def course(self, cells: Sequence[Cell]) -> Iterator[Row]:
        """Every score along the edits, less that of the sample itself, in standard deviations of samples."""
        for cell in cells:
            curves = self._in_deviations(self.curves(cell))
            for at, moved in zip(self.at.tolist(), (curves - curves[:, self._middle, None]).T, strict=True):
                yield Row((cell.label, f"{at:g}"), intervals.mean(moved))
