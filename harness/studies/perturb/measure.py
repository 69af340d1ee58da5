"""Can a single sample be made more common, or more unique? Latents moved by the gradient of a learned density."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ....generators.sampling.perturbation import perturb as moved_by_gradient
from ....generators.sampling.perturbation import random_signs
from ....metrics.pseudo_density import DensityNetwork
from ...arrays.store import ScoreKey
from ...core.files import canonical
from ...core.progress import say
from ...core.protocols import Estimate, View
from ...core.registry import study
from ...run import Run
from ...stats import intervals
from ...stats.ranks import rank_correlations, rank_moments
from ..judged import Judged, bootstrapped, judge, resampled, scores_of
from ..spaces import chosen_space, prior_space
from .page import BEFORE, DIRECTIONS, MOVED, OVER_BEFORE, OVER_RANDOM, RANDOM, SETTING, draw_grid, page

VERSION = 1
EXACT, PREDICTED = "exact density", "predicted density"


@study(page)
def perturb(
    run: Run,
    epsilons: Sequence[float] = (0.1, 0.2, 0.4),
    directions: Sequence[str] = DIRECTIONS,
    gradients: Sequence[str] = ("sign", "raw"),
    steps: int = 10,
    alpha: float = 0.25,
    k: int = 10,
    epochs: int = 100,
    count: int = 1000,
    space: str = "auto",
    judge_space: str = "features",
    neighbours: int = 3,
    resamples: int = 500,
    chunk: int = 100,
    shown: int = 12,
) -> None:
    """The first `count` samples, moved to a lower and to a higher pseudo density (arXiv:2407.08659, Algorithm 1).

    A network learns the pseudo density of the real samples in the features of the run; the latents follow its gradient
    judge_space the generator as decoded, neither clamped nor rounded. What came of it is measured on samples as they are
    stored, 8 bits deep: the exact density beside the predicted one, for a network can be fooled; precision, recall and
    Fréchet distance against as many reals in another feature space; and `run.quality_signals`. The control beside every
    number is a move as far in each coordinate, each way with probability 1/2.

    epsilons:  the most that a coordinate may move. gradients: "sign" of the gradient as released, or "raw" as printed.
    alpha:     step size as a share of epsilon.
    k, epochs: neighbours of the density, and of the training of its network.
    space:     latent space; "auto" is where sampling starts: the noise of a diffusion model, else the first space.
    judge_space:   the feature space that judges; choose another one than the features of the run, which drive.
    neighbours: of precision and recall; `resamples` bootstraps of samples and reals give the intervals of their gains,
               while the balls stay as they are: how lucky the balls of a set are for recall is left out.
    chunk:     latents in memory at a time. shown: samples in the pictures.
    """
    if not 10 <= count <= run.n or count < neighbours + 2:
        raise ValueError(f"count={count} must be {max(10, neighbours + 2)} or more, and at most n={run.n}")
    for name, given, known in (
        ("directions", directions, DIRECTIONS),
        ("gradients", gradients, ("sign", "raw")),
    ):
        if not given or not set(given) <= set(known):
            raise ValueError(f"{name}={list(given)} must be some of {', '.join(known)}")
    chosen = chosen_space(run, space, auto=prior_space(run))
    judge_space = run.views.features if judge_space == "features" else judge_space
    moves = Moves(run, chosen, judge_space, steps, alpha, k, epochs, count, neighbours, resamples, chunk)
    moves.record("network", "none", 0.0, "none", moves.network_numbers)
    for gradient in gradients:
        for epsilon in epsilons:
            for direction in directions:
                compute = partial(moves.numbers, gradient, epsilon, direction)
                moves.record("moved", gradient, epsilon, direction, compute)
            few = {d: moves.moved(gradient, epsilon, d)[:shown] for d in DIRECTIONS if d in directions}
            few["random"] = moves.control(gradient, epsilon, next(reversed(few)))[:shown]
            draw_grid(run, moves.setting, gradient, epsilon, {d: moves.images(z) for d, z in few.items()},
                      moves.images(moves.start[:shown]))  # fmt: skip


class Measured(NamedTuple):
    """Samples of some latents: numbers [N] of each by name, and all of them judged together."""

    scores: Mapping[str, Tensor]
    judged: Judged


@dataclass
class Moves:
    """Latents moved in every way asked for, each found once and kept in the store; and what is measured on them."""

    run: Run
    space: str
    judge_space: str
    steps: int
    alpha: float
    k: int
    epochs: int
    count: int
    neighbours: int
    resamples: int
    chunk: int

    @property
    def setting(self) -> dict[str, str | int | float]:
        """What all records have in common, by the names in SETTING."""
        values = (
            *(self.space, self.run.views.features, self.judge_space, self.steps, self.alpha),
            *(self.k, self.epochs, self.count, self.neighbours, self.resamples),
        )
        return dict(zip(SETTING, values, strict=True))

    def __post_init__(self) -> None:
        self.density = self.run.cell("pseudo_density", k=self.k)
        self.signals = self.run.cells(self.run.quality_signals)
        self.views = {
            "latents": View("fake", f"latent:{self.space}"),
            "reference": self.density.views["reference"],
            "real": View("real", self.judge_space, n=self.count),
            "fake": View("fake", self.judge_space),
        }

    def record(
        self, part: str, gradient: str, epsilon: float, direction: str, compute: Callable[[], Mapping[str, Estimate]]
    ) -> None:
        setting = {"gradient": gradient, "epsilon": epsilon, "direction": direction}
        params = {"columns": "quantity ~ of", "part": part, **setting, **self.setting}
        self.run.record("perturb", VERSION, params, self.signals, compute, self.views)

    # What moves

    @cached_property
    def start(self) -> Tensor:
        return self.run.views.tensor(self.views["latents"], self.run.seed, self.run.n)[: self.count]

    @cached_property
    def reference(self) -> Tensor:
        return self.run.views.tensor(self.views["reference"], self.run.seed, self.run.n)

    @cached_property
    def network(self) -> DensityNetwork:
        """Learned once for all generators: its parameters, and the error last, are kept in the store."""
        digest = self.run.views.digest(self.views["reference"], self.run.seed, self.run.n)
        params = canonical({"k": self.k, "epochs": self.epochs, "seed": self.run.seed})
        key = ScoreKey("density_network", VERSION, params, (("reference", digest),))

        def make() -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
            say(f"learning the pseudo density of {len(self.reference):,} real samples, {self.epochs} epochs")
            found = DensityNetwork.fit(self.reference, self.k, self.epochs, self.run.seed)
            numbers = torch.nn.utils.parameters_to_vector(found.parameters()).detach().double().cpu()
            return np.append(numbers.numpy(), found.held_out_error)

        stored = torch.from_numpy(self.run.views.store.array(key, make).copy())
        network = DensityNetwork(self.reference.shape[1]).to(self.reference.device)
        torch.nn.utils.vector_to_parameters(stored[:-1].float().to(self.reference.device), network.parameters())
        network.held_out_error = float(stored[-1])
        return network.eval().requires_grad_(False)

    def predicted(self, z: Tensor) -> Tensor:
        """Density as the network sees it, of images as decoded."""
        extract = self.run.views.extractor(self.run.views.features)
        return self.network(extract(self.run.views.generator.decode(z, self.space)))  # type: ignore[no-any-return]

    def moved(self, gradient: str, epsilon: float, direction: str) -> Tensor:
        """The latents after all steps, from the store where they are."""
        params = {**self.setting, "gradient": gradient, "epsilon": epsilon, "direction": direction}
        digests = {name: self.run.views.digest(view, self.run.seed, self.run.n) for name, view in
                   self.views.items()}  # fmt: skip
        key = ScoreKey("perturb", VERSION, canonical(params), tuple(sorted(digests.items())))

        def make() -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
            say(f"{self.count:,} latents in {self.space}, {direction} by the {gradient} gradient, epsilon {epsilon:g}")
            towards: Literal["higher", "lower"] = "higher" if direction == "higher" else "lower"
            found = moved_by_gradient(
                self.predicted, self.start, epsilon, self.steps, self.alpha * epsilon, towards, gradient == "sign",
                self.chunk,
            )  # fmt: skip
            return found.latents.float().cpu().numpy()

        return torch.from_numpy(self.run.views.store.array(key, make).copy()).to(self.start)

    def control(self, gradient: str, epsilon: float, direction: str) -> Tensor:
        return random_signs(self.start, self.moved(gradient, epsilon, direction), epsilon, self.run.seed)

    def images(self, z: Tensor) -> Tensor:
        """As stored, uint8 [N, C, H, W]."""
        return (self.run.views.seen(z, self.space, "images") * 255).byte().cpu()

    # What is measured

    @cached_property
    def before(self) -> Measured:
        return self.measured(self.start)

    def measured(self, z: Tensor) -> Measured:
        with torch.no_grad():
            predicted = torch.cat([self.predicted(part) for part in torch.split(z, self.chunk)])
        scores = {
            PREDICTED: predicted.double().cpu(),
            EXACT: scores_of(self.run, self.density, z, self.space),
            **{cell.label: scores_of(self.run, cell, z, self.space) for cell in self.signals},
        }
        features = self.run.views.seen(z, self.space, self.judge_space)
        real = self.run.views.tensor(self.views["real"], self.run.seed, self.run.n)
        rows = torch.arange(self.count)
        return Measured(scores, judge(features, real, self.neighbours, rows, self.count))

    def network_numbers(self) -> dict[str, Estimate]:
        """How well the network knows the density of real samples, and of generated ones."""
        error, n = self.network.held_out_error, len(self.reference)
        scores = self.before.scores
        return {
            "held-out squared error ~ real": _alone(error, n - n * 4 // 5),
            f"rank agreement ~ {BEFORE}": self._rank_agreement(scores),
            **{f"{name} ~ {BEFORE}": intervals.mean(values) for name, values in scores.items()},
        }

    def _rank_agreement(self, scores: Mapping[str, Tensor]) -> Estimate:
        columns = torch.stack([scores[PREDICTED], scores[EXACT]], 1)
        moments = rank_moments(columns, torch.zeros(self.count), self.resamples, self.run.seed)
        return bootstrapped(rank_correlations(moments, [0], [1])[:, 0, 0], self.count)

    def numbers(self, gradient: str, epsilon: float, direction: str) -> dict[str, Estimate]:
        latents = {
            MOVED: self.moved(gradient, epsilon, direction),
            RANDOM: self.control(gradient, epsilon, direction),
        }
        seen = {BEFORE: self.before} | {name: self.measured(z) for name, z in latents.items()}
        found = {
            f"largest move ~ {name}": _alone(float((z.double() - self.start.double()).abs().max()), self.count)
            for name, z in latents.items()
        }
        for name in seen[BEFORE].scores:
            columns = {of: one.scores[name] for of, one in seen.items()}
            found |= {f"{name} ~ {of}": intervals.mean(column) for of, column in columns.items()}
            found |= _differences(name, columns)
        found |= self._directions(seen, 1 if direction == "higher" else -1)
        found |= self._sets(seen)
        found[f"rank agreement ~ {MOVED}"] = self._rank_agreement(seen[MOVED].scores)
        found[f"calls ~ {MOVED}"] = _alone(self.steps + 1, self.count)
        return found

    def _directions(self, seen: Mapping[str, Measured], sense: int) -> dict[str, Estimate]:
        """Shares of samples that move the right way, and how much of what the network promised was true."""
        changes = {
            (name, of): sense * (seen[of].scores[name] - seen[BEFORE].scores[name])
            for name in (PREDICTED, EXACT)
            for of in (MOVED, RANDOM)
        }
        found: dict[str, Estimate] = {}
        for name in (PREDICTED, EXACT):
            right = {of: changes[name, of] > 0 for of in (MOVED, RANDOM)}
            found |= {f"{name} moves right ~ {of}": intervals.proportion(hits) for of, hits in right.items()}
            paired = right[MOVED].double() - right[RANDOM].double()
            found[f"{name} moves right ~ {OVER_RANDOM}"] = intervals.mean(paired)
        for of in (MOVED, RANDOM):
            fooled = (changes[PREDICTED, of] > 0) & ~(changes[EXACT, of] > 0)
            found[f"fooled ~ {of}"] = intervals.proportion(fooled)
        rng = np.random.default_rng(self.run.seed)
        drawn = rng.multinomial(self.count, np.full(self.count, 1 / self.count), size=self.resamples)
        weights = torch.cat([torch.ones(1, self.count).double(), torch.from_numpy(drawn).double()])
        true, promised = weights @ changes[EXACT, MOVED], weights @ changes[PREDICTED, MOVED]
        found[f"exact change a predicted one ~ {MOVED}"] = bootstrapped(true / promised, self.count)
        return found

    def _sets(self, seen: Mapping[str, Measured]) -> dict[str, Estimate]:
        judged = {of: one.judged for of, one in seen.items()}
        both = resampled(list(judged.values()), self.count, self.resamples, self.run.seed)
        found: dict[str, Estimate] = {}
        for name, values in zip(("precision", "recall"), both, strict=True):
            column = dict(zip(judged, values.T, strict=True))
            hits = {of: one.hits if name == "precision" else one.held for of, one in judged.items()}
            found |= {f"{name} ~ {of}": intervals.proportion(hits[of]) for of in judged}
            for over, other in ((OVER_BEFORE, BEFORE), (OVER_RANDOM, RANDOM)):
                found[f"{name} ~ {over}"] = bootstrapped(column[MOVED] - column[other], self.count)
        return found | {f"frechet_distance ~ {of}": one.frechet for of, one in judged.items()}


def _differences(name: str, columns: Mapping[str, Tensor]) -> dict[str, Estimate]:
    return {
        f"{name} ~ {over}": intervals.mean(columns[MOVED] - columns[other])
        for over, other in ((OVER_BEFORE, BEFORE), (OVER_RANDOM, RANDOM))
    }


def _alone(value: float, n: int) -> Estimate:
    return Estimate(value, (math.nan, math.nan), n)
