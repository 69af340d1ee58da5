"""Log densities, kernel means and spectra by their formulas, in float64 differences."""

import math

import numpy as np
from scipy.special import logsumexp

from .neighbours import Matrix, among, distances, radii, unit


def median_distance(x: Matrix) -> float:
    pairs = np.sort(distances(x, x)[np.triu_indices(len(x), 1)])
    return float(pairs[(len(pairs) - 1) // 2])


def latent_density(z: Matrix, codes: Matrix, width: float) -> Matrix:
    result: Matrix = logsumexp(-0.5 * (distances(z, codes) / width) ** 2, axis=1) - math.log(len(codes))
    return result


def mixture(z: Matrix, mean: Matrix, logvar: Matrix) -> Matrix:
    total = np.zeros((len(z), len(mean)))
    for column in range(z.shape[1]):
        log = logvar[:, column % logvar.shape[1]]
        total -= 0.5 * (
            ((z[:, None, column] - mean[None, :, column]) * np.exp(-log / 2)) ** 2 + log + math.log(2 * np.pi)
        )
    result: Matrix = logsumexp(total, axis=1) - math.log(len(mean))
    return result


def ledoit_wolf(z: Matrix, codes: Matrix) -> tuple[Matrix, float]:
    """The log density, and the condition number of the shrunk covariance."""
    power = unit(z, codes)
    z, codes = z * power, codes * power
    m, d = codes.shape
    centred = codes - codes.mean(0)
    covariance = centred.T @ centred / m
    scale = np.trace(covariance) / d
    spread = ((covariance - scale * np.eye(d)) ** 2).sum()
    noise = sum(((np.outer(row, row) - covariance) ** 2).sum() for row in centred) / m**2
    weight = min(1.0, noise / spread) if spread > 0 else 1.0
    shrunk = (1 - weight) * covariance + weight * scale * np.eye(d)
    values, vectors = np.linalg.eigh(shrunk)
    white = ((z - codes.mean(0)) @ vectors) ** 2 / values
    log = -0.5 * (white.sum(1) + np.log(values).sum() + d * math.log(2 * np.pi)) + d * math.log(power)
    return log, float(values[-1] / max(values[0], 1e-300))


def pseudo_density(y: Matrix, x: Matrix, k: int) -> Matrix:
    own = np.sort(among(x), 1)[:, :k].mean(1)
    floor = 1e-3 * np.sort(own)[(len(own) - 1) // 2]
    a = np.maximum(np.sort(distances(y, x), 1)[:, :k].mean(1), floor)
    result: Matrix = (1 / a) / (1 / np.maximum(own, floor)).mean()
    return result


def cmmd(y: Matrix, x: Matrix, bandwidth: float) -> float:
    yy, xx, yx = (np.expm1(-0.5 * (distances(a, b) / bandwidth) ** 2) for a, b in ((y, y), (x, x), (y, x)))
    return float(1000 * (yy.mean() + xx.mean() - 2 * yx.mean()))


def cubic_mmd(y: Matrix, x: Matrix) -> tuple[float, float]:
    """The unbiased squared MMD in extended precision, and the rounding error of that."""
    means, largest = [], 0.0
    for a, b in ((y, y), (x, x), (y, x)):
        inner = np.zeros((len(a), len(b)), dtype=np.longdouble)
        for column in range(a.shape[1]):
            inner += np.multiply.outer(a[:, column].astype(np.longdouble), b[:, column].astype(np.longdouble))
        kernel = (inner / a.shape[1] + 1) ** 3
        largest = max(largest, float(np.abs(kernel).max()))
        pairs = kernel.size
        if a is b:
            np.fill_diagonal(kernel, 0)
            pairs -= len(a)
        means.append(kernel.sum() / pairs)
    return float(means[0] + means[1] - 2 * means[2]), 1e3 * float(np.finfo(np.longdouble).eps) * largest


def vendi(y: Matrix, order: float) -> float:
    y = y / np.abs(y).max(1, keepdims=True)
    y = y / np.sqrt((y**2).sum(1, keepdims=True))
    values = np.linalg.eigvalsh(y @ y.T / len(y))
    values = values[values > 1e-12] / values[values > 1e-12].sum()
    if order == 1:
        return float(np.exp(-(values * np.log(values)).sum()))
    if math.isinf(order):
        return float(1 / values.max())
    return float(np.exp(logsumexp(order * np.log(values)) / (1 - order)))


def frechet(y: Matrix, x: Matrix) -> tuple[float, float]:
    """The squared distance by the nuclear norm of the product of centred rows, and the traces."""
    power = unit(y, x)
    y, x = y * power, x * power
    a, b = ((s - s.mean(0)) / math.sqrt(len(s) - 1) for s in (y, x))
    traces = (a**2).sum() + (b**2).sum()
    # tr (S_r S_g)^(1/2) is the sum of the singular values of a b'.
    value = ((y.mean(0) - x.mean(0)) ** 2).sum() + traces - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(value) / power**2, float(traces) / power**2


def support(x: Matrix) -> float:
    """The bandwidth of topological precision."""
    return float(np.sort(radii(x, 5 * x.shape[1]))[(len(x) - 1) // 2])


def chamfer(y: Matrix, x: Matrix) -> Matrix:
    result, power = np.zeros((len(y), len(x))), unit(y, x)
    for i, a in enumerate(y):
        for j, b in enumerate(x):
            d = ((a[:, None] * power - b[None] * power) ** 2).sum(2)
            result[i, j] = d.min(1).mean() + d.min(0).mean()
    return result / power**2
