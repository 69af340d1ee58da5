"""Texts in one buffer are a list of them, in the order of a list."""

import random

import numpy as np
import pytest

from assay.harness.core.texts import Texts

LETTERS = "aAzZ09._-/ éß€漢😀\udc80\udcff"
"""The last two stand for bytes of file names that are no UTF-8."""


@pytest.mark.parametrize("seed", range(20))
def test_texts_sort_as_a_list_does(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.choice([0, 1, 3, 7, 8, 9, 20]) for _ in range(200)]
    words = ["".join(draw.choices(LETTERS[: draw.choice([2, len(LETTERS)])], k=length)) for length in lengths]
    texts = Texts.of(words)
    assert list(texts) == words
    assert list(texts.sorted()) == sorted(words)
    assert [words[i] for i in texts.order()] == sorted(words)
    assert list(texts.order()) == sorted(range(len(words)), key=words.__getitem__)
    known = texts.sorted()
    for word in words[:20]:
        place = known.place(word)
        assert place is not None
        assert known[place] == word
    assert known.place("b") is None
    assert list(known.repeated()) == [i for i in range(1, len(words)) if sorted(words)[i] == sorted(words)[i - 1]]


def test_a_part_shares_the_bytes() -> None:
    texts = Texts.of(["one", "two", "three"])
    assert texts[1:] == ["two", "three"]
    assert texts.at(np.array([2, 0])) == ["three", "one"]
    assert texts.at(np.array([2, 0])).content is texts.content
    assert texts != ["one", "two"]
    assert Texts.of([]) == []
    assert list(Texts.of([]).order()) == []
