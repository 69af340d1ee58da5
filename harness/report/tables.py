"""Records to tables: long ones, a row per number; and the comparison with those published."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..arrays.records import read_record
from ..core.files import replace
from ..core.protocols import Record
from .typeset import NUMBERS, latex, markdown

PUBLISHED = Path(__file__).parents[2] / "results"
TOLERANCE = 0.01, 0.1
"""What another processor's rounding may change: a share of the number, or of the interval's half-width."""


def tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """`metrics`: every number of every cell; `leaderboard`: set metrics with ranks; and one for each kind of study."""
    cells = [record for record in records if record.kind != "study"]
    found = {"metrics": _frame(_cell_rows(cells)), "leaderboard": _leaderboard(cells)}
    for name in sorted({record.metric for record in records if record.kind == "study"}):
        found[name] = _frame(_study_rows([record for record in records if record.metric == name]))
    return {name: frame for name, frame in found.items() if len(frame)}


def write_tables(found: dict[str, pd.DataFrame], folder: Path) -> None:
    """<folder>/tables/<name>.csv, every digit in a row of its own; .md and .tex, as people read them."""
    for name, frame in found.items():
        text = frame.map(lambda value: f"{value:.6g}" if isinstance(value, float) else str(value)).replace("nan", "")
        path = folder / "tables" / f"{name}.csv"
        replace(path, text.to_csv(index=False, lineterminator="\n").encode())
        replace(path.with_suffix(".md"), markdown(frame).encode())
        replace(path.with_suffix(".tex"), latex(frame).encode())


def from_papers(experiment: str) -> pd.DataFrame:
    """What papers print on the subject of an experiment, as text: shown beside our numbers, never among them.

    Rows of results/papers/<subject>.csv, for the subjects that the experiment's name begins with; no rows otherwise.
    """
    files = [path for path in sorted((PUBLISHED / "papers").glob("*.csv")) if experiment.startswith(path.stem)]
    return pd.concat([_read(path) for path in files], ignore_index=True) if files else pd.DataFrame()


def compare_with_published(folder: Path) -> str:
    """Whether the tables of a run agree with those published under the same name; names every row that does not."""
    published = PUBLISHED / folder.name / "tables"
    if (folder / "tables").resolve() == published.resolve():
        return f"{folder} is the published copy itself"
    if not published.is_dir():
        return f"no published tables to compare with ({published} does not exist)"
    lines, same = [], True
    for path in sorted(published.glob("*.csv")):
        ours = folder / "tables" / path.name
        if not ours.is_file():
            lines.append(f"{path.name}: not in this run")
            continue
        same = same and ours.read_bytes() == path.read_bytes()
        lines += [f"{path.name}: {line}" for line in _differences(_read(ours), _read(path))]
    if not lines:
        close = f"within {TOLERANCE[0]:.0%} or {TOLERANCE[1]:.0%} of the interval's half-width"
        how = "to the last digit" if same else close
        return f"agrees with the published tables in {published} {how}"
    shown = "\n  ".join(lines[:20] + ([f"and {len(lines) - 20} more"] if len(lines) > 20 else []))
    others = _reading_otherwise(folder, published.parent)
    why = (
        f"\n{others} records read other data or networks than the published ones: theirs cannot agree" if others else ""
    )
    return f"does NOT agree with the published tables in {published} ({len(lines)} differences):\n  {shown}{why}"


def _reading_otherwise(folder: Path, published: Path) -> int:
    """How many records of a run have read something else than the published ones that answer the same."""
    theirs = {path.name: read_record(path) for path in (published / "records").glob("*.json")}
    ours = ((read_record(path), theirs.get(path.name)) for path in (folder / "records").glob("*.json"))
    return sum(bool(here and there and here.inputs != there.inputs) for here, there in ours)


def _differences(ours: pd.DataFrame, published: pd.DataFrame) -> Iterator[str]:
    keys = [column for column in published.columns if column not in NUMBERS]
    if list(ours.columns) != list(published.columns):
        yield f"columns are {', '.join(ours.columns)}, published {', '.join(published.columns)}"
        return
    merged = published.merge(ours, on=keys, how="outer", suffixes=("_published", "_here"), indicator=True)
    for row in merged.to_dict("records"):
        where = ", ".join(str(row[key]) for key in keys if row[key] != "")
        if row["_merge"] != "both":
            yield f"{where}: only {'published' if row['_merge'] == 'left_only' else 'in this run'}"
            continue
        for number in NUMBERS:
            here, there = row[f"{number}_here"], row[f"{number}_published"]
            if here != there and not _close(here, there, row["low_published"], row["high_published"]):
                yield f"{where}: {number} is {here or 'undefined'}, published {there or 'undefined'}"


def _close(here: str, there: str, low: str, high: str) -> bool:
    if not here or not there:
        return False
    half_width = (float(high) - float(low)) / 2 if low and high else 0.0
    return abs(float(here) - float(there)) <= max(TOLERANCE[0] * abs(float(there)), TOLERANCE[1] * half_width)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _frame(rows: Iterator[dict[str, object]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows))
    keys = [column for column in frame.columns if column not in NUMBERS]
    return frame.sort_values(keys, kind="stable", ignore_index=True) if len(frame) else frame


def _cell_rows(records: Sequence[Record]) -> Iterator[dict[str, object]]:
    for record in records:
        common = {**_about(record), "metric": record.label}
        rest = {"kind": record.kind, "better": record.better, "status": record.status, "error": record.error or ""}
        if not record.values:
            yield {**common, "name": "", **_numbers(None), "n": record.n, "missing": 0, **rest}
        for name, estimate in record.values.items():
            numbers = _numbers((estimate.value, *estimate.interval))
            yield {**common, "name": name, **numbers, "n": estimate.n, "missing": estimate.missing, **rest}


def _study_rows(records: Sequence[Record]) -> Iterator[dict[str, object]]:
    for record in records:
        common = _about(record)
        common |= {key: value for key, value in record.params.items() if key != "columns"}
        columns = record.params["columns"].split(" ~ ")
        if record.status == "failed":
            yield {
                **common,
                **dict.fromkeys(columns, f"failed: {record.error}"),
                **_numbers(None),
                "n": 0,
                "missing": 0,
            }
        for key, estimate in record.values.items():
            parts = dict(zip(columns, key.split(" ~ "), strict=True))
            numbers = _numbers((estimate.value, *estimate.interval))
            yield {**common, **parts, **numbers, "n": estimate.n, "missing": estimate.missing}


def number_name(row: "pd.Series[str]") -> str:
    """What a number is called where its metric's label and its own name stand in one column."""
    return row.metric if row.metric.split("(")[0] == row["name"] else f"{row.metric} {row['name']}"


def _leaderboard(records: Sequence[Record]) -> pd.DataFrame:
    """Set metrics with a rank: 1 + the number of generators whose whole interval is better. Ties share a rank;
    a number without direction or interval has none.
    """
    frame = _frame(_cell_rows([record for record in records if record.kind == "set" and record.status == "ok"]))
    if not len(frame):
        return frame
    compared = ["dataset", "seed", "samples", "metric", "name", "better"]
    rank = []
    for row in frame.itertuples():
        rivals = frame[np.logical_and.reduce([frame[key] == getattr(row, key) for key in (*compared, "n")])]
        better = {"higher": rivals.low > row.high, "lower": rivals.high < row.low}
        comparable = row.better in better and row.low == row.low
        rank.append(str(1 + int(better[row.better].sum())) if comparable else "")
    return frame.assign(rank=rank)[[*compared, "generator", *NUMBERS, "n", "rank"]]


def run_name(generator: str, dataset: str, seed: int, samples: int) -> str:
    """What was evaluated, in full."""
    return f"{generator}, {dataset}, seed {seed}, {samples:,} samples"


def add_run(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with the column `run` in front: the full name of what each row is about."""
    names = [run_name(*row) for row in zip(frame.generator, frame.dataset, frame.seed, frame.samples, strict=True)]
    return frame.assign(run=names)


def _about(record: Record) -> dict[str, object]:
    return {"dataset": record.dataset, "generator": record.generator, "seed": record.seed, "samples": record.n}


def _numbers(numbers: tuple[float, float, float] | None) -> dict[str, object]:
    return dict(zip(NUMBERS, numbers or (float("nan"),) * 3, strict=True))
