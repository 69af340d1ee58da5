"""Records to tables: long ones, a row per number; and the comparison with those published."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..arrays.records import USED, read_records, record_name
from ..arrays.subsets import in_words
from ..core.columns import FLOOR, NUMBERS
from ..core.escapes import for_csv
from ..core.files import replace
from ..core.protocols import Record
from ..core.registry import unknown
from ..stats.families import HOLM, decided
from .typeset import latex, markdown

PUBLISHED = Path(__file__).parents[2] / "results"
USED_SAMPLES = "used"
"""Column of the table of metrics: of each view, how many samples were found and used, and by which rule."""
RUN = ["dataset", "generator", "seed", "samples"]
"""Columns of every table that say what was evaluated."""
READABLE = 200
"""Rows of a table up to which it is written for people too."""
MANY = 10_000
"""Rows of a table above which it is written as Parquet too."""
TOLERANCE = 0.01, 0.1
"""What another processor's rounding may change: a share of the number, or of the interval's half-width."""


def tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """`metrics`: every number of every cell; `leaderboard`: set metrics with ranks; and those of studies."""
    cells = [record for record in records if record.kind != "study"]
    found = {"metrics": _frame(_cell_rows(cells)), "leaderboard": _leaderboard(cells)}
    return {name: frame for name, frame in found.items() if len(frame)} | study_tables(records)


def study_tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """The tables of studies, by name. A part that failed is a row that says why."""
    studies = [record for record in records if record.kind == "study"]
    names = sorted({record.cell.metric for record in studies})
    found = {name: _frame(_study_rows([record for record in studies if record.cell.metric == name])) for name in names}
    return {name: decided(name, frame) for name, frame in found.items() if len(frame)}


def write_tables(found: dict[str, pd.DataFrame], folder: Path) -> None:
    """<folder>/tables/<name>.csv, a row for every number; of at most READABLE rows also .md and .tex for people.

    Of more than MANY rows there is <name>.parquet, too, with all digits.
    """
    made = dict(table_files(found, folder))
    for path, content in made.items():
        replace(path, content)
    for name in found:
        for suffix in (".parquet", ".md", ".tex"):
            path = folder / "tables" / f"{name}{suffix}"
            if path not in made:
                path.unlink(missing_ok=True)


def table_files(found: dict[str, pd.DataFrame], folder: Path) -> Iterator[tuple[Path, bytes]]:
    """The files that `write_tables` makes, and what is in them."""
    for name, frame in found.items():
        text = pd.DataFrame({for_csv(column): [_text(value) for value in frame[column].tolist()] for column in frame})
        path = folder / "tables" / f"{name}.csv"
        yield path, text.to_csv(index=False, lineterminator="\n").encode()
        if len(frame) > MANY:
            content = io.BytesIO()
            mixed = {column: frame[column].map(str) for column in frame if frame[column].dtype == object}
            frame.assign(**mixed).to_parquet(content, index=False)
            yield path.with_suffix(".parquet"), content.getvalue()
        if len(frame) <= READABLE:
            yield path.with_suffix(".md"), markdown(frame).encode()
            yield path.with_suffix(".tex"), latex(frame).encode()


def _text(value: object) -> str:
    """A value in a csv file: six digits, nothing where there is no number."""
    text = f"{value:.6g}" if isinstance(value, float) else for_csv(str(value))
    return "" if text == "nan" else text


def from_papers(experiment: str) -> pd.DataFrame:
    """What papers print on the subject of an experiment, as text: shown beside our numbers, never among them.

    Rows of results/papers/<subject>.csv, for the subjects that the experiment's name begins with; no rows otherwise.
    """
    files = [path for path in sorted((PUBLISHED / "papers").glob("*.csv")) if experiment.startswith(path.stem)]
    return pd.concat([_read(path) for path in files], ignore_index=True) if files else pd.DataFrame()


def printed_in_papers(subject: str) -> pd.DataFrame:
    """The rows of results/papers/<subject>.csv, as text; a table without columns for no subject, and where these files
    do not come with the installed package. Raises ValueError for an unknown subject.
    """
    path = PUBLISHED / "papers" / f"{subject}.csv"
    if not subject or not path.parent.is_dir():
        return pd.DataFrame()
    if not path.is_file():
        raise ValueError(
            unknown("file in results/papers", subject, sorted(each.stem for each in path.parent.glob("*.csv")))
        )
    return _read(path)


def is_published(folder: Path) -> bool:
    """Whether a folder is one of the published results themselves."""
    return folder.resolve().parent == PUBLISHED.resolve()


def compare_with_published(folder: Path) -> str:
    """Whether the tables of a run agree with those published under the same name; names every row that does not.

    What is published of other generators, data sets, seeds or numbers of samples is named once for each.
    """
    published = PUBLISHED / folder.name / "tables"
    if (folder / "tables").resolve() == published.resolve():
        return f"{folder} is the published copy itself"
    if not published.is_dir():
        return f"no published tables to compare with ({published} does not exist)"
    lines, same, absent = list[str](), True, dict[str, None]()
    for path in sorted(published.glob("*.csv")):
        ours = folder / "tables" / path.name
        if not ours.is_file():
            lines.append(f"{path.name}: not in this run")
            continue
        here, there = _read(ours), _read(path)
        others = ~pd.MultiIndex.from_frame(there[RUN]).isin(pd.MultiIndex.from_frame(here[RUN]))
        absent |= {f"{path.name}: {', '.join(run)}: only published": None for run in there[others][RUN].to_numpy()}
        there = there[~others]
        if settings := list(_other_settings(here, there)):
            lines += [f"{path.name}: {setting}" for setting in settings]
            continue
        same = same and _sorted(here, there) == _sorted(there, there)
        lines += [f"{path.name}: {line}" for line in _differences(here, there)]
    if not lines:
        close = f"within {TOLERANCE[0]:.0%} or {TOLERANCE[1]:.0%} of the interval's half-width"
        how = "to the last digit" if same else close
        if absent:
            return f"agrees in part with the published tables in {published} {how}:\n  " + "\n  ".join(absent)
        return f"agrees with the published tables in {published} {how}"
    lines += absent
    shown = "\n  ".join(lines[:20] + ([f"and {len(lines) - 20} more"] if len(lines) > 20 else []))
    others = _reading_otherwise(folder, published.parent)
    why = (
        f"\n{others} records read other data or networks than the published ones: theirs cannot agree" if others else ""
    )
    return f"does NOT agree with the published tables in {published} ({len(lines)} differences):\n  {shown}{why}"


def _sorted(table: pd.DataFrame, like: pd.DataFrame) -> list[tuple[str, ...]]:
    """The rows of a table in the order of their text, its columns as in another one."""
    return sorted(table.reindex(columns=like.columns).itertuples(index=False, name=None))


def _reading_otherwise(folder: Path, published: Path) -> int:
    """How many records of a run have read something else than the published ones of the same cells."""
    try:
        theirs = {record_name(record.cell): record for record in read_records(published)}
    except FileNotFoundError:
        return 0
    pairs = ((record, theirs.get(record_name(record.cell))) for record in read_records(folder))
    return sum(there is not None and _reads_otherwise(here, there) for here, there in pairs)


def _reads_otherwise(here: Record, there: Record) -> bool:
    """Whether neither has read all that the other has: one of another release may note more."""
    read, read_there = (
        {value.rpartition(" ")[2] for name, value in record.inputs.items() if not name.startswith(USED)}
        for record in (here, there)
    )
    return not (read <= read_there or read_there <= read)


def _other_settings(ours: pd.DataFrame, published: pd.DataFrame) -> Iterator[str]:
    """The columns of keys in which no row of one table has a value of the other, so that no two rows can agree."""
    if ours.empty or published.empty:
        return
    for column in ours.columns.intersection(published.columns).difference([*RUN, *NUMBERS, *FLOOR, HOLM, USED_SAMPLES]):
        here, there = set(ours[column]), set(published[column])
        if not here & there:
            yield f"{column} is {_first(here)}, published {_first(there)}: other settings, not compared"


def _first(values: set[str]) -> str:
    shown = sorted(values)[:3]
    return ", ".join(shown) + (f" and {len(values) - 3} more" if len(values) > 3 else "")


def _differences(ours: pd.DataFrame, published: pd.DataFrame) -> Iterator[str]:
    keys = [column for column in published.columns if column not in (*NUMBERS, *FLOOR, HOLM)]
    ours = ours.drop(columns=ours.columns.intersection([*FLOOR, USED_SAMPLES]).difference(published.columns))
    if set(ours.columns) != set(published.columns):
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
    keys = [column for column in frame.columns if column not in (*NUMBERS, *FLOOR)]
    return frame.sort_values(keys, kind="stable", ignore_index=True, key=_sortable) if len(frame) else frame


def _sortable(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Numbers by their size, all else, which may be numbers and text in one column, by its text."""
    return column.map(str) if column.dtype == object else column


def _cell_rows(records: Sequence[Record]) -> Iterator[dict[str, object]]:
    """Columns of floors and of used samples are there if any record tells them: older ones do not."""
    floors, counted = (any(getattr(record, name) for record in records) for name in ("floor", "samples"))
    for record in records:
        common = {**_about(record), "metric": record.cell.label}
        rest = {"kind": record.kind, "better": record.better, "status": record.status, "error": record.error or ""}
        if counted:
            views = (f"{name}: {in_words(counts)}" for name, counts in record.samples.items())
            rest[USED_SAMPLES] = "; ".join(views)
        if not record.rows:
            floor = _floor(record, "") if floors else {}
            yield {**common, "name": "", **_numbers(None), "n": record.cell.n, "missing": 0, **floor, **rest}
        for (name,), estimate in record.rows:
            numbers = _numbers((estimate.value, *estimate.interval))
            floor = _floor(record, str(name)) if floors else {}
            yield {**common, "name": name, **numbers, "n": estimate.n, "missing": estimate.missing, **floor, **rest}


def _study_rows(records: Sequence[Record]) -> Iterator[dict[str, object]]:
    """What rows have in common stands first; a setting that only some parts have is empty in the others."""
    settings = dict.fromkeys((name for record in records for name in record.cell.params), "")
    for record in records:
        common = {**_about(record), **settings, **record.cell.params}
        if record.status != "ok":
            keys = dict.fromkeys(record.columns, f"failed: {record.error}" if record.error else record.status)
            yield {**common, **keys, **_numbers(None), "n": 0, "missing": 0}
            continue
        for row in record.rows:
            estimate = row.estimate
            numbers = _numbers((estimate.value, *estimate.interval))
            named = dict(zip(record.columns, row.keys, strict=True))
            yield {**common, **named, **numbers, "n": estimate.n, "missing": estimate.missing}


def number_name(row: Any) -> str:
    """What a number of a row is called where its metric's label and its own name stand in one column."""
    return str(row.metric) if row.metric.split("(")[0] == row.name else f"{row.metric} {row.name}"


def _leaderboard(records: Sequence[Record]) -> pd.DataFrame:
    """Set metrics with a rank among those of as many samples. One that has none beside it has no rank where others
    differ from it by their number of samples alone.
    """
    frame = _frame(_cell_rows([record for record in records if record.kind == "set" and record.status == "ok"]))
    if not len(frame):
        return frame
    compared = ["dataset", "seed", "samples", "metric", "name", "better"]
    floors = [column for column in FLOOR if column in frame]
    rank = np.full(len(frame), "", dtype=object)
    others = frame.groupby([name for name in compared if name != "samples"], sort=False).generator.transform("nunique")
    for _, rows in frame.groupby([*compared, "n"], sort=False).indices.items():
        if len(rows) > 1 or others.iloc[rows[0]] == 1:
            ends = (frame[end].to_numpy()[rows] for end in ("low", "high"))
            rank[rows] = ranks(str(frame.better.iloc[rows[0]]), *ends)
    return frame.assign(rank=rank)[[*compared, "generator", *NUMBERS, "n", *floors, "rank"]]


def ranks(better: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """1 + the number of others whose whole interval is better, as text [N]. Ties share a rank; a number without
    direction or interval has none.
    """
    known = ~np.isnan(low)
    if better == "higher":
        ahead = known.sum() - np.searchsorted(np.sort(low[known]), high, side="right")
    elif better == "lower":
        ahead = np.searchsorted(np.sort(high[known]), low, side="left")
    else:
        return np.full(len(low), "", dtype=object)
    return np.where(known, (1 + ahead).astype(str), "")


def run_name(generator: str, dataset: str, seed: int, samples: int) -> str:
    """What was evaluated, in full."""
    return f"{generator}, {dataset}, seed {seed}, {samples:,} samples"


def add_run(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with the column `run` in front: the full name of what each row is about."""
    names = [run_name(*row) for row in zip(frame.generator, frame.dataset, frame.seed, frame.samples, strict=True)]
    return frame.assign(run=names)


def _about(record: Record) -> dict[str, object]:
    cell = record.cell
    return {"dataset": cell.dataset, "generator": cell.generator, "seed": cell.seed, "samples": cell.n}


def _floor(record: Record, name: str) -> dict[str, object]:
    """What the metric says of real samples by the same name, empty where it says nothing."""
    found = {row.keys[0]: row.estimate for row in record.floor.rows} if record.floor else {}
    if name not in found or record.floor is None:
        return dict(zip(FLOOR, [float("nan")] * 3 + [""], strict=True))
    estimate = found[name]
    return dict(zip(FLOOR, (estimate.value, *estimate.interval, record.floor.n), strict=True))


def _numbers(numbers: tuple[float, float, float] | None) -> dict[str, object]:
    return dict(zip(NUMBERS, numbers or (float("nan"),) * 3, strict=True))
