"""Can a single sample be made more common, or more unique? Latents moved by the gradient of a learned density."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from ...core.protocols import Estimate, Part, Row, View
from ...core.registry import study
from ...report.figures import save_strips
from ...run import Run
from ...stats import intervals
from ...stats.ranks import rank_correlations, rank_moments
from ..judged import JUDGING, Judged, bootstrapped, fewest, judge, scores_of, without_interval
from ..spaces import chosen_space, prior_space
from . import names
from .names import BEFORE, EXACT, MOVED, PREDICTED, RANDOM, Setting, picture_words
from .page import page

MOVES = 1
"""Version of what is kept in the store: latents that were moved, and the network."""
DIFFERENCES = {names.OVER_BEFORE: BEFORE, names.OVER_RANDOM: RANDOM}
"""Names of the paired differences of moved samples, and what is subtracted."""


@dataclass(frozen=True)
class Options:
    """How latents move, and how what comes of it is judged.

    epsilons:   the most that a coordinate may move.
    directions: of the pseudo density, "lower" and "higher".
    gradients:  "sign" of the gradient as released, or "raw" as printed.
    steps, alpha: number of steps, and their size as a share of epsilon.
    k, epochs:  neighbours of the density, and of the training of its network.
    count:      samples to move.
    space:      latent space; "auto" is where sampling starts: the noise of a diffusion model, else the first space.
    judge_space: the feature space that judges; choose another one than the features of the run, which drive.
    neighbours: of precision and recall.
    halves:     random halves of samples and reals, which give the intervals of precision, recall and their gains.
    resamples:  bootstraps of the samples, which give the intervals of rank agreement and of the share of the predicted
                change that is true.
    chunk:      latents in memory at a time.
    shown:      samples in the pictures.
    """

    epsilons: Sequence[float] = (0.1, 0.2, 0.4)
    directions: Sequence[str] = names.DIRECTIONS
    gradients: Sequence[str] = names.GRADIENTS
    steps: int = 10
    alpha: float = 0.25
    k: int = 10
    epochs: int = 100
    count: int = 1000
    space: str = "auto"
    judge_space: str = "features"
    neighbours: int = 3
    halves: int = 20
    resamples: int = 500
    chunk: int = 100
    shown: int = 12


@study(
    version=2,
    uses=(*JUDGING, "pseudo_density"),  # the latter by DensityNetwork
    page=page,
    perturb=("quantity", "samples_of"),
)
def perturb(run: Run, options: Options) -> Iterator[Part]:
    """Samples moved to a lower and to a higher pseudo density (arXiv:2407.08659, Algorithm 1).

    A network learns the pseudo density of the real samples in the features of the run. Latents follow its gradient
    through the generator as decoded, neither clamped nor rounded. The outcome is measured on samples as they are
    stored, 8 bits deep: the density that the network predicts; the exact density, from neighbours among the reals;
    precision, recall and Fréchet distance of all samples moved, against as many reals in the feature space that judges;
    and the signals of quality. A sample is fooled where the prediction moves the right way and the exact density does
    not. The random control moves as far in each coordinate, each way with probability 1/2. Every difference is paired.
    Raises ValueError for too few or too many samples, and for unknown directions, gradients or spaces.
    """
    if not fewest(options.neighbours) <= options.count <= run.n or options.halves < 2:
        raise ValueError(
            f"count={options.count} must be {fewest(options.neighbours)} or more, and at most n={run.n}; "
            f"halves={options.halves} 2 or more"
        )
    for name, given, known in (
        ("directions", options.directions, names.DIRECTIONS),
        ("gradients", options.gradients, names.GRADIENTS),
    ):
        if not given or not set(given) <= set(known):
            raise ValueError(f"{name}={list(given)} must be some of {', '.join(known)}")
    common = Setting(
        alpha=options.alpha,
        direction="none",
        epochs=options.epochs,
        epsilon=0.0,
        features=run.views.features,
        gradient="none",
        halves=options.halves,
        k=options.k,
        neighbours=options.neighbours,
        part=names.NETWORK,
        resamples=options.resamples,
        samples_moved=options.count,
        space=chosen_space(run, options.space, auto=prior_space(run)),
        steps=options.steps,
        judge_space=run.views.features if options.judge_space == "features" else options.judge_space,
    )
    moves = Moves(run, common, options.chunk)
    yield moves.part(common)
    for gradient in options.gradients:
        for epsilon in options.epsilons:
            ways = {
                direction: replace(common, part=MOVED, gradient=gradient, epsilon=epsilon, direction=direction)
                for direction in names.DIRECTIONS
                if direction in options.directions
            }
            yield from map(moves.part, ways.values())
            strips = {BEFORE: moves.start, **{direction: moves.moved(move) for direction, move in ways.items()}}
            strips[RANDOM] = moves.control(next(reversed(ways.values())))
            _, *moved = strips
            path = run.figure("perturb", *picture_words(vars(common), gradient, epsilon, moved))
            save_strips([moves.images(z[: options.shown]) for z in strips.values()], path)


class Measured(NamedTuple):
    """Samples of some latents: numbers [N] of each by name, and all of them judged together."""

    scores: Mapping[str, Tensor]
    judged: Judged


@dataclass
class Moves:
    """Latents moved in every way asked for, each found once and kept in the store; and what is measured on them."""

    run: Run
    common: Setting
    chunk: int

    def __post_init__(self) -> None:
        self.count, self.space = self.common.samples_moved, self.common.space
        self.density = self.run.cell("pseudo_density", k=self.common.k)
        self.signals = self.run.cells(self.run.quality_signals)
        self.views = {
            "latents": View("fake", f"latent:{self.space}"),
            "reference": self.density.views["reference"],
            "real": View("real", self.common.judge_space, n=self.count),
            "fake": View("fake", self.common.judge_space),
        }

    def part(self, setting: Setting) -> Part:
        rows = self.network_rows if setting.part == names.NETWORK else partial(self.move_rows, setting)
        return Part(rows, vars(setting), cells=self.signals, views=self.views)

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
        params = canonical({"k": self.common.k, "epochs": self.common.epochs, "seed": self.run.seed})
        key = ScoreKey("density_network", MOVES, params, (("reference", digest),))

        def make() -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
            say(f"learning the pseudo density of {len(self.reference):,} real samples, {self.common.epochs} epochs")
            found = DensityNetwork.fit(self.reference, self.common.k, self.common.epochs, self.run.seed)
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

    def moved(self, move: Setting) -> Tensor:
        """The latents after all steps, from the store where they are."""
        digests = {name: self.run.views.digest(view, self.run.seed, self.run.n) for name, view in self.views.items()}
        key = ScoreKey("perturb", MOVES, canonical(vars(move)), tuple(sorted(digests.items())))

        def make() -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
            way = f"{move.direction} by the {move.gradient} gradient, epsilon {move.epsilon:g}"
            say(f"moving {self.count:,} latents in {self.space} {way}")
            direction: Literal["higher", "lower"] = "higher" if move.direction == "higher" else "lower"
            found = moved_by_gradient(
                self.predicted, self.start, move.epsilon, move.steps, move.alpha * move.epsilon, direction,
                move.gradient == "sign", self.chunk,
            )  # fmt: skip
            return found.latents.float().cpu().numpy()

        return torch.from_numpy(self.run.views.store.array(key, make).copy()).to(self.start)

    def control(self, move: Setting) -> Tensor:
        return random_signs(self.start, self.moved(move), move.epsilon, self.run.seed)

    def images(self, z: Tensor) -> Tensor:
        """As stored, uint8 [N, C, H, W]."""
        return (self.run.views.of_latents(z, self.space, "images") * 255).byte().cpu()

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
        features = self.run.views.of_latents(z, self.space, self.common.judge_space)
        real = self.run.views.tensor(self.views["real"], self.run.seed, self.run.n)
        rows = torch.arange(self.count)
        judged = judge(
            features, real, self.common.neighbours, rows, self.count, self.common.halves, self.run.seed
        )  # fmt: skip
        return Measured(scores, judged)

    def network_rows(self) -> Iterator[Row]:
        """How well the network knows the density of real samples, and of generated ones."""
        n = len(self.reference)
        yield Row((names.ERROR, names.REAL), without_interval(self.network.held_out_error, n - n * 4 // 5))
        yield Row((names.AGREEMENT, BEFORE), self._rank_agreement(self.before))
        yield from (Row((name, BEFORE), intervals.mean(values)) for name, values in self.before.scores.items())

    def move_rows(self, move: Setting) -> Iterator[Row]:
        latents = {MOVED: self.moved(move), RANDOM: self.control(move)}
        measured = {BEFORE: self.before} | {name: self.measured(z) for name, z in latents.items()}
        for of, z in latents.items():
            yield Row(
                (names.LARGEST, of), without_interval(float((z.double() - self.start.double()).abs().max()), self.count)
            )
        for name in self.before.scores:
            columns = {of: one.scores[name] for of, one in measured.items()}
            yield from (Row((name, of), intervals.mean(column)) for of, column in columns.items())
            for difference, other in DIFFERENCES.items():
                yield Row((name, difference), intervals.mean(columns[MOVED] - columns[other]))
        yield from self._directions(measured, 1 if move.direction == "higher" else -1)
        yield from self._sets(measured)
        yield Row((names.AGREEMENT, MOVED), self._rank_agreement(measured[MOVED]))
        yield Row((names.CALLS, MOVED), without_interval(move.steps + 1, self.count))

    def _rank_agreement(self, measured: Measured) -> Estimate:
        """Of the predicted density with the exact one."""
        columns = torch.stack([measured.scores[PREDICTED], measured.scores[EXACT]], 1)
        moments = rank_moments(columns, torch.zeros(self.count), self.common.resamples, self.run.seed)
        return bootstrapped(rank_correlations(moments, [0], [1])[:, 0, 0], self.count)

    def _directions(self, measured: Mapping[str, Measured], sense: int) -> Iterator[Row]:
        """Shares of samples that move the right way, and how much of what the network promised was true."""
        changes = {
            (name, of): sense * (measured[of].scores[name] - measured[BEFORE].scores[name])
            for name in names.RIGHT
            for of in (MOVED, RANDOM)
        }
        for name, quantity in names.RIGHT.items():
            hits = {of: changes[name, of] > 0 for of in (MOVED, RANDOM)}
            yield from (Row((quantity, of), intervals.proportion(right)) for of, right in hits.items())
            yield Row((quantity, names.OVER_RANDOM), intervals.mean(hits[MOVED].double() - hits[RANDOM].double()))
        for of in (MOVED, RANDOM):
            fooled = (changes[PREDICTED, of] > 0) & ~(changes[EXACT, of] > 0)
            yield Row((names.FOOLED, of), intervals.proportion(fooled))
        rng = np.random.default_rng(self.run.seed)
        drawn = rng.multinomial(self.count, np.full(self.count, 1 / self.count), size=self.common.resamples)
        weights = torch.cat([torch.ones(1, self.count).double(), torch.from_numpy(drawn).double()])
        true, promised = weights @ changes[EXACT, MOVED], weights @ changes[PREDICTED, MOVED]
        yield Row((names.KEPT_PROMISE, MOVED), bootstrapped(true / promised, self.count))

    def _sets(self, measured: Mapping[str, Measured]) -> Iterator[Row]:
        judged = {of: one.judged for of, one in measured.items()}
        for at, (quantity, hits) in enumerate((
            (names.PRECISION, {of: one.hits for of, one in judged.items()}),
            (names.RECALL, {of: one.held for of, one in judged.items()}),
        )):  # fmt: skip
            halves = {of: one.halves[:, at] for of, one in judged.items()}
            yield from (Row((quantity, of), intervals.share(hits[of], halves[of])) for of in judged)
            for difference, other in DIFFERENCES.items():
                gain = float(hits[MOVED].double().mean() - hits[other].double().mean())
                spread = halves[MOVED] - halves[other]
                yield Row((quantity, difference), intervals.half_samples(gain, spread, self.count))
        yield from (Row((names.FRECHET, of), one.frechet()) for of, one in judged.items())
