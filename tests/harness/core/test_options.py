"""Options are held to their declared types and ranges: by the check itself, and over everything that is registered."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import pytest

from assay.harness.core.options import (
    Count,
    Positive,
    Range,
    Seed,
    Share,
    checked,
    checking,
    described,
    limits,
    option_types,
)  # fmt: skip
from assay.harness.core.protocols import View
from assay.harness.core.registry import GROUPS, check_options, discover, metric

discover()
EVERY = [
    (group, name, option) for group, entries in GROUPS.items() for name in entries for option in entries[name].types
]
INFINITE = Annotated[float, Range(least=0, infinite=True)]
NAN = math.nan


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        (bool, [True, np.bool_(False)]),
        (int, [3, np.int64(3), np.uint8(3)]),
        (float, [3, 2.5, np.float32(2.5), np.int16(3)]),
        (str, ["x", np.str_("x"), Path("x")]),
        (Literal["a", "b"], ["b"]),
        (int | None, [None, 2]),
        (Sequence[float], [[1, 2.5], (), (np.float64(1),)]),
        (Mapping[str, int], [{"a": 1}]),
        (str | Mapping[str, Any], ["x", {"a": [1]}]),
        (Count, [1]),
        (Seed, [0, 2**32 - 1]),
        (Positive, [1e-300]),
        (Share, [0, 1, 0.5]),
        (INFINITE, [math.inf, 0]),
        (Any, [object]),
    ],
)
def test_values_of_the_declared_type_are_taken_as_plain_python(declared: Any, values: list[Any]) -> None:
    for value in values:
        (found,) = checked("metric m", {"o": declared}, {"o": value}).values()
        assert found == (str(value) if isinstance(value, Path) else value)
        assert not isinstance(found, np.generic)


@pytest.mark.parametrize(
    ("declared", "values", "words"),
    [
        (bool, ["no", "false", 0, 1.0, None], "true or false"),
        (int, [True, 2.5, 3.0, "3", None, np.float32(3), NAN], "a whole number"),
        (float, [True, "0.2", None, NAN, math.inf, 1j, [1.0]], "a finite number"),
        (str, [3, True, None, b"x", ["x"]], "text"),
        (Literal["chamfer", "earth_mover"], ["chamfr"], "chamfer or earth_mover; did you mean chamfer?"),
        (int | None, ["none", 2.5], "a whole number or null"),
        (Sequence[int], ["12", 3, [1, 2.5], [True]], "a list, each entry a whole number"),
        (Mapping[str, int], [[1], {"a": "b"}, {1: 1}], "a mapping"),
        (Count, [0, -1, 1.5], "a whole number, at least 1"),
        (Seed, [-1, 2**32], "a whole number, at least 0 and below 4294967296"),
        (Positive, [0, -0.5, NAN, math.inf], "a finite number, above 0"),
        (Share, [-0.1, 1.1], "a finite number, at least 0 and at most 1"),
        (INFINITE, [NAN, -1], "a number or infinity, at least 0"),
    ],
)
def test_other_values_are_refused_in_one_line_that_says_what_is_taken(
    declared: Any, values: list[Any], words: str
) -> None:
    for value in values:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            checked("metric m", {"o": declared}, {"o": value})
        assert str(caught.value) == f"metric m: o={value!r} must be {words}"


def test_without_an_annotation_the_default_tells_the_type() -> None:
    def function(x, strict=True, power=2, scale=0.5, name="a", sizes=(1,), other=None): ...  # type: ignore[no-untyped-def]

    expected = {"strict": bool, "power": float, "scale": float, "name": str, "sizes": Sequence[Any], "other": Any}
    assert option_types(function) == expected


def test_an_annotation_may_stand_as_text_beside_types_that_are_not_imported() -> None:
    def function(x: "Absent", k: "Count" = 1) -> "Absent": ...  # type: ignore[name-defined, empty-body]  # noqa: F821

    assert option_types(function) == {"k": Count}


def test_positional_options_are_checked_and_python_complains_about_the_rest() -> None:
    def function(x: object, k: int = 1) -> int:
        return k

    call = checking("metric m", function, option_types(function))
    assert (call(0, 2), call(0, k=np.int64(3)), call(k=4, x=0)) == (2, 3, 4)
    assert type(call(0, np.int64(3))) is int
    with pytest.raises(ValueError, match=r"metric m: k=2\.5 must be a whole number"):
        call(0, 2.5)
    with pytest.raises(TypeError, match="takes from 1 to 2 positional arguments but 3 were given"):
        call(0, 1, 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'l'"):
        call(0, l=2)


def test_limits_are_what_a_list_shows() -> None:
    assert limits(Count) == "at least 1"
    assert limits(Literal["a", "b"]) == "a or b"
    assert limits(int) == limits(bool) == limits(int | None) == ""


def test_options_of_several_groups_are_checked_together() -> None:
    check_options({"metric": {"precision": None, "absent": {"k": "x"}}, "seed": 1, "study": None})
    with pytest.raises(ValueError, match="metric precision: k='3' must be a whole number"):
        check_options({"metric": {"precision": {"k": "3"}}})


@pytest.mark.usefixtures("own_registries")
def test_a_metric_runs_in_full_precision_whatever_its_caller_allows() -> None:
    import torch

    @metric(better="higher", kind="set", source="not published", fake=View("fake", "pixels"))
    def product(fake: torch.Tensor) -> float:
        return float((fake @ fake.T).sum())

    x = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        rounded, found = float((x @ x.T).sum()), product(x)
    assert found == float((x @ x.T).sum()) != rounded


@pytest.mark.parametrize("group", GROUPS)
def test_every_default_is_of_its_declared_type(group: str) -> None:
    for name, entry in GROUPS[group].items():
        assert entry.types.keys() == entry.options.keys(), name
        assert checked(f"{group} {name}", entry.types, entry.options) == entry.options


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_refuses_what_it_is_not_before_any_work(group: str) -> None:
    needed: dict[str, tuple[Any, ...]] = {"generator": ("digits",), "extractor": ("digits",), "trainer": (None, 0)}
    tried = 0
    for name, entry in GROUPS[group].items():
        call = entry.make_options if group == "study" else entry.function
        positional = needed.get(group, (None,) * len(entry.views) if group == "metric" else ())
        for option, declared in entry.types.items():
            for wrong in _wrong(declared):
                with pytest.raises(ValueError) as caught:  # noqa: PT011
                    call(*positional, **{option: wrong})
                expected = f"{group} {name}: {option}={wrong!r} must be {described(declared)}"
                assert str(caught.value).startswith(expected)
                tried += 1
    assert tried >= len([one for one in EVERY if one[0] == group])


def _wrong(declared: Any) -> list[Any]:
    """Values that are not of a declared type, among them those that come near it."""
    inner = get_args(declared)[0] if get_origin(declared) is Annotated else declared
    near = {bool: ["no", "false", 1], int: [True, 2.5, "3", NAN], float: ["0.5", True, NAN], str: [3, None]}
    return [object(), *near.get(inner, [])]
