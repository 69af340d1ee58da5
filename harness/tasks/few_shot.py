"""Does choosing among generated features help few-shot classification? Accuracy by what is kept, paired by episode."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from scipy.special import stdtrit
from torch import Tensor

from ...metrics import intervals
from ...metrics.episodes import Episodes, draw_episodes
from ...metrics.few_shot import SUPPORT, centre, logistic_regression, nearest_prototype
from ...metrics.representatives import chi_square_representatives, nearest_representatives
from ...metrics.selection import top
from ..evaluate import reason
from ..feature_sets import open_feature_set
from ..files import digest
from ..progress import say, track
from ..protocols import Cell, Estimate, FeatureGenerator, FeatureModel, FeatureSet, Record, View
from ..registry import METRICS, TASKS, task
from ..study import Study, label
from ..views import SEEDS
from ..weights import read_safetensors, write_weights
from .few_shot_page import ACCURACY, ALL, CLASSIFIERS, GAIN, NONE, NORM, OVER_NORM, POOLED, RANDOM, page

VERSION = 1
RULES = ("nearest", "chi_square", "all")
COLUMNS = "generated ~ share ~ selection ~ quantity"


@task(page)
def few_shot(
    study: Study,
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
    top, bottom SCORE  the `share` with the highest, the lowest scores, within each class, for each of `study.scores`;
                       `every` adds, for the nearest prototype, each registered per-sample score that has what it reads

    A score reads codes of the prior as generated latents, codes of the representatives as real ones, generated features
    and those of the base classes. Codes are drawn without regard to the class, so that a choice among them acts mostly
    through their norm: negative_norm belongs in `study.scores`.

    There are `pools` pools of n features a class, each of seeds of its own; episode e has pool e mod `pools`. So an
    interval (Student's t over pools) covers the luck of what was generated, and of the random share, too. All
    selections have the same episodes; gains are paired differences of accuracy, to the random share and to the share of
    smallest norm. Over splits: Student's t over splits, and for these splits alone their pools together.

    path:            a file or folder of features, with dataset=none; else they are made of the data set's images.
    features, semantics, novel, splits: see `harness.feature_sets`; a file is one split.
    representatives: "nearest": the part `kept` of each class; "chi_square", as published: those with a p-value over
                     `kept` (0.9); "all".
    logistic:        episodes a split for logistic regression, the first ones; 0 leaves it out.
    shares, numbers: for plots, the gain of the top by the first score of each metric in `study.scores`, at these shares
                     of n, and at the `share` of these numbers.
    Raises ValueError for options out of range, and for a generator that does not learn features.
    """
    model = study.views.generator
    if not isinstance(model, FeatureGenerator):
        raise ValueError("few_shot needs a generator that learns features: choose generator=conditional_vae")
    if path and study.views.data.name != "none":
        raise ValueError(f"the features are those of {path}, not of {study.views.data.name!r}: add dataset=none")
    if representatives not in RULES:
        raise ValueError(f"representatives={representatives!r} must be one of {', '.join(RULES)}")
    if pools < 2 or episodes < pools or 0 < logistic < pools:
        raise ValueError(f"episodes={episodes} and logistic={logistic} must be at least pools={pools}, and that 2")
    asked = [cell for cell in study.cells(study.scores) if _can_be_had(cell)]
    scored = asked + [cell for cell in _every(study) if every and cell.label not in {other.label for other in asked}]
    settings = _settings(scored, asked, study.n, share, shares, numbers)
    source = path or study.views.data
    chosen = {
        "semantics": semantics, "novel": novel, "representatives": representatives, "kept": kept, "ways": ways,
        "queries": queries, "pools": pools, "share": share, "support": support,
    }  # fmt: skip
    how = label("", TASKS["few_shot"].options, chosen).strip("()") or "defaults"
    found: dict[tuple[int, str], list[Record]] = {}
    for split in (0,) if path else splits:
        feature_set = open_feature_set(
            source, study.views.store, study.views.device, split=split, novel=novel, features=features,
            semantics=semantics, least=max(shots) + queries, seed=study.seed,
            extractor=study.views.options.get(features),
        )  # fmt: skip
        draw_episodes(feature_set.labels, feature_set.novel, 1, ways, max(shots), queries)  # says what cannot be drawn
        one = Split(study, model, feature_set, split, representatives, kept, pools, settings)
        params: dict[str, Any] = {"features": feature_set.name, "how": how}
        study.record(
            "few_shot_generator", VERSION, {"columns": "quantity", **params}, [], one.described, read=one.fingerprints
        )
        for k, (classifier, count) in itertools.product(shots, zip(CLASSIFIERS, (episodes, logistic), strict=True)):
            if count:
                seed, rows = (study.seed, split, k), (feature_set.labels, feature_set.novel)
                draw = partial(draw_episodes, *rows, count, ways, k, queries, seed)
                prototypes = classifier == CLASSIFIERS[0]
                mine = settings if prototypes else [s for s in settings if s.main and (not s.cell or s.cell in asked)]
                compute = partial(_answers, one, mine, draw, prototypes, support)
                of_kind = {"columns": COLUMNS, "shots": k, "classifier": classifier, "episodes": count, **params}
                record = study.record("few_shot", VERSION, of_kind, [], compute, read=one.fingerprints)
                found.setdefault((k, classifier), []).append(record)
    for (k, classifier), records in found.items():
        if all(record.status == "ok" for record in records):
            params = {
                "columns": COLUMNS, "shots": k, "classifier": classifier, "episodes": records[0].params["episodes"],
                "features": records[0].params["features"] if path else features, "splits": len(records), "how": how,
            }  # fmt: skip
            read = {str(r.params["features"]): digest({key: list(e) for key, e in r.values.items()}) for r in records}
            study.record("few_shot_splits", VERSION, params, [], partial(_over_splits, records, pools), read=read)


class Setting(NamedTuple):
    """One choice among the first `number` generated features of each class.

    cell: whose scores decide, none for all and for a random share; sign: -1 for the lowest. main: at n and the share
    asked for; the others are points of the plots.
    """

    number: int
    share: float
    name: str
    cell: Cell | None = None
    sign: int = 1
    main: bool = True

    @property
    def key(self) -> str:
        return f"{self.number} ~ {self.share:g} ~ {self.name}"


def _settings(
    scored: Sequence[Cell], asked: Sequence[Cell], n: int, share: float, shares: Sequence[float], numbers: Sequence[int]
) -> list[Setting]:
    ends = [
        (name, cell, sign) for cell in scored for name, sign in ((f"top {cell.label}", 1), (f"bottom {cell.label}", -1))
    ]
    found = [Setting(n, 1, ALL), Setting(n, share, RANDOM)]
    found += [Setting(n, share, name, cell, sign) for name, cell, sign in ends]
    first = list({cell.metric: cell for cell in reversed(asked)}.values())[::-1]
    points = [(n, other) for other in shares if other != share] + [(other, share) for other in numbers if other != n]
    for number, part in points:
        found.append(Setting(number, part, RANDOM, main=False))
        found += [Setting(number, part, f"top {cell.label}", cell, main=False) for cell in first]
    for setting in found:
        if not 0 < setting.share <= 1 or round(setting.share * setting.number) < 1:
            raise ValueError(
                f"a share of {setting.share:g} of {setting.number} generated features keeps none, or too many"
            )
    return found


def _sees(view: View) -> bool:
    """Whether there is such a view of generated features and of base classes."""
    kind = view.through.partition(":")[0]
    if view.of == "fake":
        return kind in ("latent", "features", "recoded")
    return view.of == "real" and (
        kind == "features" or (kind == "latent" and view.encode in ("mean", "sample", "logvar"))
    )


def _can_be_had(cell: Cell) -> bool:
    unseen = [f"{view.of} {view.through}" for view in cell.views.values() if not _sees(view)]
    if unseen:
        say(f"{cell.label} is left out: generated features have no view of {' and '.join(unseen)}")
    return not unseen


def _every(study: Study) -> Iterator[Cell]:
    """Every registered per-sample score that has what it reads."""
    for name, metric in METRICS.items():
        if metric.kind == "sample" and all(map(_sees, metric.views.values())):
            yield study.cell(name)


class Pool(NamedTuple):
    """Codes [W, n, L] and features [W, n, D] generated of W novel classes."""

    codes: Tensor
    features: Tensor


class Split:
    """One division into base and novel classes: the generator learned on it, and what is kept of its features."""

    def __init__(
        self,
        study: Study,
        generator: FeatureGenerator,
        feature_set: FeatureSet,
        number: int,
        rule: str,
        part: float,
        pools: int,
        settings: Sequence[Setting],
    ):
        self.study, self.generator, self.set, self.number = study, generator, feature_set, number
        self.rule, self.part, self.pools, self.settings = rule, part, pools, settings
        self.most = max(setting.number for setting in settings)
        self._reals: dict[View, Tensor] = {}
        self._pool: tuple[int, Pool] | None = None
        self._undefined: set[str] = set()

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of all that the records of this split are made from."""
        cells = {setting.cell.label: setting.cell for setting in self.settings if setting.cell}
        versions = {label: METRICS[cell.metric].version for label, cell in cells.items()}
        return {
            "features": self.set.fingerprint,
            "generator": self.generator.fingerprint,
            "settings": digest([setting.key for setting in self.settings], versions, self.study.reals),
        }

    @cached_property
    def base(self) -> Tensor:
        """Rows of the base classes, in a random order."""
        rows = (~torch.isin(self.set.labels, torch.tensor(self.set.novel))).nonzero().flatten()
        return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.study.seed))]

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
    def seen(self) -> tuple[Tensor, Tensor]:
        """Representative features, and the semantics of each."""
        device = self.study.views.device
        labels = self.set.labels[self.representatives]
        return self.set.features[self.representatives].to(device), self.set.semantics[labels].to(device)

    @cached_property
    def model(self) -> FeatureModel:
        """The generator, learned from the representatives; its weights are kept beside the arrays of the store."""
        seed = self.study.seed
        name = digest(self.generator.fingerprint, self.set.fingerprint, self.rule, self.part, seed)[:16]
        path = Path(self.study.views.store.root) / "trained" / name / "features.safetensors"
        if path.is_file():
            try:
                return self.generator.learn(*self.seen, seed, read_safetensors(path)[0])
            except (SafetensorError, RuntimeError):
                say(f"{path} is damaged; it is made again")
        with track(f"{self.study.generator} learns {self.set.name}", len(self.representatives), "features") as advance:
            model = self.generator.learn(*self.seen, seed)
            advance(len(self.representatives))
        card = {"generator": self.study.generator, "features": self.set.name, "seed": seed, "rows": len(self.seen[0])}
        write_weights(path, model.state, {"family": self.study.generator}, card)
        return model

    def described(self) -> dict[str, Estimate]:
        """How many features are representative, and what the generator learned of them."""
        names = self.set.names
        counts = torch.bincount(self.set.labels[self.representatives], minlength=len(names))
        every = torch.bincount(self.set.labels, minlength=len(names))
        of_class = {name: (int(counts[i]), int(every[i])) for i, name in enumerate(names) if i not in self.set.novel}
        shown = ", ".join(f"{name} {kept} of {of}" for name, (kept, of) in of_class.items())
        say(f"{self.set.name}: representative features ({self.rule} {self.part:g}): {shown}")
        with torch.no_grad():
            figures = self.model.assess(*self.seen)
        figures = {"representatives": float(counts.sum())} | figures
        figures |= {f"representatives of {name}": float(kept) for name, (kept, _) in of_class.items()}
        return {name: Estimate(value, (math.nan, math.nan), int(counts.sum())) for name, value in figures.items()}

    @torch.no_grad()
    def pool(self, number: int) -> Pool:
        """The features of a pool, generated; the last one is remembered."""
        if self._pool is None or self._pool[0] != number:
            ways = len(self.set.novel)
            first = self.study.seed * SEEDS + (self.number * self.pools + number) * ways * self.most
            space = self.generator.spaces[0]
            codes = self.generator.latents(range(first, first + ways * self.most), space).to(self.study.views.device)
            known = self.set.semantics[list(self.set.novel)].repeat_interleave(self.most, 0).to(codes)
            made = self.model.decode(codes, known)
            self._pool = number, Pool(codes.view(ways, self.most, -1), made.view(ways, self.most, -1))
        return self._pool[1]

    @cached_property
    def codes(self) -> dict[str, Tensor]:
        """Codes of the representatives, by how they are encoded."""
        with torch.no_grad():
            mean, logvar = self.model.posterior(*self.seen)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(self.study.seed)).to(mean)
        return {"mean": mean, "logvar": logvar, "sample": mean + torch.exp(logvar / 2) * noise}

    def tensor(self, view: View, pool: Pool) -> Tensor:
        """A view that a score declares, as a tensor [N, ...]: of all classes of the pool, or of the base classes."""
        kind = view.through.partition(":")[0]
        if view.of == "fake":
            if kind == "latent":
                return pool.codes.flatten(0, 1)
            features = pool.features.flatten(0, 1)
            if kind == "features":
                return features
            known = self.set.semantics[list(self.set.novel)].repeat_interleave(self.most, 0).to(features)
            with torch.no_grad():
                return self.model.posterior(features, known)[0]
        if view not in self._reals:  # the same tensors for all pools: metrics remember what they found out about them
            count = {"all": len(self.base), "same": self.study.n}.get(str(view.n), view.n)
            real = self.codes[view.encode] if kind == "latent" else self.set.features[self.base].to(pool.features)
            self._reals[view] = real[: int(count)].clone()
        return self._reals[view]

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
    def kept(self) -> Tensor:
        """Which generated features each setting keeps, bool [S, P, W, n]."""
        found = torch.zeros(len(self.settings), self.pools, len(self.set.novel), self.most, dtype=torch.bool)
        cells = {setting.cell.label: setting.cell for setting in self.settings if setting.cell}
        with track(f"{self.set.name}: scores", self.pools, "pools") as advance:
            for number in range(self.pools):
                pool = self.pool(number)
                scores = {label: self.scores(cell, pool) for label, cell in cells.items()}
                dice = np.random.default_rng([self.study.seed, self.number, number])
                scores[RANDOM] = torch.from_numpy(dice.random(pool.codes.shape[:2]))
                scores[ALL] = torch.ones(pool.codes.shape[:2])
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
