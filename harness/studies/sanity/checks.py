"""The 15 checks of arXiv:2505.22450: pairs of sets whose fidelity and diversity are known by construction.

A check has cases, mostly one for each dimension, and a case has points: values of the one thing that varies. Its `draw`
is a pure function of a random generator and of these values, and yields a pair (real, fake) for each.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Rng = np.random.Generator
Pairs = Iterator[tuple[Points, Points]]

CENTRES = (
    (5.46794328, -4.08481523),
    (4.87211875, -13.64864684),
    (-16.39432073, 9.09802249),
    (-2.15447941, 12.46200019),
    (11.55784483, -4.96049923),
    (-24.60558474, 14.18020818),
    (16.84215967, -3.18710751),
    (-5.47807206, -6.77247129),
    (9.46726546, 1.05922347),
    (-5.40346201, -17.29490131),
)
"""Of the ten modes of `mode dropping and invention`, as published."""
DIMENSIONS = (1, 8, 64)
REACH = {1: 6.0, 8: 3.0, 64: 1.0}
"""Largest shift of the mean, per coordinate, by dimension."""
DECADES = {1: 3.0, 8: 1.0, 64: 0.5}
"""Largest change of the standard deviation, in powers of ten."""
MODES = 10
MODE_STD = {1: 1 / 6, 8: 1 / 3, 64: 1.0}
OVERLAP = 0.2
"""Shared volume of the two hypercubes."""


@dataclass(frozen=True)
class Case:
    """One curve of a check.

    at: values of what varies, in ascending order. keep: those of them that criteria look at, beside both ends.
    draw: (rng, at) to a pair of sets [N, D] for each value.
    """

    name: str
    at: Sequence[float]
    draw: Callable[[Rng, Sequence[float]], Pairs]
    keep: Sequence[float] = ()

    def thinned(self, points: int) -> list[float]:
        """About so many of the values, evenly spaced; both ends and those to keep are among them."""
        chosen = {self.at[round(i)] for i in np.linspace(0, len(self.at) - 1, min(points, len(self.at)))}
        return sorted(chosen | set(self.keep))


@dataclass(frozen=True)
class Check:
    """name: in our words; published: its name in the authors' code; varies: what the values of a curve are."""

    name: str
    published: str
    varies: str
    cases: Callable[[int], Sequence[Case]]
    varies_size: bool = False


def _normal(rng: Rng, size: int, dimension: int, mean: float = 0.0, std: float = 1.0) -> Points:
    return rng.normal(mean, std, (size, dimension))


def _symmetric(reach: float, count: int = 51) -> list[float]:
    return list(map(float, np.linspace(-reach, reach, count)))


def _powers(low: float, high: float, count: int) -> list[float]:
    return list(map(float, np.logspace(low, high, count)))


def _shifted(rng: Rng, means: Sequence[float], size: int, dimension: int, outlier: str = "") -> Pairs:
    """N(0, I) against N(mean, I); an outlier at the largest mean is added to the real or to the fake set."""
    real = _normal(rng, size, dimension)
    extra = np.full((1, dimension), REACH[dimension])
    real = np.concatenate([real, extra]) if outlier == "real" else real
    for mean in means:
        fake = _normal(rng, size, dimension, mean)
        yield real, np.concatenate([fake, extra]) if outlier == "fake" else fake


def _mean_cases(size: int, outlier: str = "") -> list[Case]:
    return [
        Case(
            f"{outlier} outlier, dim {d}" if outlier else f"dim {d}",
            _symmetric(REACH[d]),
            partial(_shifted, size=size, dimension=d, outlier=outlier),
            (0.0,),
        )
        for d in DIMENSIONS
    ]


def _spread(rng: Rng, stds: Sequence[float], size: int, dimension: int) -> Pairs:
    real = _normal(rng, size, dimension)
    for std in stds:
        yield real, _normal(rng, size, dimension, 0.0, std)


def _mixture(rng: Rng, means: Points, std: float, weights: NDArray[Any], size: int) -> Points:
    chosen = rng.choice(len(means), size, p=weights / weights.sum())
    return rng.normal(means[chosen], std)


def _dropped(rng: Rng, values: Sequence[float], size: int, dimension: int, sequential: bool) -> Pairs:
    """Ten modes on the diagonal. Nine lose a share of their weight together, or modes go one after the other."""
    means = np.tile(np.linspace(0, 10, MODES)[:, None], (1, dimension))
    std = MODE_STD[dimension]
    real = _mixture(rng, means, std, np.ones(MODES), size)
    for value in values:
        weights = np.ones(MODES)
        if sequential:
            weights[MODES - round(value) :] = 0
        else:
            weights[1:] *= 1 - value
        yield real, _mixture(rng, means, std, weights, size)


def _invented(rng: Rng, counts: Sequence[float], size: int) -> Pairs:
    """Real samples of the first five of ten modes, generated ones of the first `count`."""
    centres = np.array(CENTRES)
    real = _mixture(rng, centres, 0.25, np.arange(MODES) < 5, size)
    for count in counts:
        yield real, _mixture(rng, centres, 0.25, np.arange(MODES) < count, size)


def _on_sphere(rng: Rng, size: int, dimension: int, radius: float) -> Points:
    x = _normal(rng, size, dimension)
    x *= radius / np.linalg.norm(x, axis=1, keepdims=True)
    return x


def _spheres(rng: Rng, radii: Sequence[float], size: int, dimension: int) -> Pairs:
    real = _on_sphere(rng, size, dimension, 1.0)
    for radius in radii:
        yield real, _on_sphere(rng, size, dimension, radius)


def _cubes(rng: Rng, sizes: Sequence[float], dimension: int, real_size: int | None = None) -> Pairs:
    """Unit cubes that share a fifth of their volume; the real set grows too, unless its size is given."""
    start = 1 - OVERLAP ** (1 / dimension)
    real = rng.uniform(0, 1, (real_size or 0, dimension))
    for size in map(round, sizes):
        real = real if real_size else rng.uniform(0, 1, (size, dimension))
        yield real, rng.uniform(start, start + 1, (size, dimension))


def _ball(rng: Rng, size: int, dimension: int, radius: float) -> Points:
    return _on_sphere(rng, size, dimension, radius) * rng.uniform(0, 1, (size, 1)) ** (1 / dimension)


def _torus(rng: Rng, size: int) -> Points:
    """A ring of radius 1 around the third axis, with a tube of radius 0.1."""
    across, angle = _ball(rng, size, 2, 0.1), rng.uniform(0, 2 * np.pi, size)
    radius = 1 + across[:, 0]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), across[:, 1]], 1)


def _sphere_and_torus(rng: Rng, sizes: Sequence[float], size: int, real: str) -> Pairs:
    def sphere(count: int) -> Points:
        return _ball(rng, count, 3, 0.8)

    def torus(count: int) -> Points:
        return _torus(rng, count)

    ours, theirs = (sphere, torus) if real == "sphere" else (torus, sphere)
    there = ours(size)
    for count in map(round, sizes):
        yield there, theirs(count)


def _two_modes(rng: Rng, distances: Sequence[float], size: int, dimension: int) -> Pairs:
    """Two Gaussians against one of the same mean and of the same variance in every coordinate, 1 + mu^2."""
    for mu in distances:
        means = np.outer([-mu / 2, mu / 2], np.ones(dimension))
        yield _mixture(rng, means, 1.0, np.ones(2), size), _normal(rng, size, dimension, 0, np.sqrt(1 + mu**2))


def _scaled(rng: Rng, scales: Sequence[float], size: int) -> Pairs:
    for scale in scales:
        real, fake = _normal(rng, size, 2), _normal(rng, size, 2) + np.array([6, 0])
        yield real * [1, scale], fake * [1, scale]


def _pareto(rng: Rng, means: Sequence[float], size: int) -> Pairs:
    def with_tail(mean: float) -> Points:
        return np.stack([rng.normal(mean, 1, size), 1 + rng.pareto(1.01, size)], 1)

    real = with_tail(0)
    for mean in means:
        yield real, with_tail(mean)


def _one_disjoint(rng: Rng, extra: Sequence[float], size: int) -> Pairs:
    for count in map(round, extra):
        real, fake = _normal(rng, size, count + 1), _normal(rng, size, count + 1)
        fake[:, 0] += 6
        yield real, fake


def _rounded(rng: Rng, scales: Sequence[float], size: int, discrete: str) -> Pairs:
    for scale in scales:
        real, fake = scale * _normal(rng, size, 1), scale * _normal(rng, size, 1)
        yield (np.round(real), fake) if discrete == "real" else (real, np.round(fake))


def _whole(values: Iterable[float]) -> list[float]:
    """Whole numbers, each once."""
    return sorted({float(int(value + 1e-9)) for value in values})


def _sizes(size: int) -> list[float]:
    """20 sizes from a tenth to ten times the usual one: 100 to 10,000."""
    return _whole(size / 10 * np.logspace(0, 2, 20))


def _simultaneous(size: int) -> list[Case]:
    shares = np.linspace(0, 1, 50).tolist()
    return [
        Case(f"dim {d}", shares, partial(_dropped, size=size, dimension=d, sequential=False), (shares[LATE],))
        for d in DIMENSIONS
    ]


LATE = 47
"""Of the 50 shares that are dropped, the nearest to their 95 % point."""

CHECKS: Sequence[Check] = (
    Check("mean difference", "gaussian-mean-difference", "mean", _mean_cases),
    Check(
        "mean difference with outlier",
        "gaussian-mean-difference-with-outlier",
        "mean",
        lambda size: [*_mean_cases(size, "real"), *_mean_cases(size, "fake")],
    ),
    Check(
        "std difference",
        "gaussian-std-difference",
        "standard deviation",
        lambda size: [
            Case(f"dim {d}", _powers(-p, p, 51), partial(_spread, size=size, dimension=d), (1.0,))
            for d, p in DECADES.items()
        ],
    ),
    Check(
        "simultaneous mode dropping",
        "gaussian-mixture-simultaneous-mode-dropping",
        "share of nine modes that is dropped",
        _simultaneous,
    ),
    Check(
        "sequential mode dropping",
        "gaussian-mixture-sequential-mode-dropping",
        "modes dropped",
        lambda size: [
            Case(
                f"dim {d}",
                list(map(float, range(MODES))),
                partial(_dropped, size=size, dimension=d, sequential=True),
                (4.0,),
            )
            for d in DIMENSIONS
        ],
    ),
    Check(
        "mode dropping and invention",
        "gaussian-mixture-mode-dropping-invention",
        "modes generated",
        lambda size: [Case("dim 2", list(map(float, range(1, 11))), partial(_invented, size=size), (5.0,))],
    ),
    Check(
        "hypersphere surface",
        "uniform-hypersphere-surface",
        "radius",
        lambda size: [
            Case(f"dim {d}", np.linspace(0.1, 1.9, 51).tolist(), partial(_spheres, size=size, dimension=d), (1.0,))
            for d in (2, 16, 128)
        ],
    ),
    Check(
        "hypercube, both sizes",
        "uniform-hypercube-varying-size",
        "samples of each set",
        lambda size: [Case(f"dim {d}", _sizes(size), partial(_cubes, dimension=d)) for d in DIMENSIONS],
        varies_size=True,
    ),
    Check(
        "hypercube, fake size",
        "uniform-hypercube-varying-syn-size",
        "generated samples",
        lambda size: [Case(f"dim {d}", _sizes(size), partial(_cubes, dimension=d, real_size=size)) for d in DIMENSIONS],
        varies_size=True,
    ),
    Check(
        "sphere and torus",
        "sphere-torus",
        "generated samples",
        lambda size: [
            Case(f"real {real}", _sizes(size), partial(_sphere_and_torus, size=size, real=real))
            for real in ("sphere", "torus")
        ],
        varies_size=True,
    ),
    Check(
        "one or two modes",
        "one-vs-two-modes",
        "distance of the modes in each coordinate",
        lambda size: [
            Case(f"dim {d}", np.linspace(0, 5, 20).tolist(), partial(_two_modes, size=size, dimension=d))
            for d in DIMENSIONS
        ],
    ),
    Check(
        "scale of one dimension",
        "gaussian-scaling-one-dimension",
        "scale",
        lambda size: [Case("dim 2", _powers(-3, 3, 20), partial(_scaled, size=size))],
    ),
    Check(
        "mean difference with Pareto",
        "gaussian-mean-difference-with-pareto",
        "mean",
        lambda size: [Case("dim 2", _symmetric(6.0), partial(_pareto, size=size), (0.0,))],
    ),
    Check(
        "one disjoint dimension",
        "gaussian-high-dim-one-disjoint-dim",
        "equal dimensions",
        lambda size: [Case("1 to 1000 dims", _whole(np.logspace(0, 3, 20)), partial(_one_disjoint, size=size))],
    ),
    Check(
        "discrete and continuous",
        "discrete-numerical-vs-continuous-numerical",
        "scale",
        lambda size: [
            Case(f"real {kind}", _powers(0, 3, 20), partial(_rounded, size=size, discrete=discrete))
            for kind, discrete in (("discrete", "real"), ("continuous", "fake"))
        ],
    ),
)
