"""The metrics of neighbours by their formulas, from all float64 differences."""

import numpy as np
import numpy.typing as npt
import torch

Matrix = npt.NDArray[np.float64]


def unit(*sets: Matrix) -> float:
    """A power of two that brings the sets near 1, so that squares are representable; it changes no digit."""
    largest = max(float(np.abs(s).max()) for s in sets)
    return 2.0 ** -np.frexp(largest)[1] if largest else 1.0


def distances(a: Matrix, b: Matrix) -> Matrix:
    power = unit(a, b)
    # torch adds the squares, because distances that are equal but for the order of a sum are ties by chance.
    differences = torch.from_numpy((a[:, None] - b[None]) * power)
    result: Matrix = torch.linalg.vector_norm(differences, dim=2).numpy() / power
    return result


def among(x: Matrix) -> Matrix:
    d = distances(x, x)
    np.fill_diagonal(d, np.inf)
    return d


def radii(x: Matrix, k: int) -> Matrix:
    result: Matrix = np.sort(among(x), 1)[:, k - 1]
    return result


def precision(y: Matrix, x: Matrix, k: int) -> float:
    return float((distances(y, x) <= radii(x, k)).any(1).mean())


def density(y: Matrix, x: Matrix, k: int) -> float:
    return float((distances(y, x) <= radii(x, k)).sum(1).mean() / k)


def coverage(y: Matrix, x: Matrix, k: int) -> float:
    return float((distances(x, y) <= radii(x, k)[:, None]).any(1).mean())


def realism(y: Matrix, x: Matrix, k: int) -> Matrix:
    r, d = radii(x, k), distances(y, x)
    kept = r <= np.sort(r)[(len(r) - 1) // 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(d == 0, 1e6, np.minimum(r / d, 1e6))
    result: Matrix = ratio[:, kept].max(1)
    return result


def rarity(y: Matrix, x: Matrix, k: int) -> Matrix:
    r = np.where(distances(y, x) <= radii(x, k), radii(x, k)[None], np.inf).min(1)
    return np.where(r < np.inf, r, np.nan)


def cover(y: Matrix, x: Matrix, k: int, factor: int) -> float:
    """Share of y whose ball of radius NND_(factor k)(y) holds at least k of x."""
    return float(((distances(y, x) <= radii(y, factor * k)[:, None]).sum(1) >= k).mean())


def clipped_density(y: Matrix, x: Matrix, k: int) -> float:
    r = radii(x, k)
    r = np.minimum(r, np.sort(r)[(len(r) - 1) // 2])
    raw = np.minimum(1, (distances(y, x) <= r).sum(1) / k).mean()
    real = np.minimum(1, (among(x) <= r).sum(1) / k).mean()
    return float(min(1, raw / real))


def clipped_coverage_counts(y: Matrix, x: Matrix, k: int) -> float:
    return float(np.minimum(k, (distances(x, y) <= radii(x, k)[:, None]).sum(1)).mean() / k)


def nearest(y: Matrix, x: Matrix) -> Matrix:
    result: Matrix = distances(y, x).min(1)
    return result


def k_occurrence(x: Matrix, k: int) -> Matrix:
    places = np.zeros(len(x))
    for row in among(x):
        last = np.sort(row)[k - 1]
        nearer, tied = row < last, row == last
        places += nearer + tied * (k - nearer.sum()) / tied.sum()
    return places


def beta_recall(y: Matrix, x: Matrix, levels: int) -> tuple[float, float]:
    """The value, and by how much the rounding of the mean can change it."""
    centred = distances(y, y.mean(0)[None])[:, 0]
    across, r, values = distances(x, y), radii(x, 1), []
    for slack in (0, 1e-12, -1e-12):
        limits, inside = quantiles(centred, levels) * (1 + slack), np.zeros((len(x), levels))
        for i, row in enumerate(across):
            if row.min() <= r[i]:
                inside[i] = (centred[row == row.min()][:, None] <= limits).mean(0)
        values.append(integrated(inside, levels))
    return values[0], max(values) - min(values)


def alpha_precision(y: Matrix, x: Matrix, levels: int) -> tuple[float, float]:
    """The value, and by how much the rounding of the mean can change it."""
    centre = x.sum(0)[None] / len(x)
    limits, found = quantiles(distances(x, centre)[:, 0], levels), distances(y, centre)
    # Rows on opposite sides of the mean are equally far from it, but for the rounding of the mean.
    values = [integrated((found <= limits * (1 + slack)).astype(float), levels) for slack in (0, 1e-12, -1e-12)]
    return values[0], max(values) - min(values)


def quantiles(values: Matrix, levels: int) -> Matrix:
    ordered = np.sort(values)
    result = []
    for level in range(levels):
        whole, part = divmod(level * (len(values) - 1), levels - 1)
        above = ordered[min(whole + 1, len(values) - 1)]
        result.append(ordered[whole] + part / (levels - 1) * (above - ordered[whole]))
    return np.array(result)


def integrated(inside: Matrix, levels: int) -> float:
    level = np.linspace(0, 1, levels)
    return float(1 - 2 * np.abs(inside.mean(0) - level).sum() / (levels - 1))


def probabilistic(y: Matrix, x: Matrix, k: int, scale: float) -> float:
    radius = scale * radii(x, k).mean()
    return float((1 - np.minimum(1, distances(y, x) / radius).prod(1)).mean())
