"""Runs on objects: what was given becomes generators and a data set, and the state of the caller stays as it was."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from ..core.abilities import HasTotal
from ..core.registry import DATASETS, EXTRACTORS, GENERATORS, METRICS, discover, unknown
from ..open_run import check_numbers, default_features, run_on
from ..run import Run
from .calls import arrays, changeable, untouched
from .names import Named, named
from .opened import Found, generated_samples, real_samples
from .samples import Range, check_range


@contextmanager
def opened_runs(
    metrics: Any,
    generators: Mapping[str, Any],
    dataset: Any,
    *,
    spaces: Sequence[str],
    seed: int,
    n: int | Literal["all"] | None,
    features: str,
    store: str | Path | None,
    latent: int | Sequence[int] | None,
    value_range: Range | None,
    out: str | Path | None = None,
    **setting: Any,
) -> Iterator[tuple[list[Run], list[Named]]]:
    """A run of each generator, by the name of the argument, on one data set, and the metrics by name."""
    discover()
    entries = metrics_of(metrics)
    check_numbers(seed, n)
    check_range(value_range)
    with untouched(seed):
        data = real_samples(dataset)
        found: list[Found] = []
        for who, given in generators.items():
            found.append(generated_samples(given, data.opened, seed, n, latent, value_range, who))
        features = default_features(data.opened.it.name) if features == "auto" else features
        used = [features, *spaces]
        for name, options in entries:
            used += [str(options.get("space", "")), *(view.space for view in METRICS[name].views.values())]
        rules = changeable(METRICS, [name for name, _ in entries]) or changeable(EXTRACTORS, used)
        real = rules or changeable(DATASETS, [data.opened.name.partition("(")[0]])
        made = real or any(changeable(GENERATORS, [one.opened.name.partition("(")[0]]) for one in found)
        place_given = out is not None or store is not None
        keep_generated = not made and (place_given or all(one.by_name for one in found))
        keep_real = False if real else True if place_given or data.by_name else None
        with arrays(store, keep_generated, keep_real) as (own, kept):
            again = out is not None and not made
            folder = Path(out) if again and out is not None else own / (Path(out).name if out else "python")
            number = n if n is not None or len(found) == 1 else _common(found)
            runs = [
                run_on(data.opened, one.opened, folder, kept, features, seed=seed, n=number, **setting) for one in found
            ]
            try:
                yield runs, entries
            finally:
                if not (keep_generated and keep_real):
                    runs[0].views.forget()


def _common(found: Sequence[Found]) -> int | None:
    """As many samples as each of several generators has; None where all make as many as are asked for."""
    totals = [one.opened.it.total for one in found if isinstance(one.opened.it, HasTotal)]
    return min((total for total in totals if total is not None), default=None)


def metrics_of(given: Any) -> list[Named]:
    """Metrics by name. Raises ValueError and LookupError for what is none."""
    entries = []
    for one in given if isinstance(given, (list, tuple)) and not named(METRICS, given) else [given]:
        found = named(METRICS, one)
        if found is None and isinstance(one, str):
            raise LookupError(unknown("metric", one.partition("(")[0], sorted(METRICS)))
        if found is None:
            raise ValueError(f"metric={one!r} is no metric; give a name, or a pair (name, {{option: value}})")
        entries.append(found)
    if not entries:
        raise ValueError("metric is an empty list; name one at least")
    return entries


def with_options(entries: Sequence[Named], options: Mapping[str, Any], one: bool) -> list[Named]:
    """Each metric with those of the options that it has. Raises ValueError for one that no metric has."""
    for option in options:
        if not any(option in METRICS[name].options for name, _ in entries):
            names = sorted({known for name, _ in entries for known in METRICS[name].options})
            of = f"option of metric {entries[0].name}:" if one else "option, which none of the metrics has:"
            raise ValueError(unknown(of, option, names))
    return [
        Named(name, {**{key: value for key, value in options.items() if key in METRICS[name].options}, **own})
        for name, own in entries
    ]
