"""Options that a published file states about its network: understood, at their default, or refused by name.

They lie in its flags, or in what it keeps of objects whose classes are not here, such as the constructor arguments of
NVIDIA's networks.
"""

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, get_args

from ...harness.formats.built import whole
from ...harness.formats.inert import Inert

LENGTH = 64
"""Most entries of a list."""


def attributes(record: Any) -> Mapping[str, Any]:
    """What a file keeps of an object of a class that is not here; nothing if it is no such object."""
    state = record.state if isinstance(record, Inert) else None
    return state if isinstance(state, dict) else {}


def class_name(record: Any) -> str:
    """The name of the class of such an object; "" if it is none."""
    return record.name if isinstance(record, Inert) else ""


def arguments(record: Any) -> dict[str, Any]:
    """The arguments with which a recorded module was made. Raises ValueError unless all of them have names."""
    state = attributes(record)
    given, keywords = state.get("_init_args"), state.get("_init_kwargs")
    if not isinstance(given, list | tuple) or not isinstance(keywords, dict) or given:
        raise ValueError("the network has no stored options (_init_kwargs), or some without a name (_init_args)")
    return keywords


def shown(value: Any) -> str:
    """The beginning of a stored value as one line that a terminal can show."""
    if isinstance(value, int) and value.bit_length() > 99:
        return "(a large number)"
    return "".join(c if c.isprintable() else " " for c in str(value)[:40])


def understood(options: Mapping[str, Any], network: Callable[..., Any], ignored: Sequence[str]) -> dict[str, Any]:
    """The options as arguments of `network`, with the type of its annotations; those in `ignored` are left out.

    Raises ValueError with the name of an option that `network` does not have, or whose value is of another kind.
    """
    known = inspect.signature(network).parameters
    kept = {}
    for name, value in options.items():
        if name in ignored:
            continue
        if name not in known:
            raise _unsupported(name, value)
        kept[name] = _as(known[name].annotation, str(name), value)
    return kept


def _unsupported(name: Any, value: Any) -> ValueError:
    return ValueError(f"option {shown(name)}={shown(value)} is not supported")


def _as(kind: Any, name: str, value: Any) -> Any:
    if type(None) in get_args(kind):
        return None if value is None else _as(get_args(kind)[0], name, value)
    if kind in (Sequence[int], Sequence[float]):
        if not isinstance(value, list | tuple) or len(value) > LENGTH:
            raise ValueError(f"option {name}={shown(value)} must be a list of at most {LENGTH} numbers")
        return [_as(int if kind == Sequence[int] else float, name, one) for one in value]
    if kind is int:
        return whole(value, name, least=0)
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (value == math.inf or abs(value) < 2**63):
            raise ValueError(f"option {name}={shown(value)} must be a number")
        return float(value)
    if not isinstance(value, kind):
        raise ValueError(f"option {name}={shown(value)} must be of type {kind.__name__}")
    return value


def require_understood(
    options: Mapping[Any, Any], understood: Collection[str], defaults: Mapping[str, Any] | None = None
) -> None:
    """Raises ValueError with the name of the first option that is neither understood nor at its default.

    understood: names of options that the caller takes into account, or that cannot change the samples.
    defaults: names of options of which the caller supports one value alone.
    """
    allowed = defaults or {}
    for name, value in options.items():
        if name in understood:
            continue
        if name not in allowed:
            raise _unsupported(name, value)
        if not _same(value, allowed[name]):
            raise ValueError(f"option {name}={shown(value)} is not supported, only {name}={allowed[name]}")


def section(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The options inside an option, none if it is missing or None. Raises ValueError when it is no mapping."""
    found = options.get(name)
    if found is not None and not isinstance(found, Mapping):
        raise ValueError(f"option {name}={shown(found)} must hold options by name")
    return found or {}


def number(value: Any, name: str, least: float = -math.inf) -> float:
    """A finite number of a file as a float, at least `least`. Raises ValueError with the name otherwise."""
    usual = isinstance(value, int | float) and not isinstance(value, bool)
    if not usual or not math.isfinite(value) or value < least:
        bound = "" if least == -math.inf else f" of at least {least:g}"
        raise ValueError(f"{name}={shown(value)} must be a finite number{bound}")
    return float(value)


def yes(value: Any, name: str) -> bool:
    """An option that is true or false. Raises ValueError with the name otherwise."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={shown(value)} must be true or false")
    return value


def _same(value: Any, default: Any) -> bool:
    if isinstance(default, Sequence) and not isinstance(default, str):
        return isinstance(value, list | tuple) and list(value) == list(default)
    return isinstance(value, str | int | float | None) and bool(value == default)
