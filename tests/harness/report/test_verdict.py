"""What an interval decides, in words: for claims of both directions, and where nothing is decided."""

from typing import Any

import pandas as pd
import pytest

from assay.harness.report.verdict import HOLDS, OPPOSITE, UNDECIDED, Verdict, sign


def row(value: float, low: float, high: float) -> Any:
    return pd.Series({"value": value, "low": low, "high": high})


ABOVE, BELOW, ACROSS = row(0.5, 0.1, 0.9), row(-0.5, -0.9, -0.1), row(0.1, -0.2, 0.4)
ALONE = row(0.5, float("nan"), float("nan"))


def test_a_sign_is_that_of_the_whole_interval() -> None:
    assert [sign(each) for each in (ABOVE, BELOW, ACROSS, ALONE)] == [1, -1, 0, 0]
    assert [sign(each, null=0.3) for each in (ABOVE, ACROSS, row(0.5, 0.4, 0.6))] == [0, 0, 1]
    assert (sign(row(0.5, 0.0, 1.0)), sign(row(-0.5, -1.0, 0.0))) == (0, 0), (
        "an interval that ends at 0 decides nothing"
    )


@pytest.mark.parametrize(
    ("direction", "words"), [(1, (HOLDS, OPPOSITE, UNDECIDED)), (-1, (OPPOSITE, HOLDS, UNDECIDED))]
)
def test_a_claim_holds_in_its_own_direction(direction: Any, words: tuple[str, ...]) -> None:
    assert tuple(Verdict("it rises", effect, direction).decision for effect in (ABOVE, BELOW, ACROSS)) == words
    assert Verdict("it rises", ALONE, direction).decision == UNDECIDED


def test_what_the_correction_takes_back_is_not_decided_and_the_sentence_says_why() -> None:
    clear, taken_back = (pd.concat([ABOVE, pd.Series({"holm_p": p})]) for p in (0.05, 0.051))
    assert [sign(each) for each in (clear, taken_back)] == [1, 0]
    assert str(Verdict("It rises", clear)) == "It rises: holds, 0.5 (0.1 to 0.9)."
    assert str(Verdict("It rises", taken_back)) == "It rises: not decided after Holm's correction, 0.5 (0.1 to 0.9)."
    outside = pd.concat([ACROSS, pd.Series({"holm_p": float("nan")})])
    assert Verdict("It rises", outside).decision == UNDECIDED, "a number of no family is decided by its interval"


def test_the_words_can_be_those_of_the_question() -> None:
    words = ("better", "worse", "not decided")
    assert [Verdict("a", effect, -1, words).decision for effect in (ABOVE, BELOW, ACROSS)] == [
        "worse", "better", "not decided"
    ]  # fmt: skip


def test_a_verdict_is_a_sentence_with_the_numbers_behind_it() -> None:
    assert str(Verdict("w > 1 raises precision", ABOVE)) == "w > 1 raises precision: holds, 0.5 (0.1 to 0.9)."
    assert str(Verdict("It falls", BELOW, more=("So does recall", "n is small"))) == (
        "It falls: does not hold, the opposite is seen, -0.5 (-0.9 to -0.1). So does recall. n is small."
    )
    assert str(Verdict("It falls", ALONE)) == "It falls: not decided, 0.5."
