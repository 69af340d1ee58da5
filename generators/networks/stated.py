"""Options that a published file states about its network: understood, at their default, or refused by name."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .stored_options import shown


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
            raise ValueError(f"option {shown(name)}={shown(value)} is not supported")
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
