"""Records to tables: every number, ranks that respect intervals, and a comparison that finds what was altered."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assay.harness.arrays.records import write_record
from assay.harness.core.protocols import Cell, Estimate, Floor, Record, Row
from assay.harness.report import tables as module
from assay.harness.report.tables import compare_with_published, tables, write_tables
from assay.harness.report.typeset import estimate

RECORD = Record(
    cell=Cell("study", "digits", "vae", "precision", "precision", 0, 100), version=1, kind="set", better="higher",
    source="not published", columns=("name",), rows=[Row(("precision",), Estimate(0.5, (0.4, 0.6), 100))], status="ok",
    error=None, inputs={},
)  # fmt: skip


def record(generator: str, value: float, low: float, high: float, better: Any = "higher", **cell: Any) -> Record:
    """The record of a set metric."""
    metric = cell.setdefault("metric", "precision")
    cell.setdefault("label", metric)
    return replace(
        RECORD,
        cell=replace(RECORD.cell, generator=generator, **cell),
        rows=[Row((metric,), Estimate(value, (low, high), 100))],
        better=better,
    )


def ranks(*records: Record) -> dict[str, str]:
    board = tables(records)["leaderboard"]
    return dict(zip(board.generator, board["rank"], strict=True))


def test_a_row_for_every_number() -> None:
    mapping = replace(
        RECORD,
        cell=replace(RECORD.cell, metric="both", label="both(k=3)"),
        rows=[Row(("a",), Estimate(1.0, (0.0, 2.0), 7, 1)), Row(("b",), Estimate(2.0, (1.0, 3.0)))],
    )
    found = tables([RECORD, mapping])["metrics"]
    assert list(zip(found.metric, found.name, strict=True)) == [
        ("both(k=3)", "a"), ("both(k=3)", "b"), ("precision", "precision"),
    ]  # fmt: skip
    first = found.iloc[0]
    assert (first.value, first.low, first.high, first.n, first.missing) == (1.0, 0.0, 2.0, 7, 1)


def test_a_failed_cell_has_a_row_with_its_reason() -> None:
    failed = replace(RECORD, status="failed", error="too few", rows=[])
    row = tables([failed])["metrics"].iloc[0]
    assert (row.status, row.error, row.n) == ("failed", "too few", 100)
    assert math.isnan(row.value)
    assert "leaderboard" not in tables([failed])


def test_the_order_of_the_records_does_not_matter() -> None:
    records = [record(name, value, value - 1, value + 1) for name, value in (("b", 1.0), ("a", 2.0), ("c", 0.0))]
    for name, table in tables(records).items():
        assert table.equals(tables(records[::-1])[name])


def test_ranks_count_the_generators_whose_whole_interval_is_better() -> None:
    best, tied, worst = record("best", 0.9, 0.85, 0.95), record("tied", 0.88, 0.8, 0.96), record("worst", 0.1, 0.0, 0.2)
    assert ranks(best, tied, worst) == {"best": "1", "tied": "1", "worst": "3"}


def test_ranks_turn_with_the_direction() -> None:
    small, large = record("small", 1.0, 0.5, 1.5, better="lower"), record("large", 9.0, 8.0, 10.0, better="lower")
    assert ranks(small, large) == {"small": "1", "large": "2"}


def test_a_description_has_no_rank() -> None:
    assert ranks(record("vae", 0.5, 0.4, 0.6, better="neither")) == {"vae": ""}


@pytest.mark.parametrize(
    "other", [{"dataset": "mnist"}, {"seed": 1}, {"metric": "recall"}, {"label": "precision(k=9)"}]
)
def test_ranks_are_among_the_comparable_only(other: dict[str, Any]) -> None:
    assert ranks(record("a", 0.1, 0.0, 0.2), record("b", 0.9, 0.8, 1.0, **other)) == {"a": "1", "b": "1"}


def test_generators_that_differ_by_their_number_of_samples_have_no_rank_among_each_other() -> None:
    """Both would be first, each of one."""
    few, many = record("few", 0.1, 0.0, 0.2, n=50), record("many", 0.9, 0.8, 1.0)
    assert ranks(few, many) == {"few": "", "many": ""}
    assert ranks(few, many, record("as many", 0.5, 0.4, 0.6)) == {"few": "", "many": "1", "as many": "2"}
    assert ranks(many) == {"many": "1"}
    both = tables([many, record("many", 0.1, 0.0, 0.2, n=50)])["leaderboard"]
    assert both["rank"].tolist() == ["1", "1"], "one generator by itself"


HARD = "a|b & c_d 50% $x #1 {y} \\z ~w ^v"


def test_csv_has_every_digit_that_is_shown_and_empty_cells_for_the_undefined(tmp_path: Path) -> None:
    nan = float("nan")
    write_tables(tables([record("vae", 0.123456789, nan, nan), record(HARD, 1e-9, 0.0, 2e9)]), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tables" / "metrics.csv").read_text())))
    by_generator = {row["generator"]: row for row in rows}
    assert by_generator["vae"]["value"] == "0.123457"
    assert (by_generator["vae"]["low"], by_generator["vae"]["high"]) == ("", "")
    assert (by_generator[HARD]["value"], by_generator[HARD]["high"]) == ("1e-09", "2e+09")
    assert by_generator["vae"]["error"] == ""


def test_markdown_keeps_its_columns(tmp_path: Path) -> None:
    write_tables(tables([record(HARD, 0.5, 0.4, 0.6)]), tmp_path)
    lines = (tmp_path / "tables" / "metrics.md").read_text().splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines} == {len(lines[1].split("---"))}
    assert "a\\|b" in lines[2]
    assert r"\\z" in lines[2], "a backslash is one in the text too"


def test_latex_escapes_all_that_means_something_to_it(tmp_path: Path) -> None:
    write_tables(tables([record(HARD, 0.5, 0.4, 0.6)]), tmp_path)
    text = (tmp_path / "tables" / "metrics.tex").read_text()
    (line,) = [line for line in text.splitlines() if "vae" in line or ("z" in line and "w" in line)]
    cells = line.removesuffix(r" \\").split(" & ")
    assert r"a\textbar{}b \& c\_d 50\% \$x \#1 \{y\} \textbackslash{}z \textasciitilde{}w" in line
    assert r"\textasciicircum{}v" in line
    assert text.startswith("\\begin{tabular}{" + "l" * len(cells) + "}")
    assert text.endswith("\\end{tabular}\n")


def study(tmp_path: Path, *records: Record) -> Path:
    folder = tmp_path / "outputs" / "study"
    write_tables(tables(records), folder)
    return folder


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Published tables of two generators; returns the path of metrics.csv."""
    monkeypatch.setattr(module, "PUBLISHED", tmp_path / "results")
    write_tables(tables([A, B]), tmp_path / "results" / "study")
    return tmp_path / "results" / "study" / "tables" / "metrics.csv"


A, B = record("a", 0.25, 0.2, 0.3), record("b", 120.0, 110.0, 130.0)


def test_equal_tables_agree_to_the_last_digit(tmp_path: Path, published: Path) -> None:
    assert compare_with_published(study(tmp_path, A, B)).endswith("to the last digit")


def test_rounding_of_another_processor_agrees_within_the_stated_tolerance(tmp_path: Path, published: Path) -> None:
    said = compare_with_published(study(tmp_path, record("a", 0.2501, 0.2, 0.3), B))
    assert said.startswith("agrees")
    assert "within" in said
    assert "last digit" not in said


def test_one_altered_number_is_found_and_named(tmp_path: Path, published: Path) -> None:
    published.write_text(published.read_text().replace("120,110,130", "122,110,130"))
    said = compare_with_published(study(tmp_path, A, B))
    assert "does NOT agree" in said
    (line,) = said.splitlines()[1:]
    assert line.strip().startswith("metrics.csv: digits, b, ")
    assert "precision" in line
    assert line.endswith("value is 120, published 122")


def test_records_that_read_something_else_are_counted(tmp_path: Path, published: Path) -> None:
    """Two of three: another trained network is no fault of the numbers, but the reason why they differ."""
    for folder, inputs in (
        (published.parent.parent, ("x", "x", "x")),
        (tmp_path / "outputs" / "study", ("x", "y", "z")),
    ):
        for seed, read in enumerate(inputs):
            write_record(folder, replace(RECORD, cell=replace(RECORD.cell, seed=seed), inputs={"fake": read}))
    said = compare_with_published(study(tmp_path, record("a", 0.28, 0.2, 0.3), B))
    assert said.endswith("\n2 records read other data or networks than the published ones: theirs cannot agree")


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_number_altered_by_a_tenth_is_found_at_every_scale(tmp_path: Path, published: Path, scale: float) -> None:
    """A kernel distance is about 0.001, a Fréchet distance can be 10,000."""
    write_tables(tables([record("a", 5 * scale, 4 * scale, 6 * scale)]), published.parent.parent)
    said = compare_with_published(study(tmp_path, record("a", 5.5 * scale, 4 * scale, 6 * scale)))
    assert "does NOT agree" in said


def test_a_number_that_became_undefined_is_found(tmp_path: Path, published: Path) -> None:
    said = compare_with_published(study(tmp_path, A, record("b", float("nan"), 110.0, 130.0)))
    assert "value is undefined, published 120" in said


def test_a_missing_row_is_found_on_either_side(tmp_path: Path, published: Path) -> None:
    less = compare_with_published(study(tmp_path, A)).splitlines()
    (line,) = (line for line in less if "metrics.csv" in line)
    assert "digits, b, " in line
    assert line.endswith("only published")
    more = compare_with_published(study(tmp_path, A, B, record("c", 0.5, 0.4, 0.6)))
    assert "only in this run" in more


def test_what_was_not_evaluated_is_named_once_and_is_no_difference(tmp_path: Path, published: Path) -> None:
    """Of a command that evaluates some of the generators; a number that one of these lacks is a difference."""
    a, b = (replace(one, kind="sample") for one in (A, B))
    both = replace(b, rows=[*b.rows, Row(("recall",), Estimate(0.5, (0.4, 0.6), 100))])
    published.with_name("leaderboard.csv").unlink()
    write_tables(tables([a, both]), published.parent.parent)
    first, line = compare_with_published(study(tmp_path, a)).splitlines()
    assert first.startswith("agrees in part with the published tables in")
    assert line == "  metrics.csv: digits, b, 0, 100: only published"
    assert compare_with_published(study(tmp_path, a, b)).startswith("does NOT agree")
    assert compare_with_published(study(tmp_path, a, both)).endswith("to the last digit")


def test_other_settings_are_named_once_and_no_row_is_compared(tmp_path: Path, published: Path) -> None:
    """Of the same generators with 50 repeats in place of 100, every row would be in one of the tables alone."""
    fewer = [replace(one, rows=[Row(("precision",), Estimate(0.5, (0.4, 0.6), 50))]) for one in (A, B)]
    said = compare_with_published(study(tmp_path, *fewer)).splitlines()
    assert "does NOT agree" in said[0]
    assert "  metrics.csv: n is 50, published 100: other settings, not compared" in said
    assert not any("only" in line for line in said)


def test_a_missing_table_is_found(tmp_path: Path, published: Path) -> None:
    folder = study(tmp_path, A, B)
    (folder / "tables" / "leaderboard.csv").unlink()
    assert "leaderboard.csv: not in this run" in compare_with_published(folder)


def test_many_differences_are_counted_and_the_first_ones_shown(tmp_path: Path, published: Path) -> None:
    records = [record(f"g{i:02}", 0.5, 0.4, 0.6) for i in range(30)]
    said = compare_with_published(study(tmp_path, *records))
    assert "(64 differences)" in said
    assert "and 44 more" in said
    assert len(said.splitlines()) == 22


def test_nothing_published_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PUBLISHED", tmp_path / "results")
    assert compare_with_published(study(tmp_path, A)).startswith("no published tables")


def test_the_published_copy_is_not_compared_with_itself(tmp_path: Path, published: Path) -> None:
    assert "itself" in compare_with_published(published.parent.parent)


def test_what_papers_print_belongs_to_the_experiments_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PUBLISHED", tmp_path)
    assert len(module.from_papers("control")) == 0
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "control.csv").write_text("source,precision\narXiv:2407.08659,0.658\narXiv:2407.08659,\n")
    assert module.from_papers("control_stylegan3").to_numpy().tolist() == [
        ["arXiv:2407.08659", "0.658"], ["arXiv:2407.08659", ""],
    ]  # fmt: skip
    assert len(module.from_papers("quickstart")) == 0


def test_what_the_paper_on_pseudo_density_prints_is_kept_as_printed() -> None:
    found = module.from_papers("pseudo_density")
    assert set(found.source) == {"arXiv:2407.08659"}
    assert found["read"].str.startswith(("as printed", "digitised")).all()
    assert found[["precision", "recall"]].astype(float).stack().between(0, 1).all()
    tuned = found[(found.model == "StyleGAN3-T") & (found.setting == "w = 1.5")]
    assert tuned[["precision", "recall", "fid"]].to_numpy().tolist() == [["0.657", "0.535", "2.73"]]


# Floors, and which samples were used

WITH_FLOOR = replace(
    RECORD,
    samples={"fake": {"found": 700, "used": 700}, "real": {"found": 900, "used": 700, "seed": 2}},
    floor=Floor(
        [Row(("precision",), Estimate(0.949, (0.9, 0.98), 450))], 450, "450 other real samples against 450 real"
    ),
)


def test_a_floor_stands_beside_its_number() -> None:
    row = tables([WITH_FLOOR])["metrics"].iloc[0]
    assert (row.value, row.floor, row.floor_low, row.floor_high, row.floor_n) == (0.5, 0.949, 0.9, 0.98, 450)
    assert row.used == "fake: found 700, used 700; real: found 900, used 700, drawn with seed 2"
    assert tables([WITH_FLOOR])["leaderboard"].iloc[0].floor == 0.949


def test_records_without_floor_or_samples_have_the_columns_of_before() -> None:
    assert not {"floor", "floor_n", "used"} & set(tables([RECORD])["metrics"].columns)
    mixed = tables([RECORD, replace(WITH_FLOOR, cell=replace(RECORD.cell, generator="other"))])["metrics"]
    without = mixed[mixed.generator == "vae"].iloc[0]
    assert math.isnan(without.floor)
    assert (without.floor_n, without.used) == ("", "")


def test_a_floor_is_written_in_all_three_forms(tmp_path: Path) -> None:
    write_tables(tables([WITH_FLOOR]), tmp_path)
    (row,) = csv.DictReader(io.StringIO((tmp_path / "tables" / "metrics.csv").read_text()))
    assert (row["floor"], row["floor_low"], row["floor_high"], row["floor_n"]) == ("0.949", "0.9", "0.98", "450")
    for suffix in (".md", ".tex"):
        text = (tmp_path / "tables" / f"metrics{suffix}").read_text()
        assert "0.5 (0.4 to 0.6), real: 0.949" in text
        assert "drawn with seed 2" in text


def test_a_floor_of_fewer_samples_says_of_how_many() -> None:
    row = {"value": 5.91, "low": 5.34, "high": 6.48, "floor": 7.91, "samples": 700}
    assert estimate(SimpleNamespace(**row, floor_n=350)) == "5.91 (5.34 to 6.48), real (350): 7.91"
    assert estimate(SimpleNamespace(**row, floor_n=700)) == "5.91 (5.34 to 6.48), real: 7.91"


def test_an_undefined_floor_is_not_shown(tmp_path: Path) -> None:
    failed = replace(WITH_FLOOR, floor=Floor([], 450, "450 against 450", "too few"))
    assert math.isnan(tables([failed])["metrics"].iloc[0].floor)
    write_tables(tables([failed]), tmp_path)
    assert "real: " not in (tmp_path / "tables" / "leaderboard.md").read_text()


def test_tables_published_before_there_were_floors_are_compared_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PUBLISHED", tmp_path / "results")
    write_tables(tables([RECORD]), tmp_path / "results" / "run")
    write_record(tmp_path / "run", WITH_FLOOR)
    write_tables(tables([WITH_FLOOR]), tmp_path / "run")
    assert compare_with_published(tmp_path / "run").startswith("agrees with the published tables")
    other = replace(WITH_FLOOR, rows=[Row(("precision",), Estimate(0.6, (0.5, 0.7), 100))])
    write_tables(tables([other]), tmp_path / "run")
    assert "does NOT agree" in compare_with_published(tmp_path / "run")
