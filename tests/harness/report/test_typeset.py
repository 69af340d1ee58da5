"""Tables as people read them: nothing is lost that tells a number from another, what is the same is said once."""

import math

import pandas as pd
import pytest

from assay.harness.report.typeset import compact, formatted, latex, markdown, markdown_table, number


def table(**columns: list[object]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    beside: dict[str, list[object]] = {"low": [math.nan] * count, "high": [math.nan] * count, "n": [9] * count}
    values: dict[str, list[object]] = {"value": [float(i) for i in range(count)]}
    return pd.DataFrame({**{key: col for key, col in columns.items() if key not in beside}, **values, **beside, **{
        key: col for key, col in columns.items() if key in beside}})  # fmt: skip


def test_numbers_have_three_digits_and_intervals() -> None:
    assert [number(x) for x in (0.123456, 12345.6, -0.5, math.nan)] == ["0.123", "12,346", "-0.5", "-"]
    assert (formatted(0.5, 0.4, 0.6), formatted(0.5, math.nan, math.nan)) == ("0.5 (0.4 to 0.6)", "0.5")


def test_what_varies_last_stands_across_and_what_is_the_same_above() -> None:
    long = table(data=["d"] * 4, model=["a", "a", "b", "b"], metric=["P", "R", "P", "R"])
    caption, wide = compact(long)
    assert caption == "data d"
    assert wide.values.tolist() == [["a", "0", "1"], ["b", "2", "3"]]
    assert list(wide.columns) == ["model", "P", "R"]


def test_a_column_that_others_determine_is_left_out_unless_it_tells_what_happened() -> None:
    long = table(
        model=["a", "b", "a"], metric=["P", "P", "R"], method=["m", "m", "k"], better=["up", "up", "down"],
        error=["", "", "failed"], name=["P", "P", "R"],
    )  # fmt: skip
    assert list(compact(long)[1].columns) == ["model", "metric", "better", "error", "value"]
    assert list(compact(long.drop(columns=["better", "error"]))[1].columns) == ["model", "metric", "value"]


def test_a_name_is_kept_before_the_numbers_that_it_stands_for() -> None:
    long = table(
        epochs=["1", "1", "5"], lr=["0.1", "1e-3", "0.1"], tuning=["mild", "slow", "long"], source=["x", "x", "x"]
    )
    assert list(compact(long)[1].columns) == ["tuning", "value"]


@pytest.mark.parametrize("seed", range(20))
def test_no_two_numbers_come_to_stand_in_one_place(seed: int) -> None:
    """Random tables: as many filled cells as numbers, each once, and every row told apart by its keys."""
    rng = pd.DataFrame(
        {key: pd.Series(range(60)).sample(40, random_state=seed + i).values for i, key in enumerate("xyz")}
    )
    keys = (rng % [3, 4, 7]).drop_duplicates().map(str)
    long = table(**{key: list(column) for key, column in keys.items()})
    _, found = compact(long)
    values = [str(i) for i in range(len(keys))]
    if "value" in found.columns:
        assert found["value"].tolist() == values
    else:
        inside = found.drop(columns=[column for column in "xyz" if column in found.columns])
        assert sorted(filter(None, inside.values.ravel()), key=int) == values
    assert not found.duplicated([column for column in "xyz" if column in found.columns]).any() or found.empty


def test_a_table_with_few_cells_filled_stays_long() -> None:
    long = table(model=["a", "b", "c", "d"], metric=["P", "Q", "R", "S"])
    assert list(compact(long)[1].columns)[-1] == "value"


def test_a_name_is_that_of_one_column_alone() -> None:
    long = table(model=["a", "a", "b", "b"], source=["model", "data"] * 2)
    assert list(compact(long)[1].columns) == ["model", "source", "value"]


def test_numbers_across_are_in_their_order() -> None:
    long = table(model=["a"] * 3 + ["b"] * 3, iteration=["0", "10", "5"] * 2)
    assert list(compact(long)[1].columns) == ["model", "0", "5", "10"]


def test_the_same_table_in_both_languages() -> None:
    long = table(model=["a|b", "a|b", "c&d", "c&d"], metric=["P", "R", "P", "R"], data=["x_1"] * 4)
    long = long[["data", "model", "metric", "value", "low", "high", "n"]]
    assert markdown(long).splitlines()[:3] == ["data x_1", "", "| model | P | R |"]
    assert markdown(long).splitlines()[4] == "| a\\|b | 0 | 1 |"
    text = latex(long).splitlines()
    assert text[:2] == ["% data x_1", r"\begin{tabular}{lll}"]
    assert r"c\&d & 2 & 3 \\" in text


def test_text_stays_in_its_cell() -> None:
    """A backslash before a bar, lines, and tags: each as it was written, none with a meaning of its own."""
    rows = [["a\\|b", "c\nd\u2028e"], ["<img src=x onerror=y>", "</td> 1 < 2 <!--"]]
    assert markdown_table(["x|y", "z"], rows).splitlines() == [
        r"| x\|y | z |",
        "| --- | --- |",
        r"| a\\\|b | c d e |",
        "| &lt;img src=x onerror=y> | &lt;/td> 1 < 2 &lt;!-- |",
    ]


def test_a_caption_cannot_leave_its_comment() -> None:
    long = table(model=["a", "b"], note=["one\n\\input{secrets}\u2029two"] * 2)
    head, *rest = latex(long).splitlines()
    assert head == "% note one \\input{secrets} two"
    assert rest[0].startswith("\\begin{tabular}")
    assert not any("secrets" in line for line in rest)
    assert markdown(long).splitlines()[0] == "note one \\\\input{secrets} two"


def test_a_cell_of_latex_is_one_line() -> None:
    long = table(model=["a\n\nb", "c"], metric=["P", "P"])
    assert r"a  b & 0 \\" in latex(long).splitlines()
