"""Does a score tell how far an edit may go? Samples moved along directions of attributes, and scores along the way."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from ....generators.sampling.editing import Direction, agreement, attribute_direction, one_maximum, stops
from ...core.protocols import Cell, Estimate, View
from ...core.registry import METRICS, study
from ...run import MetricSpec, Run
from ...shapes.pictures import pictures
from ...stats import intervals
from ..spaces import chosen_space
from .page import AGREEMENT, BEYOND, CHANGE, GAIN, ITSELF, NORM, OVER_NORM, SETTING, WALKED, draw_frames, page

VERSION = 1


@study(page)
def edit(
    run: Run,
    attributes: Sequence[MetricSpec] = ("mean_intensity", "laplacian_variance"),
    spaces: Sequence[str] = (),
    reach: float = 4.0,
    steps: int = 17,
    count: int = 400,
    shown: int = 4,
) -> None:
    """The first `count` samples, edited: latents moved along the direction in which an attribute rises fastest.

    The direction is that of a linear model of the attribute in the latents of all n samples. Edits go both ways, by
    `reach` standard deviations of the latents along it. Of every score in `run.scores` it is told whether it has one
    maximum on the way, where, how far it falls, whether it goes with the signals of quality in `run.quality_signals` along
    each edit (rank correlation, the mean over edits), and what it is good for: of walks that stop before the score has
    fallen by some amount, the same for all, and such that they change the attribute by as much on average as walks that
    go half the way: are the samples better where they stop than if they stopped in the order of chance? Baselines are
    the way walked from the sample itself, which knows nothing of samples, and the norm of the latent, where
    negative_norm is among the scores.

    attributes: sample metrics. spaces: latent spaces, of those that the generator has; by default its first.
    steps:      points along an edit, the sample itself in the middle. shown: edits in the picture.
    """
    if steps < 5 or steps % 2 == 0 or not reach > 0:
        raise ValueError(f"steps={steps} must be odd, 5 or more, and reach={reach} positive")
    if not 10 <= count <= run.n:
        raise ValueError(f"count={count} must be 10 or more, and at most n={run.n}")
    first = run.views.generator.spaces[0]
    for space in spaces or [first]:
        if space not in run.views.generator.spaces:
            continue
        for attribute in run.cells(attributes):
            edits = Edits(run, chosen_space(run, space, first), attribute, reach, steps, count)
            edits.record()
            draw_frames(run, edits.setting, partial(edits.frames, shown), partial(edits.scores_shown, shown))


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
    _seen: dict[str, Tensor] = field(default_factory=dict)

    @property
    def setting(self) -> dict[str, str | int | float]:
        """What all records of these edits have in common, by the names in SETTING."""
        values = (self.space, self.attribute.label, self.reach, self.steps, self.count)
        return dict(zip(SETTING, values, strict=True))

    def record(self) -> None:
        run = self.run
        scores, signals = run.cells(run.scores), run.cells(run.quality_signals)
        cells = [*scores, *signals, self.attribute]
        about = {"columns": "score ~ quantity ~ of", **self.setting}
        run.record("edit", VERSION, about, cells, partial(self.told, scores, signals))
        along = {"columns": "score ~ at", **self.setting}
        run.record("edit_course", VERSION, along, cells, partial(self.course, cells))

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
        """[count, T, ...]."""
        codes = self._codes(count)
        move = (self.direction.unit * self.direction.scale).view(codes.shape[1:])
        at = self.at.to(codes).view(1, -1, *[1] * (codes.ndim - 1))
        return codes[:, None] + at * move

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
        here = {"latent": f"latent:{self.space}"}
        views = {name: replace(view, space=here.get(view.space, view.space)) for name, view in cell.views.items()}
        return replace(cell, views=views)

    def _in_space(self, space: str) -> Tensor:
        """The edited samples, seen space something."""
        if space not in self._seen:
            codes = self.latents(self.count).flatten(0, 1)
            self._seen[space] = self.run.views.seen(codes, self.space, space)
        return self._seen[space]

    # What is told of them

    def told(self, scores: Sequence[Cell], signals: Sequence[Cell]) -> dict[str, Estimate]:
        attribute, named = self.curves(self.attribute), {cell.label: self.curves(cell) for cell in scores}
        walked = -self.at.abs().expand_as(attribute)
        along = intervals.mean(agreement(attribute, self.at.expand_as(attribute)))
        fit = Estimate(self.direction.fit, (math.nan, math.nan), self.run.n)
        found = {("goes with the edit", ITSELF): {self.attribute.label: along}}
        found["linear fit", ITSELF] = {self.attribute.label: fit}
        for name, curves in {**named, WALKED: walked}.items():
            for quantity, estimate in self._shape(curves).items():
                found.setdefault((quantity, ITSELF), {})[name] = estimate
        change = self._in_deviations(attribute)
        change = (change - change[:, self._middle, None]).abs()
        gains = {name: self._gains(curves, change, change) for name, curves in named.items()}
        found[CHANGE, ITSELF] = _means(gains)
        for signal in signals:
            quality = self._in_deviations(self.curves(signal))
            near = agreement(walked, quality)
            agreeing = {name: agreement(curves, quality) for name, curves in named.items()}
            gains = {name: self._gains(curves, change, quality) for name, curves in named.items()}
            found[AGREEMENT, signal.label] = _means({**agreeing, WALKED: near})
            found[BEYOND, signal.label] = _means({name: each - near for name, each in agreeing.items()})
            found[GAIN, signal.label] = _means(gains)
            if NORM in gains:
                norm = gains.pop(NORM)
                found[OVER_NORM, signal.label] = _means({name: each - norm for name, each in gains.items()})
        return {
            f"{name} ~ {quantity} ~ {of}": estimate
            for (quantity, of), each in found.items()
            for name, estimate in each.items()
        }

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
            "one maximum": intervals.proportion(one_maximum(whole)),
            "maximum away by": intervals.mean(self.at[whole.argmax(1)].abs()),
        }
        if spread := float(whole[:, self._middle].std()):
            found["fall to the ends"] = intervals.mean(fall / spread)
        return found

    def _gains(self, curves: Tensor, change: Tensor, what: Tensor) -> Tensor:
        """`what` where walks stop by a score, less that in the order of chance: [P], the mean of both ways."""
        score, changed, value = (
            torch.cat([x[:, self._middle :], x[:, : self._middle + 1].flip(1)]) for x in (curves, change, what)
        )
        stopped = stops(score, changed, float(changed[:, self._middle // 2].mean()))
        by_chance = torch.bincount(stopped, minlength=self._middle + 1).double() / len(stopped)
        gain = value.gather(1, stopped[:, None])[:, 0] - value @ by_chance
        return gain.view(2, -1).mean(0)

    def course(self, cells: Sequence[Cell]) -> dict[str, Estimate]:
        """Every score along the edits, less that of the sample itself, in standard deviations of samples."""
        found: dict[str, Estimate] = {}
        for cell in cells:
            curves = self._in_deviations(self.curves(cell))
            for at, moved in zip(self.at.tolist(), (curves - curves[:, self._middle, None]).T, strict=True):
                found[f"{cell.label} ~ {at:g}"] = intervals.mean(moved)
        return found

    # The picture

    def frames(self, shown: int) -> Tensor:
        """uint8 [shown, T, C, H, W]."""
        with torch.no_grad():
            codes = self.latents(min(shown, self.count)).flatten(0, 1)
            stored = (self.run.views.seen(codes, self.space, "images") * 255).round().byte().cpu()
        images = pictures(stored)
        return images.view(-1, self.steps, *images.shape[1:])

    def scores_shown(self, shown: int) -> tuple[str, Tensor]:
        """The first score by name, and its values [shown, T] as the metric gives them."""
        cell = self.run.cells(self.run.scores)[0]
        sign = -1 if METRICS[cell.metric].better == "lower" else 1
        return cell.label, sign * self.curves(cell)[:shown]


def _means(each: Mapping[str, Tensor]) -> dict[str, Estimate]:
    return {name: intervals.mean(values) for name, values in each.items()}
