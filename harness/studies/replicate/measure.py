"""Would it be so on another trained network? Correlations of several networks, families and data sets in one model."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...arrays.records import read_records
from ...core.files import digest
from ...core.progress import say
from ...core.protocols import Estimate, Part, Row
from ...core.registry import study
from ...report.tables import study_tables
from ...run import Run
from ...stats.intervals import Z95
from ...stats.replication import PRIOR, Replication, fisher_z, partial_conjunction, two_sided
from ..conditions import NOTHING
from ..shared_spaces import shared_spaces, with_composite
from .names import (
    ABOVE,
    AVERAGE,
    EVERYWHERE,
    MEDIAN,
    NEVER,
    NEW,
    NEW_DATA_SET,
    SEEDS,
    SHARE_OF_CEILING,
    SHARE_OF_VARIANCE,
    TOGETHER,
)  # fmt: skip
from .page import page
from .selections import KEPT, selections
from .tunings import TUNED, tunings

NONE = (math.nan, math.nan)
TABLE = "correlate"
BESIDE = ("gain", "share")
"""Further tables of the study `correlate`: gains over other scores, and shares of the noise ceiling."""
COLUMNS = ("table", "dataset", "generator", "seed", "samples", "covariates", "score", "signal", "against", "value")
Measured = Mapping[str, tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True)
class Options:
    """What is brought together.

    folders:    results folders with records of the studies `correlate`, `tradeoff` or `fine_tune`.
    scores, signals, against: by name, those whose correlations, and gains over which other scores, are claims; all
                where none are named. Each claim more makes the correction for their number stricter.
    covariates: what is held fixed, as the column of that name says it; by default the most that was held in each run.
    shared:     by data set, the variance that the real samples, which judge all its networks, add to Fisher's z of a
                correlation; also added to gains in correlation. Gains by keeping samples have it in their intervals.
    at_least:   on how many data sets a claim must hold to hold for a family.
    prior:      scale of the half-normal priors of the two standard deviations, in units of Fisher's z.
    """

    folders: Sequence[str] = ()
    scores: Sequence[str] = ()
    signals: Sequence[str] = ()
    against: Sequence[str] = ()
    covariates: str = ""
    shared: Mapping[str, float] = field(default_factory=dict)
    at_least: int = 3
    prior: float = PRIOR


@study(page=page, replicate=("family", "trained_on", "score", "against", "signal", "quantity"))
def replicate(run: Run, options: Options) -> Iterator[Part]:
    """What the rank correlation of a score with a signal of quality would be on a network that was not trained here.

    The networks of a family differ by their training seeds; their correlations are brought together, over data sets,
    by a hierarchical model of Fisher's z (`harness/stats/replication.py`). It has parts for the data set, the training
    seed, the real samples and the generated ones. Gains of one score over another on the same samples, where they were
    recorded, are brought together in the same way, as differences of correlations. So are, where `tradeoff` recorded
    them, the gains in precision, recall and Fréchet distance of keeping the samples with the highest scores; and where
    `fine_tune` did, what a tuning gains over plain training of the same seed; there a tuned network is the unit.

    new network          the correlation on one more network of the family, with the interval that holds 95 % of them
    mean of networks     the mean over all networks of the family on this data set
    median               of the networks that were measured
    above 0              the probability that one more network has a correlation above 0
    never                the probability that the interval for a new network does not lie above 0, however many networks
                         are trained
    seeds needed         networks from which on it is expected to lie above 0; inf where no number is enough
    fewer than r         the p-value of "on fewer than r data sets it is clear of 0" (Benjamini and Heller 2008)
    share of variance    of what is measured, from data set, seed, reals and samples; like a new data set, only where
                         there are two data sets or more
    share of the ceiling median over networks of the correlation as a share of the most that any score could have

    A claim holds on a data set where the interval for a new network lies above 0, after Holm's correction for all
    scores, signals, families and data sets of the page; correlations, gains in them, and gains by keeping samples are
    corrected apart. It does not hold where no number of networks would bring that about, with a probability of
    97.5 % or more (`never`). Otherwise it is undecided.
    Raises FileNotFoundError for a folder without records, and ValueError for one without correlations and for names
    that it does not have.
    """
    found, others = _read(options.folders)
    table = _chosen(found, options) if len(found) else found
    wanted = others.score.isin(options.scores) if options.scores else others.score.notna()
    table = pd.concat([one for one in (table, others[wanted]) if len(one)], ignore_index=True)
    table["family"] = table.generator.map(family_of)
    for family, part in table.groupby("family", sort=False):
        content = digest(*part.astype(str).sort_values(list(part.columns)).to_numpy().tolist())
        setting = {
            "held_fixed": "; ".join(dict.fromkeys(part.covariates.dropna())) if "covariates" in part else NOTHING,
            "at_least": options.at_least,
            "prior": options.prior,
        }
        prints = {"correlations": content, "shared": digest(sorted(options.shared.items()))}
        yield Part(partial(_rows, str(family), part, options), {"of": family, **setting}, fingerprints=prints)


def family_of(generator: str) -> str:
    """What networks of one family have in common: the generator without the option `path`.

    generator: as records name it, "vae(path=latent_density/seed3#1a2b3c4d, temperature=0.7)".
    """
    name, _, options = generator.removesuffix(")").partition("(")
    kept = [option for option in re.split(r", (?=\w+=)", options) if option and not option.startswith("path=")]
    return f"{name}({', '.join(kept)})" if kept else name


def _read(folders: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Correlations, gains and shares of all folders, by the column `table`; `against` is empty where it is no gain.

    And what `selections` and `tunings` make of them.
    """
    if not folders:
        raise ValueError("study.replicate.folders is empty; name results folders, e.g. [results/latent_density]")
    found, others = [], []
    for folder in folders:
        records = read_records(Path(folder).expanduser())
        tables = study_tables(records)
        if not {TABLE, KEPT, TUNED} & tables.keys():
            raise ValueError(f"{folder} has no correlations; make some with study=correlate")
        if TABLE in tables:
            dependent = with_composite(shared_spaces(records), tables[TABLE].signal.unique())
            for name in (name for name in (TABLE, *BESIDE) if name in tables):
                pairs = zip(tables[name].score, tables[name].signal, strict=True)
                found.append(tables[name].assign(table=name)[[pair not in dependent for pair in pairs]])
        for name, gains in ((KEPT, selections), (TUNED, tunings)):
            if name in tables:
                others.append(gains(tables[name]))
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)
    table = table.assign(against=table.against.fillna("") if "against" in table else "")
    return table, pd.concat(others, ignore_index=True) if others else pd.DataFrame(columns=COLUMNS)


def _chosen(table: pd.DataFrame, options: Options) -> pd.DataFrame:
    """The rows of the claims, under one condition, of the most resamples."""
    held = [options.covariates] if options.covariates else []
    chosen = {"score": options.scores, "signal": options.signals, "against": options.against, "covariates": held}
    for column, names in chosen.items():
        known = [name for name in dict.fromkeys(table[column]) if name]
        for name in names:
            if name not in known:
                raise ValueError(f"no correlations with {column} {name!r}; there are {', '.join(map(repr, known))}")
        table = table[table[column].isin([*(names or known), *([""] if column == "against" else [])])]
    for name in options.shared:
        if name not in set(table.dataset):
            there = ", ".join(map(repr, dict.fromkeys(table.dataset)))
            say(f"replicate: shared names {name!r}, of which there are no networks; there are {there}")
    runs = [table[name] for name in ("table", "dataset", "generator", "seed", "samples")]
    table = table[table.resamples == table.resamples.groupby(runs).transform("max")]
    runs = [table[name] for name in ("table", "dataset", "generator", "seed", "samples")]
    held_fixed = table.covariates.str.len().where(table.covariates != NOTHING, 0)
    return table[held_fixed == held_fixed.groupby(runs).transform("max")].copy()


def _rows(family: str, table: pd.DataFrame, options: Options) -> Iterator[Row]:
    shares = table[table.table == "share"]
    for (score, against, signal), part in table.groupby(["score", "against", "signal"], sort=False):
        claim, scale = part[part.table == ("gain" if against else TABLE)], PLAIN if against else FISHER
        measured, missing = _measured(claim, scale)
        for dataset in dict.fromkeys(claim.dataset):
            if dataset not in measured:
                estimate = Estimate(math.nan, NONE, 0, missing[dataset])
                yield Row((family, dataset, score, against, signal, NEW), estimate)
        of_correlations = "covariates" in claim and claim.covariates.notna().any()
        here = options if of_correlations else replace(options, shared={})
        if measured:
            for dataset, quantity, estimate in _found(measured, missing, here, scale):
                yield Row((family, dataset, score, against, signal, quantity), estimate)
        if not against:
            of_score = shares[(shares.score == score) & (shares.signal == signal)]
            for dataset, values in of_score.groupby("dataset", sort=False).value:
                median = Estimate(float(values.median()), NONE, int(values.notna().sum()), int(values.isna().sum()))
                yield Row((family, dataset, score, against, signal, SHARE_OF_CEILING), median)


class Scale(NamedTuple):
    """On which values are brought together: of a value and its interval, the value and its variance there; and back."""

    to: Callable[[float, tuple[float, float]], tuple[float, float]]
    back: Callable[[float], float]


FISHER = Scale(fisher_z, math.tanh)
PLAIN = Scale(lambda value, interval: (value, ((interval[1] - interval[0]) / (2 * Z95)) ** 2), lambda value: value)


def _measured(part: pd.DataFrame, scale: Scale) -> tuple[Measured, dict[str, int]]:
    """By data set, value and variance of each network that has them, on the scale, and how many have none.

    A network that was measured with several seeds of samples counts once, with their mean.
    """
    measured: dict[str, tuple[list[float], list[float]]] = {}
    missing: dict[str, int] = {}
    for (dataset, _), network in part.groupby(["dataset", "generator"], sort=False):
        both = [scale.to(row.value, (row.low, row.high)) for row in network.itertuples() if row.low == row.low]
        if both:
            values, variances = measured.setdefault(dataset, ([], []))
            found, v = np.array(both).T
            values.append(float(found.mean()))
            variances.append(float(v.mean() / len(v)))
        else:
            missing[dataset] = missing.get(dataset, 0) + 1
    return measured, {dataset: missing.get(dataset, 0) for dataset in part.dataset}


def _found(
    measured: Measured, missing: Mapping[str, int], options: Options, scale: Scale
) -> Iterator[tuple[str, str, Estimate]]:
    """Data set, quantity and estimate, of one claim on one family."""
    model = Replication(measured, options.shared, options.prior)

    def there(value: float, interval: tuple[float, float], networks: int, lacking: int) -> Estimate:
        return Estimate(scale.back(value), (scale.back(interval[0]), scale.back(interval[1])), networks, lacking)

    p_values = []
    for dataset, (values, _) in measured.items():
        counts = len(values), missing[dataset]
        new, average = model.new_network(dataset), model.on(dataset)
        yield dataset, NEW, there(new.mean, new.interval, *counts)
        yield dataset, AVERAGE, there(average.mean, average.interval, *counts)
        yield dataset, MEDIAN, Estimate(scale.back(float(np.median(values))), NONE, *counts)
        yield dataset, ABOVE, Estimate(1 - new.below(0.0), NONE, *counts)
        yield dataset, NEVER, Estimate(model.never(dataset), NONE, *counts)
        yield dataset, SEEDS, Estimate(model.seeds_needed(dataset), NONE, *counts)
        p_values.append(two_sided(new) if new.mean > 0 else 1.0)
    networks, lacking = sum(len(values) for values, _ in measured.values()), sum(missing.values())
    if len(measured) == 1:  # nothing then tells how data sets differ but the prior
        return
    other = model.new_data_set
    yield NEW_DATA_SET, NEW, there(other.mean, other.interval, networks, lacking)
    yield NEW_DATA_SET, ABOVE, Estimate(1 - other.below(0.0), NONE, networks, lacking)
    if options.at_least <= len(p_values):
        p = partial_conjunction(p_values, options.at_least)
        yield EVERYWHERE, TOGETHER.format(options.at_least), Estimate(p, NONE, networks, lacking)
    parts = model.variances()
    for part, variance in parts.items():
        share = variance / sum(parts.values())
        yield EVERYWHERE, SHARE_OF_VARIANCE.format(part), Estimate(share, NONE, networks, lacking)
