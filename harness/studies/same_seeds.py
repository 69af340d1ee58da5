"""Generators judged by set metrics on the same seeds and the same reals, and what lies between them, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..arrays.views import Views
from ..core.files import digest
from ..core.progress import track
from ..core.protocols import Cell, Estimate, View
from ..core.registry import METRICS
from ..evaluate import estimates
from ..run import Run, label
from ..stats.intervals import half_samples


@dataclass
class SameSeeds:
    """Every metric of `run.set_metrics` in every space; what was found is kept as long as this object.

    count: samples of each generator. halves: random halves of them and of the reals that tell how sure a difference is.
    """

    run: Run
    spaces: Sequence[str]
    count: int
    halves: int
    _judged: dict[str, Mapping[tuple[str, str], tuple[Estimate, Tensor]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 4 <= self.count <= self.run.n or self.halves < 2:
            raise ValueError(
                f"count={self.count} must be 4 or more, and at most n={self.run.n}; halves={self.halves} 2 or more"
            )
        self.spaces = [self.run.views.features if space == "features" else space for space in self.spaces]

    @property
    def cells(self) -> list[Cell]:
        """Those of a metric that is defined in one space alone are in that space, whatever `spaces` are."""
        entries = [{"metric": entry} if isinstance(entry, str) else dict(entry) for entry in self.run.set_metrics]
        fixed = [entry for entry in entries if METRICS[entry["metric"]].fixed_features]
        free = [entry for entry in entries if entry not in fixed]
        return self.run.cells([{**entry, "space": space} for space in self.spaces for entry in free] + fixed)

    def values(self, views: Views) -> dict[tuple[str, str], Estimate]:
        """Of one generator, by metric and space, each with its own interval."""
        return {key: estimate for key, (estimate, _) in self._of(views).items()}

    def differences(self, views: Views, others: Views) -> dict[tuple[str, str], Estimate]:
        """Values of one generator less those of another, with intervals for new samples and reals."""
        these, those = self._of(views), self._of(others)
        return {
            key: half_samples(estimate.value - those[key][0].value, halves - those[key][1], self.count)
            for key, (estimate, halves) in these.items()
        }

    def _of(self, views: Views) -> Mapping[tuple[str, str], tuple[Estimate, Tensor]]:
        """Estimates, and values [halves] of random halves: the same halves for every generator."""
        name = views.generator.fingerprint
        if name not in self._judged:
            whole, parts = self._evaluate(views, None), []
            with track("judged by random halves of samples and reals", self.halves, "halves") as advance:
                for half in range(self.halves):
                    parts.append(self._evaluate(views, half))
                    advance(1)
            self._judged[name] = {
                key: (estimate, torch.tensor([part[key].value for part in parts], dtype=torch.float64))
                for key, estimate in whole.items()
            }
        return self._judged[name]

    def _evaluate(self, views: Views, half: int | None) -> dict[tuple[str, str], Estimate]:
        """Every metric, of everything or of a random half of it."""
        found: dict[tuple[str, str], Estimate] = {}
        tensors: dict[View, Tensor] = {}
        for cell in self.cells:
            for view in cell.views.values():
                if view not in tensors:
                    rows = views.tensor(view, self.run.seed, self.count)
                    if half is not None:
                        rows = rows[self._half(view.source, len(rows), half).to(rows.device)]
                    tensors[view] = rows
            metric = METRICS[cell.metric]
            result = metric.function(**{role: tensors[view] for role, view in cell.views.items()}, **cell.params)
            space = next(view.space for view in cell.views.values() if view.source == "fake")
            for key, estimate in estimates(cell.metric, result, self.count).items():
                found[label(key, metric.options, cell.params), space] = estimate
        return found

    def _half(self, source: str, count: int, half: int) -> Tensor:
        """Positions of half of `count` samples of a source, in order; the same for all views of them."""
        rng = np.random.default_rng([self.run.seed, half, int(digest(source, count)[:12], 16)])
        return torch.from_numpy(np.sort(rng.permutation(count)[: count // 2]))
