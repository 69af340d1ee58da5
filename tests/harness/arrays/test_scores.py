"""Scores of each sample: from the store, or where it was deleted from the table that is there; never others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from assay.harness.arrays.records import write_record
from assay.harness.arrays.scores import score_key, write_scores
from assay.harness.arrays.store import Store
from assay.harness.arrays.views import Views
from assay.harness.core.registry import discover
from assay.harness.run import Run
from assay.harness.stats import intervals


@pytest.fixture
def run(open_views: Callable[..., Views], plain: object, tmp_path: Path) -> Run:
    discover()
    run = Run("study", "plain", "squares", open_views(plain), tmp_path / "run", seed=0, n=20)
    for name in ("mean_intensity", "random_score"):
        run.evaluate(run.cell(name))
    write_scores(run.folder, run.views.store)
    return run


def test_a_valid_record_does_not_stand_for_the_scores(
    run: Run, open_views: Callable[..., Views], tmp_path: Path
) -> None:
    before = pd.read_parquet(run.folder / "scores.parquet")
    (run.folder / "scores.parquet").unlink()
    fresh = Views(run.views.data, run.views.generator, "doubled", Store(tmp_path / "other"), run.views.device)
    again = replace(run, views=fresh, written=[])
    for name in ("mean_intensity", "random_score"):
        again.evaluate(again.cell(name))
    assert again.written == [], "no record was computed again"
    write_scores(run.folder, fresh.store)
    pd.testing.assert_frame_equal(pd.read_parquet(run.folder / "scores.parquet"), before)


def test_scores_that_the_store_lost_are_taken_from_the_table(run: Run, tmp_path: Path) -> None:
    path = run.folder / "scores.parquet"
    before = path.read_bytes()
    write_scores(run.folder, Store(tmp_path / "empty"))
    assert path.read_bytes() == before


@pytest.mark.parametrize("what", ["value", "rows"])
def test_scores_of_another_record_are_not_taken(
    run: Run, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, record = run.folder / "scores.parquet", run.written[0]
    table = pd.read_parquet(path)
    table["mean_intensity"] += 1e-6
    (table if what == "value" else pd.read_parquet(path)[:10]).to_parquet(path, index=False)
    before = path.read_bytes()
    write_scores(run.folder, Store(tmp_path / "empty"))
    assert path.read_bytes() == before
    assert "not written: the store lacks" in capsys.readouterr().err
    assert run.views.store.has(score_key(record))


def test_a_record_of_other_lengths_than_its_scores_has_none(run: Run) -> None:
    """Anybody can write a record that names the key of an entry in the store of another one."""
    record = run.written[0]
    wrong = replace(
        record,
        cell=replace(record.cell, n=2**50),
        rows=[record.rows[0]._replace(estimate=intervals.normal(0.0, 1.0, 3))],
    )
    write_record(run.folder, wrong)
    before = (run.folder / "scores.parquet").read_bytes()
    write_scores(run.folder, run.views.store)
    assert (run.folder / "scores.parquet").read_bytes() == before
