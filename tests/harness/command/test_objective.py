"""The number that a job answers to a sweeper: the one in its tables, or what is left to choose from."""

import math
from dataclasses import replace

import pytest

from assay.harness.command.objective import objective
from assay.harness.core.protocols import Cell, Estimate, Record, Row

SET = Record(
    cell=Cell("run", "digits", "vae", "precision", "precision(k=3)", 0, 100), version=1, kind="set", better="higher",
    source="x", columns=("name",), rows=[Row(("precision",), Estimate(0.5, (0.4, 0.6), 100))], status="ok", error=None,
    inputs={},
)  # fmt: skip
OTHER = replace(
    SET, cell=replace(SET.cell, metric="recall", label="recall"), rows=[Row(("recall",), Estimate(0.2, (0.1, 0.3)))]
)
FAILED = replace(SET, status="failed", error="too few", rows=[])
STUDY = replace(
    SET, cell=replace(SET.cell, metric="things", label="things(held=no)", params={"held": "no"}), kind="study",
    columns=("score", "signal"),
    rows=[
        Row((score, signal), Estimate(i + j / 10, (0, 9)))
        for i, score in enumerate(["a", "b(k=0.123456789)"]) for j, signal in enumerate("xy")
    ],
)  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "records", "expected"),
    [
        (None, [SET], 0.5),
        ("precision", [SET, OTHER], 0.5),
        ("recall", [SET, OTHER, STUDY], 0.2),
        ({"metric": "precision(k=3)"}, [SET, OTHER], 0.5),
        ({"table": "things", "score": "b", "signal": "y"}, [SET, STUDY], 1.1),
        ({"table": "things", "held": "no", "score": "a", "signal": "x"}, [STUDY], 0.0),
    ],
)
def test_the_number_is_that_of_the_table(asked: object, records: list[Record], expected: float) -> None:
    assert objective(asked, records) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "records", "expected"),
    [
        (None, [SET, OTHER], r"2 numbers of metrics; choose one of each: metric \(precision\(k=3\), recall\)"),
        (None, [SET, STUDY], r"name the number to optimise, .*: metrics, things"),
        ("things", [SET, STUDY], r"4 numbers of things; .*: score \(a, b\(k=0.123456789\)\); signal \(x, y\)"),
        ({"table": "thing"}, [STUDY], "unknown table 'thing'; did you mean things"),
        ({"table": "things", "scores": "a"}, [STUDY], "unknown column 'scores'; did you mean score"),
        ({"table": "things", "score": "c"}, [STUDY], "there is no such number"),
        ("density", [SET], "there is no such number"),
    ],
)
def test_what_is_not_one_number_says_what_there_is(asked: object, records: list[Record], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        objective(asked, records)  # type: ignore[arg-type]


def test_a_failed_cell_has_no_number() -> None:
    assert math.isnan(objective("precision", [FAILED, OTHER]))
