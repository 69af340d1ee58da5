"""Every metric in float32 against a slow float64 version of its formula: relative error at most 1e-5.

Two kinds of features: correlated ones with a power-law spectrum and an offset, and those of Fashion-MNIST images.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import betabinom
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from assay.harness.core.declarations import Metric
from assay.harness.core.registry import DATASETS, EXTRACTORS, METRICS, discover
from assay.metrics.feature_density import fitted_log_variances, fitted_mixture

pytestmark = pytest.mark.filterwarnings("ignore:cmmd. distances")

discover()
OURS = sorted(name for name, m in METRICS.items() if m.function.__module__.startswith("assay.metrics."))

ELSEWHERE = {
    "class_gaussian_log_density": "test_class_gaussian",
    "copying_score": "test_copying",
    "cycle_consistency": "test_cycle",
    "density_ratio": "test_density_ratio",
    "fid": "test_frechet",
    "mean_intensity": "test_controls",
    "memorisation_informed_frechet": "test_memorisation",
    "mifid": "test_memorisation",
    "mixture_log_density": "test_latent_mixture",
    "laplacian_variance": "test_controls",
    "png_bytes": "test_controls",
    "random_score": "test_controls",
    "real_log_odds": "test_real_log_odds",
    "topological_precision": "test_topological",
    "topological_recall": "test_topological",
}
"""Metrics of images, of trained networks, of 2,048 features and of random cells, with the test that has theirs."""
SHAPES = {
    "components": "test_shapes",
    "eikonal_residual": "test_shapes",
    "largest_component": "test_shapes",
    "minimum_matching_distance": "test_shapes",
    "nearest_shape": "test_shapes",
    "one_nn_accuracy": "test_shapes",
    "shading_distance": "test_shapes",
    "shape_coverage": "test_shapes",
    "solid_volume": "test_shapes",
    "surface_area": "test_shapes",
    "watertight": "test_shapes",
}
"""Metrics of shapes, whose views are no rows of features."""

STEPS = dict.fromkeys(("denoising_error", "first_prediction_norm", "prediction_path_length"), "test_diffusion")
"""Metrics of a diffusion model's steps, whose views are no rows of features."""

VOLUMES = {
    "amortised_volume": "test_volume_learned",
    "amortised_volume_fit": "test_volume_learned",
    "log_volume": "test_volume",
    "volume_corrected_density": "test_volume",
}
"""Metrics of a decoder's Jacobian, whose views are no rows of features."""


class Sets(NamedTuple):
    """Rows of one feature space; logvar [N, D] belongs to the real ones."""

    fake: Tensor
    real: Tensor
    holdout: Tensor
    logvar: Tensor

    @property
    def labels(self) -> Tensor:
        return torch.arange(len(self.real)) % 2

    def arguments(self, m: Metric) -> list[Tensor]:
        sets: list[Tensor] = [
            getattr(self, {"reference": "real", "mean": "real", "residual": "fake", "prior": "holdout"}.get(name, name))
            for name in m.views
        ]
        if m.fixed_features:
            return [torch.nn.functional.pad(x, (0, 2048 - x.shape[1])) for x in sets]
        if {view.space for view in m.views.values()} & {"discriminator", "residual"}:
            return [x[:, :1].abs() for x in sets]
        return sets


def structured() -> Sets:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(96, 96, generator=generator) * torch.arange(1, 97)[:, None] ** -0.8 / 96**0.5

    def rows(n: int, scale: float, offset: float) -> Tensor:
        return scale * torch.randn(n, 96, generator=generator) @ mix + offset

    real = rows(600, 1, 0.4)
    return Sets(rows(500, 1.1, 0.42), real, rows(400, 1, 0.4), -4 + torch.randn(real.shape, generator=generator))


def fashion_mnist() -> Sets:
    """Features of 1,000 training and 1,000 test images, the latter with noise, and of 500 more test images."""
    generator = torch.Generator().manual_seed(0)
    data, features = DATASETS["fashion_mnist"].function(), EXTRACTORS["classifier"].function("fashion_mnist")

    def rows(split: str, start: int, stop: int, noise: float = 0) -> Tensor:
        images = data.take(split, start, stop).images / 255
        seen: Tensor = features((images + noise * torch.randn(images.shape, generator=generator)).clamp(0, 1))
        return seen

    real = rows("train", 0, 1000)
    logvar = -2 + torch.randn(real.shape, generator=generator)
    return Sets(rows("test", 0, 1000, 0.1), real, rows("test", 1000, 1500), logvar)


@pytest.fixture(scope="module", params=[structured, fashion_mnist], ids=lambda make: str(make.__name__))
def sets(request: pytest.FixtureRequest) -> Sets:
    made: Sets = request.param()
    return made


def cross(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def within(x: Tensor) -> Tensor:
    return cross(x, x).fill_diagonal_(torch.inf)


def radius(x: Tensor, k: int = 5) -> Tensor:
    return within(x).kthvalue(k).values


def share(hits: Tensor) -> float:
    return float(hits.double().mean())


def held(x: Tensor, y: Tensor, k: int = 5) -> Tensor:
    """[N, M]: whether the ball of x_i holds y_j."""
    return cross(x, y) <= radius(x, k)[:, None]


def realism(y: Tensor, x: Tensor) -> Tensor:
    balls = radius(x)
    kept = balls <= balls.median()
    return (balls[kept, None] / cross(x[kept], y)).amax(0)


def rarity(y: Tensor, x: Tensor) -> Tensor:
    least = torch.where(held(x, y), radius(x)[:, None], torch.inf).amin(0)
    return least.where(least.isfinite(), torch.nan)


def authenticity(y: Tensor, x: Tensor) -> float:
    nearest = cross(y, x).min(1)
    return share(nearest.values > within(x).amin(1)[nearest.indices])


def clipped_density(y: Tensor, x: Tensor) -> float:
    balls = radius(x)
    balls = balls.clamp(max=balls.median())[:, None]
    raw, own = ((distance <= balls).sum(0).div(5).clamp(max=1).mean() for distance in (cross(x, y), within(x)))
    return min(1.0, float(raw / own))


def clipped_coverage(y: Tensor, x: Tensor) -> float:
    c = float(held(x, y).sum(1).clamp(max=5).double().mean()) / 5
    good = np.arange(len(y) + 1)
    expected = sum(betabinom.sf(j, good, 5, len(x) - 5) for j in range(5)) / 5
    return float((expected < c - 1e-12).mean())


def probabilistic(points: Tensor, support: Tensor) -> float:
    soft = 1.2 * radius(support, 4).mean()
    return float((1 - (cross(support, points) / soft).clamp(max=1).prod(0)).mean())


def integrated(inside: Callable[[float], Tensor]) -> float:
    levels = np.linspace(0, 1, 30)
    return 1 - 2 * sum(abs(share(inside(level)) - level) for level in levels) / 29


def alpha_precision(y: Tensor, x: Tensor) -> float:
    fake, real = ((s - x.mean(0)).norm(dim=1) for s in (y, x))
    return integrated(lambda level: fake <= real.quantile(level))


def beta_recall(y: Tensor, x: Tensor) -> float:
    nearest, distance = cross(x, y).min(1), (y - y.mean(0)).norm(dim=1)
    near, typical = nearest.values <= within(x).amin(1), distance[nearest.indices]
    return integrated(lambda level: near & (typical <= distance.quantile(level)))


def frechet(y: Tensor, x: Tensor) -> float:
    s, r = torch.cov(y.T), torch.cov(x.T)
    values, vectors = torch.linalg.eigh(r)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    nuclear = torch.linalg.eigvalsh(root @ s @ root).clamp(min=0).sqrt().sum()
    return float((y.mean(0) - x.mean(0)).square().sum() + s.trace() + r.trace() - 2 * nuclear)


def frechet_infinity(y: Tensor, x: Tensor) -> float:
    least = max(len(y) // 10, min(2 * y.shape[1], len(y) // 2))
    generator = torch.Generator().manual_seed(0)
    sizes = np.linspace(least, len(y), 15).astype(int)
    values = [frechet(y[torch.randperm(len(y), generator=generator)[:size]], x) for size in sizes]
    return float(np.polyfit(1 / sizes, values, 1)[1])


def kernel_distance(y: Tensor, x: Tensor) -> float:
    def mean(a: Tensor, b: Tensor) -> Tensor:
        kernel = (a @ b.T / a.shape[1] + 1) ** 3
        return kernel.mean() if a is not b else (kernel.sum() - kernel.trace()) / (len(a) * (len(a) - 1))

    return float(mean(y, y) + mean(x, x) - 2 * mean(y, x))


def cmmd(y: Tensor, x: Tensor) -> float:
    yy, xx, yx = ((-cross(a, b).square() / 200).exp().mean() for a, b in ((y, y), (x, x), (y, x)))
    return 1000 * float(yy + xx - 2 * yx)


def sliced_distance(y: Tensor, x: Tensor) -> float:
    generator, (n, dimension) = torch.Generator().manual_seed(0), y.shape
    if len(x) > n:
        x = x[torch.randperm(len(x), generator=generator)[:n]]
    directions = torch.randn(dimension, 1000, dtype=torch.float64, generator=generator)
    projected = [(s @ (directions / directions.norm(dim=0))).sort(dim=0).values for s in (y, x)]
    return 3 * dimension / (n * 1000) * float((projected[0] - projected[1]).square().sum())


def vendi_score(y: Tensor) -> float:
    unit = y / y.norm(dim=1, keepdim=True)
    values = torch.linalg.eigvalsh(unit @ unit.T / len(y))
    return math.exp(torch.special.entr(values[values > 1e-12]).sum())


def latent_density(z: Tensor, codes: Tensor) -> Tensor:
    width = 0.2 * torch.pdist(codes).sort().values[(len(codes) * (len(codes) - 1) // 2 - 1) // 2]
    return torch.logsumexp(-cross(z, codes).square() / (2 * width**2), 1) - math.log(len(codes))


def active_latent_density(z: Tensor, codes: Tensor, mean: Tensor) -> Tensor:
    used = mean.std(0) >= 0.17
    return latent_density(z[:, used], codes[:, used])


def gaussian_log_density(z: Tensor, codes: Tensor) -> Tensor:
    covariance = torch.from_numpy(ledoit_wolf(codes.numpy())[0])
    return torch.distributions.MultivariateNormal(codes.mean(0), covariance).log_prob(z)


def hubness(z: Tensor) -> Tensor:
    lists = within(z).topk(5, largest=False).indices
    return torch.bincount(lists.flatten(), minlength=len(z)).double()


def aggregate_posterior(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    parts = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    return torch.stack([parts.log_prob(code).sum(1).logsumexp(0) for code in z]) - math.log(len(mean))


def aggregate_posterior_ratio(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return aggregate_posterior(z, mean, logvar) - torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)


def pseudo_density(y: Tensor, x: Tensor) -> Tensor:
    fake, real = (d.topk(10, largest=False).values.mean(1) for d in (cross(y, x), within(x)))
    return (1 / fake) / (1 / real).mean()


def mixture(points: Tensor, centres: Tensor, log_variance: Tensor) -> Tensor:
    normaliser = 0.5 * points.shape[1] * (log_variance + math.log(2 * math.pi))
    exponents = -0.5 * cross(points, centres).square() / log_variance.exp()
    return (exponents - normaliser).logsumexp(1) - math.log(len(centres))


def feature_density(y: Tensor, x: Tensor) -> Tensor:
    return mixture(y, *fitted_mixture(x, 0)) / y.shape[1]


def feature_likelihood_distance(y: Tensor, x: Tensor, t: Tensor) -> float:
    std = t.std(0)
    y, x, t = ((s - t.mean(0)) / torch.where(std > 0, std, 1) for s in (y, x, t))
    generator = torch.Generator().manual_seed(0)
    centres, targets = (s[torch.randperm(len(s), generator=generator)] for s in (y, x))
    generated = mixture(t, centres, fitted_log_variances(centres, targets))
    return float((mixture(t, *fitted_mixture(x, 0)) - generated).mean()) * 100 / y.shape[1]


def nearest(y: Tensor, x: Tensor) -> Tensor:
    return cross(y, x).amin(1)


FORMULAS: dict[str, Callable[..., Any]] = {
    "discriminator_logit": lambda y: y[:, 0],
    "reconstruction_error": lambda residual: residual[:, 0].mean(),
    "reconstruction_residual": lambda residual: residual[:, 0],
    "precision": lambda y, x: share(held(x, y).any(0)),
    "recall": lambda y, x: share(held(y, x).any(0)),
    "density": lambda y, x: float(held(x, y).sum()) / (5 * len(y)),
    "coverage": lambda y, x: share(held(x, y).any(1)),
    "realism": realism,
    "rarity": rarity,
    "authenticity": authenticity,
    "symmetric_precision": lambda y, x: min(share(held(x, y).any(0)), share(held(y, x).any(1))),
    "symmetric_recall": lambda y, x: min(share(held(y, x).any(0)), share(held(x, y).any(1))),
    "precision_cover": lambda y, x: share(held(y, x, 9).sum(1) >= 3),
    "recall_cover": lambda y, x: share(held(x, y, 9).sum(1) >= 3),
    "clipped_density": clipped_density,
    "clipped_coverage": clipped_coverage,
    "probabilistic_precision": probabilistic,
    "probabilistic_recall": lambda y, x: probabilistic(x, y),
    "alpha_precision": alpha_precision,
    "beta_recall": beta_recall,
    "frechet_distance": frechet,
    "frechet_floor": frechet,
    "frechet_infinity": frechet_infinity,
    "kid": kernel_distance,
    "kernel_distance": kernel_distance,
    "cmmd": cmmd,
    "sliced_distance": sliced_distance,
    "vendi_score": vendi_score,
    "latent_density": latent_density,
    "active_latent_density": active_latent_density,
    "gaussian_log_density": gaussian_log_density,
    "latent_knn": lambda z, codes: -cross(z, codes).topk(10, largest=False).values.mean(1),
    "hubness": hubness,
    "negative_norm": lambda z: -z.norm(dim=1),
    "negative_distance_to_mean": lambda z, codes: -(z - codes.mean(0)).norm(dim=1),
    "aggregate_posterior": aggregate_posterior,
    "aggregate_posterior_ratio": aggregate_posterior_ratio,
    "pseudo_density": pseudo_density,
    "feature_density": feature_density,
    "feature_likelihood_distance": feature_likelihood_distance,
    "nearest_pixel": nearest,
    "nearest_feature": nearest,
    "nearest_training_pixel": nearest,
    "nearest_training_feature": nearest,
    "judge_confidence": lambda logits: logits.softmax(1).amax(1),
    "judge_entropy": lambda logits: torch.special.entr(logits.softmax(1)).sum(1),
    "predicted_class": lambda logits: logits.argmax(1).double(),
}


def test_every_metric_has_a_slow_version() -> None:
    assert sorted([*FORMULAS, *ELSEWHERE, *SHAPES, *STEPS, *VOLUMES]) == OURS


@pytest.mark.parametrize("name", FORMULAS)
def test_float32_agrees_with_the_formula_in_float64(sets: Sets, name: str) -> None:
    m = METRICS[name]
    arguments = sets.arguments(m)
    assert all(x.dtype == torch.float32 for x in arguments)
    found, right = m.function(*arguments), FORMULAS[name](*(x.double() for x in arguments))
    found = found if m.kind == "sample" else torch.tensor(found.value, dtype=torch.float64)
    right = torch.as_tensor(right, dtype=torch.float64)
    torch.testing.assert_close(found, right, rtol=1e-5, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "name",
    sorted(
        set(ELSEWHERE)
        - {"fid", "cycle_consistency", "mean_intensity", "laplacian_variance", "png_bytes", "random_score"}
    ),
)
def test_float32_agrees_with_float64(sets: Sets, name: str) -> None:
    m = METRICS[name]
    arguments = sets.arguments(m)
    found, right = m.function(*arguments), m.function(*(x.double() for x in arguments))
    if m.kind == "set":
        found, right = (torch.tensor(e.value) for e in (found, right))
    torch.testing.assert_close(found, right, rtol=1e-5, atol=0)
