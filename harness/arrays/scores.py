"""Per-sample scores of a run as one table: a row for each generated sample, a column for each score."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core.files import canonical, replace
from ..core.progress import say
from ..core.protocols import Record
from .records import read_records
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

    Where the store no longer has all scores of the records, the file is left as it is.
    """
    records = [record for record in read_records(folder) if record.kind == "sample" and record.status == "ok"]
    lacking = [record.cell.label for record in records if not store.has(score_key(record))]
    if lacking:
        say(
            f"{folder / 'scores.parquet'} not written: the store lacks {len(lacking)} scores, the first is {lacking[0]}"
        )
        return
    runs: dict[tuple[str, str, int, int], dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]] = {}
    numbers: dict[tuple[str, str, int, int], NDArray[np.int64]] = {}
    for record in sorted(records, key=lambda record: record.cell.label):
        run = (record.cell.dataset, record.cell.generator, record.cell.seed, record.cell.n)
        scores = runs.setdefault(run, {})
        if run not in numbers or record.samples:
            numbers[run] = _numbers(record)
        scores[record.cell.label] = store.read(score_key(record))
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
        replace(folder / "scores.parquet", content.getvalue())
