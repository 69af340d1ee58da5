"""Descriptions of tables: what they mean, and that what is wrong in one is named with what it may be."""

from pathlib import Path

import pytest

from assay.harness.report.paper.files import DESCRIBED
from assay.harness.report.paper.spec import Spec, read_specs


def read(tmp_path: Path, text: str) -> Spec:
    (tmp_path / "tables.yaml").write_text(text)
    (spec,) = read_specs(tmp_path / "tables.yaml")
    return spec


def test_groups_share_what_they_say_and_entries_may_differ(tmp_path: Path) -> None:
    spec = read(tmp_path, """
quality:
  table: things
  columns: signal
  rows:
    - title: A
      generator: vae
      digits: 1
      printed: {model: M}
      entries:
        - {title: x, score: p}
        - {title: y, score: q, digits: 2, compared: false, printed: none}
    - {title: B, score: r, better: lower}
""")  # fmt: skip
    assert not isinstance(spec.rows, str)
    first, second, third = spec.rows
    assert (first.titles, first.where, first.digits) == (("A", "x"), {"generator": "vae", "score": "p"}, 1)
    assert (first.printed, second.printed, third.printed) == ({"model": "M"}, None, {})
    assert (second.digits, second.compared, third.better) == (2, False, "lower")
    assert spec.columns == "signal"


ROWS = "a:\n  table: things\n  rows: score\n  columns: signal\n"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("- a", "must have a name for each table"),
        ("a: [", "is no YAML"),
        ("../a:\n  table: x", "cannot be the name of a file"),
        ("a:\n  table: things\n  rows: score", "table a has no columns"),
        (ROWS + "  digit: 3", "did you mean digits"),
        (ROWS + "  digits: 99", "digits=99 must be one of 0, 1"),
        (ROWS + "  digits: true", "digits=True must be one of 0, 1"),
        (ROWS + "  better: up", "better=up must be one of higher, lower, neither"),
        (ROWS + "  interval: sd", "interval=sd must be one of plus-minus, brackets, none"),
        (ROWS + "  caption: 5% off", "table a, caption: '5% off' is no LaTeX for a cell: write"),
        (ROWS + "  label: 'a}b'", "label=a}b may have letters"),
        (ROWS + "  scale: 0", "scale=0 must be a number above 0"),
        (ROWS + "  papers: ../secrets", "papers=../secrets must be the name of a file in results/papers"),
        (ROWS + "  where: vae", "where must be a mapping of columns to values"),
        ("a:\n  table: things\n  rows: [{score: p}]\n  columns: signal", "rows 1 must be a mapping with a title"),
        ("a:\n  table: things\n  rows: {score: p}\n  columns: signal", "rows must be the name of a column, or a list"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match) as raised:
        read(tmp_path, text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", sorted(DESCRIBED.glob("*.yaml")), ids=lambda path: path.stem)
def test_descriptions_begin_with_their_command(path: Path) -> None:
    assert path.read_text().startswith(f"# assay paper results/{path.stem} ")
    assert all(spec.caption and spec.label for spec in read_specs(path))
