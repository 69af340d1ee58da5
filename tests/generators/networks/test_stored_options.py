"""Options of files: understood, at their default, or refused by name."""

from typing import Any

import pytest

from assay.generators.networks.stored_options import number, require_understood, section, shown, yes


def test_what_is_understood_or_at_its_default_passes() -> None:
    require_understood({"width": object(), "kind": "relu", "taps": (1, 3), "on": 1, "scale": 1}, ("width",),
                       {"kind": "relu", "taps": [1, 3], "on": True, "scale": 1.0, "absent": None})  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "elu"}, "option kind=elu is not supported, only kind=relu"),
        ({"kind": None}, "option kind=None is not supported, only kind=relu"),
        ({"taps": [1, 2]}, r"option taps=\[1, 2\] is not supported"),
        ({"on": "True"}, "option on=True is not supported"),
        ({"on": False}, "option on=False is not supported, only on=True"),
        ({"depth": 3}, "option depth=3 is not supported"),
        ({3: 4}, "option 3=4 is not supported"),
        ({"depth": float("nan")}, "option depth=nan"),
        ({"a\nb": "c\x1b[31m" * 99}, "option a b=c"),
    ],
)
def test_others_are_refused_by_name(options: dict[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        require_understood(options, (), {"kind": "relu", "taps": [1, 3], "on": True})
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


def test_numbers_sections_and_switches() -> None:
    assert number(3, "n") == 3.0
    assert section({"a": {"b": 1}}, "a") == {"b": 1}
    assert section({"a": None}, "a") == section({}, "a") == {}
    assert yes(False, "y") is False
    assert shown(10**5000) == "(a large number)"
    for bad in ("3", None, True, float("nan"), float("inf"), -1):
        with pytest.raises(ValueError, match=r"n=.* must be a finite number of at least 0"):
            number(bad, "n", least=0)
    with pytest.raises(ValueError, match="option a=3 must hold options by name"):
        section({"a": 3}, "a")
    with pytest.raises(ValueError, match="y=1 must be true or false"):
        yes(1, "y")
