"""Does a per-sample score track quality? Its rank correlation with independent signals, raw and partial."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...core.protocols import Cell, Estimate, Part
from ...core.registry import study
from ...run import Run
from ...stats.correlations import Correlations
from ..conditions import CLASS, NOTHING
from .page import page


@dataclass(frozen=True)
class Options:
    """resamples: bootstrap resamples of the samples, from which the intervals come."""

    resamples: int = 1000


@study(
    page=page, correlate=("score", "signal"), agreement=("score", "other"), signal_agreement=("signal", "other")
)  # fmt: skip
def correlate(run: Run, options: Options) -> Iterator[Part]:
    """Spearman correlation of every score with every signal of quality, and of scores and signals with each other.

    Signs are turned so that more is better on both sides. First nothing is held fixed, then the class (by indicators),
    then with it each of the covariates in its order (by ranks). Where the class of some samples is not known, the parts
    that hold it fixed fail, and no others; without a metric for `classes` it is not held fixed. A score or signal that
    failed has no correlations.

    A score rises with a signal where the interval of their correlation lies above zero, and falls where it lies below,
    after Holm's correction for all scores, signals, conditions and runs of the page: were no score informative, one or
    more of all sentences would be wrong in 5 % of pages at most. A dagger (†) marks a score that reads the same feature
    space as the signal: the two are not independent, and the sentences leave the signal out.

    How far the signals agree with each other says how much one of them can stand for quality.
    """
    scores, signals = run.cells(run.scores), run.cells(run.quality_signals)
    covariates = {name: run.cells(entries) for name, entries in run.covariates.items()}
    classes, labels = run.sample_classes()
    every = [*scores, *signals, *(cell for cells in covariates.values() for cell in cells)]
    correlations = Correlations({cell.label: run.oriented(cell) for cell in every}, labels, options.resamples, run.seed)
    both = [*scores, *signals]
    made = [cell for cell in both if not run.failed(cell)]  # a failed one may have no views to tell by

    def rows(ones: Sequence[Cell], others: Sequence[Cell], held: Sequence[Cell] = (), stratify: bool = False) -> Rows:
        names = _labels(ones), _labels(others), _labels(held)
        return lambda: correlations.of(*names, stratify).items()

    for name, stratify, held in _conditions(covariates, bool(classes)):
        setting = {"covariates": name, "resamples": options.resamples}
        cells = [*made, *(classes if stratify else []), *held]
        yield Part(rows(scores, signals, held, stratify), setting, table="correlate", cells=cells)
        if len(signals) > 1:
            pairs = _pairs(rows(signals, signals, held, stratify), _labels(signals))
            yield Part(pairs, setting, table="signal_agreement", cells=cells)
    yield Part(rows(both, both), {"resamples": options.resamples}, table="agreement", cells=made)


Rows = Callable[[], Iterable[tuple[tuple[str, str], Estimate]]]


def _pairs(rows: Rows, signals: Sequence[str]) -> Rows:
    """Each pair of different signals once."""
    return lambda: (row for row in rows() if signals.index(row[0][0]) < signals.index(row[0][1]))


def _conditions(
    covariates: Mapping[str, Sequence[Cell]], with_class: bool
) -> Iterator[tuple[str, bool, Sequence[Cell]]]:
    """What is held fixed: a name for all of it, whether the class is, where there is one, and the cells beside it."""
    yield NOTHING, False, []
    names, held = [CLASS] if with_class else [], list[Cell]()
    if with_class:
        yield CLASS, True, held
    for key, cells in covariates.items():
        names, held = [*names, key], [*held, *cells]
        yield " + ".join(names), with_class, held


def _labels(cells: Sequence[Cell]) -> list[str]:
    return [cell.label for cell in cells]
