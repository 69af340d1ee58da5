"""Paths between pairs of latents by every scheme, found once and kept in the store, and what is measured on them."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...metrics.path_energy import (
    OptimisedPath,
    energy,
    equalised,
    feature_distance,
    lerp,
    nlerp,
    optimise_path,
    pixel_distance,
    slerp,
    step_lengths,
)
from ...metrics.path_shape import (
    brightness,
    contrast,
    departure,
    jensen_gap,
    path_ppl,
    speed_variation,
    straightness,
    turning,
)
from ..evaluate import estimates
from ..files import canonical
from ..progress import track
from ..protocols import Cell, Estimate, Extractor, Layered, View
from ..registry import METRICS
from ..store import ScoreKey
from ..study import Study
from .interpolate_page import FRAMES, LINEAR, SCHEMES, SETTING, SLERP

TOGETHER = 16
"""Pairs that are optimised together, and kept when they are found: a run that is stopped loses no more."""
DETOURED = 16
"""Pairs that are optimised again from other starts."""
VERSION = 2

Measured = Mapping[tuple[str, str], Tensor]
"""A number [P] for each pair, by the quantity and what it is measured in."""


@dataclasses.dataclass
class Paths:
    """The paths of all rows between the same ends, and what is measured on them: each found once, when needed."""

    study: Study
    space: str
    features: str
    judges: Sequence[str]
    power: int
    per_channel: bool
    typical: Sequence[float]
    levels: int
    iterations: int
    rate: float
    constrain: str
    starts: int
    pairs: int
    chunk: int

    def __post_init__(self) -> None:
        self.segments = 2**self.levels
        self._measured: dict[str, Measured] = {}
        self._scores: dict[tuple[str, str], Measured] = {}
        self._seen: dict[tuple[str, str], Tensor] = {}

    # What the paths are made of

    @cached_property
    def radius(self) -> float | None:
        """Of the sphere that latents lie on."""
        if self.constrain not in ("auto", "sphere", "free"):
            raise ValueError(f"constrain={self.constrain!r} must be auto, sphere or free")
        few = self._latents[:4]
        if self.constrain == "free" or (self.constrain == "auto" and not self._same_images(few, 2 * few)):
            return None
        return math.sqrt(few[0].numel())

    def _same_images(self, one: Tensor, other: Tensor) -> bool:
        with torch.no_grad():
            return bool((self._decode(one) - self._decode(other)).abs().max() < 1e-3)

    @property
    def _latents(self) -> Tensor:
        return self.study.views.tensor(self.views["ends"], self.study.seed, 2 * self.pairs)

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """[P, ...] each; on the sphere where there is one."""
        codes = self._latents
        if self.radius is not None:
            norms = codes.flatten(1).norm(dim=1).view(-1, *[1] * (codes.ndim - 1))
            codes = codes * (self.radius / norms)
        return codes[: self.pairs], codes[self.pairs :]

    @cached_property
    def range(self) -> tuple[float, float]:
        """Mean and standard deviation of equalised images where the network sees them."""
        if self.typical:
            return self.typical[0], self.typical[1]
        with torch.no_grad():
            parts = [self._decode(part).clamp(0, 1) for part in torch.split(torch.cat(self.ends), self.chunk)]
        std, mean = torch.std_mean(torch.cat(parts), (1, 2, 3), correction=0)
        return round(float(mean.mean()), 3), round(float(std.mean()), 3)

    @cached_property
    def distances(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Those that are optimised, and the judges'."""
        extractor = self.study.views.extractor(self.features)
        if not isinstance(extractor, Layered):
            raise ValueError(f"extractor {self.features!r} shows no layers; choose another with features=NAME")
        pixels, features = pixel_distance(), feature_distance(extractor.layers, typical=self.range)
        schemes = (pixels, features, equalised(pixels, self.per_channel), equalised(features, self.per_channel))
        judges = {name: feature_distance(_whole(self.study.views.extractor(name))) for name in self.judges}
        return {**dict(zip(SCHEMES, schemes, strict=True)), **judges}

    @cached_property
    def views(self) -> dict[str, View]:
        """What all records read: the ends, and through it the generator, and the feature spaces."""
        views = {"ends": View("fake", f"latent:{self.space}"), "features": View("fake", self.features)}
        return views | {name: View("fake", name) for name in self.judges}

    def read_by(self, cell: Cell, as_many: bool = False) -> Cell:
        """A cell whose latent space is the one that the path runs through; `as_many` reals as there are frames."""
        here = {"latent": f"latent:{self.space}", "features": self.study.views.features}
        frames = self.pairs * (self.segments - 1)
        views = {
            name: dataclasses.replace(
                view,
                through=here.get(view.through, view.through),
                n=frames if as_many and view.of != "fake" else view.n,
            )
            for name, view in cell.views.items()
        }
        return dataclasses.replace(cell, views=views)

    @property
    def setting(self) -> dict[str, str | int | float]:
        """What all records of these paths have in common, by the names in SETTING."""
        judges, sphere = ", ".join(self.judges), "free" if self.radius is None else f"{self.radius:.6g}"
        equalised_per = "channel" if self.per_channel else "image"
        names = (self.space, self.features, judges)
        equalised = (equalised_per, " ".join(f"{number:.6g}" for number in self.range))
        numbers = (self.segments, self.iterations, self.rate, sphere, self.starts, self.pairs)
        return dict(zip(SETTING, (*names, self.power, *equalised, *numbers), strict=True))

    def _decode(self, codes: Tensor) -> Tensor:
        return self.study.views.generator.decode(codes, self.space)

    # Paths

    def path(self, row: str) -> Tensor:
        """Vertices [P, segments + 1, ...]."""
        if row == SLERP:
            return slerp(*self.ends, self.segments)
        if row == LINEAR:
            if self.radius is None:
                return lerp(*self.ends, self.segments)
            return nlerp(*self.ends, self.segments, self.radius)
        return self.optimised(row).path

    def optimised(self, row: str, start: int = 0) -> OptimisedPath:
        """The paths of a scheme; those of other starts for the first DETOURED pairs only."""
        few = self.pairs if start == 0 else min(self.pairs, DETOURED)
        parts = [self._optimised(row, start, slice(i, min(i + TOGETHER, few))) for i in range(0, few, TOGETHER)]
        paths, histories, gradients, calls = zip(*parts, strict=True)
        return OptimisedPath(torch.cat(paths), torch.cat(histories), torch.cat(gradients), sum(calls))

    def _optimised(self, row: str, start: int, pairs: slice) -> OptimisedPath:
        """The paths of some pairs, kept in the store under all that they depend on, and nothing else."""
        a, b = self.ends[0][pairs], self.ends[1][pairs]
        names = ["space", "power", "segments", "iterations", "rate", "sphere", "pairs"]
        if row.startswith("~"):
            names += ["equalised_per", "equalised_to"] if row.endswith("feature") else ["equalised_per"]
        params = {name: self.setting[name] for name in names} | {"row": row, "start": start, "first": pairs.start}
        views = [("ends", 2 * self.pairs)] + ([("features", len(a))] if row.endswith("feature") else [])
        digests = [(name, self.study.views.digest(self.views[name], self.study.seed, n)) for name, n in views]
        key = ScoreKey("optimise_path", VERSION, canonical(params), tuple(digests))

        def make() -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
            which = f"{pairs.start + 1} to {pairs.stop} of {self.pairs}" + (f", start {start}" if start else "")
            with track(
                f"{row} paths, space {self.space}, {which}", self.levels * self.iterations, "iterations"
            ) as advance:
                found = optimise_path(
                    self._decode, a, b, self.distances[row], power=self.power, levels=self.levels,
                    iterations=self.iterations, rate=self.rate, radius=self.radius, chunk=self.chunk,
                    middle=None if start == 0 else self._detour(start)[pairs], advance=advance,
                )  # fmt: skip
            calls = torch.full((len(a), 1), found.calls)
            columns = (found.path.flatten(1), found.energy, found.gradient[:, None], calls)
            return torch.cat([column.double().cpu() for column in columns], 1).numpy()

        packed = torch.from_numpy(self.study.views.store.array(key, make).copy()).to(a.device)
        size = (self.segments + 1) * a[0].numel()
        path, history, gradient, calls = torch.split(packed, [size, packed.shape[1] - size - 2, 1, 1], 1)
        return OptimisedPath(
            path.to(a.dtype).view(len(a), -1, *a.shape[1:]), history, gradient.squeeze(1), int(calls[0, 0])
        )

    def _detour(self, start: int) -> Tensor:
        """Middles of all pairs that lie half the distance of the ends away from their mean, in a random direction."""
        a, b = self.ends
        noise = np.random.default_rng([self.study.seed, start]).standard_normal(a.shape)
        direction = torch.from_numpy(noise).to(a).flatten(1)
        reach: Tensor = (b - a).flatten(1).norm(dim=1, keepdim=True) / 2
        away: Tensor = direction * (reach / direction.norm(dim=1, keepdim=True))
        return (a + b) / 2 + away.view(a.shape)

    def frames(self, row: str, pair: int) -> Tensor:
        """Images of some vertices of a path, uint8 [FRAMES or fewer, C, H, W]."""
        at = torch.linspace(0, self.segments, min(FRAMES, self.segments + 1)).round().long()
        with torch.no_grad():
            return _stored(self._decode(self.path(row)[pair][at.to(self.ends[0].device)])).cpu()

    # What is measured

    def measured(self, row: str) -> Measured:
        """All that is measured on the path itself."""
        if row not in self._measured:
            together = max(1, self.chunk // (self.segments + 1))
            parts = [self._measure(part) for part in torch.split(self.path(row), together)]
            self._measured[row] = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        return self._measured[row]

    @torch.no_grad()
    def _measure(self, path: Tensor) -> Measured:
        images = torch.cat([self._decode(codes) for codes in torch.split(path.flatten(0, 1), self.chunk)])
        found: dict[tuple[str, str], Tensor] = {}
        for name in ("latent", *self.distances):
            points = path.flatten(2) if name == "latent" else self._points(name, images).view(*path.shape[:2], -1)
            lengths = step_lengths(points)
            found["energy", name] = energy(lengths, self.power)
            found["jensen gap", name] = jensen_gap(lengths)
            found["speed variation", name] = speed_variation(lengths)
            found["straightness", name] = straightness(points)
            found["turning", name] = turning(points)
            found["departure", name] = departure(points)
        for name in ("feature", *self.judges):
            found["path PPL", name] = path_ppl(self._decode, path, self.distances[name], self.radius)
        seen = images.clamp(0, 1).view(*path.shape[:2], *images.shape[1:])
        for name, values in {"contrast": contrast(seen), "brightness": brightness(seen)}.items():
            between = values[:, 1:-1]
            found[name, "middle"] = values[:, values.shape[1] // 2]
            found[name, "mean"], found[name, "least"] = between.mean(1), between.amin(1)
        return found

    def _points(self, name: str, images: Tensor) -> Tensor:
        return torch.cat([self.distances[name](part) for part in torch.split(images, self.chunk)])

    def scores(self, cell: Cell, row: str) -> Measured:
        """A score of the frames between the ends: its mean over a path, and its worst value there."""
        if (cell.label, row) not in self._scores:
            metric = METRICS[cell.metric]
            on_path = metric.function(**self._inputs(cell, row), **cell.params).view(self.pairs, -1)
            found = {("mean score", cell.label): on_path.nanmean(1)}
            if metric.better != "neither":
                sign = 1 if metric.better == "higher" else -1
                worst = (sign * on_path).nan_to_num(nan=torch.inf).amin(1)
                found["worst score", cell.label] = sign * torch.where(worst.isinf(), torch.nan, worst)
            self._scores[cell.label, row] = found
        return self._scores[cell.label, row]

    def frame_set(self, cell: Cell, row: str) -> Measured:
        """A set metric T of the frames between the ends of all pairs, as a number for each pair.

        These are the pseudo-values P T - (P - 1) T_i of the jackknife (Tukey 1958), T_i without the frames of pair i:
        their mean is T less its bias of order 1 / P, their spread that over pairs, since frames of one path are alike.
        Of a share, such as precision, they are the shares of each path.
        """
        if (cell.label, row) not in self._scores:
            metric, inputs = METRICS[cell.metric], self._inputs(cell, row)

            def of(kept: Tensor) -> Mapping[str, Estimate]:
                frames = kept.repeat_interleave(self.segments - 1)
                parts = {name: x[frames] if cell.views[name].of == "fake" else x for name, x in inputs.items()}
                return estimates(cell.metric, metric.function(**parts, **cell.params), self.pairs)

            whole = of(torch.ones(self.pairs, dtype=torch.bool))
            without = [of(torch.arange(self.pairs) != pair) for pair in range(self.pairs)]
            spaces = ", ".join(dict.fromkeys(view.through for view in cell.views.values()))
            self._scores[cell.label, row] = {
                ("frames", f"{cell.label.replace(cell.metric, name, 1)} in {spaces}"): torch.tensor(
                    [self.pairs * value.value - (self.pairs - 1) * part[name].value for part in without],
                    dtype=torch.float64,
                )
                for name, value in whole.items()
            }
        return self._scores[cell.label, row]

    def _inputs(self, cell: Cell, row: str) -> dict[str, Tensor]:
        """What a metric reads, the frames between the ends of all pairs being the generated samples."""
        study = self.study
        return {
            name: self._frames_through(row, view)
            if view.of == "fake"
            else study.views.tensor(view, study.seed, study.n)
            for name, view in cell.views.items()
        }

    @torch.no_grad()
    def _frames_through(self, row: str, view: View) -> Tensor:
        """What a metric reads of the frames between the ends of all pairs, [P * (segments - 1), ...]."""
        if (row, view.through) not in self._seen:
            codes = self.path(row)[:, 1:-1].flatten(0, 1)
            self._seen[row, view.through] = self.study.views.seen(codes, self.space, view.through)
        return self._seen[row, view.through]


def _stored(images: Tensor) -> Tensor:
    """Images as generated samples are stored: clamped, 8 bits deep."""
    return (images.clamp(0, 1) * 255).round().byte()


def _whole(extractor: Extractor) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """The features of an extractor as if they were its only layer."""
    return lambda images: {"features": extractor(images)}
