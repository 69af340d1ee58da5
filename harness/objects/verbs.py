"""What a notebook calls: evaluate, score, compare, select and load, on whatever objects it has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.records import write_record
from ..arrays.subsets import Subset
from ..core.declarations import Metric
from ..core.files import require_writable
from ..core.protocols import Generator, Record
from ..core.registry import METRICS, discover
from ..formats.checkpoint import read_checkpoint
from ..formats.handed_on import opening
from ..formats.recognise import opener
from ..open_run import default_features
from ..report.tables import tables
from ..report.verdict import sign
from ..stats.families import decided
from ..studies.same_seeds import SameSeeds
from .calls import untouched
from .features import features_of, needs_features
from .log_to import tell_sinks
from .runs import metrics_of, opened_runs, with_options
from .samples import Range

COMPARED = (
    "metric", "space", "better", "a", "a_low", "a_high", "b", "b_low", "b_high", "difference", "low", "high", "holm_p",
    "verdict",
)  # fmt: skip
"""Columns of a comparison."""
MetricLike = Any
"""A metric: its name, "name(option=value)", a pair (name, options), {name: options}, or the declared function."""
Samples = Any
"""Samples: see `evaluate`."""


@overload
def evaluate(
    metric: str | tuple[str, Mapping[str, Any]] | Mapping[str, Any] | Callable[..., Any],
    generator: Samples,
    dataset: Samples = ...,
    out: str | Path | None = ...,
    **more: Any,
) -> Record: ...
@overload
def evaluate(
    metric: list[Any], generator: Samples, dataset: Samples = ..., out: str | Path | None = ..., **more: Any
) -> pd.DataFrame: ...
def evaluate(
    metric: MetricLike | list[MetricLike],
    generator: Samples,
    dataset: Samples = "none",
    out: str | Path | None = None,
    *,
    space: str | None = None,
    encode: str | None = None,
    options: Mapping[str, Any] | None = None,
    n: int | Literal["all"] | None = None,
    seed: int = 0,
    n_real: int | None = None,
    features: str = "auto",
    extractors: Mapping[str, Mapping[str, Any]] | None = None,
    floor: bool = True,
    store: str | Path | None = None,
    device: str = "auto",
    latent: int | Sequence[int] | None = None,
    value_range: Range | None = None,
    **metric_options: Any,
) -> Record | pd.DataFrame:
    """Metrics of generated samples against real ones, as `assay run` computes them.

    metric: one metric gives a Record; a list gives a DataFrame with a row for each number, the table `metrics` of a
    run. A metric is a name, "precision(k=3)", ("precision", {"k": 3}) or the declared function; further keywords are
    options, too, in a list of the metrics that have them.
    generator, dataset: a name with options in the same forms; a path to a folder, an archive or a file of images, for
    a generator also to a checkpoint; images as an array or a tensor [N, C, H, W], [N, H, W, C] or [N, H, W], uint8 or
    float in [0, 1]; a list of pictures; a data set with items, a DataLoader or an iterator of batches, whose items and
    batches are images, pairs with labels or mappings; an object that is a Generator or a Dataset of assay; or
    {label: one of these}. A generator may be a module, with `latent` (the size of one normal latent), a function from a
    list of seeds to images, or a pipeline of diffusers. A data set may be {"train": ..., "test": ...}.
    space, encode, n, seed, n_real, features, extractors, floor, device: as on the command line.
    value_range: black and white in floating images that a generator makes; they are clamped to it. Without it, images
    outside [0, 1] are refused.
    out: a folder for the records, as on the command line; None writes none. Arrays are kept in `store`; with `out`, or
    for names and paths, in the cache folder; otherwise in a temporary folder that is removed.

    A record of status "failed" says why a metric could not be computed. Raises ValueError, LookupError or OSError, one
    line that names the argument, for everything else that is wrong with the call.
    """
    with opened_runs(
        metric, {"generator": generator}, dataset, out=out, store=store,
        spaces=[space or ""], seed=seed, n=n, features=features, device=device, extractors=extractors, n_real=n_real,
        floor=floor, latent=latent, value_range=value_range,
    ) as ((run,), entries):  # fmt: skip
        given = {**(options or {}), **metric_options}
        cells = [
            run.cell(name, **{"space": space, "encode": encode, **chosen})
            for name, chosen in with_options(entries, given, one=not isinstance(metric, list))
        ]
        records = [run.evaluate(cell) for cell in cells]
        tell_sinks(records)
        if out is not None and run.folder != Path(out):  # what may change without a new version is computed again
            require_writable(Path(out))
            for record in records:
                write_record(Path(out), record)
    if not isinstance(metric, list):
        return records[0]
    place = {cell.label: i for i, cell in reversed(list(enumerate(cells)))}
    return tables(records)["metrics"].sort_values(
        "metric", key=lambda labels: labels.map(place), kind="stable", ignore_index=True
    )


def score(
    metric: MetricLike | list[MetricLike],
    *samples: Any,
    features: str = "auto",
    extractors: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "auto",
    **options: Any,
) -> Any:
    """Metrics of your own arrays, generated samples first: score("precision", fake, real, k=3); a list gives a dict.

    Features, codes and labels [N, D] are taken as they are. Where a metric reads features, images are brought there:
    arrays [N, C, H, W] and the like, paths to samples, loaders and all else that holds images in `evaluate`. features:
    the feature space of metrics that have none of their own; "pixels" are the images themselves.

    Raises ValueError, and FileNotFoundError where a feature space needs weights that are not there.
    """
    discover()
    default = default_features("images") if features == "auto" else features
    with untouched(0):
        entries = with_options(metrics_of(metric), options, one=not isinstance(metric, list))
        made: dict[tuple[int, str], Any] = {}
        found: dict[str, Any] = {}
        for name, chosen in entries:
            declared: Metric = METRICS[name]
            unread = declared.unread({**declared.options, **chosen})
            views = {role: view for role, view in declared.views.items() if role not in unread}
            if len(samples) != len(views):
                roles, count = ", ".join(views), len(views)
                raise ValueError(f"metric {name} takes {count} arrays ({roles}), and {len(samples)} were given")
            given = list(samples)
            for i, (role, view) in enumerate(views.items()):
                if needs_features(given[i], view, declared):
                    space = default if view.space == "features" else view.space
                    if (i, space) not in made:
                        made[i, space] = features_of(role, given[i], space, (extractors or {}).get(space, {}), device)
                    given[i] = made[i, space]
            key = name if name not in found else f"{name}({', '.join(f'{k}={v}' for k, v in chosen.items())})"
            found[key] = declared.function(**dict(zip(views, given, strict=True)), **chosen)
    return found if isinstance(metric, list) else next(iter(found.values()))


def compare(
    a: Samples,
    b: Samples,
    dataset: Samples,
    metrics: MetricLike | Sequence[MetricLike] = ("precision", "recall", "density", "coverage", "frechet_distance"),
    *,
    spaces: Sequence[str] = ("features",),
    n: int | Literal["all"] | None = None,
    seed: int = 0,
    n_real: int | None = None,
    halves: int = 20,
    features: str = "auto",
    extractors: Mapping[str, Mapping[str, Any]] | None = None,
    store: str | Path | None = None,
    device: str = "auto",
    latent: int | Sequence[int] | None = None,
    value_range: Range | None = None,
) -> pd.DataFrame:
    """Which of two generators is better, in set metrics against the same real samples: the study `compare`.

    a, b, dataset: whatever `evaluate` takes as generator and as dataset. n: of each; by default all stored samples, of
    two sets of different sizes as many as the smaller one has.
    A row for each number: metric, space and better (the direction); the values a and b with the ends of their
    intervals; difference (a less b), low and high, from random halves of samples and reals, which holds for other reals
    too; holm_p, corrected for all rows; and verdict, "a is better", "b is better", "not decided", or "" for a metric
    without direction. Nothing is written.

    Raises ValueError, LookupError or OSError as `evaluate` does, and ValueError where a metric cannot be computed.
    """
    with opened_runs(
        metrics, {"a": a, "b": b}, dataset, spaces=spaces, store=store, seed=seed, n=n, features=features,
        device=device, extractors=extractors, n_real=n_real, latent=latent, value_range=value_range,
    ) as ((here, there), entries):  # fmt: skip
        asked = [{"metric": name, **options} for name, options in entries]
        same = SameSeeds(replace(here, set_metrics=asked), spaces, here.n, halves)
        values, others = same.values(here.views), same.values(there.views)
        difference = same.differences(here.views, there.views)
    about = {"generator": here.generator, "dataset": here.dataset, "halves": halves}
    rows = [
        {**about, "metric": metric, "space": space, "subject": "difference", "value": found.value,
         "low": found.interval[0], "high": found.interval[1]}
        for (metric, space), found in difference.items()
    ]  # fmt: skip
    frame = decided("compare", pd.DataFrame(rows)).rename(columns={"value": "difference"})
    for name, found in (("a", values), ("b", others)):
        frame[name] = [one.value for one in found.values()]
        frame[f"{name}_low"], frame[f"{name}_high"] = zip(*(one.interval for one in found.values()), strict=True)
    frame["better"] = [_better(metric) for metric in frame.metric]
    frame["verdict"] = [_verdict(row) for row in frame.itertuples()]
    return frame[[*COMPARED]]


class Selection(NamedTuple):
    """The best of n samples, best first.

    indices: int64 [k], their places: in an array, a data set or what an iterator gave the row; of samples that are made
    the number of the seed. scores: float64 [k], as the metric gives them. images: uint8 [k, C, H, W]. names: of their
    files, if each has one.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float64]
    images: Tensor
    names: Sequence[str]


def select(
    generator: Samples,
    score: MetricLike,
    k: int | None = None,
    share: float | None = None,
    real: Samples = "none",
    *,
    n: int | Literal["all"] | None = None,
    seed: int = 0,
    n_real: int | None = None,
    space: str | None = None,
    encode: str | None = None,
    features: str = "auto",
    extractors: Mapping[str, Mapping[str, Any]] | None = None,
    store: str | Path | None = None,
    device: str = "auto",
    latent: int | Sequence[int] | None = None,
    value_range: Range | None = None,
    **options: Any,
) -> Selection:
    """The k best samples, or the best share of them, by a per-sample score: select(images, "realism", k=50, real=real).

    generator, real: whatever `evaluate` takes as generator and as dataset. score: a metric of kind "sample" that has a
    direction; options: its own. Samples for which it is not defined are never selected. Nothing is written.

    Raises ValueError, LookupError or OSError as `evaluate` does, and ValueError for a score that cannot be computed or
    has no direction, and for more samples than have a score.
    """
    with opened_runs(
        score, {"generator": generator}, real, spaces=[space or ""], store=store, seed=seed, n=n, features=features,
        device=device, extractors=extractors, n_real=n_real, latent=latent, value_range=value_range,
    ) as ((run,), entries):  # fmt: skip
        if len(entries) > 1:
            raise ValueError(f"score={score!r} names {len(entries)} metrics; name one")
        ((name, chosen),) = with_options(entries, options, one=True)
        better = METRICS[name].better
        if METRICS[name].kind == "sample" and better == "neither":
            raise ValueError(
                f"score {name} has no direction, so no sample is better by it; choose one with a direction"
            )
        cell = run.cell(name, **{"space": space, "encode": encode, **chosen})
        scores = run.sample_scores(cell)
        if run.failed(cell):
            raise ValueError(f"score {cell.label} cannot be computed: {run.evaluate(cell).error}")
        count = _count(k, share, run.n)
        there = int(scores.isfinite().sum())
        if there < count:
            raise ValueError(f"k={count}: {there} of {run.n} samples have a score {cell.label}; ask for fewer")
        ranked = (scores if better == "lower" else -scores).nan_to_num(nan=torch.inf)
        best = ranked.argsort(stable=True)[:count]
        images = run.views.stored("fake", run.seed, run.n, best.tolist())
        total = run.views.total
        numbers = best.numpy() if total is None else Subset("fake", total, run.n, run.seed).numbers[best.numpy()]
        indices, names = _places(run.views.generator, numbers)
        return Selection(indices, scores[best].numpy(), images, names)


def load(path: str | Path, **options: Any) -> Generator:
    """The generator in a checkpoint file or folder; its family is recognised from the content."""
    discover()
    with opening(path):
        generator: Generator = opener(path, read_checkpoint(path)).function("", path=str(path), **options)
    return generator


def _better(row: str) -> str:
    known = METRICS.get(row.partition("(")[0].partition(",")[0])
    return known.better if known else "neither"


def _verdict(row: Any) -> str:
    if row.better == "neither":
        return ""
    decided_for = sign(row) * (1 if row.better == "higher" else -1)
    return {1: "a is better", -1: "b is better", 0: "not decided"}[decided_for]


def _count(k: int | None, share: float | None, n: int) -> int:
    """How many samples are asked for. Raises ValueError where neither or both of k and share say it."""
    if (k is None) == (share is None):
        raise ValueError("give either k, a number of samples, or share, such as share=0.1")
    if share is not None:
        if not 0 < share <= 1:
            raise ValueError(f"share={share} must be above 0 and at most 1")
        return max(1, round(share * n))
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= n:
        raise ValueError(f"k={k!r} must be a whole number of samples, from 1 to n={n}")
    return k


def _places(generator: Generator, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], Sequence[str]]:
    """Where samples of these numbers are in what was given, and the names of their files, which end in a suffix."""
    known = getattr(generator, "names", ())
    names = [known[number] for number in numbers] if known else []
    if names and all(name.isdigit() for name in names):
        return np.array(names, np.int64), []
    return numbers, names
