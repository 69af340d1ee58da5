"""Results folders in one leaderboard: what is compared, what is kept apart and why; folders are only read."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.harness.arrays.records import read_records, write_record
from assay.harness.command.board import main
from assay.harness.core.protocols import Cell, Estimate, Record, Row, View
from assay.harness.report.board import gather

RESULTS = Path(__file__).parents[3] / "results"
VIEWS = {"fake": View("fake", "features"), "real": View("real", "features", "all")}
PIXELS, HALVED = ({"fake": text, "real": text} for text in ("pixels: none", "pixels: halved in size"))


def record(generator: str, value: float, cell: dict[str, Any] | None = None, **changes: Any) -> Record:
    made = Record(
        cell=Cell("run", "digits", generator, "precision", "precision", 0, 100, {"k": 5}, VIEWS), version=1, kind="set",
        better="higher", source="", columns=("name",), status="ok", error=None, inputs={},
        rows=[Row(("precision",), Estimate(value, (value - 0.01, value + 0.01), 100))], preprocessing=PIXELS,
        samples={"fake": {"made": 100}, "real": {"found": 500, "used": 500}},
    )  # fmt: skip
    return replace(made, cell=replace(made.cell, **(cell or {})), **changes)


def written(folder: Path, *records: Record) -> Path:
    for each in records:
        write_record(folder, each)
    return folder


def groups(*folders: Path) -> list[tuple[tuple[str, ...], set[tuple[str, str]]]]:
    """The reasons of each group, and who is in it."""
    return [
        (group.reasons, set(zip(group.rows.folder, group.rows.generator, strict=True)))
        for group in gather(folders).groups
    ]


def test_folders_that_measured_in_the_same_way_stand_in_one_table(tmp_path: Path) -> None:
    mine, yours = written(tmp_path / "mine", record("vae", 0.5)), written(tmp_path / "yours", record("gan", 0.7))
    assert groups(mine, yours) == [((), {("mine", "vae"), ("yours", "gan")})]
    found = gather([mine, yours])
    (line, other) = found.board(found.groups[0]).lines
    assert (line.numbers["precision"].mark, other.numbers["precision"].mark) == ("", "best")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 2}, "another version of the metric: 2, not 1"),
        ({"preprocessing": HALVED}, "another preprocessing: pixels: halved in size, not pixels: none"),
        ({"cell": {"n": 50}}, "another number of generated samples: 50, not 100"),
        ({"cell": {"params": {"k": 3}}}, "another set of options: k 3, not k 5"),
        (
            {"cell": {"views": {**VIEWS, "real": View("holdout", "features", "all")}}},
            "another choice of samples: as many generated in pixels, all held out in pixels, "
            "not as many generated in pixels, all real in pixels",
        ),
        ({"samples": {"real": {"found": 400, "used": 400}}}, "another number of real samples: real 400, not real 500"),
    ],
)
def test_what_was_measured_otherwise_is_kept_apart_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    mine = written(tmp_path / "mine", record("vae", 0.5), record("gan", 0.7))
    other = written(tmp_path / "other", record("best of all", 0.9, **changes))
    assert groups(mine, other) == [
        ((), {("mine", "vae"), ("mine", "gan")}),
        ((reason,), {("other", "best of all")}),
    ]
    found = gather([mine, other])
    assert found.board(found.groups[1]).lines[0].numbers["precision"].mark == "", "it is the best of nothing"


def test_the_same_feature_space_is_the_same_by_whatever_name(tmp_path: Path) -> None:
    """`features=pixels` and `space=pixels` read the same numbers."""
    views = {"fake": View("fake", "pixels"), "real": View("real", "pixels", "all")}
    named = record("gan", 0.7, {"label": "precision(space=pixels)", "views": views})
    folders = written(tmp_path / "a", record("vae", 0.5)), written(tmp_path / "b", named)
    assert [reasons for reasons, _ in groups(*folders)] == [()]


def test_published_results_and_a_folder_of_another_preprocessing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder says of the quickstart's VAE what it would say had its images been made smaller first."""
    published = [r for r in read_records(RESULTS / "quickstart") if r.kind == "set" and r.cell.generator == "vae"]
    smaller = {"fake": "classifier: halved in size", "real": "classifier: halved in size"}
    other = written(tmp_path / "other", *(replace(r, preprocessing=smaller) for r in published))
    before = {path: path.stat().st_mtime_ns for path in other.rglob("*")}
    out = tmp_path / "board"
    assert main([str(RESULTS / "quickstart"), str(RESULTS / "zoo"), str(other), "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in other.rglob("*")} == before
    told = capsys.readouterr().err
    assert "of other on fashion_mnist: another preprocessing: classifier: halved in size, not classifier: none" in told
    with (out / "board.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["kept_apart"] == "" for row in rows if row["folder"] == "other"} == {False}
    assert {row["folder"] for row in rows if not row["kept_apart"]} == {"quickstart", "zoo"}
    of_vae = {row["value"] for row in rows if row["metric"] == "coverage" and row["generator"] == "vae"
              and not row["kept_apart"]}  # fmt: skip
    assert len(of_vae) == 1, "two folders, one number"
    page = (out / "board.html").read_text()
    assert page.index("Kept apart") < page.index("Another preprocessing: classifier: halved in size")


def test_names_of_folders_differ_and_one_folder_counts_once(tmp_path: Path) -> None:
    folders = [written(tmp_path / name / "run", record("vae", 0.5)) for name in "ab"]
    assert [folder.name for folder in gather(folders).folders] == [str(folder) for folder in folders]
    with pytest.raises(ValueError, match="given twice"):
        gather([folders[0], folders[0] / ".." / "run"])


def test_each_number_opens_the_record_of_its_own_folder(tmp_path: Path) -> None:
    """Both records have one name, since the same cell was evaluated twice."""
    for name, torch in (("a", "2.6"), ("b", "2.13")):
        written(tmp_path / name, record("vae", 0.5, numerics={"torch": torch}))
    main([str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")])
    page = (tmp_path / "out" / "board.html").read_text()
    data = json.loads(page.split('id="records">')[1].split("</script>")[0])
    versions = [data["parts"][dict(told["parts"])["Versions and device"]]["torch"] for told in data["records"].values()]
    assert sorted(versions) == ["2.13", "2.6"]


@pytest.mark.parametrize("arguments", [["nowhere"], ["a", "--out", "a/inside"], ["bare"]])
def test_a_wrong_call_says_why_in_one_line(tmp_path: Path, arguments: list[str]) -> None:
    written(tmp_path / "a", record("vae", 0.5))
    written(tmp_path / "bare", record("vae", 0.5, kind="sample"))
    call = [sys.executable, "-m", "assay", "board", *arguments]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_text_of_others_is_text(tmp_path: Path) -> None:
    evil = "=1+1<script>alert(1)</script>"
    main([str(written(tmp_path / "a", record(evil, 0.5))), "--out", str(tmp_path / "out")])
    assert "<script>alert" not in (tmp_path / "out" / "board.html").read_text()
    assert "<script" not in (tmp_path / "out" / "board.md").read_text()
    assert "'=1+1" in (tmp_path / "out" / "board.csv").read_text()
