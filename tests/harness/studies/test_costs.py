"""Costs of scores whose generator calls are known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.harness.arrays.views import Views
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out

SCORES = ("negative_norm", "log_volume", "amortised_volume", {"metric": "log_volume", "form": "logdet"})


@pytest.fixture
def run(open_views: Callable[..., Views], plain: Any, tmp_path: Path) -> Run:
    return Run(
        "priced", "plain", "squares", open_views(plain), tmp_path / "priced", seed=0, n=20, n_real=30, scores=SCORES,
        quality_signals=("png_bytes",),
    )  # fmt: skip


def test_calls_are_counted_and_those_for_all_are_told_apart(run: Run) -> None:
    found = {record.cell.params["score"]: record.values for record in carry_out(run, "costs", count=20)}
    calls = {score: values["generator calls a sample"].value for score, values in found.items()}
    # Four dimensions: all four axes are the directions of the norm too, and a derivative counts as two calls.
    assert calls == {
        "making the sample": 1, "negative_norm": 0, "log_volume": 8, "log_volume(form=logdet)": 8,
        "amortised_volume": 0, "png_bytes": 1,
    }  # fmt: skip
    once = {score: values["generator calls once"].value for score, values in found.items()}
    assert once["negative_norm"] == 0
    assert 8 * 4000 <= once["amortised_volume"] <= 8 * 4000 + 2
    assert all(value <= 4 for score, value in once.items() if score != "amortised_volume")  # one tells the size
    assert all(row.value >= 0 for values in found.values() for row in values.values())


def test_the_page_has_a_row_for_each_score(run: Run) -> None:
    run = replace(run, scores=["negative_norm"])
    carry_out(run, "costs", count=5)
    report(run.folder)
    text = (run.folder / "report.html").read_text()
    assert "what a score costs on the cpu" in text
    assert "making the sample" in text


def test_a_count_out_of_range(run: Run) -> None:
    with pytest.raises(ValueError, match="count=1 must be 2 or more"):
        carry_out(run, "costs", count=1)
