"""What is measured on the paths of all rows: their energy and shape, how they look, and scores of their frames."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ....metrics.paths.energy import energy, step_lengths
from ....metrics.paths.shape import (
    brightness,
    contrast,
    jensen_gap,
    max_end_distance,
    path_ppl,
    speed_variation,
    straightness,
    turning,
)
from ...arrays.spaces import OF_CODES
from ...core.protocols import Cell, Estimate
from ...core.registry import METRICS
from ...evaluate import estimates
from . import names
from .paths import Paths

Measured = Mapping[tuple[str, str], Tensor]
"""A number [P] for each pair, by the quantity and what it is measured in."""


class Measures:
    """What is measured on paths, each found once, when needed."""

    def __init__(self, paths: Paths) -> None:
        self.paths, self.run = paths, paths.run
        self._measured: dict[str, Measured] = {}
        self._scores: dict[tuple[str, str], Measured] = {}
        self._frames: dict[tuple[str, str], Tensor] = {}

    def read_by(self, cell: Cell, as_many: bool = False) -> Cell:
        """A cell whose latent space is the one in which the paths run; with `as_many`, as many reals as frames."""
        here = {kind: f"{kind}:{self.paths.space}" for kind in OF_CODES} | {"features": self.run.views.features}
        frames = self.paths.pairs * (self.paths.segments - 1)
        views = {
            name: dataclasses.replace(
                view,
                space=here.get(view.space, view.space),
                n=frames if as_many and view.source != "fake" else view.n,
            )
            for name, view in cell.views.items()
        }
        return dataclasses.replace(cell, views=views)

    def measured(self, row: str) -> Measured:
        """All that is measured on the path itself."""
        if row not in self._measured:
            parts = [self._measure(part) for part in self.paths.parts(self.paths.path(row))]
            self._measured[row] = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        return self._measured[row]

    def some(self, quantities: Sequence[str], row: str) -> Measured:
        """Those of these quantities."""
        return {key: values for key, values in self.measured(row).items() if key[0] in quantities}

    @torch.no_grad()
    def _measure(self, path: Tensor) -> Measured:
        images = self.paths.images(path)
        found: dict[tuple[str, str], Tensor] = {}
        for name in (names.LATENT, *self.paths.distances):
            embedded = path.flatten(2) if name == names.LATENT else self.paths.points(name, images)
            points = embedded.view(*path.shape[:2], -1)
            lengths = step_lengths(points)
            found |= {
                (names.ENERGY, name): energy(lengths, self.paths.options.power),
                (names.JENSEN_GAP, name): jensen_gap(lengths),
                (names.SPEED, name): speed_variation(lengths),
                (names.STRAIGHTNESS, name): straightness(points),
                (names.TURNING, name): turning(points),
                (names.END_DISTANCE, name): max_end_distance(points),
            }
        for name in ("feature", *self.paths.options.judges):
            found[names.PPL, name] = path_ppl(self.paths.decode, path, self.paths.distances[name], self.paths.radius)
        clamped = images.clamp(0, 1).view(*path.shape[:2], *images.shape[1:])
        for name, values in {names.CONTRAST: contrast(clamped), names.BRIGHTNESS: brightness(clamped)}.items():
            between = values[:, 1:-1]
            found[name, names.MIDDLE] = values[:, values.shape[1] // 2]
            found[name, names.MEAN], found[name, names.LEAST] = between.mean(1), between.amin(1)
        return found

    def scores(self, cell: Cell, row: str) -> Measured:
        """A score of the frames between the ends: its mean over a path, and its worst value there."""
        if (cell.label, row) not in self._scores:
            metric = METRICS[cell.metric]
            on_path = metric.function(**self._inputs(cell, row), **cell.params).view(self.paths.pairs, -1)
            found = {(names.MEAN_SCORE, cell.label): on_path.nanmean(1)}
            if metric.better != "neither":
                sign = 1 if metric.better == "higher" else -1
                worst = (sign * on_path).nan_to_num(nan=torch.inf).amin(1)
                found[names.WORST_SCORE, cell.label] = sign * torch.where(worst.isinf(), torch.nan, worst)
            self._scores[cell.label, row] = found
        return self._scores[cell.label, row]

    def frame_set(self, cell: Cell, row: str) -> Measured:
        """A set metric T of the frames between the ends of all pairs, as a number for each pair.

        These are the pseudo-values P T - (P - 1) T_i of the jackknife (Tukey 1958), T_i without the frames of pair i:
        their mean is T less its bias of order 1 / P, their spread that over pairs:
        the frames of one path are not independent.
        Of a share, such as precision, they are the shares of each path.
        """
        if (cell.label, row) not in self._scores:
            metric, inputs = METRICS[cell.metric], self._inputs(cell, row)

            def of(kept: Tensor) -> Mapping[str, Estimate]:
                frames = kept.repeat_interleave(self.paths.segments - 1)
                parts = {name: x[frames] if cell.views[name].source == "fake" else x for name, x in inputs.items()}
                return estimates(cell.metric, metric.function(**parts, **cell.params), self.paths.pairs)

            whole = of(torch.ones(self.paths.pairs, dtype=torch.bool))
            without = [of(torch.arange(self.paths.pairs) != pair) for pair in range(self.paths.pairs)]
            spaces = ", ".join(dict.fromkeys(view.space for view in cell.views.values()))
            self._scores[cell.label, row] = {
                (names.FRAMES, f"{cell.label.replace(cell.metric, name, 1)} in {spaces}"): torch.tensor(
                    [self.paths.pairs * value.value - (self.paths.pairs - 1) * part[name].value for part in without],
                    dtype=torch.float64,
                )
                for name, value in whole.items()
            }
        return self._scores[cell.label, row]

    def _inputs(self, cell: Cell, row: str) -> dict[str, Tensor]:
        """What a metric reads, the frames between the ends of all pairs being the generated samples."""
        return self.run.inputs(cell, lambda space: self._frames_in(row, space))

    @torch.no_grad()
    def _frames_in(self, row: str, space: str) -> Tensor:
        """What a metric reads of the frames between the ends of all pairs, [P * (segments - 1), ...]."""
        if (row, space) not in self._frames:
            codes = self.paths.path(row)[:, 1:-1].flatten(0, 1)
            self._frames[row, space] = self.run.views.of_latents(codes, self.paths.space, space)
        return self._frames[row, space]
