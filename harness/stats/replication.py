"""What a number would be on another trained network: a hierarchical model over data sets and training seeds.

    y_ds = mu + b_d + r_d + t_ds + e_ds

y_ds is what was measured on network s of data set d, b_d the effect of the data set, t_ds that of the training seed,
r_d the error that all networks of a data set share because the same real samples judge them, e_ds the error of the
samples. All are normal. The variances of r and e are known; mu has a flat prior, and the standard deviations of b and t
have half-normal ones (Gelman 2006, Bayesian Analysis 1(3)). Means are integrated in closed form, the two standard
deviations by quadrature, so that no result depends on a seed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, stdtrit

from .intervals import Z95

Floats = NDArray[np.float64]
Verdict = Literal["holds", "does not hold", "undecided"]

PRIOR = 0.2
"""Scale of the half-normal priors: between networks, a correlation rarely differs by more than twice that."""
NODES = 48
"""Nodes of the quadrature over each standard deviation."""
REACH = 5.0
"""The quadrature ends at this many prior scales, where the prior has 6e-7 of its mass left."""
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Normals:
    """A mixture of normal distributions: weights, means and variances, each [K]."""

    weights: Floats
    means: Floats
    variances: Floats

    def below(self, x: float) -> float:
        """P(X <= x)."""
        return float(self.weights @ ndtr((x - self.means) / np.sqrt(self.variances)))

    @property
    def mean(self) -> float:
        return float(self.weights @ self.means)

    @property
    def interval(self) -> tuple[float, float]:
        """From the 2.5 % to the 97.5 % point."""
        reach = 10 * math.sqrt(float(self.variances.max()))
        ends = float(self.means.min()) - reach, float(self.means.max()) + reach

        def point(share: float) -> float:
            return float(brentq(lambda x: self.below(x) - share, *ends, xtol=1e-9))

        return point(0.025), point(0.975)


class Replication:
    """The posterior distribution of the model, given what was measured.

    measured: by data set, values and error variances, one of each for every trained network, [S] and [S].
    shared:   by data set, the variance of the error that its networks share; 0 where it is not given.
    prior:    scale of the half-normal priors, in the units of the values.
    Raises ValueError without values, for values that are not finite, and for variances that are negative.
    """

    def __init__(
        self,
        measured: Mapping[str, tuple[Sequence[float], Sequence[float]]],
        shared: Mapping[str, float] | None = None,
        prior: float = PRIOR,
    ):
        self.measured = {name: (np.array(y, float), np.array(v, float)) for name, (y, v) in measured.items()}
        self.shared = {name: float((shared or {}).get(name, 0.0)) for name in measured}
        self._check(prior)
        points, weights = leggauss(NODES)
        sd, mass = (points + 1) * REACH * prior / 2, weights * np.exp(-(((points + 1) * REACH / 2) ** 2) / 2)
        self.data_sd, self.seed_sd = (grid.ravel() for grid in np.meshgrid(sd, sd, indexing="ij"))
        log_prior = np.log(np.outer(mass, mass)).ravel()
        precision, centre, inner = zip(*(self._of_data_set(name) for name in measured), strict=True)
        self.precision, self.centre = np.array(precision), np.array(centre)
        self.total = self.precision.sum(0)
        self.mu = (self.precision * self.centre).sum(0) / self.total
        spread = (self.precision * (self.centre - self.mu) ** 2).sum(0)
        fit = sum(inner) + (np.log(self.precision).sum(0) - np.log(self.total) - spread) / 2 + log_prior
        self.weights = np.exp(fit - fit.max())
        self.weights /= self.weights.sum()

    def _check(self, prior: float) -> None:
        if not self.measured or any(len(y) == 0 for y, _ in self.measured.values()):
            raise ValueError("a replication needs one or more data sets, and of each one or more networks")
        if not prior > 0:
            raise ValueError(f"prior={prior} must be greater than 0")
        for name, (y, v) in self.measured.items():
            if y.shape != v.shape:
                raise ValueError(f"{name}: {len(y)} values and {len(v)} variances; give one of each for every network")
            if not (np.isfinite(y).all() and np.isfinite(v).all()):
                raise ValueError(f"{name}: values and variances must be finite; leave out networks that have none")
            if (v < 0).any() or not self.shared[name] >= 0:
                raise ValueError(f"{name}: variances must be 0 or greater")

    def _of_data_set(self, name: str) -> tuple[Floats, Floats, Floats]:
        """Of the mean of a data set's networks: its precision around mu, its value, and the fit within; each [K]."""
        y, v = self.measured[name]
        w = 1 / (v[:, None] + np.maximum(self.seed_sd**2, 1e-18))
        whole = w.sum(0)
        centre = (w * y[:, None]).sum(0) / whole
        inner = (np.log(w).sum(0) - np.log(whole) - (w * (y[:, None] - centre) ** 2).sum(0)) / 2
        return 1 / (1 / whole + self.data_sd**2 + self.shared[name]), centre, inner

    @cached_property
    def average(self) -> Normals:
        """Of mu, the mean over data sets and networks."""
        return Normals(self.weights, self.mu, 1 / self.total)

    @cached_property
    def new_data_set(self) -> Normals:
        """Of a new network on a new data set."""
        return Normals(self.weights, self.mu, 1 / self.total + self.data_sd**2 + self.seed_sd**2)

    def on(self, name: str) -> Normals:
        """Of the mean over all networks that could be trained on a data set."""
        at = list(self.measured).index(name)
        kept = self.data_sd**2 * self.precision[at]
        means = (1 - kept) * self.mu + kept * self.centre[at]
        return Normals(self.weights, means, self.data_sd**2 * (1 - kept) + (1 - kept) ** 2 / self.total)

    def new_network(self, name: str) -> Normals:
        """Of one new network on a data set."""
        mean = self.on(name)
        return Normals(self.weights, mean.means, mean.variances + self.seed_sd**2)

    def variances(self) -> dict[str, float]:
        """Posterior means of the parts of the variance of what is measured: data set, seed, reals, samples."""
        errors = np.concatenate([v for _, v in self.measured.values()])
        return {
            "data set": float(self.weights @ self.data_sd**2),
            "seed": float(self.weights @ self.seed_sd**2),
            "reals": float(np.mean(list(self.shared.values()))),
            "samples": float(errors.mean()),
        }

    def never(self, name: str) -> float:
        """P(more than 2.5 % of all networks on a data set have a value of 0 or less).

        Where that is so, the interval for a new network contains 0 or lies below it, however many networks are trained.
        """
        mean = self.on(name)
        return float(self.weights @ ndtr((Z95 * self.seed_sd - mean.means) / np.sqrt(mean.variances)))

    def seeds_needed(self, name: str) -> float:
        """The number of networks of a data set from which the interval for a new one is expected to lie above 0.

        The values are taken to have the mean and the standard deviations that the posterior expects. The interval is
        that of Student's t with one degree of freedom less than there are networks. inf where no number up to 1,000
        is enough.
        """
        centre, parts = self.on(name).mean, self.variances()
        seed, noise = parts["seed"], parts["samples"]
        for count in range(2, MOST_SEEDS + 1):
            spread = math.sqrt(seed + (seed + noise) / count + self.shared[name])
            if centre > float(stdtrit(count - 1, 0.975)) * spread:
                return count
        return math.inf


def two_sided(distribution: Normals) -> float:
    """Twice the smaller of the probabilities that a value lies below and above 0, in (0, 1]."""
    below = distribution.below(0.0)
    return min(1.0, 2 * min(below, 1 - below))


def partial_conjunction(p_values: Sequence[float], at_least: int) -> float:
    """The p-value of "fewer than `at_least` of the null hypotheses are false" (Benjamini and Heller 2008, equation 3).

    (n - r + 1) times the r-th smallest of n p-values, at most 1: Bonferroni's form, valid however they depend on each
    other. Raises ValueError where there are fewer than r p-values.
    """
    if not 1 <= at_least <= len(p_values):
        raise ValueError(f"at_least={at_least} must be between 1 and {len(p_values)}, the number of p-values")
    return min(1.0, (len(p_values) - at_least + 1) * sorted(p_values)[at_least - 1])


def decide(replication: Replication, name: str, level: float = 0.05) -> Verdict:
    """Whether the value of a new network on a data set is above 0.

    It holds where the probability is 1 - level / 2 or more. It does not hold where that would stay untrue with any
    number of networks, with the same probability. Where no data set has two networks, nothing tells how much they
    differ, and it is undecided. level: what Holm's correction leaves of 5 %.
    """
    if all(len(values) < 2 for values, _ in replication.measured.values()):
        return "undecided"
    if replication.new_network(name).below(0.0) <= level / 2:
        return "holds"
    return "does not hold" if replication.never(name) >= 1 - level / 2 else "undecided"


def fisher_z(value: float, interval: tuple[float, float]) -> tuple[float, float]:
    """Fisher's z of a correlation, and its variance from the width of a 95 % interval."""
    edge = 1 - 1e-12
    z, low, high = (math.atanh(max(-edge, min(edge, x))) for x in (value, *interval))
    return z, ((high - low) / (2 * Z95)) ** 2
