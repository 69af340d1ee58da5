"""One split into base and novel classes: the generator learned on it, its features, and which of them are kept."""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from ....generators.sampling.selection import top
from ...arrays.records import USED
from ...arrays.shards import SEEDS
from ...arrays.subsets import Subset
from ...core.abilities import FeatureGenerator
from ...core.files import digest
from ...core.progress import say, track
from ...core.protocols import Cell, Estimate, FeatureModel, FeatureSet, Row, View
from ...core.registry import METRICS
from ...evaluate import reason
from ...formats.weights import read_safetensors, write_weights
from ...run import Run
from .prototypes import centre
from .representatives import chi_square_representatives, nearest_representatives
from .settings import ALL, ORACLE, RANDOM, Setting

RULES = ("nearest", "chi_square", "all")
"""By which representative features of the base classes are chosen."""


class Pool(NamedTuple):
    """Codes [W, n, L] and features [W, n, D] generated of W novel classes."""

    codes: Tensor
    features: Tensor


class Split:
    """One division into base and novel classes: the generator learned on it, and what is kept of its features."""

    def __init__(
        self,
        run: Run,
        generator: FeatureGenerator,
        feature_set: FeatureSet,
        number: int,
        rule: str,
        part: float,
        pools: int,
        settings: Sequence[Setting],
    ):
        self.run, self.generator, self.set, self.number = run, generator, feature_set, number
        self.rule, self.part, self.pools, self.settings = rule, part, pools, settings
        self.largest = max(setting.number for setting in settings)
        self._real: dict[View, Tensor] = {}
        self._pool: tuple[int, Pool] | None = None
        self._undefined: set[str] = set()

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of all that the records of this split are made from; settings as in records of schema 2, which stay valid."""
        cells = {setting.cell.label: setting.cell for setting in self.settings if setting.cell}
        versions = {label: METRICS[cell.metric].version for label, cell in cells.items()}
        return {
            "features": self.set.fingerprint,
            "generator": self.generator.fingerprint,
            "settings": digest([" ~ ".join(setting.keys) for setting in self.settings], versions, self.run.n_real),
            **{f"{USED}{cell.metric}": str(versions[label]) for label, cell in cells.items()},
        }

    @cached_property
    def base(self) -> Tensor:
        """Rows of the base classes, in a random order."""
        rows = (~torch.isin(self.set.labels, torch.tensor(self.set.novel))).nonzero().flatten()
        return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.run.seed))]

    @cached_property
    def representatives(self) -> Tensor:
        """Rows of the representative features of the base classes."""
        if self.rule == "all":
            return self.base
        choose = chi_square_representatives if self.rule == "chi_square" else nearest_representatives
        found = self.base[choose(self.set.features[self.base], self.set.labels[self.base], self.part)]
        if len(found) < 2:
            raise ValueError(f"{len(found)} representative features pass the rule {self.rule} {self.part:g}: lower it")
        return found

    @cached_property
    def examples(self) -> tuple[Tensor, Tensor]:
        """Representative features, and the semantics of each."""
        device = self.run.views.device
        labels = self.set.labels[self.representatives]
        return self.set.features[self.representatives].to(device), self.set.semantics[labels].to(device)

    @cached_property
    def model(self) -> FeatureModel:
        """The generator, learned from the representatives; its weights are kept beside the arrays of the store."""
        seed = self.run.seed
        name = digest(self.generator.fingerprint, self.set.fingerprint, self.rule, self.part, seed)[:16]
        path = Path(self.run.views.store.root) / "trained" / name / "features.safetensors"
        if path.is_file():
            try:
                return self.generator.learn(*self.examples, seed, read_safetensors(path)[0])
            except (SafetensorError, RuntimeError):
                say(f"{path} is damaged; it is made again")
        with track(f"{self.run.generator} learns {self.set.name}", len(self.representatives), "features") as advance:
            model = self.generator.learn(*self.examples, seed)
            advance(len(self.representatives))
        card = {"generator": self.run.generator, "features": self.set.name, "seed": seed, "rows": len(self.examples[0])}
        write_weights(path, model.state, {"family": self.run.generator}, card)
        return model

    def described(self) -> Iterator[Row]:
        """How many features are representative, and what the generator learned of them."""
        names = self.set.names
        counts = torch.bincount(self.set.labels[self.representatives], minlength=len(names))
        every = torch.bincount(self.set.labels, minlength=len(names))
        of_class = {name: (int(counts[i]), int(every[i])) for i, name in enumerate(names) if i not in self.set.novel}
        words = ", ".join(f"{name} {kept} of {total}" for name, (kept, total) in of_class.items())
        say(f"{self.set.name}: representative features ({self.rule} {self.part:g}): {words}")
        with torch.no_grad():
            figures = self.model.assess(*self.examples)
        figures = {"representatives": float(counts.sum())} | figures
        figures |= {f"representatives of {name}": float(kept) for name, (kept, _) in of_class.items()}
        for name, value in figures.items():
            yield Row((name,), Estimate(value, (math.nan, math.nan), int(counts.sum())))

    @torch.no_grad()
    def pool(self, number: int) -> Pool:
        """The features of a pool, generated; the last one is remembered."""
        if self._pool is None or self._pool[0] != number:
            ways = len(self.set.novel)
            first = self.run.seed * SEEDS + (self.number * self.pools + number) * ways * self.largest
            space = self.generator.spaces[0]
            codes = self.generator.latents(range(first, first + ways * self.largest), space).to(self.run.views.device)
            known = self.set.semantics[list(self.set.novel)].repeat_interleave(self.largest, 0).to(codes)
            made = self.model.decode(codes, known)
            self._pool = number, Pool(codes.view(ways, self.largest, -1), made.view(ways, self.largest, -1))
        return self._pool[1]

    @cached_property
    def codes(self) -> dict[str, Tensor]:
        """Codes of the representatives, by how they are encoded."""
        with torch.no_grad():
            mean, logvar = self.model.posterior(*self.examples)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(self.run.seed)).to(mean)
        return {"mean": mean, "logvar": logvar, "sample": mean + torch.exp(logvar / 2) * noise}

    def tensor(self, view: View, pool: Pool) -> Tensor:
        """A view that a score declares, as a tensor [N, ...]: of all classes of the pool, or of the base classes."""
        kind = view.space.partition(":")[0]
        if view.source == "fake":
            if kind == "latent":
                return pool.codes.flatten(0, 1)
            features = pool.features.flatten(0, 1)
            if kind == "features":
                return features
            known = self.set.semantics[list(self.set.novel)].repeat_interleave(self.largest, 0).to(features)
            with torch.no_grad():
                return self.model.posterior(features, known)[0]
        if view not in self._real:  # the same tensors for all pools: metrics remember what they found out about them
            count = {"all": len(self.base), "same": self.run.n}.get(str(view.n), view.n)
            real = self.codes[view.encode] if kind == "latent" else self.set.features[self.base].to(pool.features)
            drawn = Subset("real", len(real), min(int(count), len(real)), self.run.seed)
            self._real[view] = real[torch.from_numpy(drawn.numbers)]
        return self._real[view]

    def scores(self, cell: Cell, pool: Pool) -> Tensor:
        """Scores [W, n] of a pool, higher is better; NaN where they are not defined."""
        views = {name: self.tensor(view, pool) for name, view in cell.views.items()}
        try:
            found = METRICS[cell.metric].function(**views, **cell.params).double().cpu()
        except ValueError as failure:
            if cell.label not in self._undefined:
                say(f"{self.set.name}: {cell.label} is undefined, {reason(failure)}")
            self._undefined.add(cell.label)
            found = torch.full((pool.codes.shape[0] * pool.codes.shape[1],), torch.nan, dtype=torch.float64)
        scores: Tensor = (-found if METRICS[cell.metric].better == "lower" else found).view(pool.codes.shape[:2])
        return scores

    @cached_property
    def true_means(self) -> Tensor:
        """Of all real features of each novel class [W, D]: what no selection can know, and the oracle does."""
        return torch.stack([self.set.features[self.set.labels == label].mean(0) for label in self.set.novel]).cpu()

    @cached_property
    def kept(self) -> Tensor:
        """Which generated features each setting keeps, bool [S, P, W, n]."""
        found = torch.zeros(len(self.settings), self.pools, len(self.set.novel), self.largest, dtype=torch.bool)
        cells = {setting.cell.label: setting.cell for setting in self.settings if setting.cell}
        with track(f"{self.set.name}: scores", self.pools, "pools") as advance:
            for number in range(self.pools):
                pool = self.pool(number)
                scores = {label: self.scores(cell, pool) for label, cell in cells.items()}
                rng = np.random.default_rng([self.run.seed, self.number, number])
                scores[RANDOM] = torch.from_numpy(rng.random(pool.codes.shape[:2]))
                scores[ALL] = torch.ones(pool.codes.shape[:2])
                scores[ORACLE] = -(pool.features.cpu() - self.true_means[:, None]).norm(dim=-1)
                for i, setting in enumerate(self.settings):
                    by = (
                        setting.sign * scores[setting.cell.label if setting.cell else setting.name][:, : setting.number]
                    )
                    for way, of_class in enumerate(by):
                        if not of_class.isnan().all():
                            found[i, number, way, : setting.number] = top(of_class, setting.share) > 0
                advance(1)
        return found

    @cached_property
    def centres(self) -> Tensor:
        """Class centres of what each setting keeps, [S, P, W, D]; NaN where it keeps nothing."""
        pools = [self.pool(number).features.cpu() for number in range(self.pools)]
        return torch.stack([centre(made, self.kept[:, number]) for number, made in enumerate(pools)], 1)
