"""`assay check`: a folder as it was written passes, and each thing that somebody changed in it is one line."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from assay.harness.arrays.records import line, read_records, record_name, write_record
from assay.harness.arrays.views import Views
from assay.harness.command.check import findings, main
from assay.harness.core.protocols import Record
from assay.harness.core.registry import discover
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.stats import intervals

RESULTS = Path(__file__).parents[3] / "results"
SCORES = torch.linspace(0.5, 3, 20, dtype=torch.float64)


@pytest.fixture
def folder(open_views: Callable[..., Views], plain: object, tmp_path: Path) -> Path:
    """Two set metrics and a score of a run, with all that is made of them."""
    discover()
    run = Run("study", "plain", "squares", open_views(plain), tmp_path / "run", seed=0, n=20)
    for name, options in (("precision", {"k": 3}), ("recall", {}), ("mean_intensity", {})):
        assert run.evaluate(run.cell(name, **options)).status == "ok"
    report(run.folder)
    return run.folder


def one(folder: Path, metric: str) -> Path:
    (path,) = (folder / "records").glob(f"{metric}-*.json")
    return path


def record(folder: Path, metric: str) -> Record:
    return next(record for record in read_records(folder) if record.cell.metric == metric)


def put(folder: Path, changed: Record) -> None:
    """A record that somebody changed who knows how digests are made."""
    write_record(folder, changed)
    report(folder)


def test_what_was_written_passes_and_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert list(findings(folder)) == []
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == "3 records, 0 things wrong\n"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


EDITS = {
    "value": (r'"rows": \[\["precision", [0-9.]+', '"rows": [["precision", 0.75'),
    "null": (r'"rows": \[\["precision", [0-9.]+', '"rows": [["precision", null'),
    "n": (r'"n": 20', '"n": 2000'),
    "label": (r'"label": "precision\(k=3\)"', '"label": "precision"'),
    "better": (r'"better": "higher"', '"better": "lower"'),
    "source": (r'"source": "[^"]*", "columns"', '"source": "elsewhere", "columns"'),
    "generator": (r'"generator": "plain"', '"generator": "mine"'),
    "digest": (r'"digest": "....', '"digest": "0000'),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_record_is_told(folder: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = one(folder, "precision")
    text = path.read_text()
    path.write_text(re.sub(*EDITS[what], text, count=1))
    assert path.read_text() != text
    found = list(findings(folder))
    assert f"records/{path.name}: edited: it was changed after it was written, so its digest is another one" in found
    assert main([str(folder)]) == 1
    assert capsys.readouterr().out.count("edited: ") == 1


def test_the_same_content_laid_out_otherwise_is_not_edited(folder: Path) -> None:
    path = one(folder, "precision")
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2, sort_keys=True))
    assert list(findings(folder)) == []


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, '{"schema": 4}', "\x00"])
def test_a_damaged_record_is_told_and_the_others_are_checked(folder: Path, text: str) -> None:
    name = one(folder, "recall").name
    one(folder, "recall").write_text(text)
    found = list(findings(folder))
    assert f"records/{name}: damaged: " in found[0]
    assert all("tables/" in line for line in found[1:])


def test_a_renamed_copy_is_told(folder: Path) -> None:
    path = one(folder, "precision")
    shutil.copy(path, path.with_name("precision-0123456789abcdef.json"))
    (found,) = findings(folder)
    assert "precision-0123456789abcdef.json" in found
    assert f"is called {path.name}: a copy" in found


def test_one_result_under_two_names_is_told(folder: Path) -> None:
    """With a digest that fits: what it read gives it away."""
    known = record(folder, "precision")
    copied = Record(**{**vars(known), "cell": type(known.cell)(**{**vars(known.cell), "generator": "mine"})})
    put(folder, copied)
    (found,) = findings(folder)
    assert "have the same samples as" in found
    assert "one result is counted twice" in found


CHANGES: dict[str, tuple[Callable[[Record], dict[str, object]], str]] = {
    "direction": (lambda known: {"better": "lower"}, "it says better='lower'; precision has 'higher'"),
    "kind": (lambda known: {"kind": "sample"}, "it says kind='sample'; precision has 'set'"),
    "source": (lambda known: {"source": "mine"}, "it says source='mine'"),
    "version": (lambda known: {"version": 99}, "and this record 99: another definition"),
    "interval": (
        lambda known: {"rows": [known.rows[0]._replace(estimate=known.rows[0].estimate._replace(interval=(2.0, 1.0)))]},
        "the interval from 2 to 1 is not possible",
    ),
    "outside": (
        lambda known: {"rows": [known.rows[0]._replace(estimate=known.rows[0].estimate._replace(value=7.0))]},
        "precision: 7 is not in its interval",
    ),
    "no numbers": (lambda known: {"rows": []}, "it has no numbers"),
    "samples": (lambda known: {"samples": {"real": {"found": 5, "used": 9}}}, "real: 9 samples used of 5"),
    "label": (
        lambda known: {"cell": type(known.cell)(**{**vars(known.cell), "params": {"k": 7, "strict": False}})},
        "lacks k=7",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_cannot_be_is_told_whatever_the_digest_says(folder: Path, what: str) -> None:
    change, expected = CHANGES[what]
    known = record(folder, "precision")
    put(folder, Record(**{**vars(known), **change(known)}))  # type: ignore[arg-type]
    found = list(findings(folder))
    assert any(expected in line for line in found), found


def test_tables_of_other_records_are_told(folder: Path) -> None:
    table = folder / "tables" / "metrics.csv"
    table.write_text(table.read_text().replace("plain", "mine"))
    (found,) = findings(folder)
    assert found.startswith("tables/metrics.csv: not the table of these records")


def test_means_are_computed_again_from_the_scores(folder: Path) -> None:
    known = record(folder, "mean_intensity")
    columns = {"dataset": "squares", "generator": "plain", "seed": 0, "sample": range(20), "mean_intensity": SCORES}
    pd.DataFrame(columns).to_parquet(folder / "scores.parquet")
    (found,) = findings(folder)
    assert found.startswith("scores.parquet: the mean of mean_intensity of plain, seed 0, is 1.75; the record says ")
    rows = [known.rows[0]._replace(estimate=intervals.mean(SCORES))]
    put(folder, Record(**{**vars(known), "rows": rows}))
    assert list(findings(folder)) == []
    (folder / "scores.parquet").write_bytes(b"PAR1")
    assert [line.partition(":")[0] for line in findings(folder)] == ["scores.parquet"]


def test_records_without_a_digest_are_said_to_have_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = one(folder, "precision")
    path.write_text(re.sub(r', "digest": "[0-9a-f]{64}"', "", path.read_text()))
    assert main([str(folder)]) == 0
    assert "1 of 3 records have no digest: an earlier release wrote them" in capsys.readouterr().out


def test_published_results_pass() -> None:
    assert list(findings(RESULTS / "zoo")) == []


def test_a_name_is_that_of_the_cell(folder: Path) -> None:
    known = record(folder, "precision")
    assert one(folder, "precision").name == record_name(known.cell)
    assert one(folder, "precision").read_bytes() == line(known)


def test_where_nothing_is_that_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        list(findings(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="no records in"):
        list(findings(tmp_path))
