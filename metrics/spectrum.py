"""Vendi score: the effective number of distinct samples, from the eigenvalues of their similarity matrix."""

import math
from typing import Annotated

import torch

from ..harness.core.inputs import Array, samples
from ..harness.core.options import Range
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals
from .kernels.moments import gram

Order = Annotated[float, Range(least=0, infinite=True)]
DROP = 1e-12
"""Eigenvalues below this share of the trace are treated as rounding errors."""


@metric(better="higher", kind="set", source="arXiv:2210.02410", fake=View("fake", "features"))
def vendi_score(fake: Array, order: Order = 1.0) -> Estimate:
    """exp of the entropy of the eigenvalues of K / N, in [1, N]; K holds the cosine similarities of fake [N, D].

        exp( log(sum_l lambda_l^q) / (1 - q) ),   q the order

    with the limits exp(-sum_l lambda_l log lambda_l) for q = 1 and 1 / max lambda_l for q = inf. The score grows with N
    and depends on an offset of the features, so compare sets of equal N in one feature space. The interval (delta
    method) is too narrow for order < 1 with N < D. Raises ValueError for bad input, or a row of zeros, which has no
    direction.
    """
    (y,) = samples(2, fake=fake)
    y = y.double()
    largest = y.abs().amax(1, keepdim=True)
    y = y / largest.where(largest > 0, 1)  # the squares of tiny or huge values are not representable
    norms = y.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        zeros = (norms == 0).squeeze(1)
        raise ValueError(
            f"fake: {int(zeros.sum())} of {len(y)} rows are zero, "
            f"the first is row {int(zeros.nonzero()[0])}: remove them"
        )
    y = y / norms
    n, few = len(y), len(y) < y.shape[1]
    values, vectors = torch.linalg.eigh((y @ y.T if few else gram(y)) / n)
    kept = values > DROP
    values, vectors = values[kept] / values[kept].sum(), vectors[:, kept]
    # squares[i, l] is the squared component of y_i along the l-th principal direction; its mean over i is lambda_l.
    squares = (vectors.square() * n * values) if few else (y @ vectors).square()
    if order == 1:
        log = -float((values * values.log()).sum())
        influence = -squares @ values.log() - log
    elif math.isinf(order):
        log = -math.log(float(values[-1]))
        influence = 1 - squares[:, -1] / values[-1]
    else:
        beyond = order - 1
        logs = beyond * values.log()
        if abs(beyond) < 0.5:
            # sum lambda^q - 1, of which no digit is lost beside 1 for q close to 1
            change = float(values @ logs.expm1())
            log = -math.log1p(change) / beyond
            influence = -order / beyond * ((squares @ logs.expm1() - change) / (1 + change))
        else:
            log_total = float((order * values.log()).logsumexp(0))
            log = -log_total / beyond
            influence = -order / beyond * (squares @ (logs - log_total).exp() - 1)
    score = math.exp(log)
    return intervals.normal(score, score * float(influence.std()) / math.sqrt(n), n)
