"""Text of others stays text: on a terminal, in csv files, in Markdown and in LaTeX."""

import csv
import io

import pytest

from assay.harness.core.escapes import for_csv, for_json, for_latex, for_markdown, for_terminal, in_one_line


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\u202eevil", "\x00", "\u2066x\u2069", "a\x08b"]
)
def test_nothing_reaches_a_terminal_that_cannot_be_seen(text: str) -> None:
    shown = for_terminal(f"first\n{text}")
    assert shown.startswith("first\n")
    assert shown.replace("\n", "").isprintable()
    assert "\\" in shown


def test_ordinary_text_of_any_alphabet_stays() -> None:
    text = "precision ↑ é 日本 \u0645\u06cc\u200c\u062e\u0648 👩‍🔬\ta"
    assert for_terminal(text) == for_json(text) == text


def test_a_byte_that_is_no_utf8_stands_as_its_code() -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    for escaped in (for_json, for_terminal, in_one_line):
        assert escaped(name) == r"caf\xe9.png"
    assert for_json("\ud800") == r"\ud800"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "－"])
def test_no_cell_of_a_csv_file_is_a_formula(start: str) -> None:
    text = f'{start}cmd|"/C calc"!A0'
    file = io.StringIO()
    csv.writer(file).writerow([for_csv(text)])
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert row == [f"'{text}"]


@pytest.mark.parametrize("number", ["-1.5", "+3", "-inf", "-1e-9", "0"])
def test_numbers_stay_numbers(number: str) -> None:
    assert for_csv(number) == number


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_a_line_has_no_end_within(end: str) -> None:
    for escaped in (for_latex, for_markdown, in_one_line):
        assert escaped(f"a{end}\\input{{secret}}").splitlines() == [escaped(f"a{end}\\input{{secret}}")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a\|b", r"a\\\|b"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)>"),
        ("![x](http://example.org/a.png)", r"![x\](http://example.org/a.png)"),
        ("[x][y] [z]: a", r"[x\][y] [z\]: a"),
        ("0.5 (0.4 to 0.6) [1]", "0.5 (0.4 to 0.6) [1]"),
        ("a < b", "a < b"),
    ],
)
def test_text_is_text_in_markdown(text: str, expected: str) -> None:
    assert for_markdown(text) == expected


def test_text_is_text_in_latex() -> None:
    assert for_latex("\\input{a} $x$ % & # _ ~ ^^5c") == (
        r"\textbackslash{}input\{a\} \$x\$ \% \& \# \_ \textasciitilde{} \textasciicircum{}\textasciicircum{}5c"
    )
