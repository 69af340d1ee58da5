"""What an option may be: its annotation declares the type and the range, and every call is checked against both."""

import difflib
import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Range:
    """The range of a number: `Annotated[int, Range(least=1)]`. Infinity belongs to it only where that is said."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    infinite: bool = False

    def __contains__(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        limits = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {limit}" for word, limit in limits.items() if limit is not None)


Count = Annotated[int, Range(least=1)]
Seed = Annotated[int, Range(least=0, below=2**32)]
"""What NumPy, scikit-learn and torch all take."""
Positive = Annotated[float, Range(above=0)]
Share = Annotated[float, Range(least=0, most=1)]


def option_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The declared type of each parameter that has a default; without an annotation, what the default suggests."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: _declared(function, p) for p in parameters if p.default is not p.empty}


def checked(owner: str, types: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as plain Python values; names that `types` does not have are passed on.

    NumPy's numbers become Python's, paths become text, and a whole number is accepted where a number is declared.
    Raises ValueError, naming `owner` and the option, for a value that is not of its declared type or range.
    """
    found = {}
    for name, value in options.items():
        try:
            found[name] = _fitted(value, types[name]) if name in types else value
        except _UnfitError:
            raise ValueError(
                f"{owner}: {name}={value!r} must be {described(types[name])}{_near(value, types[name])}"
            ) from None
    return found


def checking(owner: str, function: F, types: Mapping[str, Any]) -> F:
    """The function, with its options checked on every call."""
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        by_position = checked(owner, types, dict(zip(names, args, strict=False)))
        # Python itself says what is wrong with too many arguments.
        return function(*by_position.values(), *args[len(names) :], **checked(owner, types, kwargs))

    return cast(F, call)


def described(declared: Any) -> str:
    """A declared type in words: "a whole number, at least 1"."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Annotated:
        rules = [rule for rule in arguments[1:] if isinstance(rule, Range)]
        kind = "a number or infinity" if any(rule.infinite for rule in rules) else described(arguments[0])
        return ", ".join([kind, *map(str, rules)])
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(described, arguments))
    kind = origin or declared
    if kind in _SEQUENCES:
        entries = f", each entry {described(arguments[0])}" if arguments and arguments[0] is not Any else ""
        return f"a list{entries}"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def limits(declared: Any) -> str:
    """The range or the choices of a declared type, in words; empty where any value of the type will do."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Literal:
        return described(declared)
    return ", ".join(str(rule) for rule in arguments[1:] if isinstance(rule, Range)) if origin is Annotated else ""


class _UnfitError(Exception):
    """A value is not of its declared type or range."""


_SEQUENCES = (list, tuple, Sequence)
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    NoneType: "null",
    dict: "a mapping",
    Mapping: "a mapping",
    Any: "anything",
}


def _declared(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    if parameter.annotation is not parameter.empty:
        # One annotation at a time: a plugin may import the types of its other parameters for the type checker alone.
        alone = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
        scope = getattr(inspect.unwrap(function), "__globals__", {})
        return get_type_hints(alone, globalns=scope, include_extras=True)[parameter.name]
    for kind, declared in ((bool, bool), (int, float), (float, float), (str, str), ((list, tuple), Sequence[Any])):
        if isinstance(parameter.default, kind):
            return declared
    return Any


def _fitted(value: Any, declared: Any, infinite: bool = False) -> Any:
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Annotated:
        rules = [rule for rule in arguments[1:] if isinstance(rule, Range)]
        number = _fitted(value, arguments[0], any(rule.infinite for rule in rules))
        if all(number in rule for rule in rules):
            return number
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin in (Union, UnionType):
        for one in arguments:
            try:
                return _fitted(value, one)
            except _UnfitError:
                continue
    elif (origin or declared) in _SEQUENCES:
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            entries = [_fitted(entry, arguments[0] if arguments else Any) for entry in value]
            return tuple(entries) if isinstance(value, tuple) else entries
    elif (origin or declared) in (dict, Mapping):
        if isinstance(value, Mapping):
            key, entry = arguments or (Any, Any)
            return {_fitted(k, key): _fitted(v, entry) for k, v in value.items()}
    elif declared is bool:
        if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # NumPy's have no common base
            return bool(value)
    elif declared is int:
        if isinstance(value, Integral) and not isinstance(value, bool):
            return int(value)
    elif declared is float:
        if isinstance(value, Real) and not isinstance(value, bool):
            number = int(value) if isinstance(value, Integral) else float(value)
            if math.isfinite(number) or (infinite and not math.isnan(number)):
                return number
    elif declared is str:
        if isinstance(value, (str, os.PathLike)):
            return str(os.fspath(value))
    elif declared is Any or not isinstance(declared, type) or isinstance(value, declared):
        return value
    raise _UnfitError


def _near(value: Any, declared: Any) -> str:
    """A hint at the choice that was probably meant."""
    choices = [str(choice) for choice in get_args(declared)] if get_origin(declared) is Literal else []
    near = difflib.get_close_matches(str(value), choices, n=1)
    return f"; did you mean {near[0]}?" if near else ""
