"""Per-sample scores of a run as one table: a row for each generated sample, a column for each score."""

import io
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core.files import canonical, replace
from ..core.progress import say
from ..core.protocols import Record
from .records import agreeing, read_records, record_name
from .store import ScoreKey, Store
from .subsets import Subset


def score_key(record: Record) -> ScoreKey:
    """Where the store keeps the scores behind a record of a sample metric."""
    return ScoreKey(
        record.cell.metric, record.version, canonical(record.cell.params), tuple(sorted(record.inputs.items()))
    )


def _numbers(record: Record) -> NDArray[np.int64]:
    """The numbers of the samples behind a record, int64 [n]."""
    for name, view in record.cell.views.items():
        counts = record.samples.get(name, {})
        if view.source == "fake" and "seed" in counts:
            return Subset("fake", counts["found"], counts["used"], counts["seed"]).numbers
    return np.arange(record.cell.n)


def write_scores(folder: Path, store: Store) -> None:
    """<folder>/scores.parquet, from the store. Columns: dataset, generator, seed, sample, then a score each.

    `sample` is the number of a sample: of a stored one that in its set, whether or not all of them were used.

    Scores that the store no longer has are taken from the file that is there, where their mean is that of the record.
    Where some are in neither, the file is left as it is.
    """
    agreeing(folder, partial(_write, folder, store))


def _write(folder: Path, store: Store) -> None:
    file = folder / "scores.parquet"
    records = [record for record in read_records(folder) if record.kind == "sample" and record.status == "ok"]
    found = {record_name(record.cell): _scores(record, store, file) for record in records}
    lacking = [record.cell.label for record in records if found[record_name(record.cell)] is None]
    if lacking:
        say(f"{file} not written: the store lacks {len(lacking)} scores, the first is {lacking[0]}")
        return
    runs: dict[tuple[str, str, int, int], dict[str, NDArray[np.float64] | None]] = {}
    numbers: dict[tuple[str, str, int, int], NDArray[np.int64]] = {}
    for record in sorted(records, key=lambda record: record.cell.label):
        run = (record.cell.dataset, record.cell.generator, record.cell.seed, record.cell.n)
        scores = runs.setdefault(run, {})
        if run not in numbers or record.samples:
            numbers[run] = _numbers(record)
        scores[record.cell.label] = found[record_name(record.cell)]
    frames = []
    for (dataset, generator, seed, n), columns in sorted(runs.items()):
        about = {
            "dataset": dataset,
            "generator": generator,
            "seed": seed,
            "sample": numbers[dataset, generator, seed, n],
        }
        frames.append(pd.DataFrame(about | columns, index=range(n)))
    if frames:
        content = io.BytesIO()
        pd.concat(frames, ignore_index=True).to_parquet(content, index=False)
        replace(file, content.getvalue())


def _scores(record: Record, store: Store, file: Path) -> NDArray[np.float64] | None:
    """The scores [n] behind a record, from the store or from an earlier table of them; None where neither has them."""
    cell = record.cell
    if store.has(score_key(record)):
        scores = store.read(score_key(record))
        return scores if scores.shape == (cell.n,) else None
    table = _table(file, file.stat().st_mtime_ns, file.stat().st_ino) if file.is_file() else pd.DataFrame()
    if cell.label not in table:
        return None
    about = {"dataset": cell.dataset, "generator": cell.generator, "seed": cell.seed}
    rows = table[np.logical_and.reduce([table[name] == value for name, value in about.items()])]
    earlier: NDArray[np.float64] = rows[cell.label].to_numpy()
    known = next(iter(record.values.values()), None)
    same = known is not None and len(earlier) == cell.n and np.isclose(np.nanmean(earlier), known.value, 1e-12, 0)
    return earlier if same else None


@lru_cache(maxsize=1)
def _table(file: Path, *status: int) -> pd.DataFrame:
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError):  # damaged
        return pd.DataFrame()
