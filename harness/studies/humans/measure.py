"""Do metrics rank models as people do? 41 models, how often their samples were taken for real, and published values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ...arrays.opened import open_dataset, open_generator
from ...core.files import digest
from ...core.progress import say
from ...core.protocols import Estimate, Part, Row
from ...core.registry import METRICS, study, unknown
from ...open_run import run_on
from ...run import Run
from ...stats.families import holm
from ...stats.few import copula_interval, exact_p, spearman
from ...stats.intervals import mean, mean_of_independent
from .agreement import Numbers, bootstrap, ceiling, pairs
from .facts import FILE, Models, plain, read_models
from .names import (
    AGREEMENT,
    ALL,
    APART,
    COMPUTED,
    HOLM_P,
    OPEN,
    OPPOSITE,
    PERFECT,
    PUBLISHED,
    RAW,
    RESAMPLED,
    SAME,
    SHARE,
    P,
)
from .page import page

REAL = "real"
"""The folder with real images, beside those of the models."""
FEWEST = 4
"""Models whose order is compared: with fewer no order at all would be clear of chance."""
NONE = (math.nan, math.nan)


@dataclass(frozen=True)
class Options:
    """What is compared.

    folders:   samples of the models that you have: {cifar10: DIR}. DIR has a folder for each model, called as the model
               is, and one called `real`; the set metrics of the run are computed of them, in the run's feature space.
    resamples: of models and participants, and of means of a perfect metric.
    """

    folders: Mapping[str, str] = field(default_factory=dict)
    resamples: int = 10_000


@dataclass(frozen=True)
class Values:
    """Values [N] of a metric for some models, and the half-widths [N] of their intervals, 0 where none are known.

    where: positions of these models among all of the data set. origin: published or computed.
    """

    metric: str
    better: str
    origin: str
    where: Sequence[int]
    values: Numbers
    half_widths: Numbers

    @property
    def sign(self) -> int:
        return {"higher": 1, "lower": -1}.get(self.better, 0)


@study(
    page=page,
    humans=("metric", "values", "quantity"),
    humans_models=("model",),
)
def humans(run: Run, options: Options) -> Iterator[Part]:
    """Rank correlation of metrics with human error, on each data set of images, and how sure it is with so few models.

    Facts of arXiv:2306.04675: 25 to 27 participants for each model, each of whom judged 100 real images and 100 of the
    model; the error is the share of wrong answers, and .5 is chance. Metrics are those that the authors printed, in
    features of DINOv2 ViT-L/14, and those that are computed of samples in `folders`.

    rank correlation       Spearman's, of the metric as it is. The interval is that of the normal copula, for other
                           models of which these would be a sample. In simulations of 8 and 13 models, with normal and
                           heavy tails and in two groups, with correlations from 0 to .997, it covered in 93 to 99 %;
                           the percentile bootstrap of models in 53 to 99 %, worst at 8 models near 1.
    ..., bootstrap         the same with an interval over models and participants
    permutation p          exact, two-sided: the share of all orders of the models that agree or disagree as much
    ... after Holm         corrected for all metrics of the data set
    agreement              the correlation with its sign turned to the metric's direction, where it has one
    share of the ceiling   agreement over what a metric that knew the true error would have with the measured one
    told apart by people   the share of pairs of models whose errors differ, each by its own 95 % interval (Welch)
    same, opposite order   the share of these pairs that the metric orders as people do, or the other way round. Pairs
                           share models, so these shares have no interval of their own.
    """
    known = read_models()
    folders = _folders(options.folders, known)
    of_metric: dict[tuple[str, str], list[Estimate]] = {}
    for models in known:
        columns = [_published(models, name, values) for name, values in models.printed.items()]
        if folder := folders.get(models.images):
            columns += _computed(run, models, folder)
        setting = {"images": models.images, "resamples": options.resamples}
        content = digest(*((c.metric, list(c.where), c.values.tolist(), c.half_widths.tolist()) for c in columns))
        prints = {"facts": digest(FILE.read_text()), "values": content}
        for column in columns:
            if column.sign:
                of_metric.setdefault((column.metric, column.origin), []).append(_agreement(models, column))
        rows = partial(_rows, models, columns, options.resamples, run.seed)
        yield Part(rows, setting, table="humans", fingerprints=prints)
        yield Part(partial(_errors, models), {"images": models.images}, "humans_models", fingerprints=prints)
    several = {key: terms for key, terms in of_metric.items() if len(terms) > 1}
    content = digest(*((*key, *map(list, terms)) for key, terms in several.items()))
    setting = {"images": ALL, "resamples": options.resamples}
    yield Part(partial(_over_all, several), setting, table="humans", fingerprints={"agreement": content})


def _folders(given: Mapping[str, str], known: Sequence[Models]) -> dict[str, Path]:
    """By the data set's name in the facts. Raises LookupError for an unknown one, FileNotFoundError for no folder."""
    found = {}
    for name, path in given.items():
        images = next((one.images for one in known if plain(name) in (plain(one.images), one.images.lower())), None)
        if images is None:
            raise LookupError(unknown("data set of study.humans.folders:", name, [plain(one.images) for one in known]))
        folder = Path(path).expanduser()
        if not (folder / REAL).is_dir():
            raise FileNotFoundError(f"study.humans.folders.{name}={path} has no folder {REAL!r}; put real images there")
        found[images] = folder
    return found


def _published(models: Models, metric: str, values: Numbers) -> Values:
    return Values(
        metric, METRICS[metric].better, PUBLISHED, range(len(models.names)), values, np.zeros(len(values))
    )  # fmt: skip


def _computed(run: Run, models: Models, folder: Path) -> Iterator[Values]:
    """The set metrics of the run, of each model that has a folder of samples."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != REAL)
    where = models.find(names)
    if len(names) < FEWEST:
        raise ValueError(f"{folder} has samples of {len(names)} models; the order of {FEWEST} or more can be compared")
    if not run.set_metrics:
        raise ValueError("no metrics to compute of the samples; name some, e.g. set_metrics=[frechet_distance]")
    found: dict[str, list[Estimate]] = {}
    better = {}
    real = open_dataset({"folder": {"root": str(folder / REAL)}})
    for name, place in zip(names, where, strict=True):
        node = {"replay": {"path": str(folder / name), "name": models.names[place]}}
        model, views = open_generator(real.it.name, node), run.views
        this = run_on(
            real, model, run.folder, views.store, views.features, str(views.device), views.options, run.seed,
            n_real=run.n_real, set_metrics=run.set_metrics, floor=run.floor, metric_options=run.metric_options,
        )  # fmt: skip
        for cell in this.cells(this.set_metrics):
            record = this.evaluate(cell)
            run.written.extend(this.written)
            this.written.clear()
            for part, estimate in record.values.items():
                label = cell.label if part == cell.metric else f"{cell.label} {part}"
                better[label] = METRICS[cell.metric].better
                found.setdefault(label, [Estimate(math.nan, NONE)] * len(names))[names.index(name)] = estimate
            if record.status == "failed":
                say(f"{models.names[place]}: {cell.label} failed and is left out of its order, {record.error}")
    for label, estimates in found.items():
        defined = [i for i, estimate in enumerate(estimates) if not math.isnan(estimate.value)]
        kept = [estimates[i] for i in defined]
        halves = np.nan_to_num([(one.interval[1] - one.interval[0]) / 2 for one in kept])
        values = np.array([one.value for one in kept])
        yield Values(label, better[label], COMPUTED, [where[i] for i in defined], values, halves)


def _agreement(models: Models, column: Values) -> Estimate:
    found = _correlation(models, column)
    ends = sorted(column.sign * end for end in found.interval)
    return found._replace(value=column.sign * found.value, interval=(ends[0], ends[1]))


def _correlation(models: Models, column: Values) -> Estimate:
    n = len(column.where)
    found = spearman(column.values, models.error[list(column.where)]) if n >= FEWEST else math.nan
    return Estimate(found, copula_interval(found, n), n, len(models.names) - n)


def _rows(models: Models, columns: Sequence[Values], resamples: int, seed: int) -> Iterator[Row]:
    most = ceiling(models.error, models.variance, resamples, seed)
    yield Row((PERFECT, PUBLISHED, RAW), most)
    for origin in dict.fromkeys(column.origin for column in columns):
        here = [column for column in columns if column.origin == origin]
        tests = []
        for column in here:
            found, where = _correlation(models, column), list(column.where)
            p = math.nan if math.isnan(found.value) else exact_p(column.values, models.error[where])
            tests.append(p)
            for quantity, estimate in _of_metric(models, column, found, most, resamples, seed):
                yield Row((column.metric, origin, quantity), estimate)
            yield Row((column.metric, origin, P), _bare(p, found.n))
        for column, corrected in zip(here, holm(np.array(tests)), strict=True):
            yield Row((column.metric, origin, HOLM_P), _bare(float(corrected), len(tests)))


def _of_metric(
    models: Models, column: Values, found: Estimate, most: Estimate, resamples: int, seed: int
) -> Iterator[tuple[str, Estimate]]:
    """Each quantity of a metric but its p-values. most: the correlation that a perfect metric would have."""
    yield RAW, found
    if math.isnan(found.value):
        return
    where = list(column.where)
    wrong = [models.wrong[place] for place in where]
    yield RESAMPLED, found._replace(interval=bootstrap(column.values, wrong, resamples, seed))
    if not column.sign:
        return
    agreement = _agreement(models, column)
    yield AGREEMENT, agreement
    low, high = (end / most.value for end in agreement.interval)
    yield SHARE, agreement._replace(value=agreement.value / most.value, interval=(low, high))
    raters = [len(each) for each in wrong]
    oriented = column.sign * column.values
    count = pairs(oriented, column.half_widths, models.error[where], models.variance[where], raters)
    yield APART, _bare(count.apart / count.all, count.all)
    for quantity, some in ((SAME, count.same), (OPPOSITE, count.opposite), (OPEN, count.undecided)):
        yield quantity, _bare(some / count.apart if count.apart else math.nan, count.apart)


def _errors(models: Models) -> Iterator[Row]:
    """Human error of each model, with Student's t interval over participants."""
    for name, wrong in zip(models.names, models.wrong, strict=True):
        yield Row((name,), mean(torch.from_numpy(wrong)))


def _over_all(agreements: Mapping[tuple[str, str], Sequence[Estimate]]) -> Iterator[Row]:
    for (metric, origin), terms in agreements.items():
        yield Row((metric, origin, AGREEMENT), mean_of_independent(terms))


def _bare(value: float, n: int) -> Estimate:
    return Estimate(value, NONE, n)
