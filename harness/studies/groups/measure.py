"""What does selecting by a score do? Top, middle, bottom and random samples of equal number, compared as sets."""

import math
from collections.abc import Mapping
from functools import partial

from torch import Tensor

from ...core.progress import say
from ...core.protocols import Cell, Estimate
from ...core.registry import METRICS, task
from ...evaluate import estimates, reason
from ...run import Study
from ..extremes import split
from .page import draw_gallery, page

SHOWN = 12
"""Images of each group in the gallery."""


@task(page)
def groups(study: Study, share: float = 0.2) -> None:
    """Set metrics of the top, middle, bottom and a random share of the samples by every score.

    All groups have round(share·n) samples and are compared with as many real ones, since FID, recall and coverage
    depend on the number. A sample without a score is in none of the groups but the random one. The gallery shows the
    extremes: the very best, those at the median and the very worst.
    """
    size = round(share * study.n)
    if not 2 <= size <= study.n // 3:
        fix = f"choose it in [{2 / study.n:.2g}, 0.33]" if study.n >= 6 else "generate more samples with n="
        raise ValueError(f"share={share} of n={study.n} makes groups of {size}; {fix}")
    scores, sets = study.cells(study.scores), study.cells(study.sets)
    rows = {cell.label: split(study.oriented(cell), size, study.seed) for cell in scores}
    for cell in scores:
        compute = partial(_compare, study, sets, rows[cell.label])
        params = {"columns": "group ~ metric", "score": cell.label, "size": size}
        study.record("groups", 1, params, [cell, *sets], compute)
    draw_gallery(study, {name: {g: r[:SHOWN] for g, r in groups.items()} for name, groups in rows.items()})


def _compare(study: Study, sets: list[Cell], groups: Mapping[str, Tensor]) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for group, rows in groups.items():
        if not len(rows):  # no sample has a score: its own record says why
            undefined = Estimate(math.nan, (math.nan, math.nan))
            found.update({f"{group} ~ {cell.label}": undefined for cell in sets})
            continue
        tensors: dict[str, Tensor] = {}
        for cell in sets:
            for name, view in cell.views.items():
                source = f"{name} {view}"
                if source not in tensors:
                    whole = study.views.tensor(view, study.seed, study.n if view.of == "fake" else len(rows))
                    tensors[source] = whole[rows.to(whole.device)] if view.of == "fake" else whole
            inputs = {name: tensors[f"{name} {view}"] for name, view in cell.views.items()}
            try:
                result = METRICS[cell.metric].function(**inputs, **cell.params)
            except ValueError as failure:  # too few samples with a score, say: this group only
                say(f"{group} group: {cell.label} is undefined, {reason(failure)}")
                result = math.nan
            named = estimates(cell.label, result, len(rows))
            found.update({f"{group} ~ {name}": estimate for name, estimate in named.items()})
    return found
