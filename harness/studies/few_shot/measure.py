"""Does choosing among generated features help few-shot classification? Accuracy by what is kept, paired by episode."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor

from ...core.files import digest
from ...core.protocols import Estimate, FeatureGenerator, Record
from ...core.registry import STUDIES, study
from ...run import Run, label
from ...stats import intervals
from .episodes import Episodes, draw_episodes
from .feature_sets import open_feature_set
from .page import ACCURACY, CLASSIFIERS, GAIN, NONE, NORM, OVER_NORM, POOLED, RANDOM, page
from .prototypes import SUPPORT, logistic_regression, nearest_prototype
from .settings import Setting, can_be_had, every_other, settings_of
from .split import RULES, Split

VERSION = 1
COLUMNS = "generated ~ share ~ selection ~ quantity"


@study(page)
def few_shot(
    run: Run,
    path: str = "",
    features: str = "resnet12",
    semantics: str = "own",
    novel: int = 8,
    splits: Sequence[int] = (0, 1, 2, 3, 4),
    representatives: str = "nearest",
    kept: float = 0.25,
    ways: int = 5,
    shots: Sequence[int] = (1, 5),
    queries: int = 15,
    episodes: int = 2000,
    logistic: int = 200,
    pools: int = 20,
    share: float = 0.2,
    shares: Sequence[float] = (),
    numbers: Sequence[int] = (),
    support: str = SUPPORT[0],
    every: bool = False,
) -> None:
    """Accuracy of `ways`-way episodes whose prototypes lean on generated features, kept or not by a score.

    Follows R-SVAE (Xu and Le, CVPR 2022), on which few-shot classification by latent density (arXiv:2407.15171) most
    likely builds; how that paper selects is not published. On each split a `FeatureGenerator` learns representative
    features of the base classes, and makes n features of each novel class from its semantics. What is kept of them:

    none               nothing: the support alone
    all                all n
    random             a `share` of them, drawn by chance
    top, bottom SCORE  the `share` with the highest, the lowest scores, within each class, for each of `run.scores`;
                       `every` adds, for the nearest prototype, each registered per-sample score that has what it reads

    A score reads codes of the prior as generated latents, codes of the representatives as real ones, generated features
    and those of the base classes. Codes are drawn without regard to the class, so that a choice among them acts mostly
    through their norm: negative_norm belongs in `run.scores`.

    There are `pools` pools of n features a class, each of seeds of its own; episode e has pool e mod `pools`. So an
    interval (Student's t over pools) covers the luck of what was generated, and of the random share, too. All
    selections have the same episodes; gains are paired differences of accuracy, to the random share and to the share of
    smallest norm. Over splits: Student's t over splits, and for these splits alone their pools together.

    path:            a file or folder of features, with dataset=none; else they are made of the data set's images.
    features, semantics, novel, splits: see `feature_sets`; a file is one split.
    representatives: "nearest": the part `kept` of each class; "chi_square", as published: those with a p-value over
                     `kept` (0.9); "all".
    logistic:        episodes a split for logistic regression, the first ones; 0 leaves it out.
    shares, numbers: for plots, the gain of the top by the first score of each metric in `run.scores`, at these shares
                     of n, and at the `share` of these numbers.
    Raises ValueError for options out of range, and for a generator that does not learn features.
    """
    model = run.views.generator
    if not isinstance(model, FeatureGenerator):
        raise ValueError("few_shot needs a generator that learns features: choose generator=conditional_vae")
    if path and run.views.data.name != "none":
        raise ValueError(f"the features are those of {path}, not of {run.views.data.name!r}: add dataset=none")
    if representatives not in RULES:
        raise ValueError(f"representatives={representatives!r} must be one of {', '.join(RULES)}")
    if pools < 2 or episodes < pools or 0 < logistic < pools:
        raise ValueError(f"episodes={episodes} and logistic={logistic} must be at least pools={pools}, and that 2")
    asked = [cell for cell in run.cells(run.scores) if can_be_had(cell)]
    scored = asked + (every_other(run, asked) if every else [])
    settings = settings_of(scored, asked, run.n, share, shares, numbers)
    source = path or run.views.data
    chosen = {
        "semantics": semantics, "novel": novel, "representatives": representatives, "kept": kept, "ways": ways,
        "queries": queries, "pools": pools, "share": share, "support": support,
    }  # fmt: skip
    how = label("", STUDIES["few_shot"].options, chosen).strip("()") or "defaults"
    counts = {name: count for name, count in zip(CLASSIFIERS, (episodes, logistic), strict=True) if count}
    found: dict[tuple[int, str], list[Record]] = {}
    for split in (0,) if path else splits:
        feature_set = open_feature_set(
            source, run.views.store, run.views.device, split=split, novel=novel, features=features,
            semantics=semantics, least=max(shots) + queries, seed=run.seed,
            extractor=run.views.options.get(features),
        )  # fmt: skip
        draw_episodes(feature_set.labels, feature_set.novel, 1, ways, max(shots), queries)  # says what cannot be drawn
        one = Split(run, model, feature_set, split, representatives, kept, pools, settings)
        params: dict[str, Any] = {"features": feature_set.name, "how": how}
        run.record(
            "few_shot_generator", VERSION, {"columns": "quantity", **params}, [], one.described, read=one.fingerprints
        )
        for k, (classifier, count) in itertools.product(shots, counts.items()):
            rows, seed = (feature_set.labels, feature_set.novel), (run.seed, split, k)
            draw = partial(draw_episodes, *rows, count, ways, k, queries, seed)
            prototypes = classifier == CLASSIFIERS[0]
            mine = settings if prototypes else [s for s in settings if s.main and (not s.cell or s.cell in asked)]
            compute = partial(_answers, one, mine, draw, prototypes, support)
            of_kind = {"columns": COLUMNS, "shots": k, "classifier": classifier, "episodes": count, **params}
            record = run.record("few_shot", VERSION, of_kind, [], compute, read=one.fingerprints)
            found.setdefault((k, classifier), []).append(record)
    for (k, classifier), records in found.items():
        if all(record.status == "ok" for record in records):
            params = {
                "columns": COLUMNS, "shots": k, "classifier": classifier, "episodes": records[0].params["episodes"],
                "features": records[0].params["features"] if path else features, "splits": len(records), "how": how,
            }  # fmt: skip
            read = {str(r.params["features"]): digest({key: list(e) for key, e in r.values.items()}) for r in records}
            run.record("few_shot_splits", VERSION, params, [], partial(_over_splits, records, pools), read=read)


def _answers(
    one: Split, settings: Sequence[Setting], draw: Callable[[], Episodes], prototypes: bool, support: str
) -> Mapping[str, Estimate]:
    """Accuracy and gains of each setting, all over the same episodes."""
    episodes, features = draw(), one.set.features
    places = [one.settings.index(setting) for setting in settings]
    if prototypes:
        alone = nearest_prototype(features, episodes, None, support)[0]
        every = nearest_prototype(features, episodes, one.centres[places], support)
    else:
        alone, every = logistic_regression(features, episodes), torch.empty(len(places), len(episodes.classes))
        for number in range(one.pools):
            rows, made = torch.arange(number, len(episodes.classes), one.pools), one.pool(number).features.cpu()
            for i, place in enumerate(places):
                kept = [of_class[mask] for of_class, mask in zip(made, one.kept[place, number], strict=True)]
                if all(map(len, kept)):
                    every[i, rows] = logistic_regression(features, episodes.rows(rows), kept)
    defined = one.kept[places].any(-1).flatten(1).all(1)
    accuracy = [values.where(there, torch.nan) for values, there in zip(every, defined, strict=True)]
    by_chance = {(s.number, s.share): v for s, v in zip(settings, accuracy, strict=True) if s.name == RANDOM}
    main = {s.name: v for s, v in zip(settings, accuracy, strict=True) if s.main}
    found = {f"0 ~ 0 ~ {NONE} ~ {ACCURACY}": alone, f"0 ~ 0 ~ {NONE} ~ {GAIN}": alone - main[RANDOM]}
    for s, value in zip(settings, accuracy, strict=True):
        if s.main:
            found[f"{s.key} ~ {ACCURACY}"] = value
        if s.name != RANDOM:
            found[f"{s.key} ~ {GAIN}"] = value - by_chance.get((s.number, s.share), main[RANDOM])
        if s.main and s.cell and s.sign > 0 and s.name != NORM and NORM in main:
            found[f"{s.key} ~ {OVER_NORM}"] = value - main[NORM]
    return {key: by_pool(values, one.pools) for key, values in found.items()}


def by_pool(values: Tensor, pools: int) -> Estimate:
    """Mean over the pools of the means of their episodes, [E] with episode e in pool e mod `pools`; Student's t."""
    means = torch.stack([values[pool::pools].double().mean() for pool in range(pools)])
    if means.isnan().any():
        return Estimate(math.nan, (math.nan, math.nan), len(values))
    return intervals.mean(means)._replace(n=len(values))


def _over_splits(records: Sequence[Record], pools: int) -> dict[str, Estimate]:
    """Each number's mean over splits: with Student's t over them, and as it is for these splits alone."""
    found = {}
    for key in records[0].values:
        each = [record.values[key] for record in records]
        values = torch.tensor([estimate.value for estimate in each], dtype=torch.float64)
        if not values.isfinite().all():
            continue
        mean, n = float(values.mean()), sum(estimate.n for estimate in each)
        interval = intervals.mean(values).interval if len(each) > 1 else (math.nan, math.nan)
        found[key] = Estimate(mean, interval, n)
        errors = [(estimate.interval[1] - estimate.value) / float(stdtrit(pools - 1, 0.975)) for estimate in each]
        found[f"{key}{POOLED}"] = intervals.normal(mean, math.hypot(*errors) / len(each), n)
    return found
