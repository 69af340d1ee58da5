"""What an interval decides, in words: for claims of both directions, and where nothing is decided."""

import re
from typing import Any

import pandas as pd
import pytest

from assay.harness.report.verdict import HOLDS, OPPOSITE, UNDECIDED, Finding, Verdict, agreeing, sign
from assay.harness.studies.correlate import page as correlate
from assay.harness.studies.detect import page as detect
from assay.harness.studies.humans import page as humans


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


def test_verbs_agree_with_the_number_of_names() -> None:
    says = "neither {rise nor fall|rises nor falls} with any signal"
    assert agreeing(says, 1) == "neither rises nor falls with any signal"
    assert agreeing(says, 0) == agreeing(says, 2) == "neither rise nor fall with any signal"
    assert agreeing("does not hold", 1) == "does not hold"
    one, two = Finding(["a(k=1)"], says), Finding(["a(k=1)", "a(k=2)"], says)
    assert (str(one), one.sentence, one.short) == ("a(k=1): neither rises nor falls with any signal.",) * 3
    assert str(two) == "a(k=1), a(k=2): neither rise nor fall with any signal."
    assert two.sentence == "2 scores neither rise nor fall with any signal."
    assert two.short == "a (2 settings): neither rise nor fall with any signal."


def test_every_answer_of_studies_has_both_forms() -> None:
    """A verb in one form alone would be wrong for some number of names."""
    answers = [*correlate.ANSWERS, *humans.CLAIMS.values(), detect.EVERY, detect.SOME, detect.NONE, detect.MISLED,
               detect.RARE_BELOW, detect.RARE_ABOVE]  # fmt: skip
    plural = {"rise", "fall", "have", "find", "rank", "order", "are"}
    for answer in answers:
        assert not plural & set(re.findall(r"\w+", agreeing(answer, 1))), answer
        assert "{" not in agreeing(answer, 1) + agreeing(answer, 2)
