"""Paths between pairs of latents by every scheme, found once and kept in the store."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ....metrics.paths.energy import (
    OptimisedPath,
    energy,
    equalised,
    feature_distance,
    lerp,
    nlerp,
    optimise_path,
    pixel_distance,
    refine_path,
    slerp,
    step_lengths,
)
from ...arrays.store import ScoreKey
from ...core.abilities import Layered
from ...core.files import canonical
from ...core.progress import track
from ...core.protocols import Extractor, View
from ...run import Run
from .names import LINEAR, ROWS, SCHEMES, SLERP, Setting
from .options import Options

FRAMES = 9
"""Frames of a path that a strip shows."""

TOGETHER = 16
"""Pairs that are optimised together, and kept when they are found: a run that is stopped loses no more."""
DETOURED = 16
"""Pairs that are optimised again from other starts."""
FINER = 0.1
"""Learning rate of the rounds, as a share: at the full one of the procedure Adam's first steps spoil a good path."""
OPTIMISED, REFINED = 2, 1
"""Versions of the paths that are kept: by the paper's procedure, and of the rounds."""
KEPT_BY = {"lr": "rate"}
"""Names of settings in the keys of paths where they differ from those of today: the first release's, so they stay."""
Advance = Callable[[int], None]


@dataclasses.dataclass
class Paths:
    """The paths of all rows between the same ends, each found once, when needed.

    First as in the paper, each scheme for itself. Where its 50 iterations do not get Adam to an optimum, or the first
    few vertices lead into the worse of two valleys, the path of another row can have less of the energy that a scheme
    minimises. So then, not in the paper, up to `rounds` times: each pair of each scheme goes on from the path of that
    row, until there is none. What the last round leaves undercut stays so.
    """

    run: Run
    space: str
    options: Options

    def __post_init__(self) -> None:
        self.segments, self.pairs, self.chunk = 2**self.options.levels, self.options.pairs, self.options.chunk
        self.features = self.run.views.features if self.options.features == "features" else self.options.features

    # What the paths are made of

    @cached_property
    def radius(self) -> float | None:
        """Of the sphere that latents lie on."""
        few, constrain = self._latents[:4], self.options.constrain
        if constrain == "free" or (constrain == "auto" and not self._same_images(few, 2 * few)):
            return None
        return math.sqrt(few[0].numel())

    def _same_images(self, one: Tensor, other: Tensor) -> bool:
        with torch.no_grad():
            return bool((self.decode(one) - self.decode(other)).abs().max() < 1e-3)

    @property
    def _latents(self) -> Tensor:
        return self.run.views.tensor(self.views["ends"], self.run.seed, 2 * self.pairs)

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
        if self.options.typical:
            mean, deviation = self.options.typical
            return mean, deviation
        with torch.no_grad():
            parts = [self.decode(part).clamp(0, 1) for part in torch.split(torch.cat(self.ends), self.chunk)]
        spreads, means = torch.std_mean(torch.cat(parts), (1, 2, 3), correction=0)
        return round(float(means.mean()), 3), round(float(spreads.mean()), 3)

    @cached_property
    def distances(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Those that are optimised, and the judges'."""
        extractor = self.run.views.extractor(self.features)
        if not isinstance(extractor, Layered):
            raise ValueError(f"extractor {self.features!r} shows no layers; choose another with features=NAME")
        plain = {"pixel": pixel_distance(), "feature": feature_distance(extractor.layers, typical=self.range)}
        equal = {f"~{name}": equalised(distance, self.options.per_channel) for name, distance in plain.items()}
        judges = {name: feature_distance(_whole(self.run.views.extractor(name))) for name in self.options.judges}
        return {**plain, **equal, **judges}

    @cached_property
    def views(self) -> dict[str, View]:
        """What all parts read: the ends, and with them the generator, and the feature spaces."""
        views = {"ends": View("fake", f"latent:{self.space}"), "features": View("fake", self.features)}
        return views | {name: View("fake", name) for name in self.options.judges}

    @cached_property
    def common(self) -> Setting:
        """What all parts have in common."""
        options = self.options
        return Setting(
            equalised_per="channel" if options.per_channel else "image",
            equalised_to=" ".join(f"{number:.6g}" for number in self.range),
            features=self.features,
            images=None,
            iterations=options.iterations,
            judges=", ".join(options.judges),
            pairs=options.pairs,
            part=None,
            power=options.power,
            lr=options.lr,
            rounds=options.rounds,
            row="",
            segments=self.segments,
            space=self.space,
            sphere="free" if self.radius is None else f"{self.radius:.6g}",
            starts=options.starts,
        )

    def setting(self, row: str, part: str | None = None, images: str | None = None) -> dict[str, str | int | float]:
        """That of a part of one row."""
        setting = dataclasses.replace(self.common, row=row, part=part, images=images)
        return {name: value for name, value in vars(setting).items() if value is not None}

    def decode(self, codes: Tensor) -> Tensor:
        return self.run.views.generator.decode(codes, self.space)

    # Paths

    def path(self, row: str) -> Tensor:
        """Vertices [P, segments + 1, ...], after the rounds."""
        return self.refined(row).path if row in SCHEMES else self.at_first(row)

    def at_first(self, row: str) -> Tensor:
        """The same before the rounds."""
        if row == SLERP:
            return slerp(*self.ends, self.segments)
        if row == LINEAR:
            if self.radius is None:
                return lerp(*self.ends, self.segments)
            return nlerp(*self.ends, self.segments, self.radius)
        return self.optimised(row).path

    def refined(self, row: str) -> OptimisedPath:
        """The paths of a scheme after the rounds; `energy` ends with theirs, `calls` counts those of the rounds too."""
        return self._refined[row]

    @cached_property
    def _refined(self) -> Mapping[str, OptimisedPath]:
        found = {row: self.optimised(row) for row in SCHEMES}
        for turn in range(self.options.rounds):
            undercut = 0
            for row in SCHEMES:
                paths = torch.stack([found[other].path if other in found else self.at_first(other) for other in ROWS])
                energies = torch.stack([self.energies(path)[row] for path in paths])
                least, best = energies.min(0)
                pairs = (energies[ROWS.index(row)] > least).nonzero().squeeze(1)
                for i in range(0, len(pairs), TOGETHER):
                    part = pairs[i : i + TOGETHER]
                    moved = self._go_on(row, paths[best[part], part], f"round {turn + 1}")
                    found[row] = _exchange(found[row], part, moved)
                undercut += len(pairs)
            if not undercut:
                break
        return found

    def energies(self, path: Tensor) -> Mapping[str, Tensor]:
        """Energy [P] of paths [P, segments + 1, ...] of all pairs in the distance of each scheme."""
        key = self._key("path_energy", REFINED, list(SCHEMES), self.pairs, path)

        @torch.no_grad()
        def make() -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
            found = []
            for part in self.parts(path):
                images = self.images(part)
                points = (self.points(row, images).view(*part.shape[:2], -1) for row in SCHEMES)
                found.append(torch.stack([energy(step_lengths(each), self.options.power) for each in points]))
            return torch.cat(found, 1).double().cpu().numpy()

        found = torch.from_numpy(self.run.views.store.array(key, make).copy()).to(path.device)
        return dict(zip(SCHEMES, found, strict=True))

    def optimised(self, row: str, start: int = 0) -> OptimisedPath:
        """The paths of a scheme; those of other starts for the first DETOURED pairs only."""
        few = self.pairs if start == 0 else min(self.pairs, DETOURED)
        parts = [self._optimised(row, start, slice(i, min(i + TOGETHER, few))) for i in range(0, few, TOGETHER)]
        paths, histories, gradients, calls = zip(*parts, strict=True)
        return OptimisedPath(torch.cat(paths), torch.cat(histories), torch.cat(gradients), sum(calls))

    def _optimised(self, row: str, start: int, pairs: slice) -> OptimisedPath:
        """The paths of some pairs by the paper's procedure."""
        a, b = self.ends[0][pairs], self.ends[1][pairs]
        which = f"{pairs.start + 1} to {pairs.stop} of {self.pairs}" + (f", start {start}" if start else "")

        options = self.options

        def find(advance: Advance) -> OptimisedPath:
            return optimise_path(
                self.decode, a, b, self.distances[row], power=options.power, levels=options.levels,
                iterations=options.iterations, lr=options.lr, radius=self.radius, chunk=self.chunk,
                middle=None if start == 0 else self._detour(start)[pairs], advance=advance,
            )  # fmt: skip

        key = self._key("optimise_path", OPTIMISED, [row], len(a), row=row, start=start, first=pairs.start)
        return self._kept(
            key, a, f"{row} paths, space {self.space}, {which}", options.levels * options.iterations, find
        )

    def _go_on(self, row: str, path: Tensor, which: str) -> OptimisedPath:
        """Paths [few, segments + 1, ...] moved on in the distance of a scheme."""
        options = self.options

        def find(advance: Advance) -> OptimisedPath:
            return refine_path(
                self.decode, path, self.distances[row], power=options.power, iterations=options.iterations,
                lr=FINER * options.lr, radius=self.radius, chunk=self.chunk, advance=advance,
            )  # fmt: skip

        key = self._key("refine_path", REFINED, [row], len(path), path, row=row, finer=FINER)
        what = f"{row} paths, space {self.space}, {which}: {len(path)} go on"
        return self._kept(key, path[:, 0], what, options.iterations, find)

    def _key(
        self, name: str, version: int, rows: Sequence[str], n: int, path: Tensor | None = None, **more: str | float
    ) -> ScoreKey:
        """What n paths of these schemes depend on; `path`: where they start, or they themselves."""
        names = ["space", "power", "segments", "iterations", "lr", "sphere", "pairs"]
        names += ["equalised_per"] if any(row.startswith("~") for row in rows) else []
        names += ["equalised_to"] if "~feature" in rows else []
        params = {KEPT_BY.get(name, name): getattr(self.common, name) for name in names} | more
        views = [("ends", 2 * self.pairs)] + ([("features", n)] if any(row.endswith("feature") for row in rows) else [])
        digests = [(view, self.run.views.digest(self.views[view], self.run.seed, count)) for view, count in views]
        if path is not None:
            digests.append(("path", hashlib.sha256(path.cpu().numpy().tobytes()).hexdigest()))
        return ScoreKey(name, version, canonical(params), tuple(digests))

    def _kept(
        self, key: ScoreKey, start: Tensor, what: str, steps: int, find: Callable[[Advance], OptimisedPath]
    ) -> OptimisedPath:
        """Paths that begin at start [few, ...], from the store or found now."""

        def make() -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
            with track(what, steps, "iterations") as advance:
                found = find(advance)
            calls = torch.full((len(start), 1), found.calls)
            columns = (found.path.flatten(1), found.energy, found.gradient[:, None], calls)
            return torch.cat([column.double().cpu() for column in columns], 1).numpy()

        packed = torch.from_numpy(self.run.views.store.array(key, make).copy()).to(start.device)
        size = (self.segments + 1) * start[0].numel()
        path, history, gradient, calls = torch.split(packed, [size, packed.shape[1] - size - 2, 1, 1], 1)
        return OptimisedPath(
            path.to(start.dtype).view(len(start), -1, *start.shape[1:]), history, gradient.squeeze(1), int(calls[0, 0])
        )

    def _detour(self, start: int) -> Tensor:
        """Middles of all pairs that lie half the distance of the ends away from their mean, in a random direction."""
        a, b = self.ends
        noise = np.random.default_rng([self.run.seed, start]).standard_normal(a.shape)
        direction = torch.from_numpy(noise).to(a).flatten(1)
        reach: Tensor = (b - a).flatten(1).norm(dim=1, keepdim=True) / 2
        away: Tensor = direction * (reach / direction.norm(dim=1, keepdim=True))
        return (a + b) / 2 + away.view(a.shape)

    def frames(self, row: str, pair: int) -> Tensor:
        """Images of some vertices of a path, uint8 [FRAMES or fewer, C, H, W]."""
        at = torch.linspace(0, self.segments, min(FRAMES, self.segments + 1)).round().long()
        with torch.no_grad():
            return _stored(self.decode(self.path(row)[pair][at.to(self.ends[0].device)])).cpu()

    def parts(self, path: Tensor) -> Sequence[Tensor]:
        """Paths of as many pairs as are looked at together."""
        return torch.split(path, max(1, self.chunk // (self.segments + 1)))

    def images(self, path: Tensor) -> Tensor:
        """Images [P (segments + 1), C, H, W] of the vertices of paths."""
        return torch.cat([self.decode(codes) for codes in torch.split(path.flatten(0, 1), self.chunk)])

    def points(self, name: str, images: Tensor) -> Tensor:
        """The images in the embedding of a distance, [N, F]."""
        return torch.cat([self.distances[name](part) for part in torch.split(images, self.chunk)])


def _exchange(found: OptimisedPath, pairs: Tensor, by: OptimisedPath) -> OptimisedPath:
    """The same with the paths of some pairs replaced."""
    return OptimisedPath(
        found.path.index_copy(0, pairs, by.path),
        found.energy[:, -1:].index_copy(0, pairs, by.energy[:, -1:]),
        found.gradient.index_copy(0, pairs, by.gradient),
        found.calls + by.calls,
    )


def _stored(images: Tensor) -> Tensor:
    """Images as generated samples are stored: clamped, 8 bits deep."""
    return (images.clamp(0, 1) * 255).round().byte()


def _whole(extractor: Extractor) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """The features of an extractor as if they were its only layer."""
    return lambda images: {"features": extractor(images)}
