"""`experiment=metric`: the chosen metrics are put to the test, instead of being computed of a generator's samples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.registry import METRICS
from .overrides import is_left_out

if TYPE_CHECKING:
    from ..report.evidence import Tables

EXPERIMENT = "experiment=metric"
TESTED_BY = ("sanity", "damage")
"""Studies that put metrics of features to the test."""
FOLDERS = "study.humans.folders="


def put_to_test(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides with the metrics as what the studies test, and their names; none without `experiment=metric`.

    Raises ValueError where no metric is named, LookupError for an unknown one.
    """
    if EXPERIMENT not in overrides:
        return list(overrides), []
    chosen = [one.partition("=")[2] for one in overrides if one.startswith("metric=")]
    names = re.findall(r"\w+", chosen[-1]) if chosen and re.fullmatch(r"\w+|\[\w+(, *\w+)*\]", chosen[-1]) else []
    if not names:
        raise ValueError(f"{EXPERIMENT} puts metrics to the test and needs their names: add metric=NAME")
    options: dict[str, list[str]] = {name: [] for name in names}
    rest = []
    for one in overrides:
        group, _, option = one.partition(".")
        name, _, given = option.partition(".")
        if group == "metric" and name in options and "=" in given:
            key, _, value = given.partition("=")
            options[name].append(f"{key}: {value}")
        elif not one.startswith("metric="):
            rest.append(one)
    for name in names:
        METRICS[name]  # raises LookupError for an unknown one
    entries = [f"{{metric: {name}, {', '.join(of)}}}" if of else name for name, of in options.items()]
    listed = f"[{','.join(entries)}]"
    studies = [one.partition("=")[2] for one in overrides if one.startswith("study=")]
    testing = [one for one in TESTED_BY if not studies or not is_left_out(one, studies[-1])]
    rest += [f"study.{study}.metrics={listed}" for study in testing]
    if any(one.startswith(FOLDERS) for one in overrides) and not studies:
        rest += [f"study=[{','.join(TESTED_BY)},humans]", f"set_metrics={listed}"]
    return rest, names


def evidence_of(folder: Path, names: Sequence[str]) -> list[str]:
    """The rows of the metrics on the board, by what a folder says of them and what is published of the others."""
    from ..arrays.records import read_records
    from ..report.evidence import gathered, published_tables
    from ..report.metrics_board import about
    from ..report.tables import PUBLISHED, study_tables

    others = [_without(tables, names) for tables in published_tables(PUBLISHED)] if PUBLISHED.is_dir() else []
    found = gathered([*others, study_tables(read_records(folder))])
    return [line for name in names for line in about(found, name)]


def _without(tables: Tables, names: Sequence[str]) -> Tables:
    """Published tables less what they say of these metrics, which were tested anew."""
    kept: Mapping[str, Any] = {
        name: frame[~frame["metric"].isin(names)] if "metric" in frame else frame for name, frame in tables.items()
    }
    return {name: frame for name, frame in kept.items() if len(frame)}
