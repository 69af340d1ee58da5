"""Does choosing among generated features help few-shot classification? Accuracy by what is kept, paired by episode."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor

from ...arrays.records import find_record
from ...core.abilities import FeatureGenerator
from ...core.files import digest
from ...core.protocols import Cell, Estimate, Part, Record, Row
from ...core.registry import study
from ...run import Run, label
from ...stats import intervals
from ...stats.intervals import Z95
from .episodes import Episodes, draw_episodes
from .feature_sets import open_feature_set
from .page import page
from .prototypes import SUPPORT, logistic_regression, nearest_prototype
from .settings import (
    ACCURACY,
    GAIN,
    LOGISTIC,
    NONE,
    NORM,
    OF_ORACLE,
    ORACLE,
    OVER_NORM,
    POOLED,
    PROTOTYPE,
    RANDOM,
    Setting,
    can_be_had,
    every_other,
    settings_of,
)  # fmt: skip
from .split import RULES, Split

COLUMNS = ("generated", "share", "selection", "quantity")
NAMED = ("semantics", "novel", "representatives", "kept", "ways", "queries", "pools", "share", "support")
"""Options that the column `how` names where they differ from their defaults."""


@dataclass(frozen=True)
class Options:
    """Which features, which episodes, and what is kept.

    path:            a file or folder of features, with dataset=none; else they are made of the data set's images.
    features, semantics, novel, splits: see `feature_sets`; a file is one split.
    representatives: "nearest": the part `kept` of each class; "chi_square", as published: those with a p-value over
                     `kept` (0.9); "all".
    ways, shots, queries: classes of an episode, features of each that are known, and those that are asked about.
    episodes:        episodes a split for the nearest prototype.
    logistic:        episodes a split for logistic regression, the first ones; 0 leaves it out.
    pools:           pools of n generated features a class.
    share:           the share of a pool that a selection keeps.
    shares, numbers: for plots, the gain of the top by the first score of each metric in `run.scores`, at these shares
                     of n, and at the `share` of these numbers.
    support:         what a class is by its shots, see `prototypes`.
    every:           adds, for the nearest prototype, each registered per-sample score that has what it reads.
    """

    path: str = ""
    features: str = "resnet12"
    semantics: str = "own"
    novel: int = 8
    splits: Sequence[int] = (0, 1, 2, 3, 4)
    representatives: str = "nearest"
    kept: float = 0.25
    ways: int = 5
    shots: Sequence[int] = (1, 5)
    queries: int = 15
    episodes: int = 2000
    logistic: int = 200
    pools: int = 20
    share: float = 0.2
    shares: Sequence[float] = ()
    numbers: Sequence[int] = ()
    support: str = SUPPORT[0]
    every: bool = False


@study(version=2, page=page, few_shot=COLUMNS, few_shot_generator=("quantity",), few_shot_splits=COLUMNS)
def few_shot(run: Run, options: Options) -> Iterator[Part]:
    """Accuracy of `ways`-way episodes whose prototypes lean on generated features, kept or not by a score.

    Follows R-SVAE (Xu and Le, CVPR 2022), on which few-shot classification by latent density (arXiv:2407.15171) most
    likely builds; how that paper selects is not published. On each split a `FeatureGenerator` learns representative
    features of the base classes, and makes n features of each novel class from its semantics. What is kept of them:

    none               nothing: the support alone
    all                all n
    random             a `share` of them, drawn by chance
    top, bottom SCORE  the `share` with the highest, the lowest scores, within each class, for each of `run.scores`
    oracle             the `share` nearest to the true mean of all real features of the class, which nobody knows

    A score reads codes of the prior as generated latents, codes of the representatives as real ones, generated features
    and those of the base classes. Codes are drawn without regard to the class, so that a choice among them acts mostly
    by their norm: negative_norm belongs in `run.scores`.

    Each of the `pools` has seeds of its own; episode e has pool e mod `pools`. So an interval (Student's t over pools)
    covers chance in what was generated, and in the random share, too. All selections have the same episodes. Gains are
    paired differences of accuracy, to the random share and to the share of smallest norm. The oracle tells
    about what a selection could gain, though it is no bound: it takes the features nearest to the true mean, each for
    itself. Where its own gain is clear of 0, each gain is also given as a share of it (the interval is that of a ratio,
    by linearisation).

    The interval over splits is Student's t of the means of splits: it holds for another split. That of these splits
    takes their pools together: it holds for these base and novel classes alone. A selection is said to help or to harm
    where both leave out 0, since five means can agree by chance more closely than the episodes allow; in sentences, an
    interval reaches to the outer ends of both. Claims are corrected for all selections, shots and classifiers (Holm).

    Raises ValueError for options out of range, and for a generator that does not learn features.
    """
    model = _feature_generator(run, options)
    asked = [cell for cell in run.cells(run.scores) if can_be_had(cell)]
    scored = asked + (every_other(run, asked) if options.every else [])
    settings = settings_of(scored, asked, run.n, options.share, options.shares, options.numbers)
    main = [setting for setting in settings if setting.main and (not setting.cell or setting.cell in asked)]
    classifiers = [(PROTOTYPE, options.episodes, settings)]
    if options.logistic:
        classifiers.append((LOGISTIC, options.logistic, main))
    how = label("", vars(Options()), {name: getattr(options, name) for name in NAMED}).strip("()") or "defaults"
    judged: dict[tuple[int, str], list[Cell]] = {}
    for number in (0,) if options.path else options.splits:
        split = _open_split(run, model, options, number, settings)
        about = {"features": split.set.name, "how": how}
        yield Part(split.described, about, "few_shot_generator", fingerprints=split.fingerprints)
        for shots, (classifier, count, chosen) in itertools.product(options.shots, classifiers):
            classes = (split.set.labels, split.set.novel)
            seed = (run.seed, number, shots)
            draw = partial(draw_episodes, *classes, count, options.ways, shots, options.queries, seed)
            setting = {"classifier": classifier, "episodes": count, **about, "shots": shots}
            rows = partial(_judged, split, chosen, draw, classifier, options.support)
            yield Part(rows, setting, "few_shot", fingerprints=split.fingerprints)
            judged.setdefault((shots, classifier), []).append(run.part("few_shot", setting, {}))
    for (shots, classifier), cells in judged.items():
        records = [record for cell in cells if (record := find_record(run.folder, cell)) and record.status == "ok"]
        if len(records) == len(cells):
            params = records[0].cell.params
            features = params["features"] if options.path else options.features
            setting = {
                "classifier": classifier, "episodes": params["episodes"], "features": features, "how": how,
                "shots": shots, "splits": len(records),
            }  # fmt: skip
            fingerprints = {record.cell.params["features"]: fingerprint(record) for record in records}
            means = partial(_over_splits, records, options.pools)
            yield Part(means, setting, "few_shot_splits", fingerprints=fingerprints)


def _feature_generator(run: Run, options: Options) -> FeatureGenerator:
    """The run's generator, once the options are known to be within range."""
    generator = run.views.generator
    if not isinstance(generator, FeatureGenerator):
        raise ValueError("few_shot needs a generator that learns features: choose generator=conditional_vae")
    if options.path and run.views.data.name != "none":
        raise ValueError(f"the features are those of {options.path}, not of {run.views.data.name!r}: add dataset=none")
    if options.representatives not in RULES:
        raise ValueError(f"representatives={options.representatives!r} must be one of {', '.join(RULES)}")
    if options.pools < 2 or options.episodes < options.pools or 0 < options.logistic < options.pools:
        raise ValueError(
            f"episodes={options.episodes} and logistic={options.logistic} must be at least pools={options.pools}, "
            "and that 2"
        )
    return generator


def _open_split(
    run: Run, generator: FeatureGenerator, options: Options, number: int, settings: Sequence[Setting]
) -> Split:
    """The features of a split. Raises ValueError where no episode can be drawn from them."""
    shots = max(options.shots)
    features = open_feature_set(
        options.path or run.views.data, run.views.store, run.views.device, split=number, novel=options.novel,
        features=options.features, semantics=options.semantics, least=shots + options.queries, seed=run.seed,
        extractor=run.views.options.get(options.features),
    )  # fmt: skip
    draw_episodes(features.labels, features.novel, 1, options.ways, shots, options.queries)
    return Split(run, generator, features, number, options.representatives, options.kept, options.pools, settings)


def _judged(
    split: Split, settings: Sequence[Setting], draw: Callable[[], Episodes], classifier: str, support: str
) -> list[Row]:
    """Accuracy and gains of each setting, all over the same episodes."""
    episodes, features = draw(), split.set.features
    places = [split.settings.index(setting) for setting in settings]
    if classifier == PROTOTYPE:
        alone = nearest_prototype(features, episodes, None, support)[0]
        every = nearest_prototype(features, episodes, split.centres[places], support)
    else:
        alone, every = logistic_regression(features, episodes), torch.empty(len(places), len(episodes.classes))
        for number in range(split.pools):
            rows, made = torch.arange(number, len(episodes.classes), split.pools), split.pool(number).features.cpu()
            for i, place in enumerate(places):
                kept = [of_class[mask] for of_class, mask in zip(made, split.kept[place, number], strict=True)]
                if all(map(len, kept)):
                    every[i, rows] = logistic_regression(features, episodes.rows(rows), kept)
    defined = split.kept[places].any(-1).flatten(1).all(1)
    accuracy = [values.where(there, torch.nan) for values, there in zip(every, defined, strict=True)]
    by_chance = {(s.number, s.share): v for s, v in zip(settings, accuracy, strict=True) if s.name == RANDOM}
    main = {s.name: v for s, v in zip(settings, accuracy, strict=True) if s.main}
    found = {("0", "0", NONE, ACCURACY): alone, ("0", "0", NONE, GAIN): alone - main[RANDOM]}
    for s, value in zip(settings, accuracy, strict=True):
        if s.main:
            found[*s.keys, ACCURACY] = value
        if s.name != RANDOM:
            found[*s.keys, GAIN] = value - by_chance.get((s.number, s.share), main[RANDOM])
        if s.main and s.cell and s.sign > 0 and s.name != NORM and NORM in main:
            found[*s.keys, OVER_NORM] = value - main[NORM]
    headroom = of_pools(main[ORACLE] - main[RANDOM], split.pools)
    shares = {
        (*s.keys, OF_ORACLE): ratio(of_pools(found[*s.keys, GAIN], split.pools), headroom)._replace(n=len(alone))
        for s in settings
        if s.main and s.cell
    }
    gained = [Row(keys, by_pool(values, split.pools)) for keys, values in found.items()]
    return gained + [Row(keys, share) for keys, share in shares.items()]


def by_pool(values: Tensor, pools: int) -> Estimate:
    """Mean over the pools of the means of their episodes, [E] with episode e in pool e mod `pools`; Student's t."""
    means = of_pools(values, pools)
    if means.isnan().any():
        return Estimate(math.nan, (math.nan, math.nan), len(values))
    return intervals.mean(means)._replace(n=len(values))


def of_pools(values: Tensor, pools: int) -> Tensor:
    """Means [pools] of values [E], episode e in pool e mod `pools`."""
    return torch.stack([values[pool::pools].double().mean() for pool in range(pools)])


def ratio(values: Tensor, others: Tensor) -> Estimate:
    """The mean of values [N] over that of others [N], paired, with Student's t interval of the linearised ratio.

    The interval is too narrow where the mean of the others is not clear of 0; NaN where it is 0 or something is.
    """
    mean = float(others.mean())
    if mean == 0 or not (values + others).isfinite().all():
        return Estimate(math.nan, (math.nan, math.nan), len(values))
    value = float(values.mean()) / mean
    spread = intervals.mean((values - value * others) / mean).interval
    return Estimate(value, (value + spread[0], value + spread[1]), len(values))


def _over_splits(records: Sequence[Record], pools: int) -> Iterator[Row]:
    """Each number's mean over splits: with Student's t over them, and as it is for these splits alone."""
    of_splits = [record.values for record in records]
    yield from _shares_over_splits(of_splits, pools)
    for keys in of_splits[0]:
        if keys[-1] == OF_ORACLE:
            continue
        each = [values[keys] for values in of_splits]
        terms = torch.tensor([estimate.value for estimate in each], dtype=torch.float64)
        if not terms.isfinite().all():
            continue
        mean, n = float(terms.mean()), sum(estimate.n for estimate in each)
        interval = intervals.mean(terms).interval if len(each) > 1 else (math.nan, math.nan)
        yield Row(keys, Estimate(mean, interval, n))
        errors = [_error(estimate, pools) for estimate in each]
        *place, quantity = keys
        yield Row((*place, f"{quantity}{POOLED}"), intervals.normal(mean, math.hypot(*errors) / len(each), n))


def _shares_over_splits(of_splits: Sequence[Mapping[Any, Estimate]], pools: int) -> Iterator[Row]:
    """The sum of gains over that of the oracle's: with Student's t over splits, and as it is for these splits alone.

    None where the oracle gains nothing that is clear of 0 in these splits: there is nothing to have a share of.
    """
    (oracle,) = {keys for keys in of_splits[0] if keys[2:] == (ORACLE, GAIN)}
    headroom = torch.tensor([values[oracle].value for values in of_splits], dtype=torch.float64)
    errors = [_error(values[oracle], pools) for values in of_splits]
    if not float(headroom.sum()) > Z95 * math.hypot(*errors):
        return
    for keys in of_splits[0]:
        *place, quantity = keys
        if quantity == OF_ORACLE:
            gains = torch.tensor([values[*place, GAIN].value for values in of_splits], dtype=torch.float64)
            each = [values[keys] for values in of_splits]
            n = sum(estimate.n for estimate in each)
            yield Row(keys, ratio(gains, headroom)._replace(n=n))
            terms = [_error(estimate, pools) * float(of) for estimate, of in zip(each, headroom, strict=True)]
            value = float(gains.sum() / headroom.sum())
            if math.isfinite(value + math.hypot(*terms)):
                error = math.hypot(*terms) / float(headroom.sum())
                yield Row((*place, f"{quantity}{POOLED}"), intervals.normal(value, error, n))


def _error(estimate: Estimate, pools: int) -> float:
    """The standard error of a mean over pools."""
    return (estimate.interval[1] - estimate.value) / float(stdtrit(pools - 1, 0.975))


def fingerprint(record: Record) -> str:
    """Of the numbers of a record, keyed as in schema 2, so that published means over splits stay valid."""
    return digest({" ~ ".join(map(str, row.keys)): list(row.estimate) for row in record.rows})
