"""The page: one file that needs no other, with nothing in it that was not meant, and every failure on it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.harness.arrays.records import write_record
from assay.harness.core.protocols import Cell, Estimate, Record, Row
from assay.harness.core.registry import discover
from assay.harness.report.report import report

EVIL = 'vae(<script>alert(1)</script> & "q")'
RECORD = Record(
    cell=Cell("study", "digits", EVIL, "precision", "precision", 0, 100), version=1, kind="set", better="higher",
    source="not published", columns=("name",), rows=[Row(("precision",), Estimate(0.5, (0.4, 0.6), 100))], status="ok",
    error=None, inputs={}, numerics={"torch": "2"},
)  # fmt: skip
FAILED = replace(
    RECORD, cell=replace(RECORD.cell, metric="recall", label="recall"), status="failed", error="k < 5 <b>bad</b>",
    rows=[],
)  # fmt: skip


def other(value: float, low: float, high: float, record: Record = RECORD, **cell: Any) -> Record:
    """The record of another cell."""
    return replace(
        record,
        cell=replace(record.cell, **cell),
        rows=[Row(("precision",), Estimate(value, (low, high), 100))],
    )


def written(folder: Path, *records: Record) -> Path:
    discover()
    for record in records:
        write_record(folder, record)
    return folder


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    report(written(tmp_path, RECORD, FAILED))
    page = (tmp_path / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:)""", page)
    assert not re.search(r"<script|<link|<iframe|@import|url\(", page)
    assert page.startswith("<!doctype html>")


def test_labels_and_errors_are_escaped(tmp_path: Path) -> None:
    report(written(tmp_path, RECORD, FAILED))
    page = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;q&quot;" in page
    assert "<b>bad" not in page


def test_tags_are_balanced(tmp_path: Path) -> None:
    report(written(tmp_path, RECORD, FAILED))
    page = (tmp_path / "report.html").read_text()
    for tag in ("html", "body", "table", "tr", "td", "th", "div", "p", "h1", "h2", "small"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def test_failed_cells_are_shown_and_never_a_number(tmp_path: Path) -> None:
    printed = report(written(tmp_path, RECORD, FAILED))
    page = (tmp_path / "report.html").read_text()
    assert "2 records, 1 failed" in page
    assert page.count("k &lt; 5") >= 2, "above and in the list of cells"
    assert "recall" not in printed.split("page:")[0]


def test_a_run_in_which_everything_failed_has_a_page(tmp_path: Path) -> None:
    report(written(tmp_path, FAILED))
    assert "1 failed" in (tmp_path / "report.html").read_text()


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "1" / "study", tmp_path / "2" / "study"
    report(written(one, RECORD, FAILED))
    report(written(two, FAILED, RECORD))
    report(two)
    for path in (one / "report.html", *(one / "tables").iterdir()):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()


def test_values_are_printed_with_intervals_and_ranks(tmp_path: Path) -> None:
    printed = report(written(tmp_path, RECORD, other(0.1, 0.05, 0.15, generator="gan")))
    assert "0.5 (0.4 to 0.6) [1]" in printed
    assert "0.1 (0.05 to 0.15) [2]" in printed


def test_two_settings_of_one_metric_stand_side_by_side(tmp_path: Path) -> None:
    """A sweep over an option must show all its values, on the page and in print."""
    printed = report(written(tmp_path, RECORD, other(0.7, 0.6, 0.8, label="precision(k=9)")))
    assert "0.5 (0.4 to 0.6)" in printed
    assert "0.7 (0.6 to 0.8)" in printed
    assert "precision(k=9)" in printed


def test_two_settings_of_a_score_are_told_apart_in_print(tmp_path: Path) -> None:
    score = replace(RECORD, kind="sample")
    printed = report(written(tmp_path, score, other(0.5, 0.4, 0.6, score, label="precision(k=9)")))
    assert "precision(k=9)" in printed


def test_two_numbers_of_samples_are_told_apart(tmp_path: Path) -> None:
    printed = report(written(tmp_path, RECORD, other(0.7, 0.6, 0.8, n=50)))
    assert "0.5 (0.4 to 0.6)" in printed
    assert "0.7 (0.6 to 0.8)" in printed


def test_no_records_is_an_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no records in"):
        report(tmp_path)
