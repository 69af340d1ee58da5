"""Set metrics of two files of features, without a generator, a data set or records: `assay compare-features`."""

import argparse
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..arrays.spaces import extracted
from ..arrays.subsets import Subset
from ..core.declarations import Metric
from ..core.files import replace
from ..core.protocols import Estimate, Statistics
from ..core.registry import METRICS, discover, unknown
from ..evaluate import estimates, reason
from ..formats.arrays import read_arrays
from ..formats.statistics import has_statistics, read_statistics

USUAL = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
OF_STATISTICS = "frechet_distance"
NAMES = ("features", "arr_0")
"""Names under which features are looked for in a .npz file with several arrays of rows."""


@dataclass(frozen=True)
class Compared:
    """One number of a metric. floor: the same of real rows in place of the generated ones; why: it failed."""

    name: str
    better: str
    estimate: Estimate | None
    floor: Estimate | None
    why: str = ""


def main(arguments: Sequence[str]) -> int:
    """The command. Prints a table; returns 1 where a metric failed, and its row says why."""
    discover("metrics/*.py")
    parser = argparse.ArgumentParser(
        prog="assay compare-features",
        description="Set metrics of two files of features [N, D]: .npy, or .npz with the array `features`, `arr_0` or "
        "only one of rows. All rows are used. `real` is what a draw of real rows scores against other real rows. "
        "REAL may also be a file of statistics, mu [D] and sigma [D, D], for frechet_distance alone.",
    )
    parser.add_argument("fake", type=Path, help="features of generated samples")
    parser.add_argument("real", type=Path, help="features of real samples, or their statistics")
    parser.add_argument("metrics", nargs="*", metavar="METRIC",
                        help=f"name, or name(option=value,...) in quotes; by default {' '.join(USUAL)}, or of "
                        f"statistics {OF_STATISTICS}")  # fmt: skip
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table, too")
    given = parser.parse_args(list(arguments))
    if has_statistics(given.fake.expanduser()):
        raise ValueError(
            f"{given.fake} has statistics: give the features of the generated samples; REAL may be such a file"
        )
    known = has_statistics(given.real.expanduser())
    entries = given.metrics or ([OF_STATISTICS] if known else USUAL)
    chosen = {entry: _chosen(entry) for entry in entries}
    fake, real = features(given.fake), read_statistics(given.real) if known else features(given.real)
    rows = [row for entry, (metric, options) in chosen.items() for row in compared(entry, metric, options, fake, real)]
    beside = "mean and covariance of real rows" if isinstance(real, Statistics) else f"{len(real):,} real rows"
    _print(rows, f"{len(fake):,} generated rows and {beside} of {fake.shape[1]:,} numbers")
    if given.csv:
        count = real.n if isinstance(real, Statistics) else len(real)
        replace(given.csv, _frame(rows, len(fake), count).to_csv(index=False).encode())
    return 1 if any(row.why for row in rows) else 0


def features(file: Path) -> Tensor:
    """Features [N, D] in a file. Raises FileNotFoundError, and ValueError that says what was found instead."""
    if not file.expanduser().exists():
        raise FileNotFoundError(f"{file} does not exist; give a .npy or .npz file of features")
    arrays = read_arrays(file.expanduser(), NAMES[0])
    matrices = [name for name in arrays if arrays[name].ndim == 2 and arrays[name].dtype.kind in "fiu"]
    named = [name for name in NAMES if name in matrices] or matrices
    if not named or (len(named) > 1 and named == matrices):
        shapes = ", ".join(f"{name} {list(arrays[name].shape)}" for name in arrays)
        raise ValueError(f"{file} has {shapes}; give one array of rows [N, D], called {NAMES[0]}")
    return torch.from_numpy(arrays[named[0]].astype(arrays[named[0]].dtype.newbyteorder("="), copy=True))


def compared(
    entry: str, metric: Metric, options: Mapping[str, Any], fake: Tensor, real: Tensor | Statistics
) -> list[Compared]:
    """The numbers of one metric, called as `entry` says."""
    roles = {view.source: name for name, view in metric.views.items()}
    if isinstance(real, Statistics) and roles["real"] not in metric.moments:
        why = f"it needs real rows, and mean and covariance are not enough: give features, or take {OF_STATISTICS}"
        return [Compared(entry, metric.better, None, None, why)]

    def numbers(these: Tensor, those: Tensor | Statistics) -> Mapping[str, Estimate]:
        return estimates(entry, metric.function(**{roles["fake"]: these, roles["real"]: those}, **options), len(these))

    try:
        found = numbers(fake, real)
    except ValueError as failure:
        return [Compared(entry, metric.better, None, None, reason(failure))]
    if isinstance(real, Statistics):
        return [Compared(name, metric.better, one, None) for name, one in found.items()]
    half = min(len(fake), len(real) // 2)
    draws = [torch.from_numpy(Subset("real", len(real), half, 0, first).numbers) for first in (0, half)]
    try:
        floor = numbers(*(real[draw] for draw in draws))
    except ValueError:  # too few for two sets: the numbers stand without it
        floor = {}
    return [Compared(name, metric.better, one, floor.get(name)) for name, one in found.items()]


def _chosen(entry: str) -> tuple[Metric, dict[str, Any]]:
    """A metric and its options from "name" or "name(option=value,...)"."""
    matched = re.fullmatch(r"(\w+)(?:\((.*)\))?", entry)
    if not matched:
        raise ValueError(f"{entry!r} is no metric; write NAME, or 'NAME(OPTION=VALUE,...)' in quotes")
    metric: Metric = METRICS[matched[1]]
    sources = sorted(view.source for view in metric.views.values())
    spaces = {view.space for view in metric.views.values()}
    if metric.kind != "set" or sources != ["fake", "real"] or not all(map(extracted, spaces)):
        raise ValueError(f"{metric.name} does not compare features of generated and of real samples: {metric.source}")
    if metric.fixed_features:
        raise ValueError(
            f"{metric.name} is defined for {', '.join(spaces)} alone, and a file does not say what its features are: "
            f"take {'frechet_distance' if 'fid' in metric.name else 'kernel_distance'}, which is the same formula"
        )
    options = {}
    for pair in filter(None, (matched[2] or "").split(",")):
        name, _, value = (part.strip() for part in pair.partition("="))
        if name not in metric.options:
            raise LookupError(unknown(f"option of metric {metric.name}:", name, sorted(metric.options)))
        options[name] = _plain(value)
    return metric, options


def _plain(value: str) -> bool | int | float | str:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _interval(estimate: Estimate) -> str:
    low, high = estimate.interval
    return "" if math.isnan(low) else f"{low:.4g} to {high:.4g}"


def _print(rows: Sequence[Compared], title: str) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("metric", "value", "95 % interval", "real", "better"):
        table.add_column(column, overflow="fold")
    for row in rows:
        if row.estimate is None:
            table.add_row(row.name, "failed", row.why, "", row.better)
        else:
            floor = "" if row.floor is None else f"{row.floor.value:.4g}"
            table.add_row(row.name, f"{row.estimate.value:.6g}", _interval(row.estimate), floor, row.better)
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table, markup=False)


def _frame(rows: Sequence[Compared], fake: int, real: int | None) -> pd.DataFrame:
    nothing = Estimate(math.nan, (math.nan, math.nan))
    return pd.DataFrame([
        {
            "metric": row.name, "better": row.better, "value": (row.estimate or nothing).value,
            "low": (row.estimate or nothing).interval[0], "high": (row.estimate or nothing).interval[1],
            "real": (row.floor or nothing).value, "n": fake, "n_real": real, "error": row.why,
        }
        for row in rows
    ])  # fmt: skip
