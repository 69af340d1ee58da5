"""Does a per-sample score track quality? Its rank correlation with independent signals, raw and partial."""

from collections.abc import Iterator, Mapping
from functools import partial

from ...core.protocols import Cell
from ...core.registry import study
from ...run import Run
from ...stats.correlations import Correlations
from .page import RAW, page


@study(page)
def correlate(run: Run, resamples: int = 1000) -> None:
    """Spearman correlation of every score with every signal and with every other score.

    Signs are turned so that more is better on both sides. First nothing is held fixed, then the class, then with it
    each entry of `given` in its order. 95 % percentile intervals from a bootstrap over samples.
    """
    scores, signals = run.cells(run.scores), run.cells(run.quality_signals)
    (classes,) = run.cells(run.classes)
    given = {name: run.cells(entries) for name, entries in run.covariates.items()}
    every = [*scores, *signals, *(cell for cells in given.values() for cell in cells)]
    columns = {cell.label: run.oriented(cell) for cell in every}
    correlations = Correlations(columns, run.sample_scores(classes), resamples, run.seed)
    names, targets = [cell.label for cell in scores], [cell.label for cell in signals]
    fixed: list[Cell] = []
    for condition, by_class, added in [(RAW, False, []), ("class", True, []), *_one_by_one(given)]:
        fixed += added
        compute = partial(correlations.of, names, targets, [cell.label for cell in fixed], by_class)
        params = {"columns": "score ~ signal", "given": condition, "resamples": resamples}
        run.record("correlate", 1, params, [*scores, *signals, *([classes] if by_class else []), *fixed], compute)
    compute = partial(correlations.of, names + targets, names + targets, [], False)
    run.record("agreement", 1, {"columns": "score ~ other", "resamples": resamples}, [*scores, *signals], compute)


def _one_by_one(given: Mapping[str, list[Cell]]) -> Iterator[tuple[str, bool, list[Cell]]]:
    """What is held fixed beyond the class: a name for all of it, and the cells added to those before."""
    name = "class"
    for key, cells in given.items():
        name += f" + {key}"
        yield name, True, cells
