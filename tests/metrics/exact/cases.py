"""For every registered metric: the sets it is tried on, and its value by its formula."""

import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from scipy.stats import betabinom

from . import densities as de
from . import neighbours as nb
from .draws import DTYPES, Draw, Sets, draw

Matrix = nb.Matrix


class Case(NamedTuple):
    """make: sets from a generator. want: value by the formula of float64 sets, and its absolute tolerance.

    options: of the metric. relative: tolerance beside the value. unproven: why there is no formula, if there is none.
    """

    make: Callable[[np.random.Generator], Draw]
    want: Callable[..., Any]
    options: dict[str, Any] = {}
    relative: float = 1e-9


def sets(count: int, least: int = 2) -> Callable[[np.random.Generator], Draw]:
    return lambda rng: draw(rng, count, least)


def column(rng: np.random.Generator) -> Draw:
    return draw(rng, 1, dimension=1)


def few_columns(rng: np.random.Generator) -> Draw:
    return draw(rng, 2, 45, dimension=int(rng.integers(2, 9)))


def signals(rng: np.random.Generator) -> Draw:
    return draw(rng, 1, dimension=6)


def lengths(rng: np.random.Generator) -> Draw:
    (x,), kind = draw(rng, 1)
    return Draw([np.abs(x)], kind)


def steps(rng: np.random.Generator) -> Draw:
    (x,), kind = draw(rng, 1, dimension=int(rng.integers(2, 9)))
    return Draw([np.abs(x)], kind)


def paired(rng: np.random.Generator) -> Draw:
    (x,), kind = draw(rng, 1)
    return Draw([x, x[::-1].copy() if rng.random() < 0.5 else x.copy()], kind)


def posteriors(rng: np.random.Generator) -> Draw:
    (z, mean), kind = draw(rng, 2)
    kind = kind if z.dtype.kind == "f" else "float64"
    z, mean = (s.astype(np.float64) if s.dtype.kind != "f" else s for s in (z, mean))
    level = float(rng.choice([0, -5, -30, 60]))
    size = max(float(np.abs(mean.astype(float)).max()), 1e-300)
    logvar = (level + 2 * math.log(size) + rng.normal(size=mean.shape)).astype(mean.dtype)
    return Draw([z, mean, logvar], f"{kind}, logvar {level:g} beside the means")


def clouds(rng: np.random.Generator) -> Draw:
    points = int(rng.integers(1, 20))
    sizes = [int(rng.integers(2, 8)) for _ in range(2)]
    scale, offset = float(rng.choice([1, 1e-5, 1e-22, 1e16, 1e22])), float(rng.choice([0, 100, 1e4]))
    shapes = [rng.normal(size=(n, points, 3)) * float(rng.choice([1, 5e-3])) for n in sizes]
    if rng.random() < 0.3:
        shapes[1][0] = shapes[0][0]
    name = str(rng.choice(["float32", "float64"]))
    return Draw([((s + offset) * scale).astype(DTYPES[name]) for s in shapes], f"{name}, {scale:g}, {offset:g}")


def pictures(rng: np.random.Generator) -> Draw:
    channels, height, width = int(rng.choice([1, 3])), *(int(s) for s in rng.integers(2, 12, 2))
    return Draw([rng.random((int(rng.integers(1, 9)), channels, height, width)).astype(np.float32)], "pictures")


def views(rng: np.random.Generator) -> Draw:
    (y, x), kind = draw(rng, 2, 3)
    return Draw([np.stack([s, s[::-1]], 1) for s in (y, x)], kind)


def frechet(y: Matrix, x: Matrix) -> tuple[float, float]:
    value, traces = de.frechet(y, x)
    return max(0.0, value), 1e-6 * traces


def frechet_infinity(y: Matrix, x: Matrix) -> tuple[float, float]:
    m, dimension = y.shape
    start = max(min(5000, m // 10), min(2 * dimension, m // 2), 2)
    counts = torch.linspace(start, m, 15, dtype=torch.float64).long().tolist()
    generator = torch.Generator().manual_seed(0)
    values = [de.frechet(y[torch.randperm(m, generator=generator)[:count].numpy()], x)[0] for count in counts]
    intercept = float(np.polyfit(1 / np.array(counts), np.maximum(0, values), 1)[1])
    return intercept, 2e-5 * (de.frechet(y, x)[1] + max(values))


def sliced(y: Matrix, x: Matrix) -> Matrix:
    power = nb.unit(y, x)
    y, x = y * power, x * power
    generator = torch.Generator().manual_seed(0)
    n = min(len(y), len(x))
    y, x = (s[torch.randperm(len(s), generator=generator)[:n].numpy()] if len(s) > n else s for s in (y, x))
    u = torch.randn(y.shape[1], 1000, dtype=torch.float64, generator=generator)
    u = (u / u.norm(dim=0)).numpy()
    centre = x.mean(0)
    gap = np.sort((y - centre) @ u, 0) - np.sort((x - centre) @ u, 0)
    return 3 * y.shape[1] * np.mean(gap**2) / power**2


def fitted(centres: Matrix, targets: Matrix) -> Matrix:
    power = nb.unit(centres, targets)
    centres, targets = centres * power, targets * power
    dimension = targets.shape[1]
    background = ((targets - targets.mean(0)) ** 2).sum(1)
    scale = background.mean() / dimension
    squared = np.c_[nb.distances(targets, centres) ** 2, 0.81 * background]
    variance = np.maximum(squared.min(0) / dimension, 1e-6 * scale)
    variance[-1] = scale
    for _ in range(30):
        log = -0.5 * squared / variance - 0.5 * dimension * np.log(variance)
        shares = np.exp(log - logsumexp(log, axis=1, keepdims=True))
        weight = shares.sum(0)
        step = (shares * squared).sum(0) / (dimension * np.maximum(weight, 1e-12))
        variance = np.where(weight > 1e-6, np.maximum(step, 1e-6 * scale), variance)
    return np.log(variance[:-1]) - 2 * math.log(power)


def halves(x: Matrix) -> tuple[Matrix, Matrix]:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).numpy()
    half = len(x) // 2
    return x[order[:half]], x[order[half : 2 * half]]


def feature_density(y: Matrix, x: Matrix) -> Matrix:
    centres, targets = halves(x)
    return de.mixture(y, centres, fitted(centres, targets)[:, None]) / y.shape[1]


def feature_likelihood_distance(y: Matrix, x: Matrix, t: Matrix) -> float:
    std = t.std(0, ddof=1)
    std = np.where(std > 0, std, 1)
    y, x, t = ((s - t.mean(0)) / std for s in (y, x, t))
    generator = torch.Generator().manual_seed(0)
    centres, targets = (s[torch.randperm(len(s), generator=generator).numpy()] for s in (y, x))
    generated = de.mixture(t, centres, fitted(centres, targets)[:, None])
    real, rest = halves(x)
    return float((de.mixture(t, real, fitted(real, rest)[:, None]) - generated).mean() * 100 / y.shape[1])


def supports(y: Matrix, x: Matrix) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Whether each generated, then each real sample is in the support of the generated and of the real set."""
    power = nb.unit(y, x)
    y, x = y * power, x * power
    centre = x.mean(0)
    if y.shape[1] > 32:
        u = torch.randn(y.shape[1], 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
        y, x = (y - centre) @ u, (x - centre) @ u
    found = []
    for support in (y, x):
        h = de.support(support)
        draws = torch.randint(len(support), (10, len(support)), generator=torch.Generator().manual_seed(0)).numpy()
        weights = np.stack([np.ones(len(support)), *(np.bincount(d, minlength=len(support)) for d in draws)], 1)

        def kernel(points: Matrix, support: Matrix = support, h: float = h) -> Matrix:
            d = nb.distances(points, support)
            return np.where(d < h, np.cos(np.pi * d / (2 * h)), 0) / len(support)

        density = kernel(support) @ weights
        level = np.quantile(np.abs(density[:, 1:] - density[:, :1]).max(0), 0.9)
        found += [kernel(points).sum(1) > level for points in (y, x)]
    return found[0], found[2], found[1], found[3]


def topological(role: int) -> Callable[[Matrix, Matrix], float]:
    def share(y: Matrix, x: Matrix) -> float:
        y_fake, y_real, x_fake, x_real = supports(y, x)
        own, other = ((y_fake, y_real), (x_real, x_fake))[role]
        return float(other[own].mean())

    return share


def log_softmax(x: Matrix) -> Matrix:
    x = x - x.max(1, keepdims=True)
    result: Matrix = x - logsumexp(x, axis=1, keepdims=True)
    return result


def judge_entropy(x: Matrix) -> Matrix:
    log = log_softmax(x)
    result: Matrix = -(np.exp(log) * log).sum(1)
    return result


def relative_density(z: Matrix, codes: Matrix) -> Matrix:
    return de.latent_density(z, codes, 0.2 * de.median_distance(codes))


def active(z: Matrix, codes: Matrix, mean: Matrix) -> Matrix:
    used = mean.std(0, ddof=1) >= 0.17
    return relative_density(z[:, used], codes[:, used])


def ratio(z: Matrix, mean: Matrix, logvar: Matrix) -> tuple[Matrix, Matrix]:
    prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
    return de.mixture(z, mean, logvar) - prior, 1e-9 + 1e-12 * np.abs(prior)


def gaussian(z: Matrix, codes: Matrix) -> tuple[Matrix, Matrix]:
    log, condition = de.ledoit_wolf(z, codes)
    return log, 1e-14 * condition * np.abs(log) + 1e-9


def clipped_coverage(y: Matrix, x: Matrix) -> float:
    c, m, n, k = nb.clipped_coverage_counts(y, x, 5), len(y), len(x), 5
    hits = np.arange(k + 1)
    expected = [sum(betabinom.pmf(hits, i, k, n - k) * hits) / k + betabinom.sf(k, i, k, n - k) for i in range(m + 1)]
    return sum(e < c - 1e-12 for e in expected) / (m + 1)


def authenticity(y: Matrix, x: Matrix) -> tuple[float, float]:
    """The middle of the values for all choices among equally near real samples, and how far it is from the ends."""
    d = nb.distances(y, x)
    farther = d.min(1)[:, None] > nb.radii(x, 1)
    tied = d == d.min(1, keepdims=True)
    least, most = float((farther | ~tied).all(1).mean()), float((farther & tied).any(1).mean())
    return (least + most) / 2, (most - least) / 2 + 1e-12


def sharpness(images: Matrix) -> Matrix:
    x = images.mean(1)
    inner = x[:, 1:-1, 1:-1]
    values = x[:, 2:, 1:-1] + x[:, :-2, 1:-1] + x[:, 1:-1, 2:] + x[:, 1:-1, :-2] - 4 * inner
    return values.reshape(len(x), -1).var(1, ddof=1)


def png(images: Matrix) -> list[int]:
    sizes = []
    for picture in np.rint(images.astype(np.float32) * np.float32(255)).astype(np.uint8).transpose(0, 2, 3, 1):
        file = io.BytesIO()
        Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(file, "PNG", optimize=True)
        sizes.append(len(file.getvalue()))
    return sizes


def shape_coverage(y: Matrix, x: Matrix) -> float:
    d = de.chamfer(y, x)
    return float((d == d.min(1, keepdims=True)).any(0).mean())


def one_nn(y: Matrix, x: Matrix) -> float:
    n, generator = min(len(y), len(x)), torch.Generator().manual_seed(0)
    y, x = (s if len(s) == n else s[torch.randperm(len(s), generator=generator)[:n].numpy()] for s in (y, x))
    both = np.concatenate([y, x])
    d = de.chamfer(both, both)
    np.fill_diagonal(d, np.inf)
    tied = d == d.min(1, keepdims=True)
    same = np.arange(2 * n)[:, None] // n == np.arange(2 * n)[None] // n
    return float(((tied & same).sum(1) / tied.sum(1)).mean())


def earth_mover(y: Matrix, x: Matrix) -> float:
    found = np.zeros((len(y), len(x)))
    for i, a in enumerate(y):
        for j, b in enumerate(x):
            cost = nb.distances(a, b)
            found[i, j] = cost[linear_sum_assignment(cost)].mean()
    return float(found.min(0).mean())


def shading(y: Matrix, x: Matrix) -> tuple[float, float]:
    found = [frechet(y[:, v], x[:, v]) for v in range(y.shape[1])]
    return float(np.mean([value for value, _ in found])), max(tolerance for _, tolerance in found)


def cycle(a: Matrix, b: Matrix) -> Matrix:
    return -np.array([nb.distances(p[None], q[None])[0, 0] for p, q in zip(a, b, strict=True)])


def both(function: Callable[..., Any], **options: Any) -> Callable[[Matrix, Matrix], Any]:
    return lambda y, x: function(y, x, **options)


def swapped(function: Callable[..., float], **options: Any) -> Callable[[Matrix, Matrix], float]:
    return lambda y, x: function(x, y, **options)


def log_kernel(function: Callable[..., Matrix]) -> Callable[..., tuple[Matrix, float]]:
    return lambda *arrays: (function(*arrays), 1e-9)


BALLS = sets(2, 7)
NEAREST = Case(sets(2), nb.nearest)
CASES: dict[str, list[Case]] = {
    "precision": [Case(BALLS, both(nb.precision, k=5))],
    "recall": [Case(BALLS, swapped(nb.precision, k=5))],
    "density": [Case(BALLS, both(nb.density, k=5))],
    "coverage": [Case(BALLS, both(nb.coverage, k=5))],
    "realism": [Case(BALLS, both(nb.realism, k=3), {"k": 3})],
    "rarity": [Case(BALLS, both(nb.rarity, k=5))],
    "authenticity": [Case(BALLS, authenticity)],
    "symmetric_precision": [
        Case(BALLS, lambda y, x: min(nb.precision(y, x, 5), nb.coverage(x, y, 5))),
    ],
    "symmetric_recall": [Case(BALLS, lambda y, x: min(nb.precision(x, y, 5), nb.coverage(y, x, 5)))],
    "precision_cover": [Case(sets(2, 10), both(nb.cover, k=3, factor=3))],
    "recall_cover": [Case(sets(2, 10), swapped(nb.cover, k=3, factor=3))],
    "clipped_density": [Case(BALLS, both(nb.clipped_density, k=5))],
    "clipped_coverage": [Case(BALLS, clipped_coverage)],
    "latent_density": [
        Case(sets(2), log_kernel(relative_density)),
        Case(
            sets(2), log_kernel(lambda z, codes: de.latent_density(z, codes, 1e-5)),
            {"bandwidth": 1e-5, "relative": False},
        ),
    ],
    "active_latent_density": [Case(sets(3), log_kernel(active))],
    "negative_norm": [Case(sets(1), lambda z: -nb.distances(z, 0 * z[:1])[:, 0])],
    "negative_distance_to_mean": [Case(sets(2), lambda z, c: -nb.distances(z, c.mean(0)[None])[:, 0])],
    "gaussian_log_density": [Case(sets(2), gaussian)],
    "latent_knn": [Case(sets(2, 11), lambda z, c: -np.sort(nb.distances(z, c), 1)[:, :10].mean(1))],
    "hubness": [Case(sets(1, 7), lambda z: nb.k_occurrence(z, 5))],
    "aggregate_posterior": [Case(posteriors, log_kernel(de.mixture))],
    "aggregate_posterior_ratio": [Case(posteriors, ratio)],
    "frechet_distance": [Case(sets(2), frechet)],
    "frechet_floor": [Case(sets(2), frechet)],
    "frechet_infinity": [Case(sets(2, 51), frechet_infinity)],
    "kernel_distance": [Case(sets(2), de.cubic_mmd)],
    "cmmd": [
        Case(sets(2), lambda y, x: (de.cmmd(y, x, 1.0), 1e-9), {"bandwidth": 1.0}),
        Case(sets(2), lambda y, x: (de.cmmd(y, x, 1e-300), 1e-9), {"bandwidth": 1e-300}),
    ],
    "feature_density": [Case(sets(2, 4), feature_density, relative=1e-6)],
    "feature_likelihood_distance": [Case(sets(3, 4), feature_likelihood_distance, relative=1e-6)],
    "pseudo_density": [Case(sets(2, 12), lambda y, x: de.pseudo_density(y, x, 10))],
    "probabilistic_precision": [Case(BALLS, both(nb.probabilistic, k=4, scale=1.2), relative=1e-8)],
    "probabilistic_recall": [Case(BALLS, swapped(nb.probabilistic, k=4, scale=1.2), relative=1e-8)],
    "topological_precision": [Case(few_columns, topological(0))],
    "topological_recall": [Case(few_columns, topological(1))],
    "sliced_distance": [Case(sets(2), sliced)],
    "vendi_score": [
        Case(sets(1), lambda y, order=order: de.vendi(y, order), {"order": order}, 1e-7)
        for order in (0.7, 1.0, 2.0, 1000.0, math.inf)
    ],
    "alpha_precision": [Case(sets(2), both(nb.alpha_precision, levels=30))],
    "beta_recall": [Case(sets(2), both(nb.beta_recall, levels=30))],
    "judge_confidence": [Case(sets(1), lambda x: np.exp(log_softmax(x).max(1)))],
    "judge_entropy": [Case(sets(1), lambda x: (judge_entropy(x), 1e-12))],
    "predicted_class": [Case(sets(1), lambda x: x.argmax(1))],
    "nearest_pixel": [NEAREST],
    "nearest_feature": [NEAREST],
    "nearest_training_pixel": [NEAREST],
    "nearest_training_feature": [NEAREST],
    "discriminator_logit": [Case(column, lambda x: x[:, 0])],
    "cycle_consistency": [Case(paired, cycle)],
    "reconstruction_residual": [Case(column, lambda x: x[:, 0])],
    "reconstruction_error": [Case(column, lambda x: x[:, 0].mean())],
    "laplacian_variance": [Case(pictures, sharpness)],
    "denoising_error": [Case(lengths, lambda x: x.mean(1))],
    "first_prediction_norm": [Case(lengths, lambda x: x[:, 0])],
    "prediction_path_length": [Case(steps, lambda x: x[:, 1:].sum(1))],
    "log_volume": [Case(lengths, lambda x: 0.5 * np.log(x.mean(1)))],
    "mean_intensity": [Case(pictures, lambda x: x.reshape(len(x), -1).mean(1))],
    "png_bytes": [Case(pictures, png)],
    "minimum_matching_distance": [
        Case(clouds, lambda y, x: de.chamfer(y, x).min(0).mean(), relative=1e-6),
        Case(clouds, earth_mover, {"distance": "earth_mover"}),
    ],
    "shape_coverage": [Case(clouds, shape_coverage)],
    "one_nn_accuracy": [Case(clouds, one_nn)],
    "nearest_shape": [Case(clouds, lambda y, x: de.chamfer(y, x).min(1), relative=1e-6)],
    "shading_distance": [Case(views, shading)],
    **{
        name: [Case(signals, lambda x, column=column: x[:, column])]
        for column, name in enumerate(
            ("components", "largest_component", "watertight", "eikonal_residual", "solid_volume", "surface_area")
        )
    },
}  # fmt: skip

NO_FORMULA = {
    "mifid": "a ratio that jumps at its threshold; tests/metrics/test_memorisation.py",
    "memorisation_informed_frechet": "a ratio that jumps at its threshold; tests/metrics/test_memorisation.py",
    "random_score": "random numbers; tests/metrics/test_controls.py",
    "density_ratio": "a fitted classifier; tests/metrics/test_density_ratio.py",
    "real_log_odds": "a fitted classifier; tests/metrics/test_real_log_odds.py",
    "amortised_volume": "a fitted network; tests/metrics/test_volume_learned.py",
    "amortised_volume_fit": "a fitted network; tests/metrics/test_volume_learned.py",
    "volume_corrected_density": "a difference of two metrics; tests/metrics/test_volume.py",
    "mixture_log_density": "scikit-learn's fit; tests/metrics/test_latent_mixture.py",
    "class_gaussian_log_density": "gaussian_log_density of each class; tests/metrics/test_class_gaussian.py",
    "fid": "frechet_distance of 2,048 features; tests/metrics/test_frechet.py",
    "kid": "kernel_distance of 2,048 features; tests/metrics/test_kernel.py",
    "copying_score": "k-means of scikit-learn; tests/metrics/test_copying.py",
}
"""Metrics whose value no formula gives, with the reason and where they are tested."""


def float64(sets: Sets) -> list[Matrix]:
    return [s.astype(np.float64) for s in sets]
