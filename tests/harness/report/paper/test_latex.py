"""The pieces of a LaTeX table: what an author may write, numbers, intervals, and titles over groups of columns."""

import pytest

from assay.harness.core.escapes import for_latex
from assay.harness.report.paper.latex import decimal, fault, heads, letter, line, spread


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("50% of all", "write \\% for %"),
        ("a & b", "write \\& for &"),
        ("item #3", "write \\# for #"),
        ("latent_density", "_ stands outside of $...$; \\_ is the sign itself"),
        ("x^2", "^ stands outside of $...$"),
        ("$x", "a $ is not closed; \\$ is the sign itself"),
        ("{a", "a { is not closed"),
        ("a}{b", "a } closes nothing"),
        ("a \\\\ b", "\\\\ would end the row"),
    ],
)
def test_what_would_break_a_table_is_named(text: str, why: str) -> None:
    assert fault(text) == why


@pytest.mark.parametrize(
    "text",
    ["50\\,\\%", "$\\sigma_{z}=0.2$", "as in \\citep{xu_le_2022}, see \\ref{tab:a_b}", "Fr\\'echet", "a\\_b \\& c"],
)
def test_latex_of_authors_is_allowed(text: str) -> None:
    assert fault(text) == ""


def test_numbers_have_the_asked_digits_and_zero_has_no_sign() -> None:
    assert [decimal(value, 2) for value in (0.126, -0.004, -0.006, 1234.5)] == ["0.13", "0.00", "-0.01", "1234.50"]
    assert [decimal(value, 0) for value in (-0.4, 2.6)] == ["0", "3"]
    assert decimal(float("-inf"), 2) == r"-\infty"


def test_an_interval_is_one_number_where_its_sides_agree_and_two_where_not() -> None:
    assert spread(0.50, 0.47, 0.53, 2) == r"{\scriptstyle\,\pm\,0.03}"
    assert spread(0.50, 0.47, 0.54, 2) == r"{\scriptstyle\,\pm\,0.04}", "the longer side, never a shorter interval"
    assert spread(0.50, 0.48, 0.55, 2) == "{}^{+0.05}_{-0.02}"


def test_brackets_have_the_ends_themselves() -> None:
    assert spread(0.50, 0.48, 0.55, 2, brackets=True) == r"{\scriptstyle\;[0.48, 0.55]}"
    assert spread(0.60, 0.48, 0.55, 2) == r"{\scriptstyle\;[0.48, 0.55]}", "a number outside of its interval"


def test_a_bracket_that_begins_a_row_is_no_option_of_the_row_above() -> None:
    assert line(["[0.1, 0.2]", "x"]) == r"{}[0.1, 0.2] & x \\"
    assert for_latex("[0.1]") == "{}[0.1]"
    assert for_latex("*a") == "{}*a"


def test_what_the_standard_fonts_lack_is_told_by_its_number() -> None:
    assert for_latex('a<b>|"é → ą --x---') == (r"a\textless{}b\textgreater{}\textbar{}''é U+2192 U+0105 -{}-x-{}-{}-")


def test_titles_of_groups_span_their_columns() -> None:
    found = heads([("A", "x"), ("A", "y"), ("", "z"), ("B", "x")], ["", "name"])
    assert found == [
        r" &  & \multicolumn{2}{c}{A} &  & \multicolumn{1}{c}{B} \\",
        r"\cmidrule(lr){3-4} \cmidrule(lr){6-6}",
        r" & name & x & y & z & x \\",
    ]


def test_notes_have_letters() -> None:
    assert [letter(i) for i in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]
