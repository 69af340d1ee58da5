"""What stands in the cells: the right numbers, the best with its ties, and why there is none."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from assay.harness.core.protocols import Record
from assay.harness.report import tables as module
from assay.harness.report.paper.files import paper_files
from assay.harness.report.paper.spec import read_specs
from tests.harness.report.paper.records import body, failed, metric, plain, study

BOARD = "a:\n  table: leaderboard\n  digits: 2\n  rows: generator\n  columns:\n    - {title: P, metric: precision}\n"

Make = Callable[..., str]


@pytest.fixture
def made(tmp_path: Path) -> Make:
    def make(text: str, *records: Record) -> str:
        (tmp_path / "t.yaml").write_text(text)
        files, refused = paper_files(read_specs(tmp_path / "t.yaml"), records, "t.yaml")
        assert not refused, refused
        return files["a.tex"].decode()

    return make


def refusal(tmp_path: Path, text: str, *records: Record) -> str:
    (tmp_path / "t.yaml").write_text(text)
    files, refused = paper_files(read_specs(tmp_path / "t.yaml"), records, "t.yaml")
    assert not files
    return refused["a"]


def rows(text: str, titles: int = 1) -> list[list[str]]:
    return [[plain(cell) for cell in row] for row in body(text)[titles:]]


BEST, TIED, WORST = metric("best", 0.90, 0.85, 0.95), metric("tied", 0.88, 0.80, 0.96), metric("worst", 0.1, 0.0, 0.2)


def test_the_best_and_what_ties_with_it_are_bold(made: Make) -> None:
    text = made(BOARD, BEST, TIED, WORST)
    assert body(text)[0] == ["generator", r"P $\uparrow$"]
    assert rows(text) == [["best", "*0.90* ± 0.05"], ["tied", "*0.88* ± 0.08"], ["worst", "0.10 ± 0.10"]]
    assert r"\textbf{Bold}" in text


def test_the_direction_turns_the_best(made: Make) -> None:
    lower = [replace(record, better="lower") for record in (BEST, WORST)]
    text = made(BOARD, *lower)
    assert body(text)[0][1] == r"P $\downarrow$"
    assert rows(text) == [["best", "0.90 ± 0.05"], ["worst", "*0.10* ± 0.10"]]


def test_nothing_is_bold_where_nothing_can_be_told_apart_or_no_direction_is_known(made: Make) -> None:
    for records in ((BEST, TIED), (BEST,), [replace(record, better="neither") for record in (BEST, WORST)]):
        assert "mathbf" not in made(BOARD, *records)


def test_groups_of_rows_have_their_own_best(made: Make) -> None:
    others = metric("best", 0.3, 0.2, 0.4, dataset="mnist"), metric("worst", 0.05, 0.0, 0.1, dataset="mnist")
    text = made("""
a:
  table: leaderboard
  digits: 2
  heading: [Data, Model]
  rows:
    - {title: D, dataset: digits, entries: [{title: x, generator: best}, {title: y, generator: worst}]}
    - {title: M, dataset: mnist, entries: [{title: x, generator: best}, {title: y, generator: worst}]}
  columns: [{title: P, metric: precision}]
""", BEST, WORST, *others)  # fmt: skip
    assert rows(text) == [
        ["D", "x", "*0.90* ± 0.05"], ["", "y", "0.10 ± 0.10"], ["M", "x", "*0.30* ± 0.10"], ["", "y", "0.05 ± 0.05"],
    ]  # fmt: skip
    assert text.count(r"\addlinespace") == 1


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (metric("worst", 0.1, 0.0, 0.2, n=50), "100 and 50 generated samples"),
        (replace(WORST, version=2), "another version of the metric: 2, not 1"),
        (metric("worst", 0.1, 0.0, 0.2, dataset="mnist"), "other data: digits and mnist"),
    ],
)
def test_numbers_of_other_conditions_are_no_rivals(made: Make, other: Record, why: str) -> None:
    text = made(BOARD, BEST, other)
    assert "mathbf" not in text
    assert f"P: no best value is marked ({why})." in text


def test_a_row_may_stay_out_of_the_comparison(made: Make) -> None:
    text = made(BOARD.replace("rows: generator", """rows:
    - {title: oracle, generator: best, compared: false}
    - {title: one, generator: middle}
    - {title: two, generator: worst}"""), BEST, WORST, metric("middle", 0.5, 0.4, 0.6))  # fmt: skip
    assert [cell for _, cell in rows(text)] == ["0.90 ± 0.05", "*0.50* ± 0.10", "0.10 ± 0.10"]


def test_what_failed_stands_in_its_place_with_the_reason(made: Make) -> None:
    text = made(BOARD, BEST, failed(WORST, "out of memory & 50% done"))
    assert rows(text) == [["best", "0.90 ± 0.05"], ["worst", "n/a^{a}"]]
    assert r"$^{a}$: failed: out of memory \& 50\% done." in text


def test_a_part_of_a_study_that_failed_fills_its_whole_row(made: Make) -> None:
    text = made(
        "a:\n  table: things\n  digits: 1\n  rows: generator\n  columns: signal\n",
        study({("p", "one"): (0.5, 0.4, 0.6), ("p", "two"): (0.3, 0.2, 0.4)}),
        failed(study({}, generator="gan"), "no such space"),
    )
    assert rows(text) == [["gan", "n/a^{a}", "n/a^{a}"], ["vae", "0.5 ± 0.1", "0.3 ± 0.1"]]
    assert text.count("no such space") == 1


def test_an_undefined_number_and_an_edited_record_are_no_numbers(made: Make) -> None:
    nan = float("nan")
    text = made(BOARD, BEST, metric("none", nan, nan, nan), replace(WORST, status="edited"))
    assert rows(text) == [["best", "0.90 ± 0.05"], ["none", "n/a^{a}"], ["worst", "n/a^{b}"]]
    assert "$^{a}$: not defined for these samples." in text
    assert "$^{b}$: edited." in text


def test_what_was_not_measured_is_neither_zero_nor_left_out(made: Make) -> None:
    recall = metric("best", 0.2, 0.1, 0.3, metric="recall")
    text = made(BOARD + "    - {title: R, metric: recall}\n", BEST, WORST, recall)
    assert rows(text)[1] == ["worst", "0.10 ± 0.10", "--"]
    assert "--: not measured." in text


def test_seeds_are_pooled_and_a_failed_one_is_told(made: Make) -> None:
    """Two seeds 0.4 and 0.6, each ±0.1: Student's t is 12.706 * 0.1 = 1.2706, and sqrt(1.2706² + 0.1²) = 1.2745."""
    seeds = [metric("a", 0.4, 0.3, 0.5), metric("a", 0.6, 0.5, 0.7, seed=1)]
    text = made(BOARD, *seeds)
    assert rows(text) == [["a", "0.50 ± 1.27"]]
    assert "Means over 2 seeds" in text
    text = made(BOARD, *seeds, failed(metric("a", 0, 0, 0, seed=2), "lost"))
    assert rows(text) == [["a", "0.50 ± 1.27^{a}"]]
    assert "$^{a}$: the mean of 2 of 3 seeds; failed: lost." in text


def test_a_cell_with_several_numbers_is_refused_with_what_tells_them_apart(tmp_path: Path) -> None:
    found = study({("p", "one"): (0.5, 0.4, 0.6), ("q", "one"): (0.3, 0.2, 0.4)})
    assert refusal(tmp_path, "a:\n  table: things\n  rows: generator\n  columns: signal\n", found) == (
        "the cell of vae and one has 2 numbers, which differ in score (p, q); say which"
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("table: leaderboard", "table: leaderbord"), "did you mean leaderboard"),
        (("metric: precision", "metric: precison"), "P: unknown metric 'precison'; did you mean precision?"),
        (("metric: precision", "metrics: precision"), "unknown column 'metrics'; did you mean metric"),
        (("rows: generator", "rows: generators"), "unknown column 'generators'; did you mean generator"),
        (("digits: 2", "where: {dataset: mnist}"), "no row of table leaderboard has dataset mnist"),
    ],
)
def test_a_name_that_is_not_there_is_refused_with_the_nearest(
    tmp_path: Path, change: tuple[str, str], why: str
) -> None:
    assert why in refusal(tmp_path, BOARD.replace(*change), BEST)


def test_values_are_the_same_as_text_and_as_numbers_and_a_list_is_any_of_them(made: Make) -> None:
    text = made(
        BOARD.replace("digits: 2", "digits: 2\n  where: {seed: 0, samples: '100', generator: [best, worst]}"),
        BEST, TIED, WORST, metric("best", 0.2, 0.1, 0.3, seed=1),
    )  # fmt: skip
    assert rows(text) == [["best", "*0.90* ± 0.05"], ["worst", "0.10 ± 0.10"]]


def test_decided_numbers_have_a_star(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import assay.harness.stats.families as families

    monkeypatch.setitem(families.FAMILIES, "things", [families.Family()])
    found = study({("p", "one"): (0.5, 0.4, 0.6), ("q", "one"): (0.01, -0.1, 0.12)})
    asked = "a:\n  table: things\n  digits: 2\n  decided: true\n  rows: score\n  columns: signal\n"
    text = made(asked, found)
    assert rows(text) == [["p", "0.50^{*} ± 0.10"], ["q", "0.01 ± 0.11"]]
    assert "$^{*}$: decided at 5" in text
    nothing = made(asked, study({("q", "one"): (0.01, -0.1, 0.12)}))
    assert "No comparison is decided at 5" in nothing


# What papers print


@pytest.fixture
def papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "published" / "papers"
    folder.mkdir(parents=True)
    monkeypatch.setattr(module, "PUBLISHED", folder.parent)
    table = pd.DataFrame(
        [["A & B 2020", "table 1", "M", "0.90", "0.01"], ["A & B 2020", "table 1", "N", "0.7654", ""]],
        columns=["source", "where", "model", "precision", "half"],
    )
    table.to_csv(folder / "them.csv", index=False)
    return folder


PRINTED = """
a:
  table: leaderboard
  papers: them
  digits: 1
  scale: 100
  rows:
    - {title: ours, generator: best, printed: none}
    - {title: M, generator: tied, printed: {model: M}}
    - {title: N, printed: {model: N, value: precision}}
  columns:
    - {title: P, metric: precision}
    - {title: printed, printed: {value: precision, half_width: half}}
"""


def test_printed_numbers_stand_beside_ours_as_they_are_printed(made: Make, papers: Path) -> None:
    text = made(PRINTED, BEST, TIED)
    assert rows(text) == [["ours", "90.0 ± 5.0", "--"], ["M", "88.0 ± 8.0", "90 ± 1"], ["N", "76.54", "76.54"]]
    assert r"Printed in papers: A \& B 2020, table 1." in text
    assert "--: not printed." in text
    assert "mathbf" not in text, "a printed number is no rival"


def test_numbers_of_both_are_in_a_file(tmp_path: Path, papers: Path) -> None:
    (tmp_path / "t.yaml").write_text(PRINTED)
    files, _ = paper_files(read_specs(tmp_path / "t.yaml"), [BEST, TIED], "t.yaml")
    lines: Sequence[str] = files["a.csv"].decode().splitlines()
    assert lines[0] == "row,column,from,value,low,high,n,note"
    assert "M,P,these records,0.88,0.8,0.96,100," in lines
    assert 'M,printed,"A & B 2020, table 1",0.9,0.89,0.91,,' in lines


def test_a_printed_number_that_is_not_there_is_refused(tmp_path: Path, papers: Path) -> None:
    assert refusal(tmp_path, PRINTED.replace("model: M", "model: K"), BEST, TIED) == (
        "results/papers/them.csv has 0 rows with model K, not one"
    )
    assert "did you mean them" in refusal(tmp_path, PRINTED.replace("papers: them", "papers: then"), BEST, TIED)


def test_an_installed_package_without_these_files_makes_the_table_all_the_same(made: Make, papers: Path) -> None:
    (papers / "them.csv").unlink()
    papers.rmdir()
    assert [row[2] for row in rows(made(PRINTED, BEST, TIED))] == ["--", "--", "--"]
