"""Digests in bytes are those in letters, and a stream of parts has the digest of a list."""

import hashlib

import numpy as np

from assay.harness.core.digests import first_word, hexadecimal, packed
from assay.harness.core.files import digest

DIGITS = [hashlib.sha256(bytes([i])).hexdigest() for i in range(50)] + ["00" * 32, "ff" * 31 + "00", "00" * 31 + "01"]


def test_digests_come_back_and_sort_alike() -> None:
    found = packed(DIGITS, len(DIGITS))
    assert list(hexadecimal(found)) == DIGITS
    assert list(hexadecimal(np.sort(found))) == sorted(DIGITS)
    assert list(hexadecimal(found, np.array([3, 1]))) == [DIGITS[3], DIGITS[1]]
    assert first_word(found).tolist() == [int(digits[:8], 16) for digits in DIGITS]


def test_an_iterator_has_the_digest_of_its_list() -> None:
    many = list(range(2500))
    for some in ([], [1], many):
        assert digest("a", iter(some), 2) == digest("a", some, 2)
        assert digest({"b": iter(some), "a": 1}) == digest({"b": some, "a": 1})
    assert digest({"b": map(str, many), "a": iter([])}, None) == digest({"a": [], "b": list(map(str, many))}, None)
    assert digest() == hashlib.sha256(b"[]").hexdigest()
