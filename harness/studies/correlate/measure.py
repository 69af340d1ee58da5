"""Does a per-sample score track quality? Its rank correlation with independent signals, raw and partial."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.protocols import Cell, Estimate, Part, Scalar
from ...core.registry import study, unknown
from ...run import MetricSpec, Run
from ...stats.correlations import COMPOSITE, Correlations
from ..conditions import CLASS, NOTHING
from .page import page


@dataclass(frozen=True)
class Options:
    """What is compared.

    resamples: bootstrap resamples of the samples, from which the intervals come.
    composite: whether the mean rank of all signals is a signal too, with their noise ceiling.
    against:   scores over which the gain of each score is found, paired.
    held:      steps at which correlations are found, each by the name of what it holds fixed in addition: "nothing",
               "class" or one of the covariates. All where none are named. One that the run lacks is left out.
    compared:  the same for ceilings, shares of them and gains; by default the steps of `held`.
    of:        signals, by their labels, that shares and gains are of; all where none are named.
    agreement: whether scores and signals are also correlated with each other.
    """

    resamples: int = 1000
    composite: bool = False
    against: Sequence[MetricSpec] = ()
    held: Sequence[str] = ()
    compared: Sequence[str] = ()
    of: Sequence[str] = ()
    agreement: bool = True


@study(
    page=page,
    correlate=("score", "signal"),
    agreement=("score", "other"),
    signal_agreement=("signal", "other"),
    ceiling=("signal", "quantity"),
    share=("score", "signal"),
    gain=("score", "against", "signal"),
)
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

    How far the signals agree with each other says how much one of them can stand for quality. The composite is the mean
    rank of all signals; it is undefined where one of them is. Its noise ceiling is the root of its reliability
    (Cronbach 1951): no score can correlate with it more closely that follows what the signals share and nothing else.
    Each correlation is also given as a share of the ceiling, with an interval from the same resamples. That takes the
    errors of the signals as uncorrelated, which those of related feature spaces are not: the ceiling is then too high.
    Raises ValueError for a step that is not one of the run's, and where `of` names no signal of it.
    """
    _check_names(run, options)
    scores, signals = run.cells(run.scores), run.cells(run.quality_signals)
    rivals = run.cells(list(options.against))
    covariates = {name: cells for name, entries in run.covariates.items() if (cells := run.cells(entries))}
    classes, labels = run.sample_classes()
    every = [*scores, *rivals, *signals, *(cell for cells in covariates.values() for cell in cells)]
    columns = {cell.label: run.oriented(cell) for cell in every}
    composite = options.composite and len(signals) > 1
    truths = _labels(signals) if composite else []
    if COMPOSITE in columns:
        raise ValueError(f"a metric is called {COMPOSITE!r}, as the mean rank of all signals is; rename it")
    correlations = Correlations(columns, labels, options.resamples, run.seed, truths)
    both = [*scores, *signals]
    named = {cell.label: cell for cell in [*both, *rivals]}
    made = [cell for cell in named.values() if not run.failed(cell)]  # a failed one may have no views to tell by
    judged = [*([COMPOSITE] if composite else []), *_labels(signals)]

    def rows(ones: Sequence[str], others: Sequence[str], held: Sequence[str] = (), stratify: bool = False) -> Rows:
        return lambda: correlations.of(ones, others, held, stratify).items()

    noted: dict[str, Any] = {"resamples": options.resamples} | ({"composite": True} if composite else {})
    chosen = [name for name in judged if name in (options.of or judged)]
    if not chosen and judged:
        raise ValueError(unknown("signal in study.correlate.of:", options.of[0], judged))
    of = {"of": ", ".join(options.of)} if options.of else {}
    for step, name, stratify, cells_held in _conditions(covariates, bool(classes)):
        setting = {"covariates": name, **noted}
        held = _labels(cells_held), stratify
        cells = [*made, *(classes if stratify else []), *cells_held]
        if step in (options.held or [step]):
            yield Part(rows(_labels(scores), judged, *held), setting, table="correlate", cells=cells)
            if len(signals) > 1:
                pairs = _pairs(rows(_labels(signals), _labels(signals), *held), _labels(signals))
                yield Part(pairs, setting, table="signal_agreement", cells=cells)
        if step not in (options.compared or options.held or [step]):
            continue
        if composite:
            shares = _of(chosen, _items(correlations.shares, _labels(scores), *held))
            yield Part(_items(correlations.ceilings, *held), setting, table="ceiling", cells=cells)
            yield Part(shares, setting | of, table="share", cells=cells)
        if rivals:
            compared = _items(correlations.gains, _labels(scores), _labels(rivals), chosen, *held)
            yield Part(compared, setting | of, table="gain", cells=cells)
    if options.agreement:
        yield Part(rows(_labels(both), _labels(both)), {"resamples": options.resamples}, table="agreement", cells=made)


Rows = Callable[[], Iterable[tuple[tuple[Scalar, ...], Estimate]]]


def _items(function: Callable[..., Mapping[Any, Estimate]], *arguments: Any) -> Rows:
    return lambda: function(*arguments).items()


def _of(signals: Sequence[str], rows: Rows) -> Rows:
    """Those rows whose last key is one of the signals."""
    return lambda: (row for row in rows() if row[0][-1] in signals)


def _pairs(rows: Rows, signals: Sequence[str]) -> Rows:
    """Each pair of different signals once."""
    return lambda: (row for row in rows() if signals.index(str(row[0][0])) < signals.index(str(row[0][1])))


def _conditions(
    covariates: Mapping[str, Sequence[Cell]], with_class: bool
) -> Iterator[tuple[str, str, bool, Sequence[Cell]]]:
    """What is held fixed: what is new in it, a name for all of it, whether the class is, and the cells beside it."""
    yield NOTHING, NOTHING, False, []
    names, held = [CLASS] if with_class else [], list[Cell]()
    if with_class:
        yield CLASS, CLASS, True, held
    for key, cells in covariates.items():
        names, held = [*names, key], [*held, *cells]
        yield key, " + ".join(names), with_class, held


def _check_names(run: Run, options: Options) -> None:
    steps = [NOTHING, CLASS, *run.covariates]
    for option, names in (("held", options.held), ("compared", options.compared)):
        for name in names:
            if name not in steps:
                raise ValueError(unknown(f"step in study.correlate.{option}:", name, steps))


def _labels(cells: Sequence[Cell]) -> list[str]:
    return [cell.label for cell in cells]
