"""What does selecting by a score do? Top, middle, bottom and random samples of equal number, compared as sets."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ...core.progress import say
from ...core.protocols import Cell, Estimate, Part, Row
from ...core.registry import METRICS, study
from ...evaluate import estimates, reason
from ...report.figures import save_strips
from ...run import MetricSpec, Run
from ..extremes import EXTREMES, extremes, labels
from .page import page

SHOWN = 12
"""Images of each group in the gallery."""


@dataclass(frozen=True)
class Options:
    """How the samples are grouped.

    share:  the size of each group, as a share of the samples.
    scores: by which they are; those of the run where none are named.
    """

    share: float = 0.2
    scores: Sequence[MetricSpec] = ()


@study(version=2, page=page, groups=("group", "metric"))
def groups(run: Run, options: Options) -> Iterator[Part]:
    """Set metrics of the top, middle, bottom and a random share of the samples by every score.

    All groups have equally many samples and are compared with as many real ones, since FID, recall and coverage depend
    on the number. A sample without a score is in none of the groups but the random one. A score that selects for
    quality raises precision from bottom to top; if it selects the typical only, recall and coverage fall below those of
    the random group. The gallery shows the extremes: the very best, those at the median and the very worst.
    """
    size = round(options.share * run.n)
    if not 2 <= size <= run.n // 3:
        fix = f"choose it in [{2 / run.n:.2g}, 0.33]" if run.n >= 6 else "generate more samples with n="
        raise ValueError(f"share={options.share} of n={run.n} makes groups of {size}; {fix}")
    set_metrics = run.cells(run.set_metrics)
    compared: Compared = {}
    for cell in run.cells(list(options.scores) or run.scores):
        rows = extremes(run.oriented(cell), size, run.seed)
        setting = {"score": cell.label, "size": size}
        yield Part(partial(_compare, run, set_metrics, rows, compared), setting, cells=[cell, *set_metrics])
        if len(rows["top"]):
            strips = [run.views.images("fake", run.seed, run.n, rows[group][:SHOWN].tolist()) for group in EXTREMES]
            raw = run.sample_scores(cell)
            said = [labels(raw, rows[group][:SHOWN], f"{group}: ") for group in EXTREMES]
            save_strips(strips, run.figure("gallery", cell.label), labels=said)


Compared = dict[tuple[bytes, str], dict[str, Estimate]]
"""What a set metric says of the samples at these positions: the random group is the same for every score."""


def _compare(run: Run, set_metrics: Sequence[Cell], groups: Mapping[str, Tensor], compared: Compared) -> Iterator[Row]:
    for group, rows in groups.items():
        if not len(rows):  # no sample has a score: its own record says why
            undefined = Estimate(math.nan, (math.nan, math.nan))
            yield from (Row((group, cell.label), undefined) for cell in set_metrics)
            continue
        rows = rows.sort().values  # random halves of a set go by position, and scores that nearly tie by the processor
        positions = rows.numpy().tobytes()
        tensors: dict[str, Tensor] = {}
        for cell in set_metrics:
            for name, view in cell.views.items():
                source = f"{name} {view}"
                if source not in tensors:
                    whole = run.views.tensor(view, run.seed, run.n if view.source == "fake" else len(rows))
                    tensors[source] = whole[rows.to(whole.device)] if view.source == "fake" else whole
            inputs = {name: tensors[f"{name} {view}"] for name, view in cell.views.items()}
            function = METRICS[cell.metric].function
            if (positions, cell.label) not in compared:
                try:
                    result = function(**inputs, **cell.params)
                except ValueError as failure:  # too few samples with a score, say: this group only
                    say(f"{group} group: {cell.label} is undefined, {reason(failure)}")
                    result = math.nan
                compared[positions, cell.label] = estimates(cell.label, result, len(rows))
            named = compared[positions, cell.label]
            yield from (Row((group, name), estimate) for name, estimate in named.items())
