"""C_T, a three-sample test for copying: are generated samples nearer to the training set than held-out ones are?"""

import math

import torch

from ..harness.core.inputs import Array, samples
from ..harness.core.options import Count, Seed
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.nearest import nearest
from .kernels.scale import power_of_two, scaled

DIMENSION = 64
"""Features with more dimensions are projected to this many principal components of the real samples."""

LEAST = 10
"""Cells with fewer generated or held-out samples are left out, because U is normal only for larger counts."""


@metric(
    better="neither",
    kind="set",
    source="arXiv:2004.05675",
    fake=View("fake", "features"),
    real=View("real", "features", n="all"),
    holdout=View("holdout", "features", n="all"),
)
def copying_score(fake: Array, real: Array, holdout: Array, cells: Count = 3, seed: Seed = 0) -> Estimate:
    """C_T: about 0 is good, far below 0 means copying, far above 0 under-fitting; sets [M, D], [N, D] and [T, D].

        sum_c w_c z_c,   z = (U - n m / 2) / sqrt(n m (n + m + 1) / 12),   w_c the share of held-out samples in cell c

    For each cell, U counts the pairs of a generated and a held-out sample in which the generated one is farther from
    its nearest real sample; a tie counts one half. The cells are the `cells` clusters of the real samples by k-means
    (seeded by `seed`). Features with more than 64 dimensions are first projected to 64 principal components. For equal
    distributions each z is standard normal, which gives the interval. Cells with fewer than 10 generated or 10 held-out
    samples are left out; `missing` counts their samples.
    Raises ValueError for bad input, fewer than 1 cell, fewer real samples than cells, or when no cell is left.
    """
    from scipy.stats import rankdata  # here, because these load for a second
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    y, x, t = samples(2, fake=fake, real=real, holdout=holdout)
    samples(cells, real=x)
    power = power_of_two(y, x, t)
    y, x, t = (scaled(s, power) for s in (y, x, t))
    sets = [s.double().cpu().numpy() for s in (y, x, t)]
    if y.shape[1] > DIMENSION < len(x):
        components = PCA(DIMENSION, random_state=seed).fit(sets[1])
        sets = [components.transform(s) for s in sets]
    clusters = KMeans(cells, n_init=1, random_state=seed).fit(sets[1])
    cell = [clusters.predict(s) for s in (sets[0], sets[2])]
    reals = torch.from_numpy(sets[1])
    distance = [nearest(torch.from_numpy(s), reals, 1).distances[:, 0].numpy() for s in (sets[0], sets[2])]
    scores, weights, used = [], [], 0
    for c in range(cells):
        generated, held_out = (d[k == c] for d, k in zip(distance, cell, strict=True))
        m, n = len(generated), len(held_out)
        if min(m, n) < LEAST:
            continue
        u = float(rankdata([*generated, *held_out])[:m].sum()) - m * (m + 1) / 2
        scores.append((u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12))
        weights.append(n)
        used += m + n
    if not scores:
        raise ValueError(f"none of {cells} cells has {LEAST} generated and {LEAST} held-out samples: set fewer cells")
    shares = [n / sum(weights) for n in weights]
    value = sum(share * z for share, z in zip(shares, scores, strict=True))
    found = intervals.normal(value, math.sqrt(sum(share**2 for share in shares)), used)
    return found._replace(missing=len(y) + len(t) - used)
