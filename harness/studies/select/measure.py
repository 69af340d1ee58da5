"""Which samples are the best? They are ranked by a score and written as files, with a csv of all ranks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from ...core.escapes import for_csv
from ...core.files import replace
from ...core.progress import say
from ...core.protocols import Cell, Estimate, Part, Row
from ...core.registry import study
from ...report.figures import save_strips
from ...run import MetricSpec, Run
from ..sample_files import sample_names, write_samples
from .page import page, selection_folder

ABREAST = 10
"""Samples beside each other in the picture."""
SHOWN = 50
NONE = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Options:
    """Which samples to take.

    scores: by which the samples are ranked; those of the run where none are named.
    count:  how many are written.
    worst:  whether the worst are written instead of the best.
    """

    scores: Sequence[MetricSpec] = ()
    count: int = 50
    worst: bool = False


@study(page=page, select=("rank", "sample", "name"))
def select(run: Run, options: Options) -> Iterator[Part]:
    """The `count` best samples by each score: as PNG files (shapes as .obj), in a picture, and in a csv of all ranks.

    They lie in <out>/select/, a folder for each score: 0001-NAME.png and so on, where NAME is that of the sample's file
    or else its number, and ranking.csv with rank, sample, name and score of every sample. Equal scores keep the order
    of the samples; samples without a score come last and are never written.
    Raises ValueError for a count below 1.
    """
    if options.count < 1:
        raise ValueError(f"count={options.count} must be 1 or more samples")
    seeds, names = sample_names(run)
    for cell in run.cells(list(options.scores) or run.scores):
        scores = run.oriented(cell)
        order = ranked(-scores if options.worst else scores)
        chosen = order[: min(options.count, int(scores.isfinite().sum()))]
        if not len(chosen):
            continue
        raw = run.sample_scores(cell)
        setting = {"count": options.count, "score": cell.label, "worst": options.worst}
        yield Part(partial(_rows, raw, chosen, seeds, names), setting, cells=[cell])
        _write(run, cell, raw, chosen, seeds, names)
        ranking = pd.DataFrame(
            {
                "rank": range(1, len(order) + 1),
                "sample": [seeds[i] for i in order],
                "name": [for_csv(names[i]) for i in order],
                for_csv(cell.label): raw[order],
            }
        )
        path = selection_folder(run.folder, run.title, cell.label) / "ranking.csv"
        replace(path, ranking.to_csv(index=False, lineterminator="\n").encode())
        say(f"{cell.label}: {len(chosen)} of {run.n:,} samples and the ranks of all are in {path.parent}")


def ranked(scores: Tensor) -> Tensor:
    """Positions [n] from the highest score down; equal scores in their order, those without one last."""
    return torch.argsort(scores.nan_to_num(nan=-torch.inf), descending=True, stable=True)


def _rows(scores: Tensor, chosen: Tensor, seeds: Sequence[int], names: Sequence[str]) -> Iterator[Row]:
    for rank, i in enumerate(chosen.tolist(), 1):
        yield Row((rank, seeds[i], names[i]), Estimate(float(scores[i]), NONE, 1))


def _write(run: Run, cell: Cell, raw: Tensor, chosen: Tensor, seeds: Sequence[int], names: Sequence[str]) -> None:
    """The chosen samples as files, and their picture."""
    write_samples(run, chosen.tolist(), selection_folder(run.folder, run.title, cell.label))
    shown = run.views.images("fake", run.seed, run.n, chosen[:SHOWN].tolist())
    said = [
        f"{rank}: {raw[i]:.4g} ({names[i] or f'sample {seeds[i]}'})"
        for rank, i in enumerate(chosen[:SHOWN].tolist(), 1)
    ]
    rows = [said[start : start + ABREAST] for start in range(0, len(said), ABREAST)]
    save_strips(torch.split(shown, ABREAST), run.figure("select", cell.label), 128, labels=rows)
