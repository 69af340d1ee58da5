"""The number that a job answers to an optimising sweeper, such as Optuna's: one of those in its tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..core.columns import BESIDE
from ..core.protocols import Record
from ..core.registry import unknown
from ..report.tables import tables

ABOUT = ("dataset", "generator", "seed", "samples", "kind", "better", "status", "error", "used")
"""Columns that do not tell the numbers of one job apart."""
SHOWN = 8


def objective(asked: str | Mapping[str, Any] | None, records: Sequence[Record]) -> float:
    """The value in the tables of a job's records that `asked` names; NaN where that cell failed.

    asked: a metric or a table, or {table: name, column: value, ...}, where "latent_density" also stands for
    "latent_density(bandwidth=0.5)"; None where there is one number alone. Raises ValueError that says what is left to
    choose from where that is not one number.
    """
    found = {name: frame for name, frame in tables(records).items() if name != "leaderboard"}
    chosen = dict(asked) if isinstance(asked, Mapping) else {} if asked is None else _named(str(asked), found)
    described = "objective" if asked is None else f"objective={asked}"
    if "table" in chosen:
        table = str(chosen.pop("table"))
        if table not in found:
            raise ValueError(f"{described}: {unknown('table', table, sorted(found))}")
        found = {table: found[table]}
    if len(found) > 1 and not chosen:
        raise ValueError(
            f"{described}: name the number to optimise, with objective={{table:...}}: {', '.join(sorted(found))}"
        )
    rows = {name: _matching(described, frame, chosen) for name, frame in found.items()}
    rows = {name: frame for name, frame in rows.items() if len(frame)}
    if not rows:
        raise ValueError(f"{described}: there is no such number")
    if len(rows) > 1:
        raise ValueError(f"{described}: it is in several tables, choose one with table: {', '.join(sorted(rows))}")
    ((table, left),) = rows.items()
    if len(left) > 1:
        raise ValueError(f"{described}: {len(left)} numbers of {table}; choose one of each: {_choices(left)}")
    return float(left.value.iloc[0])


def _named(name: str, found: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """A bare name is that of a table, else of a metric."""
    return {"table": name} if name in found else {"table": "metrics", "metric": name}


def _matching(described: str, frame: pd.DataFrame, chosen: Mapping[str, Any]) -> pd.DataFrame:
    for column, value in chosen.items():
        known = [name for name in frame if name not in BESIDE]
        if column not in known:
            raise ValueError(f"{described}: {unknown('column', str(column), known)}")
        texts = frame[column].map(str)
        same = texts == str(value)
        frame = frame[same if same.any() else texts.str.partition("(")[0] == str(value)]
    return frame


def _choices(left: pd.DataFrame) -> str:
    """The columns that tell the numbers apart, each with its values."""
    differing = []
    for column in left:
        values = list(dict.fromkeys(left[column].map(str)))
        if column not in (*BESIDE, *ABOUT) and len(values) > 1:
            more = f", and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
            differing.append(f"{column} ({', '.join(values[:SHOWN])}{more})")
    return "; ".join(differing)
